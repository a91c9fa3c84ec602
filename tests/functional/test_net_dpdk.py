"""husk's network back-end under DPDK's virtio-user, in a network namespace of the test's own, without huge pages."""

import socket
import struct

import pytest

import network
from net_client import GUEST_MAC, HOST_MAC
from testpmd import Dpdk, husk_on_tap, virtio_user

HERE, THERE = "10.96.0.1", "10.96.0.2"
IPV4, UDP = 0x0800, 17


class Wire:
    """A tap interface in a namespace, husk's back-end on it, and testpmd on that."""

    def __init__(self, bench, *words, pairs=1):
        self.namespace = bench.keep(network.Namespace())
        path = bench.folder / "net.sock"
        self.back_end = husk_on_tap(bench, self.namespace, path, pairs)
        self.testpmd = bench.keep(Dpdk([virtio_user(path, pairs)], f"--rxq={pairs}", f"--txq={pairs}", "--auto-start", *words))
        if pairs > 1:
            self.namespace.wait_for_queues("tap0", pairs)


@pytest.fixture
def wire(bench):
    """Makes a Wire."""
    return lambda *words, **how: Wire(bench, *words, **how)


def checksum(data):
    """Of IP, over an even number of bytes (RFC 1071)."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def udp_frame(number, length):
    """A frame of a flow of its own, which holds its number."""
    payload = struct.pack(">I", number) + bytes((number + n) & 0xff for n in range(length - 46))
    udp = struct.pack(">HHHH", 1024 + number % 512, 9, 8 + len(payload), 0)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp) + len(payload), 0, 0, 64, UDP, 0,
                     socket.inet_aton(HERE), socket.inet_aton(THERE))
    ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
    return GUEST_MAC + HOST_MAC + struct.pack(">H", IPV4) + ip + udp + payload


def test_testpmd_answers_the_kernels_pings(wire):
    here = wire("--forward-mode=icmpecho")
    here.namespace.ip("addr", "add", f"{HERE}/24", "dev", "tap0")
    # Asks once a second who has the address, and for longer than a moment of a busy machine's.
    here.namespace.ip("ntable", "change", "name", "arp_cache", "dev", "tap0", "mcast_probes", 60, "ucast_probes", 60)
    with here.namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as pinger:
        pinger.settimeout(60)
        for number, length in enumerate((8, 56, 1000, 1472)):
            body = struct.pack(">HH", 7, number) + bytes(n & 0xff for n in range(length))
            check = checksum(b"\x08\0\0\0" + body)
            pinger.sendto(b"\x08\0" + struct.pack(">H", check) + body, (THERE, 0))
            answer, (whence, _) = pinger.recvfrom(2048)
            # Behind the IP header: an echo reply of the same.
            assert whence == THERE and answer[20:22] == b"\0\0" and answer[24:] == body


def test_testpmd_gives_every_frame_back_on_two_pairs_of_queues(wire, bench):
    here = wire("--forward-mode=macswap", pairs=2)
    port = bench.keep(network.Port(here.namespace, "tap0", IPV4))
    lengths = [60, 61, 64, 127, 128, 256, 590, 1024, 1513, 1514]
    count, window = 2000, 50
    for first in range(0, count, window):
        sent = [udp_frame(number, lengths[number % len(lengths)]) for number in range(first, first + window)]
        for one in sent:
            port.send(one)
        # Flows are in order, but not among each other.
        back = {port.receive()[0] for _ in sent}
        assert back == {one[6:12] + one[:6] + one[12:] for one in sent}
    queues = here.testpmd.queues()
    assert sum(queues.values()) == count and all(queues[number] for number in (0, 1)), queues
    assert here.back_end.running()
