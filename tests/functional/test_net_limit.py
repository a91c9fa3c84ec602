"""Rate limits of husk's network back-end, each way for itself: what may pass at once, and how fast what follows."""

import time

import pytest

import vhost_user
from net_client import frame
from net_wire import Wire

LENGTH = 1000
AN_HOUR = 3600 * 1000
# Twenty frames at once: eight that the bucket holds, and twelve once.
AT_ONCE = {"bytes": ["--bw-size", 8 * LENGTH, "--bw-one-time-burst", 12 * LENGTH, "--bw-refill-time"],
           "frames": ["--ops-size", 8, "--ops-one-time-burst", 12, "--ops-refill-time"]}
EACH = pytest.mark.parametrize("words", AT_ONCE.values(), ids=AT_ONCE)


@pytest.fixture
def wire(bench):
    """Makes a Wire."""
    return lambda *options, **how: Wire(bench, *options, **how)


def numbered(number):
    """A frame with its number."""
    return frame(number.to_bytes(4, "big").ljust(LENGTH - 14, b"."))


@EACH
def test_the_guest_sends_a_burst_and_no_frame_more(wire, words):
    here = wire(*words, AN_HOUR)
    for number in range(30):
        here.nic.send(numbered(number))
    assert [here.port.receive()[0] for _ in range(20)] == [numbered(number) for number in range(20)]
    # The frame after them was looked at and not taken.
    _, tx = here.nic.pair(0)
    assert here.nic.front.stop_queue(tx) == 20 and not here.port.waits()
    # The other way has a limit of its own.
    here.nic.post(20)
    for number in range(20):
        here.port.send(numbered(number))
    assert len(here.nic.receive(20)) == 20


@EACH
def test_the_guest_is_given_a_burst_and_no_frame_more(wire, words):
    here = wire(*words, AN_HOUR)
    here.nic.post(64)
    for number in range(30):
        here.port.send(numbered(number))
    got = here.nic.receive(20)
    # One that was read already is not lost when the queue stops.
    rx, _ = here.nic.pair(0)
    used = here.nic.front.stop_queue(rx)
    got += here.nic.received()
    assert len(got) == used <= 21
    assert [one.frame for one in got] == [numbered(number) for number in range(used)]
    here.nic.send(numbered(0))
    assert here.port.receive()[0] == numbered(0)


# Eight frames more in 40 ms: the twenty after the burst take 100 ms, or one frame's time less, of which a part may have passed
# before. What a slow machine adds proves nothing.
PERIOD, AFTER = 40, 20
LEAST = PERIOD / 1000 * (AFTER - 1) / 8


@EACH
def test_the_guest_sends_no_faster_than_the_limit(wire, words):
    here = wire(*words, PERIOD)
    begin = time.monotonic()
    for number in range(20 + AFTER):
        here.nic.send(numbered(number))
    got = [here.port.receive()[0] for _ in range(20 + AFTER)]
    assert time.monotonic() - begin >= LEAST
    assert got == [numbered(number) for number in range(20 + AFTER)]


@EACH
def test_the_guest_is_given_frames_no_faster_than_the_limit(wire, words):
    here = wire(*words, PERIOD)
    here.nic.post(64)
    begin = time.monotonic()
    for number in range(20 + AFTER):
        here.port.send(numbered(number))
    got = here.nic.receive(20 + AFTER)
    assert time.monotonic() - begin >= LEAST
    assert [one.frame for one in got] == [numbered(number) for number in range(20 + AFTER)]


def test_a_frame_that_is_longer_than_the_bucket_passes_when_that_is_full_and_is_paid_for_after(wire):
    here = wire("--bw-size", 400, "--bw-refill-time", 40)
    begin = time.monotonic()
    for number in range(3):
        here.nic.send(numbered(number))
    assert [here.port.receive()[0] for _ in range(3)] == [numbered(number) for number in range(3)]
    # Each leaves a debt of 600 bytes, and the next wants 400: 100 ms, or one byte's time less.
    assert time.monotonic() - begin >= 0.2 - 2 * 0.0001


def test_a_limited_queue_stops_at_once(wire):
    here = wire("--ops-size", 1, "--ops-refill-time", AN_HOUR)
    here.nic.post(8)
    for number in range(3):
        here.nic.send(numbered(number))
        here.port.send(numbered(number))
    assert here.nic.sent() == 1 and here.nic.receive()
    begin = time.monotonic()
    rx, tx = here.nic.pair(0)
    assert here.nic.front.stop_queue(tx) == 1 and here.nic.front.stop_queue(rx) <= 2
    assert time.monotonic() - begin < vhost_user.PATIENCE / 2
