"""Frames of IP for tests of checksums and segments: made whole, made for an interface to complete, and taken apart again."""

import dataclasses
import socket
import struct

from net_client import (GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, GUEST_MAC, HOST_MAC, NEEDS_CSUM)

IPV4, IPV6, TCP, UDP = 0x0800, 0x86dd, 6, 17
ETHERNET = 14
# What an interface is told: flags, kind of segments, bytes of headers, bytes of a segment, where the checksum begins and goes.
VNET = struct.Struct("<BBHHHH")
_ADDRESSES = {IPV4: tuple(socket.inet_pton(socket.AF_INET, f"10.9.0.{n}") for n in (1, 2)),
              IPV6: tuple(socket.inet_pton(socket.AF_INET6, f"fd00::{n}") for n in (1, 2))}


def checksum(data):
    """Of IP (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _pseudo(ether_type, protocol, length):
    addresses = b"".join(_ADDRESSES[ether_type])
    return addresses + (struct.pack(">BBH", 0, protocol, length) if ether_type == IPV4 else struct.pack(">II", length, protocol))


def _ip(ether_type, protocol, length):
    addresses = b"".join(_ADDRESSES[ether_type])
    if ether_type == IPV6:
        return struct.pack(">IHBB", 6 << 28, length, protocol, 64) + addresses
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 7, 0, 64, protocol, 0) + addresses
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:]


@dataclasses.dataclass
class Kind:
    """A transport over an IP, and how its segments are called."""

    ether_type: int
    protocol: int
    gso: int

    @property
    def start(self):
        """Where its checksum begins."""
        return ETHERNET + (20 if self.ether_type == IPV4 else 40)

    @property
    def offset(self):
        """Where its checksum goes from there on."""
        return 16 if self.protocol == TCP else 6

    @property
    def head(self):
        """Bytes of all headers."""
        return self.start + (20 if self.protocol == TCP else 8)

    def frame(self, payload, whole=True, port=2000, flags=0x10):
        """A frame; its checksum is made, or is for an interface to make."""
        length = self.head - self.start + len(payload)
        if self.protocol == TCP:
            transport = struct.pack(">HHIIBBHHH", port, 9, 1000, 1, 0x50, flags, 1000, 0, 0)
        else:
            transport = struct.pack(">HHHH", port, 9, length, 0)
        pseudo = _pseudo(self.ether_type, self.protocol, length)
        check = checksum(pseudo + transport + payload) if whole else ~checksum(pseudo) & 0xffff
        transport = transport[:self.offset] + struct.pack(">H", check) + transport[self.offset + 2:]
        return (HOST_MAC + GUEST_MAC + struct.pack(">H", self.ether_type) + _ip(self.ether_type, self.protocol, length) +
                transport + payload)

    def fields(self, size=0, ecn=0):
        """What an interface is told of such a frame that it is to complete, cut into segments of so many bytes if any."""
        return (NEEDS_CSUM, self.gso | ecn if size else GSO_NONE, self.head if size else 0, size, self.start, self.offset)

    def payload(self, frame):
        """What a frame carries, whose headers must be right."""
        assert struct.unpack(">H", frame[12:14])[0] == self.ether_type
        if self.ether_type == IPV4:
            assert checksum(frame[ETHERNET:self.start]) == 0
            length = struct.unpack(">H", frame[16:18])[0] - 20
        else:
            length = struct.unpack(">H", frame[18:20])[0]
        assert length == len(frame) - self.start
        assert checksum(_pseudo(self.ether_type, self.protocol, length) + frame[self.start:]) == 0
        return frame[self.head:]

    def number(self, frame):
        """Where the payload lies in its stream of TCP, from 0 on."""
        return struct.unpack(">I", frame[self.start + 4:self.start + 8])[0] - 1000


TCPV4, TCPV6 = Kind(IPV4, TCP, GSO_TCPV4), Kind(IPV6, TCP, GSO_TCPV6)
UDPV4, UDPV6 = Kind(IPV4, UDP, GSO_UDP_L4), Kind(IPV6, UDP, GSO_UDP_L4)
FRAGMENTS = Kind(IPV4, UDP, GSO_UDP)
KINDS = {"TCP over IPv4": TCPV4, "TCP over IPv6": TCPV6, "UDP over IPv4": UDPV4, "UDP over IPv6": UDPV6}
