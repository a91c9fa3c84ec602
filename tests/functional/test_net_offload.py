"""Checksums and segments that one side leaves to the other: a driver gets and may send what it agreed to, and no more."""

import os
import select
import socket
import struct

import pytest

import network
import vhost_user
from net_client import (F_CSUM, F_GUEST_CSUM, F_GUEST_ECN, F_GUEST_TSO4, F_GUEST_TSO6, F_GUEST_UFO, F_GUEST_USO4, F_GUEST_USO6,
                        F_HOST_ECN, F_HOST_TSO4, F_HOST_TSO6, F_HOST_UFO, F_HOST_USO, F_MRG_RXBUF, GSO_ECN, GSO_NONE, GUEST_MAC,
                        NEEDS_CSUM, OFFLOADS, Nic, frame, header)
from net_frames import FRAGMENTS, IPV4, KINDS, TCPV4, TCPV6, UDPV4, UDPV6, VNET, checksum
from net_wire import Wire, start_on
from vhost_user import RING_FEATURES, Setup

SEND = {"TCP over IPv4": F_HOST_TSO4, "TCP over IPv6": F_HOST_TSO6, "UDP over IPv4": F_HOST_USO, "UDP over IPv6": F_HOST_USO}
RECEIVE = {"TCP over IPv4": F_GUEST_TSO4, "TCP over IPv6": F_GUEST_TSO6, "UDP over IPv4": F_GUEST_USO4 | F_GUEST_USO6,
           "UDP over IPv6": F_GUEST_USO4 | F_GUEST_USO6}
EACH_KIND = pytest.mark.parametrize("name", KINDS)
CWR = 0x80
SEGMENT = 1400
LONG = bytes(at * 7 & 0xff for at in range(10 * SEGMENT + 100))


@pytest.fixture
def wire(bench):
    """Makes a Wire whose kernel knows what the driver takes."""
    def made(*options, **how):
        here = Wire(bench, *options, **how)
        here.nic.post(1)
        here.port.send(frame(b"the first one"))
        assert here.nic.receive()[0].frame == frame(b"the first one")
        return here
    return made


class Far:
    """An interface beyond a bridge, which completes nothing: what comes out of it are whole frames."""

    def __init__(self, namespace):
        self.fd = network.open_tap(namespace, "far", header=False)
        os.set_blocking(self.fd, False)
        namespace.ip("link", "add", "br0", "type", "bridge")
        for name in ("tap0", "far"):
            namespace.ip("link", "set", name, "master", "br0")
        for name in ("br0", "far"):
            namespace.ip("link", "set", name, "up")

    def receive(self):
        """The next frame of the guest's; bridges have something to say, too."""
        while True:
            assert select.select([self.fd], [], [], vhost_user.PATIENCE)[0], "no frame came out of the bridge"
            got = os.read(self.fd, 1 << 16)
            if got[6:12] == GUEST_MAC:
                return got

    def close(self):
        """Close it, with which it goes."""
        os.close(self.fd)


def told(kind, size=0, ecn=0):
    """What a driver says of a frame that it leaves to be completed."""
    return header(*kind.fields(size, ecn))


def nothing_wrong(here):
    """The back-end had nothing to complain about."""
    assert here.process.running() and here.process.errors() == ""


# --- From the guest. ---

@EACH_KIND
def test_the_kernel_completes_a_checksum_that_the_driver_leaves_to_it(wire, bench, name):
    here, kind = wire(features=F_CSUM), KINDS[name]
    far = bench.keep(Far(here.namespace))
    here.nic.send(kind.frame(LONG[:999], whole=False), told(kind))
    assert kind.payload(far.receive()) == LONG[:999]


@EACH_KIND
def test_the_kernel_cuts_segments_for_a_driver_that_leaves_them_to_it(wire, bench, name):
    here, kind = wire(features=F_CSUM | SEND[name]), KINDS[name]
    far = bench.keep(Far(here.namespace))
    here.nic.send(kind.frame(LONG, whole=False), told(kind, SEGMENT), parts=[12 + kind.head, 5000, len(LONG) - 5000])
    got = b""
    while len(got) < len(LONG):
        segment = far.receive()
        if kind.gso == TCPV4.gso or kind.gso == TCPV6.gso:
            assert kind.number(segment) == len(got)
        got += kind.payload(segment)
        assert len(segment) <= kind.head + SEGMENT
    assert got == LONG
    nothing_wrong(here)


@EACH_KIND
def test_segments_stay_one_frame_with_their_header_on_the_hosts_side(wire, bench, name):
    here, kind = wire(features=F_CSUM | SEND[name]), KINDS[name]
    port = bench.keep(network.Port(here.namespace, "tap0", kind.ether_type))
    sent = kind.frame(LONG, whole=False)
    here.nic.send(sent, told(kind, SEGMENT))
    got, head = port.receive()
    assert got == sent
    flags, gso, _, size, begin, offset = VNET.unpack(head)
    assert (flags, gso, size, begin, offset) == (NEEDS_CSUM, kind.gso, SEGMENT, kind.start, kind.offset)


