"""husk's block back-end: every kind of request, and what a driver may ask of them (virtio 1.2, 5.2)."""

import os
import pathlib
import signal
import struct
import subprocess

import pytest

import backends
import blk_client
import vhost_user
from blk_client import DISCARD, FLUSH, GET_ID, IN, IOERR, OK, OUT, SECTOR, UNSUPP, WRITE_ZEROES, ranges
from vhost_user import Setup

RINGS = [vhost_user.RING_FEATURES, vhost_user.F_VERSION_1 | vhost_user.F_EVENT_IDX,
         vhost_user.F_VERSION_1 | vhost_user.F_INDIRECT_DESC, vhost_user.F_VERSION_1]
DISK = 8 << 20
UNMAP = 1


def content(image, at, length):
    """Bytes of an image file."""
    with open(image, "rb") as file:
        file.seek(at)
        return file.read(length)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("direct", [False, True], ids=["cached", "direct"])
def test_what_is_written_is_read_again_with_every_kind_of_ring(bench, ring, direct):
    image = bench.image()
    _, disk = bench.blk(image, *(["--direct"] if direct else []),
                        setup=Setup(features=ring | 0x7fffff, queue_size=16))
    assert disk.front.features & vhost_user.RING_FEATURES == ring
    indirect = bool(ring & vhost_user.F_INDIRECT_DESC)
    for n in range(100):
        disk.write(n * 8, backends.pattern(n + 100, 4096), parts=[512, 1024, 2560], indirect=indirect)
    for n in range(100):
        assert disk.read(n * 8, 4096, parts=[4000, 96], indirect=indirect) == backends.pattern(n + 100, 4096)
    disk.flush()
    assert content(image, 99 * 4096, 4096) == backends.pattern(199, 4096)


