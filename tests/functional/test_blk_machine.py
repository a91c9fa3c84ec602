"""husk's block back-end and what a machine around it does: memory that comes and goes, dirty logs, resets, locks, limits."""

import os
import time

import pytest

import backends
import blk_client
import vhost_user
from blk_client import FLUSH, IN, OK, OUT
from vhost_user import Memory, Setup, Slot

PAGE = vhost_user.PAGE
MIB = 1 << 20


def read_into(disk, gpa, sector, length, queue=0):
    """Have sectors read to a place in guest RAM that is not the driver's usual; returns the status."""
    request, buffers = disk.prepare(IN, sector, length=length, queue=queue)
    buffers[1] = (gpa, length, True)
    disk.pending[queue, disk.queues[queue].submit(buffers)] = request
    disk.wait(1, queue)
    return request.status


def test_memory_slots_come_and_go_while_requests_run(bench):
    memory = Memory([Slot(0, 16 * MIB), Slot(1 << 32, 2 * MIB, offset=64 << 10)])
    _, disk = bench.blk(bench.image(), "--num-queues", "2", setup=Setup(n_queues=2), memory=memory)
    wanted = backends.pattern(1, 8192)[4096:]
    for n in range(30):
        busy = [disk.submit(OUT, 1024 + 8 * k, backends.pattern(n * 16 + k, 4096), queue=1) for k in range(16)]
        slot = Slot((2 << 32) + n * MIB, MIB, offset=n % 3 * PAGE)
        disk.front.add_slot(slot)
        memory.slots.append(slot)
        at = slot.gpa + MIB - 4096
        assert read_into(disk, at, 8, 4096) == OK
        assert memory.read(at, 4096) == wanted
        disk.front.remove_slot(slot)
        memory.slots.remove(slot)
        assert [request.status for request in disk.wait(len(busy), 1)] == [OK] * 16
    for k in range(16):
        assert disk.read(1024 + 8 * k, 4096) == backends.pattern(29 * 16 + k, 4096)


def test_a_buffer_in_memory_that_was_taken_away_breaks_its_queue_alone(bench):
    extra = Slot(1 << 32, MIB)
    memory = Memory([Slot(0, 16 * MIB), extra])
    process, disk = bench.blk(bench.image(), "--num-queues", "2", setup=Setup(n_queues=2), memory=memory)
    disk.front.remove_slot(extra)
    request, buffers = disk.prepare(IN, 0, length=4096)
    buffers[1] = (extra.gpa, 4096, True)
    disk.queues[0].submit(buffers)
    assert vhost_user.readable(disk.queues[0].err_fd, vhost_user.PATIENCE)
    assert memory.read(extra.gpa, 4096) == bytes(4096)
    assert disk.read(0, 512, queue=1) == backends.pattern(1, 512)
    assert process.running()
    assert request.status is None


def test_as_many_slots_as_it_says_can_be_added_and_no_more(bench):
    _, disk = bench.blk(bench.image())
    slots = [Slot((1 << 32) + n * 2 * MIB, PAGE) for n in range(disk.front.max_slots)]
    for slot in slots[1:]:
        disk.front.add_slot(slot)
    assert disk.front.tell(vhost_user.ADD_MEM_REG, bytes(8) + slots[0].region(), [slots[0].fd]) != 0
    assert disk.read(0, 512) == backends.pattern(1, 512)
    for slot in slots[1:]:
        disk.front.remove_slot(slot)
    assert disk.read(0, 512) == backends.pattern(1, 512)


def test_a_new_memory_table_takes_the_place_of_the_old(bench):
    memory = Memory([Slot(0, 16 * MIB), Slot(1 << 32, 2 * MIB)])
    _, disk = bench.blk(bench.image(), memory=memory)
    disk.read(0, 512)
    base = disk.front.stop_queue(disk.queues[0])
    moved = memory.slots.pop()
    disk.front.set_memory()
    disk.front.start_queue(disk.queues[0], base)
    assert disk.read(0, 512) == backends.pattern(1, 512)
    memory.slots.append(moved)
    disk.front.stop_queue(disk.queues[0])
    disk.front.set_memory()
    disk.front.start_queue(disk.queues[0])
    assert read_into(disk, moved.gpa + PAGE, 0, 512) == OK
    assert memory.read(moved.gpa + PAGE, 512) == backends.pattern(1, 512)


