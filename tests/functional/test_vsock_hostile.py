"""A driver that means harm: husk's socket back-end neither dies, nor hangs, nor reaches beyond guest RAM."""

import socket

import pytest

import backends
import hostile
import vhost_user
import vsock_client
from vhost_user import Setup
from vsock_client import EVENT, REQUEST, RST, RX, TX, Stream

CID = 9
# What a back-end may need besides guest RAM, whatever it is asked for; the sanitizer's shadow comes on top.
PEAK_KIB = {"build": 16 << 10, "build-asan": 300 << 10}
QUEUES = {"receive": RX, "transmit": TX}


class Deaf(vsock_client.Vsock):
    """Does not hear refusals: what chance has sent gets some, at any time."""

    def receive(self, timeout=vhost_user.PATIENCE):
        while (packet := super().receive(timeout)).op == RST:
            pass
        return packet


class Victim:
    """A back-end, and the torment of one of its queues."""

    def __init__(self, bench, build, folder, queue):
        self.path, self.bench, self.build = str(folder / "v.sock"), bench, build
        self.process, connection = backends.on_socketpair("--cid", CID, "--uds", self.path, kind="vsock")
        bench.keep(self.process)
        self.vsock = bench.keep(Deaf(connection, CID, hostile.guarded_memory(),
                                     Setup(n_queues=3, queue_size=hostile.SIZE), buffers=0))
        self.torment = hostile.Torment(self.vsock.front, self.vsock.front.queues[queue], self.well)
        if queue == RX:
            # Only what waits for the driver has the device look for buffers: a refusal, each time.
            kick = self.torment.queue.kick
            self.torment.queue.kick = lambda: (self.vsock.send(REQUEST, 1, 80), kick())

    def well(self):
        """It runs, and takes no more memory than it needs."""
        assert self.process.running(), self.process.errors()
        assert self.process.peak_kib() < PEAK_KIB[self.build] + 2 * hostile.RAM // 1024

    def serves(self):
        """A host program and the guest talk."""
        for _ in range(8):
            self.vsock.give(self.vsock.memory.allocate(vsock_client.BUFFER))
        program = self.bench.keep(socket.socket(socket.AF_UNIX))
        program.settimeout(vhost_user.PATIENCE)
        program.connect(self.path)
        program.sendall(b"CONNECT 77\n")
        stream = Stream.from_host(self.vsock)
        assert stream.ports[0] == 77
        assert program.recv(100).startswith(b"OK ")
        program.sendall(b"still there")
        assert stream.read(11) == b"still there"


@pytest.fixture
def victim(bench, either_build, tmp_path):
    """victim(queue): a Victim."""
    return lambda queue: Victim(bench, either_build, tmp_path, queue)


@pytest.mark.parametrize("queue", QUEUES.values(), ids=QUEUES)
def test_what_cannot_be_followed_breaks_the_queue_until_it_is_set_up_anew(victim, queue):
    made = victim(queue)
    made.torment.broken_chains()
    made.torment.broken_rings()
    made.serves()


@pytest.mark.parametrize("queue", QUEUES.values(), ids=QUEUES)
def test_descriptors_full_of_chance(victim, queue):
    made = victim(queue)
    made.torment.chance()
    made.serves()


def test_a_broken_event_queue_is_no_ones_business(victim):
    made = victim(TX)
    made.vsock.memory.set_word(made.vsock.front.queues[EVENT].avail + 2, 1000)
    made.vsock.front.queues[EVENT].kick()
    made.serves()
    made.well()


@pytest.mark.parametrize("length", [1, 43])
def test_buffers_too_small_for_a_packet_are_given_back_empty(victim, length):
    made = victim(TX)
    queue, place = made.vsock.front.queues[RX], made.vsock.memory.allocate(64)
    for _ in range(4):
        queue.submit([(place, length, True)])
    made.vsock.send(REQUEST, 1, 80)
    vhost_user.until(lambda: queue.used_idx() == 4, "the buffers")
    assert [written for _, written in queue.reap()] == [0] * 4
    made.serves()
