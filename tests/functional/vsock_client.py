"""A virtio socket driver for tests (virtio 1.2, 5.10), on top of the front-end in vhost_user.py."""

import collections
import struct

import vhost_user

RX, TX, EVENT = 0, 1, 2
REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
SHUT_RECEIVE, SHUT_SEND = 1, 2
HOST, STREAM = 2, 1
HEADER = struct.Struct("<QQIIIHHIII")
BUFFER = 4096
# What this driver lets the host send on one stream before it has taken any of it.
ROOM = 64 << 10

Packet = collections.namedtuple("Packet", "src_cid dst_cid src_port dst_port len type op flags buf_alloc fwd_cnt data")


class Vsock:
    """A socket device that a back-end serves; packets by hand."""

    def __init__(self, connection, cid, memory=None, setup=None, buffers=16):
        self.cid = cid
        self.memory = memory or vhost_user.Memory([vhost_user.Slot(0, 16 << 20)])
        self.front = vhost_user.FrontEnd(connection, self.memory,
                                         setup or vhost_user.Setup(n_queues=3, queue_size=64)).start()
        self._fill(buffers)

    def _fill(self, buffers):
        self.places, self.arrived, self.empty = {}, [], 0  # empty: buffers that came back without a packet
        for _ in range(buffers):
            self.give(self.memory.allocate(BUFFER))
        self.events = {self.front.queues[EVENT].submit([(gpa, 4, True)]): gpa for gpa in [self.memory.allocate(4)]}

    def begin_anew(self):
        """A driver that has just been loaded, after all queues were stopped."""
        for queue in self.front.queues:
            queue.clear()
            self.front.start_queue(queue)
        self._fill(16)

    def give(self, gpa, length=BUFFER):
        """A buffer for a packet."""
        self.places[self.front.queues[RX].submit([(gpa, length, True)])] = gpa

    def _chain(self, *pieces):
        buffers = []
        for piece in pieces:
            gpa = self.memory.allocate(max(len(piece), 1))
            self.memory.write(gpa, piece)
            buffers.append((gpa, len(piece), False))
        return self.front.queues[TX].chain(buffers)

    def _offer(self, *heads):
        queue = self.front.queues[TX]
        before = queue.avail_idx
        queue.offer(*heads)
        queue.kick_if_wanted(before)
        done = list(queue.reap())
        while len(done) < len(heads):
            if not queue.want_interrupt() and not vhost_user.readable(queue.call_fd, vhost_user.PATIENCE):
                raise vhost_user.BackEndError("a packet is not taken")
            queue.interrupts()
            done += queue.reap()
        assert done == [(head, 0) for head in heads]

    def _pieces(self, op, src_port, dst_port, data=b"", **other):
        fields = {"src_cid": self.cid, "dst_cid": HOST, "src_port": src_port, "dst_port": dst_port, "len": len(data),
                  "type": STREAM, "op": op, "flags": 0, "buf_alloc": ROOM, "fwd_cnt": 0} | other
        return HEADER.pack(*fields.values()), *([data] if data else [])

    def send_raw(self, *pieces):
        """One request of these bytes, cut as they are; waits until it is taken."""
        self._offer(self._chain(*pieces))

    def send(self, op, src_port, dst_port, data=b"", **other):
        """A packet; other fields by name."""
        self.send_raw(*self._pieces(op, src_port, dst_port, data, **other))

    def send_together(self, *packets, **other):
        """Packets (op, src_port, dst_port), all there before the device hears of the first."""
        self._offer(*[self._chain(*self._pieces(*packet, **other)) for packet in packets])

    def use_up_buffers(self):
        """Leave the device no room for packets until the next receive(), which finds refusals first."""
        queue = self.front.queues[RX]
        for n in range(len(self.places)):
            self.send(CREDIT_REQUEST, 1, n)
        vhost_user.until(lambda: queue.used_idx() == queue.avail_idx, "the buffers")

    def _collect(self):
        for gpa, written in [(self.places.pop(head), written) for head, written in self.front.queues[RX].reap()]:
            if not written:
                self.empty += 1
                self.give(gpa)
                continue
            raw = self.memory.read(gpa, written)
            packet = Packet(*HEADER.unpack(raw[:HEADER.size]), raw[HEADER.size:])
            assert packet.len == len(packet.data) and packet.src_cid == HOST and packet.dst_cid == self.cid
            self.arrived.append(packet)
            self.give(gpa)

    def receive(self, timeout=vhost_user.PATIENCE):
        """The next packet."""
        queue = self.front.queues[RX]
        self._collect()
        while not self.arrived:
            if not queue.want_interrupt() and not vhost_user.readable(queue.call_fd, timeout):
                raise vhost_user.BackEndError("no packet came")
            queue.interrupts()
            self._collect()
        return self.arrived.pop(0)

    def event(self):
        """The next event's number."""
        queue = self.front.queues[EVENT]
        while not (done := list(queue.reap())):
            if not queue.want_interrupt() and not vhost_user.readable(queue.call_fd, vhost_user.PATIENCE):
                raise vhost_user.BackEndError("no event came")
            queue.interrupts()
        (head, written), = done
        assert written == 4
        return struct.unpack("<I", self.memory.read(self.events[head], 4))[0]

    def config(self):
        """The guest's address, as the device tells it."""
        return struct.unpack("<Q", self.front.config(8))[0]

    def close(self):
        """End the connection."""
        self.front.close()


class Stream:
    """One stream of the guest's, with its credit kept."""

    def __init__(self, vsock, guest_port, host_port):
        self.vsock, self.ports = vsock, (guest_port, host_port)
        self.taken = self.sent = self.their_room = self.their_count = 0
        self.ended = False

    @classmethod
    def to_host(cls, vsock, guest_port, host_port):
        """Begun by the guest; must be answered."""
        stream = cls(vsock, guest_port, host_port)
        stream.send(REQUEST)
        assert stream.receive().op == RESPONSE
        return stream

    @classmethod
    def from_host(cls, vsock):
        """Begun by a host program, which has said where to."""
        packet = vsock.receive()
        assert packet.op == REQUEST, packet
        stream = cls(vsock, packet.dst_port, packet.src_port)
        stream.their_room = packet.buf_alloc
        stream.send(RESPONSE)
        return stream

    def send(self, op, data=b"", **other):
        """A packet of this stream."""
        self.vsock.send(op, *self.ports, data, **({"fwd_cnt": self.taken} | other))
        self.sent += len(data)

    def receive(self):
        """The next packet, which must be of this stream."""
        packet = self.vsock.receive()
        assert (packet.dst_port, packet.src_port) == self.ports, packet
        self.their_room, self.their_count = packet.buf_alloc, packet.fwd_cnt
        if packet.op == RW:
            self.taken += len(packet.data)
            self.send(CREDIT_UPDATE)
        return packet

    def read(self, length):
        """So many bytes."""
        data = b""
        while len(data) < length:
            packet = self.receive()
            assert packet.op in (RW, CREDIT_UPDATE), packet
            data += packet.data
        return data

    def write(self, data, piece=2048):
        """All of it, as there is credit."""
        while data:
            while self.sent - self.their_count >= self.their_room:
                self.receive()
            part = data[:min(piece, self.their_room - (self.sent - self.their_count))]
            self.send(RW, part)
            data = data[len(part):]
