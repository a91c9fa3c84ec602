"""A vhost-user front-end for tests: guest RAM, split virtqueues and the messages of the protocol.

Written from two specifications alone, vhost-user (QEMU's docs/interop/vhost-user.rst) and virtio 1.2; nothing of husk's
is used, so that both cannot be wrong in the same way. test_blk_client.py holds it against qemu-storage-daemon.

    memory = Memory([Slot(gpa=0, length=16 << 20)])
    front = FrontEnd(connected_socket, memory, Setup(n_queues=1))
    front.start()
    front.queues[0].submit([(header, 16, False), (data, 4096, True), (status, 1, True)])
"""

import contextlib
import dataclasses
import fcntl
import mmap
import os
import select
import socket
import struct
import threading
import time
import weakref

# Messages, front-end to back-end.
GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE, SET_LOG_BASE, SET_LOG_FD = range(1, 8)
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = range(8, 12)
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = range(12, 15)
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE = range(15, 19)
SET_BACKEND_REQ_FD, GET_CONFIG, SET_CONFIG = 21, 24, 25
GET_INFLIGHT_FD, SET_INFLIGHT_FD, RESET_DEVICE, GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG = 31, 32, 34, 36, 37, 38

FLAG_VERSION, FLAG_REPLY, FLAG_NEED_REPLY = 1, 1 << 2, 1 << 3
VRING_NO_FD = 1 << 8
VRING_LOG = 1

# Virtio feature bits that are nobody's device's.
F_LOG_ALL = 1 << 26
F_INDIRECT_DESC = 1 << 28
F_EVENT_IDX = 1 << 29
F_PROTOCOL_FEATURES = 1 << 30
F_VERSION_1 = 1 << 32
RING_FEATURES = F_INDIRECT_DESC | F_EVENT_IDX | F_VERSION_1

P_MQ, P_LOG_SHMFD, P_REPLY_ACK, P_BACKEND_REQ, P_CONFIG = 1 << 0, 1 << 1, 1 << 3, 1 << 5, 1 << 9
P_INFLIGHT, P_RESET_DEVICE, P_MEM_SLOTS = 1 << 12, 1 << 13, 1 << 15

DESC_NEXT, DESC_WRITE, DESC_INDIRECT = 1, 2, 4
PAGE = 4096
# Where guest RAM would be mapped in a front-end: an address space of its own, so that mixing it up with guest physical
# addresses or with file offsets shows.
USER_BASE = 0x7_0000_0000_0000
# How long a living back-end may take for anything, seconds: generous, since machines are busy and what it stops is a hang.
PATIENCE = 120

_HEADER = struct.Struct("<III")
_DESC = struct.Struct("<QIHH")
# A lock taken and released is a full memory barrier: what was stored before is seen before what is loaded after.
_BARRIER = threading.Lock()


class BackEndError(Exception):
    """The back-end is gone, is too slow, or answered what the protocol does not allow."""


def barrier():
    """Order this thread's stores to shared memory before its loads that follow."""
    with _BARRIER:
        pass


def readable(fd, timeout):
    """Wait until a descriptor can be read; False if it cannot in time."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def receive(connection, length):
    """That many bytes of a stream socket: one with a time limit ignores MSG_WAITALL."""
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        assert piece, f"the socket was closed after {data}"
        data += piece
    return data


def until(ready, what, timeout=PATIENCE):
    """Wait until ready() is true, for what no event announces: a word in memory, a file's length."""
    deadline, late = time.monotonic() + timeout, False
    while not ready():
        if late:
            raise BackEndError(f"not within {timeout} s: {what}")
        time.sleep(0.001)
        # Before the look that is the last: time may pass between the two.
        late = time.monotonic() > deadline


def _close(fds):
    for fd in fds:
        os.close(fd)


class Slot:
    """A piece of guest RAM: a sealed memfd, mapped here, with a guest physical address."""

    def __init__(self, gpa, length, offset=0):
        self.gpa, self.length, self.offset = gpa, length, offset
        self.fd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        weakref.finalize(self, os.close, self.fd)
        os.ftruncate(self.fd, offset + length)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self.map = mmap.mmap(self.fd, offset + length)
        self.bytes = memoryview(self.map)[offset:]
        # Ring indices must be read and written whole; only views of native types do that.
        self.words = self.bytes.cast("H")
        self.user = USER_BASE + gpa + (gpa >> 4 & ~(PAGE - 1))

    def region(self):
        """Its description on the wire."""
        return struct.pack("<QQQQ", self.gpa, self.length, self.user, self.offset)