def test_fragments_of_a_datagram_are_cut_by_the_kernel(wire, bench):
    here = wire(features=F_CSUM | F_HOST_UFO)
    far = bench.keep(Far(here.namespace))
    whole = FRAGMENTS.frame(LONG)
    here.nic.send(FRAGMENTS.frame(LONG, whole=False), told(FRAGMENTS, 1480))
    got = b""
    while len(got) < len(LONG) + 8:
        piece = far.receive()
        assert checksum(piece[14:34]) == 0
        assert struct.unpack(">H", piece[20:22])[0] & 0x1fff == len(got) // 8
        got += piece[34:]
    # Ports, length, the checksum of all of it, and all of it.
    assert got == whole[34:]


def test_a_congested_stream_is_told_of_once(wire, bench):
    here = wire(features=F_CSUM | F_HOST_TSO4 | F_HOST_ECN)
    far = bench.keep(Far(here.namespace))
    here.nic.send(TCPV4.frame(LONG[:2 * SEGMENT], whole=False, flags=CWR | 0x10), told(TCPV4, SEGMENT, GSO_ECN))
    segments = [far.receive(), far.receive()]
    assert b"".join(map(TCPV4.payload, segments)) == LONG[:2 * SEGMENT]
    assert [segment[47] & CWR for segment in segments] == [CWR, 0]


@pytest.mark.parametrize("features, head", [
    (0, told(UDPV4)),
    (F_CSUM, told(TCPV4, SEGMENT)),
    (F_CSUM | F_HOST_TSO6 | F_HOST_UFO | F_HOST_USO, told(TCPV4, SEGMENT)),
    (F_CSUM | F_HOST_TSO4 | F_HOST_UFO | F_HOST_USO, told(TCPV6, SEGMENT)),
    (F_CSUM | F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_UFO, told(UDPV4, SEGMENT)),
    (F_CSUM | F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_USO, told(FRAGMENTS, 1480)),
    (F_CSUM | F_HOST_TSO4, told(TCPV4, SEGMENT, GSO_ECN)),
    (OFFLOADS, header(NEEDS_CSUM, GSO_ECN)),
    (OFFLOADS, header(NEEDS_CSUM, 2, 54, SEGMENT, 34, 16)),
    (OFFLOADS, header(0, TCPV4.gso, 54, SEGMENT)),
    (OFFLOADS, header(NEEDS_CSUM, TCPV4.gso, 54, 0, 34, 16)),
    (OFFLOADS, header(NEEDS_CSUM, csum_start=60000, csum_offset=6)),
], ids=["checksum", "segments", "TCP over IPv4", "TCP over IPv6", "UDP", "fragments", "congestion", "congestion of nothing",
        "unknown segments", "segments without checksum", "segments of no length", "checksum beyond the end"])
def test_a_frame_with_a_header_that_was_not_agreed_to_is_lost(wire, bench, features, head):
    here = wire(features=features)
    ports = [here.port, bench.keep(network.Port(here.namespace, "tap0", IPV4))]
    for _ in range(3):
        here.nic.send(TCPV4.frame(LONG[:3000], whole=False), head)
    here.nic.send(frame(b"good"))
    assert here.port.receive()[0] == frame(b"good")
    assert not any(port.waits() for port in ports)
    while here.nic.under_way():
        here.nic.sent()
    nothing_wrong(here)


# --- To the guest. ---

def deliver(here, bench, kind, payload, size):
    """Send segments to the guest and return all the driver gets of them."""
    port = bench.keep(network.Port(here.namespace, "tap0", kind.ether_type))
    here.nic.post(64)
    port.send(kind.frame(payload, whole=False), VNET.pack(*kind.fields(size)))
    frames, seen = [], 0
    while seen < len(payload):
        new = here.nic.receive()
        frames += new
        seen += sum(len(one.frame) - kind.head for one in new)
    return frames


@EACH_KIND
def test_segments_come_as_one_frame_to_a_driver_that_takes_them(wire, bench, name):
    here, kind = wire(features=F_MRG_RXBUF | F_GUEST_CSUM | RECEIVE[name]), KINDS[name]
    frames = deliver(here, bench, kind, LONG, SEGMENT)
    assert [one.frame for one in frames] == [kind.frame(LONG, whole=False)]
    flags, gso, hdr_len, size, begin, offset, buffers = frames[0].header
    assert (flags, gso, size, begin, offset) == (NEEDS_CSUM, kind.gso, SEGMENT, kind.start, kind.offset)
    assert kind.head <= hdr_len <= len(frames[0].frame) and buffers == frames[0].buffers > 1
    nothing_wrong(here)


