"""A driver that means harm: husk's console back-end neither dies, nor hangs, nor reaches beyond guest RAM."""

import os
import socket

import pytest

import backends
import console_client
import hostile
import vhost_user
from console_client import RECEIVE, TRANSMIT
from vhost_user import DESC_NEXT, DESC_WRITE, Setup

# What a back-end may need besides guest RAM, whatever it is asked for; the sanitizer's shadow comes on top.
PEAK_KIB = {"build": 16 << 10, "build-asan": 300 << 10}
# The most that is read at once.
PIECE = 65536


class Victim:
    """A back-end whose input never ends and whose output always goes, and the torment of one of its queues."""

    def __init__(self, bench, build, queue):
        with open("/dev/zero", "r+b", buffering=0) as endless:
            self.process, connection = backends.on_socketpair("--data-fd", endless.fileno(), kind="console",
                                                              pass_fds=[endless.fileno()])
        bench.keep(self.process)
        self.build = build
        self.console = bench.keep(console_client.Console(
            connection, hostile.guarded_memory(), Setup(n_queues=2, queue_size=hostile.SIZE), buffers=0))
        self.torment = hostile.Torment(self.console.front, self.console.queues[queue], self.well)

    def well(self):
        """It runs, and takes no more memory than it needs."""
        assert self.process.running(), self.process.errors()
        assert self.process.peak_kib() < PEAK_KIB[self.build] + 2 * hostile.RAM // 1024

    def serves(self):
        """Both queues do."""
        self.console.write(b"still there")
        self.console.give_buffer(self.console.memory.allocate(64), 64)
        assert self.console.read(64, again=False) == bytes(64)


@pytest.fixture
def victim(bench, either_build):
    """victim(queue): a Victim."""
    return lambda queue: Victim(bench, either_build, queue)


@pytest.mark.parametrize("queue", [RECEIVE, TRANSMIT])
def test_what_cannot_be_followed_breaks_the_queue_until_it_is_set_up_anew(victim, queue):
    made = victim(queue)
    made.torment.broken_chains()
    made.torment.broken_rings()
    made.serves()


@pytest.mark.parametrize("queue", [RECEIVE, TRANSMIT])
def test_descriptors_full_of_chance(victim, queue):
    made = victim(queue)
    made.torment.chance()
    made.serves()


@pytest.mark.parametrize("queue", [RECEIVE, TRANSMIT])
def test_a_request_with_nothing_for_the_device_is_given_back_empty(victim, queue):
    made = victim(queue)
    console, torment = made.console, made.torment
    other = 0 if queue == RECEIVE else DESC_WRITE
    chains = {"nothing": [(hostile.D, 0, 0, 0)], "no room": [(hostile.D, 0, DESC_WRITE, 0)],
              "the wrong direction": [(hostile.D, 64, other, 0)],
              "both directions without a byte": [(hostile.D, 0, DESC_NEXT, 1), (hostile.D, 0, DESC_WRITE, 0)]}
    console.memory.write(torment.data, b"\xa5" * 64)
    for name, chain in chains.items():
        torment.offer(chain, False)
        assert torment.outcome(name) == "used"
        assert console.memory.read(torment.queue.used + 4, 8) == bytes(8), name
        torment.restart()
    assert console.memory.read(torment.data, 64) == b"\xa5" * 64
    made.serves()


@pytest.mark.parametrize("queue", [RECEIVE, TRANSMIT])
def test_a_request_of_all_of_guest_ram_is_served_in_pieces(victim, queue):
    made = victim(queue)
    at, flags = hostile.RAM_GPA + hostile.RAM // 2, DESC_WRITE if queue == RECEIVE else 0
    made.torment.offer([(at, hostile.RAM // 2, flags, 0)], False)
    assert made.torment.outcome("a request of all of it") == "used"
    written = int.from_bytes(made.console.memory.read(made.torment.queue.used + 8, 4), "little")
    assert 0 < written <= PIECE if queue == RECEIVE else written == 0
    made.torment.well()


def test_a_front_end_that_goes_in_the_middle_of_a_request_leaves_nothing_behind(bench):
    ours, theirs = socket.socketpair()
    process, connection = backends.on_socketpair("--data-fd", theirs.fileno(), kind="console", pass_fds=[theirs.fileno()])
    bench.keep(process)
    console = console_client.Console(connection)
    console.offer(bytes(4 << 20))
    vhost_user.until(lambda: vhost_user.readable(ours.fileno(), 0), "output")
    console.close()
    assert process.ends() == 0
    ours.close()
    theirs.close()


def test_a_size_that_nobody_wrote_is_none(bench):
    """The file that tells the window's size is another process's to cut short."""
    size = os.memfd_create("size")
    change = os.eventfd(0, os.EFD_NONBLOCK)
    ours, theirs = socket.socketpair()
    process, connection = backends.on_socketpair("--data-fd", theirs.fileno(), "--size-fd", size, "--change-fd", change,
                                                 kind="console", pass_fds=[theirs.fileno(), size, change])
    console = bench.keep(console_client.Console(connection))
    assert console.size() == (0, 0)
    os.pwrite(size, b"\x50\x00\x18\x00", 0)
    os.eventfd_write(change, 1)
    console.wait_for_change()
    assert console.size() == (80, 24)
    os.ftruncate(size, 3)
    os.eventfd_write(change, 1)
    console.wait_for_change()
    assert console.size() == (0, 0)
    assert bench.keep(process).running()
    for fd in (size, change):
        os.close(fd)
    ours.close()
    theirs.close()