class Memory:
    """Guest RAM: slots that do not overlap, and an allocator of pieces of them."""

    def __init__(self, slots):
        self.slots = list(slots)
        self._free = {id(slot): slot.gpa for slot in self.slots}

    def slot(self, gpa, length=1):
        """The slot that holds a range."""
        for slot in self.slots:
            if slot.gpa <= gpa and gpa + length <= slot.gpa + slot.length:
                return slot
        raise KeyError(f"no slot has {length} bytes at {gpa:#x}")

    def allocate(self, length, align=16, slot=None):
        """Guest physical address of a piece that nobody else has."""
        slot = slot or self.slots[0]
        at = -(-self._free.setdefault(id(slot), slot.gpa) // align) * align
        assert at + length <= slot.gpa + slot.length, "the test needs more guest RAM"
        self._free[id(slot)] = at + length
        return at

    def read(self, gpa, length):
        """Copy bytes out."""
        slot = self.slot(gpa, max(length, 1))
        return bytes(slot.bytes[gpa - slot.gpa:gpa - slot.gpa + length])

    def write(self, gpa, data):
        """Copy bytes in."""
        slot = self.slot(gpa, max(len(data), 1))
        slot.bytes[gpa - slot.gpa:gpa - slot.gpa + len(data)] = data

    def user(self, gpa):
        """A guest physical address as the front-end's own."""
        slot = self.slot(gpa)
        return gpa - slot.gpa + slot.user

    def word(self, gpa):
        """Read 16 bits whole."""
        slot = self.slot(gpa, 2)
        return slot.words[(gpa - slot.gpa) // 2]

    def set_word(self, gpa, value):
        """Write 16 bits whole."""
        slot = self.slot(gpa, 2)
        slot.words[(gpa - slot.gpa) // 2] = value & 0xffff


class Queue:
    """A split virtqueue (virtio 1.2, 2.7) as a driver sees it, and the eventfds that go with it."""

    def __init__(self, memory, index, size, features, slot=None):
        self.memory, self.index, self.size = memory, index, size
        self.event_idx, self.may_indirect = bool(features & F_EVENT_IDX), bool(features & F_INDIRECT_DESC)
        self.desc = memory.allocate(16 * size, 4096, slot)
        self.avail = memory.allocate(6 + 2 * size, 2, slot)
        self.used = memory.allocate(6 + 8 * size, 4096, slot)
        self.kick_fd, self.call_fd, self.err_fd = (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(3))
        self._close = weakref.finalize(self, _close, (self.kick_fd, self.call_fd, self.err_fd))
        self.kicks = 0
        self.clear()

    def clear(self):
        """As after a reset of the device: empty rings."""
        for at, length in ((self.desc, 16 * self.size), (self.avail, 6 + 2 * self.size), (self.used, 6 + 8 * self.size)):
            self.memory.write(at, bytes(length))
        self.free = list(range(self.size - 1, -1, -1))
        self.chains = {}  # head -> descriptors of the ring that it takes
        self.avail_idx = self.used_seen = 0
        self._tables = {}

    def write_desc(self, table, index, address, length, flags, following=0):
        """Write one descriptor into a table at a guest physical address."""
        self.memory.write(table + 16 * index,
                          _DESC.pack(address & (1 << 64) - 1, length & 0xffffffff, flags, following))

    def _indirect_table(self, head, entries):
        """Room for an indirect table that belongs to a head, made when first needed."""
        at, room = self._tables.get(head, (0, 0))
        if room < entries:
            room = max(16, entries)
            at = self.memory.allocate(16 * room)
            self._tables[head] = at, room
        return at

    def chain(self, buffers, indirect=False):
        """Write a chain of (gpa, length, device writes) and return its head; it is not offered yet."""
        count = 1 if indirect else len(buffers)
        assert count <= len(self.free), "the test has more requests under way than descriptors"
        own = [self.free.pop() for _ in range(count)]
        self.chains[own[0]] = own
        table, places = self.desc, own
        if indirect:
            table, places = self._indirect_table(own[0], len(buffers)), range(len(buffers))
            self.write_desc(self.desc, own[0], table, 16 * len(buffers), DESC_INDIRECT)
        for n, (gpa, length, writes) in enumerate(buffers):
            last = n + 1 == len(buffers)
            self.write_desc(table, places[n], gpa, length, (DESC_WRITE if writes else 0) | (0 if last else DESC_NEXT),
                            0 if last else places[n + 1])
        return own[0]

    def offer(self, *heads):
        """Make chains available, without telling the device."""
        for head in heads:
            self.memory.set_word(self.avail + 4 + 2 * (self.avail_idx % self.size), head)
            self.avail_idx = self.avail_idx + 1 & 0xffff
            self.memory.set_word(self.avail + 2, self.avail_idx)

    def kick(self):
        """Tell the device, whether it wants to know or not."""
        self.kicks += 1
        os.eventfd_write(self.kick_fd, 1)

    def kick_if_wanted(self, before):
        """Tell the device if it asked for it: before is avail_idx as it was at the last time."""
        barrier()
        if self.event_idx:
            event = self.memory.word(self.used + 4 + 8 * self.size)
            wanted = (self.avail_idx - event - 1 & 0xffff) < (self.avail_idx - before & 0xffff)
        else:
            wanted = not self.memory.word(self.used) & 1
        if wanted:
            self.kick()
        return wanted

    def submit(self, buffers, indirect=False):
        """Offer one chain and kick if the device wants it; returns the head."""
        head, before = self.chain(buffers, indirect), self.avail_idx
        self.offer(head)
        self.kick_if_wanted(before)
        return head

    def used_idx(self):
        """The device's index into the used ring."""
        return self.memory.word(self.used + 2)

    def reap(self):
        """What the device has finished since the last time: (head, bytes written) each. Never waits."""
        done = []
        while self.used_seen != self.used_idx():
            at = self.used + 4 + 8 * (self.used_seen % self.size)
            head, written = struct.unpack("<II", self.memory.read(at, 8))
            if head not in self.chains:
                raise BackEndError(f"queue {self.index}: head {head} came back, which is not under way")
            self.free += self.chains.pop(head)
            done.append((head, written))
            self.used_seen = self.used_seen + 1 & 0xffff
        return done

    def want_interrupt(self):
        """Ask for an interrupt at the next used entry; returns True if there is one already."""
        if self.event_idx:
            self.memory.set_word(self.avail + 4 + 2 * self.size, self.used_seen)
        else:
            self.memory.set_word(self.avail, 0)
        barrier()
        return self.used_idx() != self.used_seen

    def want_no_interrupt(self):
        """Ask for none; with the event index, for one that is as far away as can be."""
        if self.event_idx:
            self.memory.set_word(self.avail + 4 + 2 * self.size, self.used_seen - 1)
        else:
            self.memory.set_word(self.avail, 1)

    def interrupts(self):
        """How often the device interrupted since the last time."""
        try:
            return os.eventfd_read(self.call_fd)
        except BlockingIOError:
            return 0

    def errors(self):
        """How often the device said that this ring is broken since the last time."""
        try:
            return os.eventfd_read(self.err_fd)
        except BlockingIOError:
            return 0

    def close(self):
        """Close the eventfds, if they are not yet."""
        self._close()


@dataclasses.dataclass
class Setup:
    """What a front-end asks for."""

    n_queues: int = 1
    queue_size: int = 128
    features: int = RING_FEATURES | 0x7fffff  # of those that are offered
    protocol: int = P_MQ | P_LOG_SHMFD | P_REPLY_ACK | P_CONFIG | P_INFLIGHT | P_RESET_DEVICE | P_MEM_SLOTS


class Channel:
    """A connected socket that vhost-user messages go over."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.settimeout(PATIENCE)
        self.reply_ack = False

    def send(self, request, payload=b"", fds=(), flags=0):
        """Send a message and wait for nothing."""
        message = _HEADER.pack(request, FLAG_VERSION | flags, len(payload)) + payload
        try:
            sent = socket.send_fds(self.socket, [message], list(fds)) if fds else self.socket.send(message)
        except OSError as error:
            raise BackEndError(f"sending message {request}: {error}") from error
        assert sent == len(message)

    def _read(self, length, fds=0):
        data, got = b"", []
        while len(data) < length:
            try:
                piece, new, _, _ = socket.recv_fds(self.socket, length - len(data), fds)
            except OSError as error:
                raise BackEndError(f"receiving: {error or 'nothing came'}") from error
            got += new
            if not piece:
                raise BackEndError("the back-end closed the connection")
            data += piece
        return data, got

    def receive(self):
        """One message: (request, flags, payload, descriptors)."""
        head, fds = self._read(_HEADER.size, 8)
        request, flags, length = _HEADER.unpack(head)
        payload = self._read(length)[0] if length else b""
        return request, flags, payload, fds

    def reply(self, request):
        """The reply to a request: (payload, descriptors)."""
        found, flags, payload, fds = self.receive()
        if found != request or flags & 7 != FLAG_VERSION | FLAG_REPLY:
            raise BackEndError(f"message {found} with flags {flags:#x} came where request {request} wanted its reply")
        return payload, fds

    def ask(self, request, payload=b"", fds=()):
        """Send a request that has a reply; returns (payload, descriptors)."""
        self.send(request, payload, fds)
        return self.reply(request)

    def ask_u64(self, request, payload=b""):
        """Send a request whose reply is a number."""
        return struct.unpack("<Q", self.ask(request, payload)[0])[0]

    def tell(self, request, payload=b"", fds=()):
        """Send a request without a reply of its own; returns its acknowledgement, 0 for success, if those were agreed."""
        if not self.reply_ack:
            self.send(request, payload, fds)
            return 0
        self.send(request, payload, fds, FLAG_NEED_REPLY)
        return struct.unpack("<Q", self.reply(request)[0])[0]

    def must(self, request, payload=b"", fds=()):
        """tell(), which has to succeed."""
        answer = self.tell(request, payload, fds)
        if answer != 0:
            raise BackEndError(f"request {request} was refused with {answer:#x}")

    def closed_by_peer(self, timeout=PATIENCE):
        """True if the back-end closes the connection in time; messages that come before are dropped."""
        deadline = time.monotonic() + timeout
        while readable(self.socket, max(0, deadline - time.monotonic())):
            try:
                if not self.socket.recv(PAGE):
                    return True
            except ConnectionError:
                return True
        return False


class FrontEnd(Channel):
    """One connection to a back-end, from the handshake to running queues. Queues and memory outlive it: reconnect()."""

    def __init__(self, connection, memory, setup=None, queues=None, inflight=None):
        super().__init__(connection)
        self.memory, self.setup = memory, setup or Setup()
        self.queues, self.inflight = queues, inflight
        self.features = self.protocol = 0
        self._negotiate()

    def _negotiate(self):
        self.offered = self.ask_u64(GET_FEATURES)
        self.features = self.offered & (self.setup.features | F_PROTOCOL_FEATURES)
        self.offered_protocol = 0
        if self.offered & F_PROTOCOL_FEATURES:
            self.offered_protocol = self.ask_u64(GET_PROTOCOL_FEATURES)
            self.protocol = self.offered_protocol & self.setup.protocol
            self.send(SET_PROTOCOL_FEATURES, struct.pack("<Q", self.protocol))
        self.reply_ack = bool(self.protocol & P_REPLY_ACK)
        self.must(SET_OWNER)
        self.max_queues = self.ask_u64(GET_QUEUE_NUM) if self.protocol & P_MQ else 1
        if self.protocol & P_MEM_SLOTS:
            self.max_slots = self.ask_u64(GET_MAX_MEM_SLOTS)

    def start(self):
        """Everything between the handshake and the first request."""
        self.must(SET_FEATURES, struct.pack("<Q", self.features))
        if self.protocol & P_INFLIGHT:
            if self.inflight is None:
                self.inflight = self.get_inflight()
            self.set_inflight()
        self.set_memory()
        if self.queues is None:
            self.queues = [Queue(self.memory, n, self.setup.queue_size, self.features)
                           for n in range(self.setup.n_queues)]
        for queue in self.queues:
            self.start_queue(queue)
        return self

    def set_memory(self, slots=None):
        """Tell the whole memory table."""
        slots = self.memory.slots if slots is None else slots
        self.must(SET_MEM_TABLE, struct.pack("<II", len(slots), 0) + b"".join(slot.region() for slot in slots),
                  [slot.fd for slot in slots])

    def add_slot(self, slot):
        """Hotplug memory."""
        self.must(ADD_MEM_REG, bytes(8) + slot.region(), [slot.fd])

    def remove_slot(self, slot):
        """Unplug memory."""
        self.must(REM_MEM_REG, bytes(8) + slot.region())

    def get_inflight(self):
        """Have the back-end make an in-flight region: (descriptor, length, offset)."""
        asked = struct.pack("<QQHH4x", 0, 0, len(self.queues or range(self.setup.n_queues)), self.setup.queue_size)
        payload, fds = self.ask(GET_INFLIGHT_FD, asked)
        length, offset, _, _ = struct.unpack("<QQHH", payload[:20])
        if len(fds) != 1 or not length:
            raise BackEndError(f"no in-flight region: {len(fds)} descriptors, {length} bytes")
        return fds[0], length, offset

    def set_inflight(self):
        """Give the in-flight region to the back-end: nothing in it for a fresh one."""
        fd, length, offset = self.inflight
        self.must(SET_INFLIGHT_FD, struct.pack("<QQHH4x", length, offset, len(self.queues or range(self.setup.n_queues)),
                                               self.setup.queue_size), [fd])

    def start_queue(self, queue, base=None, addresses=None):
        """Set a queue up and enable it. Its base is what the device has used: requests after that are not finished."""
        base = queue.used_idx() if base is None else base
        self.must(SET_VRING_NUM, struct.pack("<II", queue.index, queue.size))
        self.must(SET_VRING_BASE, struct.pack("<II", queue.index, base))
        self.set_addresses(queue, *(addresses or (self.memory.user(at) for at in (queue.desc, queue.used, queue.avail))))
        self.must(SET_VRING_CALL, struct.pack("<Q", queue.index), [queue.call_fd])
        self.must(SET_VRING_ERR, struct.pack("<Q", queue.index), [queue.err_fd])
        self.must(SET_VRING_KICK, struct.pack("<Q", queue.index), [queue.kick_fd])
        if self.features & F_PROTOCOL_FEATURES:
            self.enable_queue(queue)

    def set_addresses(self, queue, desc, used, avail, flags=0):
        """Tell where a queue's rings are, in front-end addresses."""
        self.must(SET_VRING_ADDR, struct.pack("<IIQQQQ", queue.index, flags, desc & (1 << 64) - 1, used & (1 << 64) - 1,
                                              avail & (1 << 64) - 1, queue.used))

    def enable_queue(self, queue, enable=True):
        """Enable or disable a queue that is set up."""
        self.must(SET_VRING_ENABLE, struct.pack("<II", queue.index, int(enable)))

    def stop_queue(self, queue):
        """Stop a queue and return where the back-end would go on reading."""
        payload, _ = self.ask(GET_VRING_BASE, struct.pack("<II", queue.index, 0))
        index, base = struct.unpack("<II", payload)
        assert index == queue.index
        return base

    def config(self, length, offset=0):
        """Read the device's configuration."""
        asked = struct.pack("<III", offset, length, 0) + bytes(length)
        payload, _ = self.ask(GET_CONFIG, asked)
        if len(payload) != len(asked):
            raise BackEndError(f"GET_CONFIG of {length} bytes at {offset} was refused")
        return payload[12:]

    def set_log(self, log):
        """Have writes to guest RAM logged in a memory: one bit a page (a Slot made for it)."""
        self.ask(SET_LOG_BASE, struct.pack("<QQ", log.length, log.offset), [log.fd])

    def reconnect(self, connection):
        """The same machine on a new connection, whoever is behind it now: memory, queues and what is in flight stay."""
        with contextlib.suppress(OSError):
            self.socket.close()
        return FrontEnd(connection, self.memory, self.setup, self.queues, self.inflight).start()

    def close(self):
        """End the connection."""
        self.socket.close()


@dataclasses.dataclass
class InflightState:
    """One queue's part of the in-flight region, as the specification lays it out for split rings."""

    features: int
    version: int
    desc_num: int
    last_batch_head: int
    used_idx: int
    under_way: list  # heads that are not finished, oldest first


def inflight_bytes(queue_size):
    """How much of the region one queue takes, before it is aligned."""
    return 16 + 16 * queue_size


def inflight_state(fd, offset, queue_size):
    """Read the part of the region at an offset of its descriptor."""
    data = os.pread(fd, inflight_bytes(queue_size), offset)
    found = []
    for head in range(queue_size):
        under_way, counter = struct.unpack_from("<B7xQ", data, 16 + 16 * head)
        if under_way:
            found.append((counter, head))
    return InflightState(*struct.unpack_from("<QHHHH", data), [head for _, head in sorted(found)])


def mark_in_flight(fd, offset, head, counter):
    """Write into the region what a back-end writes when it takes a request from the ring."""
    os.pwrite(fd, struct.pack("<B7xQ", 1, counter), offset + 16 + 16 * head)


def set_last_batch_head(fd, offset, head):
    """Write into the region what a back-end writes before it publishes a used entry."""
    os.pwrite(fd, struct.pack("<H", head), offset + 12)