def dirty_pages(log):
    """The pages whose bits are set in a log, which is cleared."""
    data = bytes(log.bytes)
    log.bytes[:] = bytes(len(data))
    return {at * 8 + bit for at, byte in enumerate(data) if byte for bit in range(8) if byte >> bit & 1}


def test_the_dirty_log_has_every_page_that_is_written_and_no_other(bench):
    memory = Memory([Slot(0, 32 * MIB)])
    _, disk = bench.blk(bench.image(), memory=memory)
    queue = disk.queues[0]
    disk.read(0, 512)
    log = Slot(0, 32 * MIB // PAGE // 8)
    disk.front.set_log(log)
    features = disk.front.features | vhost_user.F_LOG_ALL
    disk.front.must(vhost_user.SET_FEATURES, features.to_bytes(8, "little"))
    disk.front.set_addresses(queue, *(memory.user(at) for at in (queue.desc, queue.used, queue.avail)), vhost_user.VRING_LOG)
    at = memory.allocate(8 * PAGE, PAGE)
    request, buffers = disk.prepare(IN, 0, length=4096)
    # Two pages, by the last bytes of one and the first of the next.
    buffers[1] = (at + PAGE - 1000, 4096, True)
    disk.pending[0, queue.submit(buffers)] = request
    disk.wait(1)
    disk.front.stop_queue(queue)
    wanted = {at // PAGE, at // PAGE + 1, request.status_at // PAGE, queue.used // PAGE}
    assert dirty_pages(log) == wanted
    # What is written to the disk changes no page but that of the status and the ring.
    disk.front.start_queue(queue)
    disk.front.set_addresses(queue, *(memory.user(at) for at in (queue.desc, queue.used, queue.avail)), vhost_user.VRING_LOG)
    request = disk.do(OUT, 0, bytes(4096))
    disk.front.stop_queue(queue)
    assert dirty_pages(log) == {request.status_at // PAGE, queue.used // PAGE}
    # And with logging off nothing is logged.
    disk.front.must(vhost_user.SET_FEATURES, disk.front.features.to_bytes(8, "little"))
    disk.front.start_queue(queue)
    disk.read(0, 4096)
    disk.front.stop_queue(queue)
    assert dirty_pages(log) == set()


def test_a_log_that_is_too_small_is_never_written_beyond(bench):
    memory = Memory([Slot(0, 32 * MIB)])
    process, disk = bench.blk(bench.image(), memory=memory)
    log = Slot(0, PAGE)
    short = Slot(0, PAGE)
    short.length = 8  # covers 64 pages; the rest of its page is nobody's
    short.bytes[8:] = b"\xa5" * (PAGE - 8)
    for used in (log, short):
        disk.front.send(vhost_user.SET_LOG_BASE, used.length.to_bytes(8, "little") + bytes(8), [used.fd])
        disk.front.reply(vhost_user.SET_LOG_BASE)
        features = disk.front.features | vhost_user.F_LOG_ALL
        disk.front.tell(vhost_user.SET_FEATURES, features.to_bytes(8, "little"))
        at = memory.allocate(8 * PAGE, 1 << 20)
        read_into(disk, at, 0, 4096)
    assert bytes(short.bytes[8:]) == b"\xa5" * (PAGE - 8)
    assert process.running()


def test_reset_device_ends_everything_under_way_and_a_new_start_works(bench):
    _, disk = bench.blk(bench.image(), "--num-queues", "4", setup=Setup(n_queues=4))
    for _ in range(20):
        for n in range(64):
            disk.submit(OUT if n % 2 else IN, n * 8, backends.pattern(n, 4096) if n % 2 else b"",
                        0 if n % 2 else 4096, queue=n % 4, indirect=True)
        disk.front.must(vhost_user.RESET_DEVICE)
        disk.forget()
        disk.front.start()
        for n in range(4):
            request = disk.do(IN, 0, length=512, queue=n)
            assert request.status == OK


def test_after_a_reset_guest_ram_is_left_alone(bench):
    _, disk = bench.blk(bench.image(), setup=Setup(queue_size=128))
    for n in range(100):
        disk.submit(IN, n, length=4096, indirect=True)
    disk.front.must(vhost_user.RESET_DEVICE)
    slot = disk.memory.slots[0]
    slot.bytes[:] = b"\x5a" * slot.length
    # An answer to anything that comes after it says that it had time.
    for _ in range(50):
        disk.front.config(8)
    assert bytes(slot.bytes) == b"\x5a" * slot.length


@pytest.mark.parametrize("how", ["stop", "disable", "close"])
def test_queues_stop_at_any_moment(bench, how):
    process, disk = bench.blk(bench.image())
    queue = disk.queues[0]
    for n in range(20):
        requests = [disk.submit(OUT, 8 * k, backends.pattern(n * 64 + k, 4096), indirect=True)
                    for k in range(64)]
        if how == "stop":
            base = disk.front.stop_queue(queue)
            assert base == queue.used_idx(), "what was taken from the ring was not finished"
            disk.front.start_queue(queue, base)
        elif how == "disable":
            disk.front.enable_queue(queue, False)
            disk.front.enable_queue(queue, True)
        else:
            disk.close()
            assert process.ends() == 0
            process, connection = backends.on_socketpair("--path", bench.folder / "disk.raw", "--lock-wait", "60000")
            bench.keep(process)
            disk.front = disk.front.reconnect(connection)
        disk.wait(64 - len(disk.reap(queue)))
        assert [request.status for request in requests] == [OK] * 64
    for k in range(64):
        assert disk.read(8 * k, 4096) == backends.pattern(19 * 64 + k, 4096)


def refused(bench, image, *options):
    """Start a back-end that must be refused the disk; returns what it says."""
    process, connection = backends.on_socketpair("--path", image, *options)
    bench.keep(process)
    with pytest.raises(vhost_user.BackEndError):
        blk_client.Disk(connection).do(FLUSH)
    assert process.ends() == 1
    return process.errors()


@pytest.mark.parametrize("granularity", ["byte-range", "full"])
@pytest.mark.parametrize("first, second, together", [
    ([], [], False), ([], ["--readonly"], False), (["--readonly"], [], False), (["--readonly"], ["--readonly"], True),
    ([], ["--lock", "off"], True),
])
def test_two_back_ends_share_a_disk_only_if_neither_writes(bench, granularity, first, second, together):
    image = bench.image()
    lock = ["--lock", granularity]
    process, disk = bench.blk(image, *lock, *first)
    if together:
        _, other = bench.blk(image, *lock, *second)
        assert other.read(0, 512) == backends.pattern(1, 512)
    else:
        said = refused(bench, image, *lock, *second)
        assert str(image) in said and "in use" in said, said
    assert disk.read(0, 512) == backends.pattern(1, 512)
    assert process.running()


def test_a_back_end_may_wait_for_the_lock_of_a_dead_one(bench):
    image = bench.image()
    process, disk = bench.blk(image)
    disk.write(0, backends.pattern(3, 512))
    waiting, connection = backends.on_socketpair("--path", image, "--lock-wait", "60000")
    bench.keep(waiting)
    process.kill()
    process.ends()
    disk.front = disk.front.reconnect(connection)
    assert disk.read(0, 512) == backends.pattern(3, 512)


def test_the_wait_for_a_lock_ends_with_a_sentence(bench):
    image = bench.image()
    bench.blk(image)
    assert "in use" in refused(bench, image, "--lock-wait", "200")


def test_qemu_and_husk_keep_each_other_from_a_disk(bench):
    image = bench.image()
    process, _ = bench.blk(image)
    theirs = bench.keep(backends.storage_daemon(bench.folder / "daemon.sock", image, more=",locking=on"))
    assert theirs.ends() != 0
    assert "lock" in theirs.errors()
    process.kill()
    process.ends()
    bench.storage_daemon(image, more=",locking=on")
    assert "in use" in refused(bench, image)


def done_without_refill(disk, kind, length, offered, wanted):
    """How many of so many requests offered at once are done, wanted of them at least, where no token comes for minutes."""
    data = bytes(length) if kind == OUT else b""
    for n in range(offered):
        disk.submit(kind, n * 8, data, 0 if data else length)
    done = disk.wait(wanted)
    disk.queues[0].want_interrupt()
    # No event says that nothing more comes: a time in which hundreds would.
    while vhost_user.readable(disk.queues[0].call_fd, 0.5):
        disk.queues[0].interrupts()
        disk.queues[0].want_interrupt()
        done += disk.reap(disk.queues[0])
    done += disk.reap(disk.queues[0])
    assert all(request.status == OK for request in done)
    return len(done)


NEVER = "600000"


@pytest.mark.parametrize("kind", [IN, OUT])
@pytest.mark.parametrize("options, length, count", [
    (["--ops-size", "10", "--ops-refill-time", NEVER], 4096, 10),
    (["--ops-size", "10", "--ops-one-time-burst", "7", "--ops-refill-time", NEVER], 4096, 17),
    (["--bw-size", "65536", "--bw-refill-time", NEVER], 4096, 16),
    (["--bw-size", "65536", "--bw-one-time-burst", "8192", "--bw-refill-time", NEVER], 4096, 18),
    (["--bw-size", "65536", "--bw-refill-time", NEVER, "--ops-size", "5", "--ops-refill-time", NEVER], 4096, 5),
])
def test_limits_let_through_what_they_say(bench, kind, options, length, count):
    process, disk = bench.blk(bench.image(), *options)
    queue = disk.queues[0]
    assert done_without_refill(disk, kind, length, 40, count) == count
    # Stopping does not wait for tokens, and nothing that was taken from the ring is lost.
    assert disk.front.stop_queue(queue) == queue.used_idx()
    disk.close()
    assert process.ends() == 0


def test_tokens_come_back_at_the_rate_that_was_asked_for(bench):
    _, disk = bench.blk(bench.image(), "--ops-size", "10", "--ops-refill-time", "500")
    began = time.monotonic()
    requests = [disk.submit(IN, n * 8, length=512) for n in range(30)]
    disk.wait(30)
    took = time.monotonic() - began
    assert [request.status for request in requests] == [OK] * 30
    # Ten at once, and twenty at twenty a second.
    assert took >= 0.9


def test_a_limit_counts_for_all_queues_together(bench):
    _, disk = bench.blk(bench.image(), "--num-queues", "2", "--ops-size", "10", "--ops-refill-time", NEVER,
                        setup=Setup(n_queues=2))
    for n in range(30):
        disk.submit(IN, n, length=512, queue=n % 2)
    vhost_user.until(lambda: sum(queue.used_idx() for queue in disk.queues) >= 10, "ten requests")
    disk.front.config(8)
    assert sum(queue.used_idx() for queue in disk.queues) == 10


def test_a_front_end_without_any_protocol_feature_is_served(bench):
    _, disk = bench.blk(bench.image(), setup=Setup(protocol=0))
    assert disk.read(0, 4096) == backends.pattern(1, 4096)
    disk.write(0, bytes(4096))
    assert disk.read(0, 4096) == bytes(4096)


def test_a_front_end_may_poll_instead_of_being_interrupted(bench):
    _, disk = bench.blk(bench.image())
    queue = disk.queues[0]
    base = disk.front.stop_queue(queue)
    disk.front.start_queue(queue, base)
    disk.front.must(vhost_user.SET_VRING_CALL, (vhost_user.VRING_NO_FD | queue.index).to_bytes(8, "little"))
    request = disk.submit(IN, 0, length=512)
    vhost_user.until(lambda: queue.used_idx() == 1, "the request")
    disk.reap(queue)
    assert request.bytes() == backends.pattern(1, 512)


def test_a_disk_that_grew_is_opened_at_its_new_size(bench):
    image = bench.image()
    process, disk = bench.blk(image)
    disk.close()
    assert process.ends() == 0
    os.truncate(image, 16 * MIB)
    _, disk = bench.blk(image)
    assert disk.config()["capacity"] == 16 * MIB // 512
    assert disk.read((16 * MIB - 512) // 512, 512) == bytes(512)
