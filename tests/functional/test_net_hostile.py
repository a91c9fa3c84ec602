"""A driver that means harm, on each of two pairs of queues: husk's network back-end neither dies, nor hangs, nor reaches beyond
guest RAM, and the other queues go on."""

import random

import pytest

import backends
import hostile
import net_client
import network
import vhost_user
from net_client import F_HOST_TSO4, F_MQ, F_MRG_RXBUF, NEEDS_CSUM, OFFLOADS, Nic, frame, header
from vhost_user import DESC_NEXT, DESC_WRITE, RING_FEATURES, Setup

# What a back-end may need besides guest RAM, whatever it is asked for; the sanitizer's shadow comes on top.
PEAK_KIB = {"build": 16 << 10, "build-asan": 300 << 10}
QUEUES = {"receive of the first pair": 0, "transmit of the first pair": 1, "receive of the second pair": 2,
          "transmit of the second pair": 3}


class Victim:
    """A tap in a namespace, husk's back-end on it, and a driver with two pairs of queues, one of them to be tormented."""

    def __init__(self, bench, build):
        namespace = bench.keep(network.Namespace())
        self.process, connection = namespace.run(lambda: backends.on_socketpair("--tap", "tap0", "--num-queues", "4", kind="net"))
        bench.keep(self.process)
        setup = Setup(n_queues=4, queue_size=hostile.SIZE, features=RING_FEATURES | F_MQ | F_MRG_RXBUF | OFFLOADS)
        self.nic = bench.keep(Nic(connection, hostile.guarded_memory(), setup))
        self.port = bench.keep(network.Port(namespace, "tap0"))
        self.most = PEAK_KIB[build] + 2 * hostile.RAM // 1024

    def well(self):
        """As hostile.Torment wants it."""
        assert self.process.running(), self.process.errors()
        assert self.process.peak_kib() < self.most

    def torment(self, index):
        """The torment of a queue."""
        return hostile.Torment(self.nic.front, self.nic.front.queues[index], self.well)

    def drain(self):
        """Forget what chance has sent."""
        while self.port.waits():
            self.port.receive()

    def arrived(self):
        """Frames that have come by either pair, in whose buffers others may come: the tap may hold any number of before."""
        found = []
        for pair in (0, 1):
            new = [one.frame for one in self.nic.received(pair)]
            self.nic.post(len(new), pair)
            found += new
        return found

    def serves(self, pairs=(0, 1)):
        """Frames go each way; those to the guest come by either pair, as the kernel likes."""
        for pair in pairs:
            mine = frame(b"from pair %d" % pair)
            self.nic.send(mine, pair=pair)
            self.nic.sent(pair=pair)
            vhost_user.until(lambda: self.port.receive()[0] == mine, f"the frame of pair {pair}")
            theirs = frame(b"to pair %d" % pair)
            self.port.send(theirs)
            vhost_user.until(lambda: theirs in self.arrived(), "a frame from the host")


@pytest.fixture
def victim(bench, either_build):
    """A Victim."""
    return Victim(bench, either_build)


@pytest.mark.parametrize("index", QUEUES.values(), ids=QUEUES)
def test_what_cannot_be_followed_breaks_that_queue_alone_until_it_is_set_up_anew(victim, index):
    torment = victim.torment(index)
    torment.broken_chains()
    torment.broken_rings()
    for pair in (0, 1):
        victim.nic.post(8, pair)
    victim.serves()


@pytest.mark.parametrize("index", QUEUES.values(), ids=QUEUES)
def test_descriptors_full_of_chance(victim, index):
    torment = victim.torment(index)
    torment.chance(60)
    victim.drain()
    for pair in (0, 1):
        victim.nic.post(8, pair)
    victim.serves()


def test_a_broken_queue_stops_no_other(victim):
    for pair in (0, 1):
        victim.nic.post(8, pair)
    torment = victim.torment(1)
    torment.offer(hostile.BROKEN["data in no memory"], False)
    assert torment.outcome("data in no memory") == "broken"
    victim.serves(pairs=[1])
    victim.well()


def test_frames_that_are_none_are_lost_and_their_buffers_given_back(victim):
    nic, good = victim.nic, frame(b"good")
    broken = {
        "nothing behind the header": (b"", None), "no whole Ethernet header": (b"short", None),
        "longer than any": (frame(bytes(70000)), None),
        "segments without a checksum": (good, header(gso=net_client.GSO_TCPV4, gso_size=1000)),
        "segments of nothing": (good, header(NEEDS_CSUM, net_client.GSO_TCPV4, gso_size=0)),
        "an unknown kind of segments": (good, header(NEEDS_CSUM, 77, gso_size=1000)),
        "a checksum beyond the end": (good, header(NEEDS_CSUM, csum_start=65535, csum_offset=65535)),
    }
    assert nic.front.features & F_HOST_TSO4
    for pair in (0, 1):
        for name, (data, head) in broken.items():
            nic.send(data, head, pair)
            assert nic.sent(pair=pair) == 1, name
            victim.well()
    # Nothing of them has come out: the first frame that does is a good one.
    nic.send(good)
    assert victim.port.receive()[0] == good
    assert not victim.port.waits()


def test_buffers_that_no_frame_goes_into_are_given_back_empty(victim):
    nic, torment = victim.nic, victim.torment(0)
    chains = {"to be read": [(hostile.D, 64, 0, 0)], "smaller than a header": [(hostile.D, 5, DESC_WRITE, 0)],
              "of no length": [(hostile.D, 0, DESC_WRITE, 0)],
              "half to be read": [(hostile.D, 64, DESC_NEXT, 1), (hostile.D, 2048, DESC_WRITE, 0)]}
    for name, chain in chains.items():
        torment.offer(chain, False)
        assert torment.outcome(name) == "used"
        assert nic.memory.read(nic.front.queues[0].used + 4, 8) == bytes(8), name
        torment.restart()
    for pair in (0, 1):
        nic.post(8, pair)
    victim.serves()


def test_rings_that_change_under_the_device(victim):
    chance, nic = random.Random(7), victim.nic
    for _ in range(300):
        queue = nic.front.queues[chance.randrange(4)]
        queue.write_desc(queue.desc, chance.randrange(hostile.SIZE), hostile.RAM_GPA + chance.randrange(hostile.RAM),
                         chance.choice([12, 60, 1500, 65536]), chance.choice([0, DESC_WRITE, DESC_NEXT, DESC_NEXT | DESC_WRITE]),
                         chance.randrange(hostile.SIZE))
        queue.offer(chance.randrange(hostile.SIZE))
        queue.kick()
        if chance.random() < 0.3:
            victim.port.send(frame(bytes(chance.randrange(46, 1400))))
        victim.well()
    for index in QUEUES.values():
        victim.torment(index).restart()
    victim.drain()
    nic.posted.clear()
    for pair in (0, 1):
        nic.post(8, pair)
    victim.serves()