def test_reads_and_writes_of_one_sector_and_of_many(bench):
    _, disk = bench.blk(bench.image(), room=1 << 20)
    whole = backends.pattern(1, DISK)
    for sector, length in ((0, 512), (3, 512), (7, 1536), (16, 1 << 16), (2048, 1 << 20), (DISK // 512 - 1, 512)):
        assert disk.read(sector, length) == whole[sector * SECTOR:sector * SECTOR + length]
        disk.write(sector, backends.pattern(sector + 2, length))
        assert disk.read(sector, length) == backends.pattern(sector + 2, length)


@pytest.mark.parametrize("direct", [False, True], ids=["cached", "direct"])
def test_buffers_may_lie_anywhere_and_be_of_any_length(bench, direct):
    _, disk = bench.blk(bench.image(), *(["--direct"] if direct else []))
    data = backends.pattern(77, 8192)
    for kind in (OUT, IN):
        request, buffers = disk.prepare(kind, 8, data if kind == OUT else b"", 0 if kind == OUT else len(data))
        at = disk.memory.allocate(16384, 4096) + 3
        if kind == OUT:
            disk.memory.write(at, data)
        # Odd addresses, odd lengths, a piece of every size.
        cuts = [0, 1, 2, 5, 516, 4099, 4100, 8191, 8192]
        buffers[1:2] = [(at + low, high - low, kind == IN) for low, high in zip(cuts, cuts[1:])]
        disk.pending[0, disk.queues[0].submit(buffers)] = request
        disk.wait(1)
        assert request.status == OK
        assert disk.memory.read(at, 8192) == data
        assert disk.memory.read(at - 3, 3) == bytes(3) and disk.memory.read(at + 8192, 16) == bytes(16)


def test_header_and_status_may_be_framed_in_any_way(bench):
    _, disk = bench.blk(bench.image())
    # The header in three pieces with the data to write behind it in the same piece as its end; the status of the read
    # in the buffer of the data (virtio 1.2, 2.7.4: no assumption about the framing).
    at = disk.memory.allocate(8192, 4096)
    disk.memory.write(at, struct.pack("<IIQ", OUT, 0, 5) + backends.pattern(9, 512) + b"\xee")
    queue = disk.queues[0]
    queue.submit([(at, 4, False), (at + 4, 9, False), (at + 13, 3 + 512, False), (at + 528, 1, True)])
    assert vhost_user.readable(queue.call_fd, vhost_user.PATIENCE)
    assert queue.reap()[0][1] == 1 and disk.memory.read(at + 528, 1) == b"\0"
    disk.memory.write(at, struct.pack("<IIQ", IN, 0, 5) + b"\xee" * 513)
    queue.want_interrupt()
    queue.interrupts()
    queue.submit([(at, 1, False), (at + 1, 15, False), (at + 16, 513, True)])
    assert vhost_user.readable(queue.call_fd, vhost_user.PATIENCE)
    assert queue.reap()[0][1] == 513
    assert disk.memory.read(at + 16, 513) == backends.pattern(9, 512) + b"\0"


def test_the_used_length_says_what_the_device_wrote(bench):
    _, disk = bench.blk(bench.image())
    assert disk.do(IN, 0, length=4096).written == 4097
    assert disk.do(OUT, 0, bytes(4096)).written == 1
    assert disk.do(FLUSH).written == 1
    assert disk.do(GET_ID, length=20).written == 21


@pytest.mark.parametrize("kind", [IN, OUT])
@pytest.mark.parametrize("sector, length", [(DISK // 512, 512), (DISK // 512 - 1, 1024), (2 ** 64 - 1, 512),
                                            (2 ** 55, 512), (2 ** 55 - 1, 1024), (0, 511), (0, 513), (0, 1)])
def test_what_is_beyond_the_end_or_no_whole_sectors_is_an_error(bench, kind, sector, length):
    image = bench.image()
    _, disk = bench.blk(image)
    request = disk.do(kind, sector, bytes(length) if kind == OUT else b"", length if kind == IN else 0)
    assert request.status == IOERR
    assert image.stat().st_size == DISK
    assert image.read_bytes() == backends.pattern(1, DISK)
    assert disk.do(IN, 0, length=512).status == OK


def test_unknown_requests_are_unsupported(bench):
    _, disk = bench.blk(bench.image())
    for kind in (2, 3, 5, 7, 9, 12, 14, 15, 0x80000000, 0xffffffff):
        assert disk.do(kind, 0, length=512).status == UNSUPP, kind


@pytest.mark.parametrize("serial", ["", "s", "husk-disk-0", "exactly-twenty-bytes"])
def test_the_serial_is_what_was_asked_for(bench, serial):
    _, disk = bench.blk(bench.image(), "--serial", serial)
    request = disk.do(GET_ID, length=20)
    assert request.status == OK
    assert request.bytes() == serial.encode().ljust(20, b"\0")


def test_the_configuration_space_tells_what_the_disk_is(bench):
    _, disk = bench.blk(bench.image(), "--num-queues", "4", setup=Setup(n_queues=4))
    config = disk.config()
    assert config["capacity"] == DISK // SECTOR
    assert config["num_queues"] == disk.front.max_queues == 4
    assert config["blk_size"] in (512, 4096)
    assert config["seg_max"] >= 1
    assert config["max_discard_sectors"] and config["max_discard_seg"]
    assert config["max_write_zeroes_sectors"] and config["max_write_zeroes_seg"]
    for feature in (blk_client.F_FLUSH, blk_client.F_DISCARD, blk_client.F_WRITE_ZEROES, blk_client.F_MQ,
                    blk_client.F_SEG_MAX, blk_client.F_BLK_SIZE):
        assert disk.front.features & feature, feature
    assert not disk.front.offered & (1 << 33), "no back-end speaks of ACCESS_PLATFORM"
    assert disk.front.config(4, 0) == struct.pack("<Q", DISK // SECTOR)[:4]


def test_what_a_back_end_must_speak_is_offered(bench):
    _, disk = bench.blk(bench.image())
    wanted = (vhost_user.P_MQ | vhost_user.P_LOG_SHMFD | vhost_user.P_REPLY_ACK | vhost_user.P_BACKEND_REQ
              | vhost_user.P_CONFIG | vhost_user.P_INFLIGHT | vhost_user.P_RESET_DEVICE | vhost_user.P_MEM_SLOTS)
    assert disk.front.offered_protocol & wanted == wanted
    assert disk.front.offered & vhost_user.F_LOG_ALL
    assert disk.front.max_slots >= 32


def test_a_read_only_disk_takes_no_write_of_any_kind(bench):
    image = bench.image()
    process, disk = bench.blk(image, "--readonly")
    assert disk.front.features & blk_client.F_RO
    assert not disk.front.features & (blk_client.F_DISCARD | blk_client.F_WRITE_ZEROES)
    assert disk.read(0, 4096) == backends.pattern(1, 4096)
    assert disk.do(OUT, 0, bytes(4096)).status == IOERR
    for kind in (DISCARD, WRITE_ZEROES):
        assert disk.do(kind, data=ranges((0, 8))).status in (IOERR, UNSUPP)
    assert disk.do(FLUSH).status == OK
    assert image.read_bytes() == backends.pattern(1, DISK)
    flags = [fd.read_text() for fd in pathlib.Path(f"/proc/{process.pid}/fdinfo").iterdir()
             if os.path.realpath(f"/proc/{process.pid}/fd/{fd.name}") == str(image)]
    assert flags
    assert all(int(text.partition("flags:")[2].split()[0], 8) & os.O_ACCMODE == os.O_RDONLY for text in flags)


def test_direct_goes_past_the_page_cache(bench):
    image = bench.image()
    process, _ = bench.blk(image, "--direct")
    flags = [fd.read_text() for fd in pathlib.Path(f"/proc/{process.pid}/fdinfo").iterdir()
             if os.path.realpath(f"/proc/{process.pid}/fd/{fd.name}") == str(image)]
    assert any(int(text.partition("flags:")[2].split()[0], 8) & os.O_DIRECT for text in flags)


def test_a_discarded_range_is_empty_on_the_host(bench):
    image = bench.image()
    _, disk = bench.blk(image)
    before = image.stat().st_blocks
    assert disk.do(DISCARD, data=ranges((2048, 4096))).status == OK
    assert image.stat().st_blocks <= before - 4096
    expected = backends.pattern(1, DISK)
    assert content(image, 0, DISK) == expected[:1 << 20] + bytes(2 << 20) + expected[3 << 20:]
    assert image.stat().st_size == DISK


@pytest.mark.parametrize("flags", [0, UNMAP])
def test_write_zeroes_writes_zeroes_and_frees_only_what_it_may(bench, flags):
    image = bench.image()
    _, disk = bench.blk(image)
    before = image.stat().st_blocks
    assert disk.do(WRITE_ZEROES, data=ranges((2048, 4096, flags))).status == OK
    # Odd sectors too, that are no whole pages of the file.
    assert disk.do(WRITE_ZEROES, data=ranges((3, 1, flags))).status == OK
    expected = bytearray(backends.pattern(1, DISK))
    expected[1 << 20:3 << 20] = bytes(2 << 20)
    expected[3 * 512:4 * 512] = bytes(512)
    assert content(image, 0, DISK) == expected
    assert image.stat().st_size == DISK
    if not flags:
        assert image.stat().st_blocks == before


def test_as_many_ranges_as_the_device_says_are_done_in_one_request(bench):
    image = bench.image()
    _, disk = bench.blk(image)
    expected = bytearray(backends.pattern(1, DISK))
    for kind, first, count in ((DISCARD, 0, disk.config()["max_discard_seg"]),
                               (WRITE_ZEROES, 8192, disk.config()["max_write_zeroes_seg"])):
        count = min(count, 64)
        pieces = [(first + n * 16, 8) for n in range(count)]
        assert disk.do(kind, data=ranges(*pieces)).status == OK
        for sector, length in pieces:
            expected[sector * SECTOR:(sector + length) * SECTOR] = bytes(length * SECTOR)
    assert content(image, 0, DISK) == expected


@pytest.mark.parametrize("kind, data, status", [
    (DISCARD, ranges((0, 8, UNMAP)), UNSUPP), (DISCARD, ranges((0, 8, 2)), UNSUPP),
    (WRITE_ZEROES, ranges((0, 8, 2)), UNSUPP), (WRITE_ZEROES, ranges((0, 8, 0x80000001)), UNSUPP),
    (DISCARD, ranges((DISK // SECTOR, 8)), IOERR), (DISCARD, ranges((DISK // SECTOR - 1, 8)), IOERR),
    (WRITE_ZEROES, ranges((DISK // SECTOR - 1, 8)), IOERR), (WRITE_ZEROES, ranges((2 ** 64 - 1, 2)), IOERR),
    (WRITE_ZEROES, ranges((2 ** 63, 0xffffffff)), IOERR), (DISCARD, ranges((2 ** 55, 1)), IOERR),
    (DISCARD, ranges((0, 8))[:15], IOERR), (WRITE_ZEROES, ranges((0, 8)) + b"\0", IOERR), (DISCARD, b"", IOERR),
])
def test_ranges_that_are_wrong_are_refused_and_nothing_is_touched(bench, kind, data, status):
    image = bench.image()
    _, disk = bench.blk(image)
    assert disk.do(kind, data=data).status == status
    assert image.read_bytes() == backends.pattern(1, DISK)


def test_four_queues_serve_at_once_and_stop_on_their_own(bench):
    _, disk = bench.blk(bench.image(), "--num-queues", "4", setup=Setup(n_queues=4))
    for round_number in range(5):
        for n in range(60):
            disk.submit(OUT, n * 8, backends.pattern(round_number * 60 + n, 4096), queue=n % 4, indirect=bool(n % 3))
        for queue in range(4):
            assert [request.status for request in disk.wait(15, queue)] == [OK] * 15
    stopped = disk.queues[2]
    assert disk.front.stop_queue(stopped) == stopped.used_idx()
    for n in range(60):
        if n % 4 != 1:
            assert disk.read(n * 8, 4096, queue=(n + 1) % 4) == backends.pattern(240 + n, 4096)
    # What is offered meanwhile is served when the queue starts again.
    request = disk.submit(IN, 8, length=4096, queue=2)
    disk.front.start_queue(stopped)
    disk.wait(1, 2)
    assert request.bytes() == backends.pattern(241, 4096)


@pytest.mark.parametrize("ring", [RINGS[0], RINGS[3]])
def test_a_driver_that_wants_no_interrupt_gets_none(bench, ring):
    _, disk = bench.blk(bench.image(), setup=Setup(features=ring | 0x7fffff))
    queue = disk.queues[0]
    # One that is wanted, and waited for: it may come long after what it tells of.
    disk.submit(IN, 0, length=512)
    assert vhost_user.readable(queue.call_fd, vhost_user.PATIENCE)
    assert len(disk.reap(queue)) == 1
    queue.want_no_interrupt()
    queue.interrupts()
    before = queue.used_idx()
    requests = [disk.submit(IN, 0, length=512) for _ in range(30)]
    vhost_user.until(lambda: queue.used_idx() == before + 30, "30 requests")
    # It has nothing left to do, and so nothing to tell.
    disk.front.stop_queue(queue)
    assert queue.interrupts() == 0
    disk.reap(queue)
    assert [request.status for request in requests] == [OK] * 30


@pytest.mark.parametrize("ring", [RINGS[0], RINGS[3]])
def test_requests_offered_together_need_one_kick(bench, ring):
    _, disk = bench.blk(bench.image(), setup=Setup(features=ring | 0x7fffff))
    queue = disk.queues[0]
    laid_out = [disk.prepare(IN, n, length=512) for n in range(30)]
    heads = [queue.chain(buffers) for _, buffers in laid_out]
    queue.offer(*heads)
    queue.kick()
    disk.pending.update({(0, head): request for head, (request, _) in zip(heads, laid_out)})
    assert len(disk.wait(30)) == 30
    assert queue.kicks == 1
    whole = backends.pattern(1, 30 * 512)
    assert [request.bytes() for request, _ in laid_out] == [whole[n * 512:n * 512 + 512] for n in range(30)]


def test_one_end_of_the_connection_is_the_end_of_the_process(bench):
    process, disk = bench.blk(bench.image())
    disk.write(0, bytes(512))
    disk.close()
    assert process.ends() == 0


def test_a_listening_back_end_serves_one_after_another_until_it_is_told_to_end(bench):
    image, path = bench.image(), bench.folder / "blk.sock"
    process = bench.keep(backends.Process([backends.husk_backend(), "blk", "--socket", path, "--path", image]))
    for n in range(3):
        disk = blk_client.Disk(backends.connect(process, path))
        disk.write(n, backends.pattern(n + 40, 512))
        disk.close()
    disk = bench.keep(blk_client.Disk(backends.connect(process, path)))
    for n in range(3):
        assert disk.read(n, 512) == backends.pattern(n + 40, 512)
    process.kill(signal.SIGTERM)
    assert process.ends() == 0


def test_husk_backend_is_a_subcommand_too(bench, husk):
    image, path = bench.image(), bench.folder / "blk.sock"
    process = bench.keep(backends.Process([husk, "backend", "blk", "--socket", path, "--path", image]))
    disk = bench.keep(blk_client.Disk(backends.connect(process, path)))
    assert disk.read(0, 512) == backends.pattern(1, 512)


@pytest.mark.parametrize("options, status, word", [
    (["--no-such-option"], 2, "no-such-option"), ([], 2, "path"), (["--path", "/nonexistent/disk"], 1, "/nonexistent/disk"),
    (["--path", "/"], 1, "/"), (["--path", "/dev/null", "--num-queues", "0"], 2, "queues"),
    (["--path", "/dev/null", "--queue-size", "100"], 2, "100"), (["--path", "/dev/null", "--lock", "perhaps"], 2, "perhaps"),
])
def test_what_cannot_be_is_said_in_one_sentence(options, status, word):
    done = subprocess.run([backends.husk_backend(), "blk", "--socket", "/nonexistent/folder/s", *options],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done
    assert word in done.stderr
    assert done.stdout == ""


def test_help_names_every_option():
    done = subprocess.run([backends.husk_backend(), "blk", "--help"], capture_output=True, text=True, timeout=120, check=True)
    for option in ("socket", "fd", "path", "readonly", "direct", "num-queues", "queue-size", "serial", "lock", "bw-size",
                   "bw-one-time-burst", "bw-refill-time", "ops-size", "ops-one-time-burst", "ops-refill-time"):
        assert f"--{option}" in done.stdout, option