@EACH_KIND
@pytest.mark.parametrize("features", [0, F_GUEST_CSUM], ids=["nothing", "checksums"])
def test_segments_are_cut_by_the_kernel_for_a_driver_that_takes_none(wire, bench, name, features):
    here, kind = wire(features=F_MRG_RXBUF | features), KINDS[name]
    frames = deliver(here, bench, kind, LONG, SEGMENT)
    assert len(frames) == 11 and all(one.header[1] == GSO_NONE for one in frames)
    if features:
        assert all(one.header[0] & ~NEEDS_CSUM == 0 for one in frames)
        assert b"".join(one.frame[kind.head:] for one in frames) == LONG
    else:
        assert all(one.header[:6] == (0, 0, 0, 0, 0, 0) for one in frames)
        assert b"".join(kind.payload(one.frame) for one in frames) == LONG


@EACH_KIND
def test_a_checksum_is_left_to_a_driver_that_makes_it_and_to_no_other(wire, bench, name):
    kind = KINDS[name]
    taking, other = wire(features=F_MRG_RXBUF | F_GUEST_CSUM), wire()
    got = deliver(taking, bench, kind, LONG[:500], 0)[0]
    assert got.frame == kind.frame(LONG[:500], whole=False)
    assert got.header[:2] + got.header[4:6] == (NEEDS_CSUM, GSO_NONE, kind.start, kind.offset)
    got = deliver(other, bench, kind, LONG[:500], 0)[0]
    assert kind.payload(got.frame) == LONG[:500] and got.header[0] == 0


HALVES = {
    "USO4 without USO6": F_GUEST_CSUM | F_GUEST_USO4, "USO6 without USO4": F_GUEST_CSUM | F_GUEST_USO6,
    "USO alone": F_GUEST_CSUM | F_GUEST_USO4 | F_GUEST_USO6, "UFO alone": F_GUEST_CSUM | F_GUEST_UFO,
    "ECN without TSO": F_GUEST_CSUM | F_GUEST_ECN, "ECN with TSO over IPv6": F_GUEST_CSUM | F_GUEST_ECN | F_GUEST_TSO6,
    "TSO without checksums": F_GUEST_TSO4 | F_GUEST_TSO6, "all without checksums": OFFLOADS & ~F_GUEST_CSUM,
    "all but USO4": OFFLOADS & ~F_GUEST_USO4, "all but TSO": OFFLOADS & ~F_GUEST_TSO4 & ~F_GUEST_TSO6, "all": OFFLOADS,
}


@pytest.mark.parametrize("features", HALVES.values(), ids=HALVES)
def test_a_driver_may_take_any_part_of_the_offloads(wire, bench, features):
    here = wire(features=F_MRG_RXBUF | features)
    here.nic.send(frame(b"from the guest"))
    assert here.port.receive()[0] == frame(b"from the guest")
    for kind, needed in ((TCPV4, F_GUEST_TSO4), (TCPV6, F_GUEST_TSO6), (UDPV4, F_GUEST_USO4 | F_GUEST_USO6),
                         (UDPV6, F_GUEST_USO4 | F_GUEST_USO6)):
        frames = deliver(here, bench, kind, LONG, SEGMENT)
        agreed = not (needed | F_GUEST_CSUM) & ~features
        assert len(frames) == (1 if agreed else 11)
        assert {one.header[1] for one in frames} == {kind.gso if agreed else GSO_NONE}
        assert b"".join(one.frame[kind.head:] for one in frames) == LONG
        assert features & F_GUEST_CSUM or all(one.header[0] == 0 for one in frames)
    nothing_wrong(here)


def test_what_waits_in_the_tap_for_a_driver_that_is_gone_comes_to_the_next_only_as_that_agreed(bench):
    namespace = bench.keep(network.Namespace())
    fd = network.open_tap(namespace, "tap0")
    with open(fd, "wb", closefd=True):
        for words in (["link", "set", "tap0", "up"], ["addr", "add", "10.9.0.1/24", "dev", "tap0"],
                      ["neigh", "add", "10.9.0.2", "lladdr", GUEST_MAC.hex(":"), "dev", "tap0"]):
            namespace.ip(*words)
        port = bench.keep(network.Port(namespace, "tap0", TCPV4.ether_type))
        with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:

            def begin(features):
                process, connection = start_on(bench, namespace, fd)
                return process, Nic(connection, setup=Setup(n_queues=2, features=RING_FEATURES | F_MRG_RXBUF | features))

            def heard(text):
                nic.post(1)
                program.sendto(text, ("10.9.0.2", 7))
                return nic.receive()[0]

            process, nic = begin(F_GUEST_CSUM | F_GUEST_TSO4)
            vhost_user.until(lambda: heard(b"first").header[0] == NEEDS_CSUM, "a checksum that is left to the driver")
            # It has no more buffers: these stay where they are.
            for _ in range(3):
                program.sendto(b"second", ("10.9.0.2", 7))
            port.send(TCPV4.frame(LONG, whole=False), VNET.pack(*TCPV4.fields(SEGMENT)))
            nic.close()
            assert process.ends() == 0

            process, nic = begin(0)
            got = heard(b"third")
            assert got.header == (0, 0, 0, 0, 0, 0, 1) and UDPV4.payload(got.frame) == b"third"
