"""Frames through husk's network back-end, on a tap interface in a network namespace of the test's own."""

import itertools
import random

import pytest

import network
import vhost_user
from net_client import F_MQ, F_MRG_RXBUF, frame
from net_frames import KINDS, UDPV4
from net_wire import Wire
from vhost_user import F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1, RING_FEATURES

# Ethernet header and the MTU that an interface has.
SHORTEST, LONGEST = 14, 1514
# What virtio allows, and what a tap's largest MTU does.
JUMBO = 65535


@pytest.fixture
def wire(bench):
    """Makes a Wire."""
    return lambda *options, **how: Wire(bench, *options, **how)


def of_length(length, seed=0):
    """A frame of so many bytes, all different from the next one's."""
    return frame(random.Random(seed * 65536 + length).randbytes(length - SHORTEST))


def batches(frames, count=64):
    """So many at a time, as queues hold."""
    frames = iter(frames)
    return iter(lambda: list(itertools.islice(frames, count)), [])


def to_the_host(here, frames, **how):
    """All of them come out of the tap as they were sent."""
    for batch in batches(frames):
        for one in batch:
            here.nic.send(one, **how)
        assert [here.port.receive()[0] for _ in batch] == batch
        done = 0
        while done < len(batch):
            done += here.nic.sent(len(batch) - done)


