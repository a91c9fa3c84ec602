"""A virtio network driver for tests (virtio 1.2, 5.1), on top of the front-end in vhost_user.py."""

import dataclasses
import struct

import network
import vhost_user
from blk_client import queue_wait

(F_CSUM, F_GUEST_CSUM, F_MTU, F_MAC, F_GUEST_TSO4, F_GUEST_TSO6, F_GUEST_ECN, F_GUEST_UFO, F_HOST_TSO4, F_HOST_TSO6,
 F_HOST_ECN, F_HOST_UFO, F_MRG_RXBUF, F_STATUS, F_CTRL_VQ, F_MQ, F_GUEST_USO4, F_GUEST_USO6, F_HOST_USO) = (
    1 << bit for bit in (0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 22, 54, 55, 56))
OFFLOADS = (F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN | F_GUEST_UFO | F_HOST_TSO4 | F_HOST_TSO6 |
            F_HOST_ECN | F_HOST_UFO | F_GUEST_USO4 | F_GUEST_USO6 | F_HOST_USO)
NEEDS_CSUM, DATA_VALID = 1, 2
GSO_NONE, GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 3, 4, 5, 0x80

HEADER = struct.Struct("<BBHHHHH")
# Of a driver of neither virtio 1.0 nor merged buffers.
LEGACY_HEADER = struct.Struct("<BBHHHH")
CONFIG = struct.Struct("<6sHHH")
GUEST_MAC, HOST_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def header(flags=0, gso=GSO_NONE, hdr_len=0, gso_size=0, csum_start=0, csum_offset=0):
    """What precedes a frame."""
    return HEADER.pack(flags, gso, hdr_len, gso_size, csum_start, csum_offset, 0)


def frame(payload, ether_type=network.EXPERIMENT):
    """A frame from one interface to the other; which is which does not matter to a tap."""
    return HOST_MAC + GUEST_MAC + struct.pack(">H", ether_type) + payload


@dataclasses.dataclass
class Received:
    """A frame that arrived, and how."""

    header: tuple  # its fields
    frame: bytes
    buffers: int


class Nic:
    """An interface that a back-end serves: frames in and out."""

    def __init__(self, connection, memory=None, setup=None, buffer=2048):
        memory = memory or vhost_user.Memory([vhost_user.Slot(0, 32 << 20)])
        setup = setup or vhost_user.Setup(n_queues=2, features=vhost_user.RING_FEATURES | F_MRG_RXBUF)
        self.front = vhost_user.FrontEnd(connection, memory, setup)
        self.memory, self.buffer = memory, buffer
        self.mergeable = bool(self.front.features & F_MRG_RXBUF)
        modern = self.front.features & (F_MRG_RXBUF | vhost_user.F_VERSION_1)
        self.header = HEADER if modern else LEGACY_HEADER
        self.posted = {}   # (queue number, head) -> gpa
        self._rooms = []   # pieces of guest RAM for frames that are sent
        self._sending = {}  # (queue number, head) -> room
        self._filled = []  # buffers of a frame that is not yet whole
        self.front.start()

    def pair(self, number):
        """Receive and transmit queue of a pair."""
        return self.front.queues[2 * number], self.front.queues[2 * number + 1]

    def post(self, count=32, pair=0, parts=1):
        """Give the device buffers to receive into, each of so many descriptors."""
        rx, _ = self.pair(pair)
        before = rx.avail_idx
        for _ in range(count):
            at = self.memory.allocate(self.buffer, 64)
            self._post_one(rx, at, parts)
        rx.kick_if_wanted(before)

    def _post_one(self, rx, at, parts=1):
        size = self.buffer // parts
        head = rx.chain([(at + n * size, size, True) for n in range(parts)])
        self.posted[rx.index, head] = at
        rx.offer(head)

    def received(self, pair=0):
        """The frames that have come by now. Their buffers are not given again."""
        rx, _ = self.pair(pair)
        frames = []
        for head, written in rx.reap():
            self._filled.append(self.memory.read(self.posted.pop((rx.index, head)), written))
            fields = self.header.unpack(self._filled[0][:self.header.size])
            wanted = fields[6] if self.header is HEADER else 1
            assert wanted >= 1 and (self.mergeable or wanted == 1)
            if len(self._filled) == wanted:
                frames.append(Received(fields, b"".join(self._filled)[self.header.size:], wanted))
                self._filled.clear()
        return frames

    def receive(self, count=1, pair=0, timeout=vhost_user.PATIENCE):
        """Wait for at least count frames."""
        rx, _ = self.pair(pair)
        frames = self.received(pair)
        while len(frames) < count:
            if not rx.want_interrupt():
                queue_wait(rx, timeout, f"{count - len(frames)} of {count} frames")
            rx.want_no_interrupt()
            rx.interrupts()
            frames += self.received(pair)
        return frames

    def send(self, data, head=None, pair=0, parts=None, indirect=False):
        """Start sending a frame, cut into parts of these lengths if they are given (header included)."""
        _, tx = self.pair(pair)
        data = (header() if head is None else head)[:self.header.size] + data
        room = self._rooms.pop() if self._rooms else self.memory.allocate(1 << 17, vhost_user.PAGE)
        self.memory.write(room, data)
        buffers, at = [], room
        for part in parts or [len(data)]:
            buffers.append((at, part, False))
            at += part
        number = tx.submit(buffers, indirect)
        self._sending[tx.index, number] = room

    def sent(self, count=1, pair=0, timeout=vhost_user.PATIENCE):
        """Wait until at least count frames have been taken."""
        _, tx = self.pair(pair)
        done = 0
        while True:
            for number, _ in tx.reap():
                self._rooms.append(self._sending.pop((tx.index, number)))
                done += 1
            if done >= count:
                return done
            if not tx.want_interrupt():
                queue_wait(tx, timeout, f"{count - done} of {count} frames to be sent")
            tx.want_no_interrupt()
            tx.interrupts()

    def under_way(self):
        """How many frames the device has not given back."""
        return len(self._sending)

    def config(self):
        """(MAC, status, pairs, MTU)"""
        return CONFIG.unpack(self.front.config(CONFIG.size))

    def close(self):
        """End the connection."""
        self.front.close()
