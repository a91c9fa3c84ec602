"""The test driver itself, held against a back-end that is not husk's: qemu-storage-daemon."""

import pytest

import backends
import blk_client
import vhost_user
from blk_client import OK, SECTOR
from vhost_user import Setup

FEATURE_SETS = [vhost_user.RING_FEATURES, vhost_user.F_VERSION_1 | vhost_user.F_EVENT_IDX,
                vhost_user.F_VERSION_1 | vhost_user.F_INDIRECT_DESC, vhost_user.F_VERSION_1]


@pytest.mark.parametrize("ring", FEATURE_SETS)
def test_what_is_written_is_read_again_with_every_kind_of_ring(bench, ring):
    image = bench.image()
    _, disk = bench.storage_daemon(image, setup=Setup(features=ring | 0x7fffff, queue_size=16))
    assert disk.front.features & vhost_user.RING_FEATURES == ring
    indirect = bool(ring & vhost_user.F_INDIRECT_DESC)
    for n in range(100):
        disk.write(n * 8, backends.pattern(n + 100, 4096), parts=[512, 1024, 2560], indirect=indirect)
    for n in range(100):
        assert disk.read(n * 8, 4096, parts=[4000, 96], indirect=indirect) == backends.pattern(n + 100, 4096)
    disk.flush()
    assert image.read_bytes()[:4096] == backends.pattern(100, 4096)


def test_configuration_and_features_are_those_of_the_disk(bench):
    image = bench.image(8 << 20)
    _, disk = bench.storage_daemon(image, n_queues=4, setup=Setup(n_queues=4))
    config = disk.config()
    assert config["capacity"] * SECTOR == 8 << 20
    assert config["num_queues"] == 4
    assert disk.front.features & blk_client.F_FLUSH
    assert disk.front.max_queues >= 4


def test_many_requests_are_under_way_on_four_queues(bench):
    _, disk = bench.storage_daemon(bench.image(), n_queues=4, setup=Setup(n_queues=4))
    for round_number in range(5):
        for n in range(60):
            disk.submit(blk_client.OUT, n * 8, backends.pattern(round_number * 60 + n, 4096), queue=n % 4,
                        indirect=bool(n % 3))
        for queue in range(4):
            assert [request.status for request in disk.wait(15, queue)] == [OK] * 15
    for n in range(60):
        assert disk.read(n * 8, 4096, queue=(n + 1) % 4) == backends.pattern(240 + n, 4096)


def test_discard_and_write_zeroes_make_zeroes(bench):
    _, disk = bench.storage_daemon(bench.image())
    assert disk.front.features & blk_client.F_DISCARD and disk.front.features & blk_client.F_WRITE_ZEROES
    assert disk.do(blk_client.WRITE_ZEROES, data=blk_client.ranges((8, 8))).status == OK
    assert disk.read(0, 3 * 4096) == (backends.pattern(1, 4096) + bytes(4096)
                                      + backends.pattern(1, 3 * 4096)[2 * 4096:])


def test_a_driver_may_stop_and_go_on(bench):
    _, disk = bench.storage_daemon(bench.image())
    disk.write(0, backends.pattern(5, 4096))
    base = disk.front.stop_queue(disk.queues[0])
    assert base == 1
    disk.front.start_queue(disk.queues[0], base)
    assert disk.read(0, 4096) == backends.pattern(5, 4096)


def test_a_connection_that_ends_is_followed_by_another(bench):
    path = bench.folder / "daemon.sock"
    process, disk = bench.storage_daemon(bench.image())
    disk.write(0, backends.pattern(7, 4096))
    disk.front = disk.front.reconnect(backends.connect(process, path))
    assert disk.read(0, 4096) == backends.pattern(7, 4096)


def test_memory_may_come_in_slots(bench):
    slots = [vhost_user.Slot(0, 1 << 20), vhost_user.Slot(1 << 32, 8 << 20, offset=4096)]
    memory = vhost_user.Memory(slots)
    path = bench.folder / "daemon.sock"
    process = bench.keep(backends.storage_daemon(path, bench.image()))
    disk = bench.keep(blk_client.Disk(backends.connect(process, path), memory))
    at = memory.allocate(4096, 4096, slots[1])
    request, buffers = disk.prepare(blk_client.IN, 8, length=4096)
    buffers[1] = (at, 4096, True)
    disk.queues[0].submit(buffers)
    disk.pending[0, max(disk.queues[0].chains)] = request
    disk.wait(1)
    assert request.status == OK
    assert memory.read(at, 4096) == backends.pattern(1, 8192)[4096:]


def test_the_pattern_of_the_tests_tells_places_apart():
    first, second = backends.pattern(1, 1 << 16), backends.pattern(2, 1 << 16)
    assert len({whole[at:at + 512] for whole in (first, second) for at in range(0, 1 << 16, 512)}) == 256
    assert blk_client.CONFIG_BYTES == 60
