"""A network back-end that dies while frames go both ways: its successor goes on from what the used rings tell, in order."""

import contextlib
import os

import pytest

import network
import vhost_user
from net_client import F_MRG_RXBUF, Nic, frame
from net_wire import start_on
from vhost_user import RING_FEATURES, Setup

KILLS = 12
QUEUE_SIZE = 64


class Line:
    """A tap that outlives its back-ends, as the broker holds it; a driver that outlives them too, and frames with numbers."""

    def __init__(self, bench):
        self.bench = bench
        self.namespace = bench.keep(network.Namespace())
        stack = bench.keep(contextlib.ExitStack())
        self.fd = network.open_tap(self.namespace, "tap0")
        stack.callback(os.close, self.fd)
        self.namespace.ip("link", "set", "tap0", "up")
        self.process, connection = start_on(bench, self.namespace, self.fd)
        self.nic = bench.keep(Nic(connection, setup=Setup(n_queues=2, queue_size=QUEUE_SIZE, features=RING_FEATURES | F_MRG_RXBUF)))
        self.port = bench.keep(network.Port(self.namespace, "tap0"))
        self.sent = self.offered = 0  # by the driver, by the host

    def send(self):
        """As many frames of the driver's as there are descriptors for."""
        _, tx = self.nic.pair(0)
        while tx.free:
            self.nic.send(numbered(self.sent))
            self.sent += 1

    def offer(self, count):
        """Frames to the driver."""
        for _ in range(count):
            self.port.send(numbered(self.offered))
            self.offered += 1

    def fill(self):
        """Buffers to receive into."""
        rx, _ = self.nic.pair(0)
        self.nic.post(len(rx.free))

    def heard(self):
        """Numbers of the frames that have come to the host by now."""
        found = []
        while self.port.waits():
            found.append(number_of(self.port.receive()[0]))
        return found

    def kill(self):
        """The back-end ends in the middle of it, and another one takes its place."""
        self.process.kill()
        self.process.ends()
        self.process, connection = start_on(self.bench, self.namespace, self.fd)
        self.nic.front = self.nic.front.reconnect(connection)
        for queue in self.nic.front.queues:
            queue.kick()


def numbered(number):
    """A frame with its number."""
    return frame(number.to_bytes(4, "big").ljust(100, b"."))


def number_of(one):
    """Which frame that is."""
    number = int.from_bytes(one[14:18], "big")
    assert one == numbered(number)
    return number


@pytest.fixture
def line(bench):
    """A Line."""
    return Line(bench)


def test_every_frame_of_the_guests_comes_out_in_order_though_some_come_again(line):
    heard = []
    for _ in range(KILLS):
        line.send()
        # Some are done, and others are not.
        line.nic.sent()
        line.send()
        line.kill()
        heard += line.heard()
    while line.nic.under_way():
        line.nic.sent()
    vhost_user.until(lambda: heard.extend(line.heard()) or (heard and heard[-1] == line.sent - 1), "the last frame")
    assert sorted(set(heard)) == list(range(line.sent))
    # A successor may begin again, at most with what was under way, and then leaves none out.
    again = [after - before for before, after in zip(heard, heard[1:]) if after != before + 1]
    assert len(again) <= KILLS and all(-QUEUE_SIZE < step <= 0 for step in again)


def test_frames_to_the_guest_come_once_and_in_order(line):
    got = []
    for _ in range(KILLS):
        line.fill()
        line.offer(40)  # all of them together are fewer than the tap holds
        got += [number_of(one.frame) for one in line.nic.receive()]
        line.kill()
        line.fill()
        got += [number_of(one.frame) for one in line.nic.received()]
    # What waits now is nobody's who has been killed.
    line.offer(1)
    while not got or got[-1] != line.offered - 1:
        line.fill()  # first: all the buffers may have been used by now
        got += [number_of(one.frame) for one in line.nic.receive()]
    assert got == sorted(set(got))
    # A dead back-end takes along the one frame that it has read and not given.
    assert line.offered - len(got) <= KILLS


def test_a_driver_that_is_done_has_nothing_sent_again(line):
    line.send()
    while line.nic.under_way():
        line.nic.sent()
    assert line.heard() == list(range(line.sent))
    line.kill()
    line.nic.send(numbered(line.sent))
    assert number_of(line.port.receive()[0]) == line.sent
    assert not line.port.waits()