def to_the_guest(here, frames, buffers=1, parts=1):
    """All of them come to the driver as they were sent, each in so many buffers."""
    for batch in batches(frames, 64 // buffers):
        here.nic.post(buffers * len(batch), parts=parts)
        for one in batch:
            here.port.send(one)
        got = here.nic.receive(len(batch))
        assert [one.frame for one in got] == batch
        assert {one.buffers for one in got} == {buffers}


def test_frames_go_each_way(wire):
    here = wire()
    here.nic.post()
    here.nic.send(frame(b"from the guest"))
    assert here.port.receive()[0] == frame(b"from the guest")
    assert here.nic.sent() == 1
    here.port.send(frame(b"from the host" * 4))
    got = here.nic.receive()
    assert [one.frame for one in got] == [frame(b"from the host" * 4)]
    assert got[0].header == (0, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize("ring", [F_INDIRECT_DESC, RING_FEATURES, F_VERSION_1], ids=["legacy", "modern", "bare"])
def test_frames_of_every_length_come_whole_each_way(wire, ring):
    here = wire(features=0, ring=ring)
    assert here.nic.header.size == (12 if ring & F_VERSION_1 else 10)
    to_the_host(here, map(of_length, range(SHORTEST, LONGEST + 1)))
    to_the_guest(here, map(of_length, range(SHORTEST, LONGEST + 1)))


def test_frames_up_to_the_longest_come_whole_each_way(wire):
    here = wire("--mtu", 65521, buffer=1 << 17, features=0)
    lengths = [LONGEST + 1, 4096, 9014, 32768, 65000, JUMBO]
    for length in lengths:
        to_the_host(here, [of_length(length)])
        to_the_guest(here, [of_length(length, 1)])


@pytest.mark.parametrize("buffer", [60, 128, 1500])
def test_a_frame_that_one_buffer_does_not_hold_goes_to_several(wire, buffer):
    here = wire(buffer=buffer)
    for whole in (buffer - 1, buffer, buffer + 1, 2 * buffer, 2 * buffer + 1, LONGEST + 12):
        length = min(whole - 12, LONGEST)
        to_the_guest(here, [of_length(length)], buffers=-(-(length + 12) // buffer))


def test_the_longest_frame_goes_to_many_small_buffers(wire):
    here = wire("--mtu", 65521, buffer=2048)
    for length in (JUMBO, 65000, 2049):
        to_the_guest(here, [of_length(length)], buffers=-(-(length + 12) // 2048))


def test_a_frame_waits_for_the_buffers_that_it_still_needs(wire):
    here = wire(buffer=500)
    here.nic.post(1)
    here.port.send(of_length(LONGEST))
    here.port.send(of_length(100))
    here.nic.post(2)
    assert here.nic.received() == []
    here.nic.post(2)
    assert [(one.frame, one.buffers) for one in here.nic.receive(2)] == [(of_length(LONGEST), 4), (of_length(100), 1)]


def test_a_frame_that_its_one_buffer_does_not_hold_is_lost_and_the_buffer_goes_to_the_next(wire):
    here = wire(features=0, buffer=1000)
    here.nic.post(2)
    here.port.send(of_length(LONGEST))
    here.port.send(of_length(989))
    here.port.send(of_length(988))
    here.port.send(of_length(60))
    assert [one.frame for one in here.nic.receive(2)] == [of_length(988), of_length(60)]


@pytest.mark.parametrize("indirect", [False, True])
def test_frames_may_lie_in_pieces_wherever_they_are_cut(wire, indirect):
    here, chance = wire(), random.Random(5)
    for _ in range(50):
        one = of_length(chance.randrange(60, LONGEST))
        cuts = sorted(chance.sample(range(1, len(one) + 11), 9))
        if chance.random() < 0.5:  # the header, too
            cuts = [1, 5, 6, 11] + [cut for cut in cuts if cut > 11]
        parts = [after - before for before, after in zip([0, *cuts], [*cuts, len(one) + 12])]
        to_the_host(here, [one], parts=parts, indirect=indirect)


@pytest.mark.parametrize("parts", [2, 7, 64])
@pytest.mark.parametrize("features", [0, F_MRG_RXBUF], ids=["alone", "merged"])
def test_buffers_may_be_of_many_pieces(wire, parts, features):
    here = wire(features=features, buffer=2048)
    to_the_guest(here, map(of_length, (60, 300, 1000, LONGEST)), parts=parts)


def test_a_driver_that_is_not_told_of_each_frame_finds_all_of_them(wire):
    here = wire(ring=RING_FEATURES & ~F_EVENT_IDX)
    to_the_host(here, [of_length(100, seed) for seed in range(200)])
    to_the_guest(here, [of_length(100, seed) for seed in range(200)])


def test_frames_wait_in_order_while_the_driver_has_no_buffers(wire):
    here = wire()
    frames = [of_length(60 + seed, seed) for seed in range(200)]
    for one in frames:
        here.port.send(one)
    for _ in range(20):
        here.nic.post(10)
    assert [one.frame for one in here.nic.receive(200)] == frames


def test_a_queue_that_stops_gives_every_buffer_back_and_goes_on_where_it_was(wire):
    here = wire()
    rx, tx = here.nic.pair(0)
    here.nic.post(20)
    to_the_host(here, [of_length(60)])
    here.port.send(of_length(60))
    here.nic.receive()
    # One was used of each, and the buffers that wait for frames are the driver's again.
    assert [here.nic.front.stop_queue(queue) for queue in (rx, tx)] == [1, 1]
    here.nic.send(of_length(70))
    assert rx.reap() == [] and not here.port.waits()
    for queue in (rx, tx):
        here.nic.front.start_queue(queue)
        queue.kick()
    assert here.port.receive()[0] == of_length(70)
    here.port.send(of_length(80))
    assert here.nic.receive()[0].frame == of_length(80)


def flows(count):
    """A frame each of so many flows, which the kernel spreads over queues."""
    return [UDPV4.frame(b"flow %d" % number, port=2000 + number) for number in range(count)]


def arrived(nic, count):
    """Frames by the pair at which they come, when so many have come altogether."""
    got = {0: [], 1: []}

    def all_there():
        for pair, frames in got.items():
            frames += [one.frame for one in nic.received(pair)]
        return sum(map(len, got.values())) >= count

    vhost_user.until(all_there, f"{count} frames")
    return got


def test_two_pairs_of_queues_share_the_frames_and_one_gets_all_when_the_other_rests(wire, bench):
    here = wire(pairs=2, features=F_MRG_RXBUF | F_MQ)
    port = bench.keep(network.Port(here.namespace, "tap0", UDPV4.ether_type))
    nic, sent = here.nic, flows(60)
    for pair in (0, 1):
        nic.post(180, pair)
        nic.send(frame(b"by pair %d" % pair), pair=pair)
        assert here.port.receive()[0] == frame(b"by pair %d" % pair)

    def spread():
        for one in sent:
            port.send(one)
        got = arrived(nic, len(sent))
        assert sorted(got[0] + got[1]) == sorted(sent)
        return len(got[0]), len(got[1])

    assert all(spread())
    for queue in nic.pair(1):
        nic.front.enable_queue(queue, False)
    assert spread() == (60, 0)
    for queue in nic.pair(1):
        nic.front.enable_queue(queue, True)
    here.namespace.wait_for_queues("tap0", 2)
    assert all(spread())


def test_thirty_two_pairs_of_queues_serve(wire):
    here = wire(pairs=32, features=F_MRG_RXBUF | F_MQ)
    assert here.nic.config()[2] == 32
    for pair in range(32):
        here.nic.send(frame(b"by pair %d" % pair), pair=pair)
        assert here.port.receive()[0] == frame(b"by pair %d" % pair)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_frame_without_offloads_is_not_changed(wire, bench, kind):
    here = wire()
    port = bench.keep(network.Port(here.namespace, "tap0", kind.ether_type))
    whole = kind.frame(bytes(range(256)))
    here.nic.send(whole)
    assert port.receive()[0] == whole
    here.nic.post(1)
    port.send(whole)
    got = here.nic.receive()[0]
    assert got.frame == whole and got.header == (0, 0, 0, 0, 0, 0, 1)
