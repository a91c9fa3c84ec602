"""A virtio block driver for tests (virtio 1.2, 5.2), on top of the front-end in vhost_user.py."""

import dataclasses
import struct

import vhost_user

IN, OUT, FLUSH, GET_ID, GET_LIFETIME, DISCARD, WRITE_ZEROES, SECURE_ERASE = 0, 1, 4, 8, 10, 11, 13, 14
OK, IOERR, UNSUPP = 0, 1, 2
# No device may leave this in a status byte.
NO_STATUS = 0xee
SECTOR = 512

F_SIZE_MAX, F_SEG_MAX, F_GEOMETRY, F_RO, F_BLK_SIZE, F_FLUSH, F_TOPOLOGY, F_CONFIG_WCE, F_MQ = (
    1 << bit for bit in (1, 2, 4, 5, 6, 9, 10, 11, 12))
F_DISCARD, F_WRITE_ZEROES, F_LIFETIME, F_SECURE_ERASE = (1 << bit for bit in (13, 14, 15, 16))

_CONFIG = struct.Struct("<QIIHBBIBBHIBBHIIIIIB3x")
CONFIG_BYTES = _CONFIG.size
CONFIG_FIELDS = ("capacity size_max seg_max cylinders heads sectors blk_size physical_block_exp alignment_offset "
                 "min_io_size opt_io_size writeback unused num_queues max_discard_sectors max_discard_seg "
                 "discard_sector_alignment max_write_zeroes_sectors max_write_zeroes_seg write_zeroes_may_unmap").split()


@dataclasses.dataclass
class Request:
    """One request of the driver, from its submission to its end."""

    queue: object
    kind: int
    sector: int
    data: list  # (gpa, length) of each data buffer
    header: int
    status_at: int
    room: int
    status: int = None
    written: int = None

    def bytes(self):
        """What its data buffers hold now."""
        return b"".join(self.queue.memory.read(gpa, length) for gpa, length in self.data)


class Disk:
    """A disk that a back-end serves: requests in, results out."""

    def __init__(self, connection, memory=None, setup=None, room=64 << 10):
        memory = memory or vhost_user.Memory([vhost_user.Slot(0, 32 << 20)])
        self.front = vhost_user.FrontEnd(connection, memory, setup).start()
        self.memory = memory
        # Pieces of guest RAM for requests that are not under way: data of `room` bytes, after header and status.
        self.room = room
        self._pieces = []
        self.pending = {}  # (queue number, head) -> Request

    @property
    def queues(self):
        """The queues of the connection."""
        return self.front.queues

    def config(self):
        """The configuration space as a dictionary."""
        return dict(zip(CONFIG_FIELDS, _CONFIG.unpack(self.front.config(CONFIG_BYTES))))

    def piece(self):
        """Guest RAM for one request."""
        return self._pieces.pop() if self._pieces else self.memory.allocate(vhost_user.PAGE + self.room, vhost_user.PAGE)

    def prepare(self, kind, sector=0, data=b"", length=0, parts=None, queue=0):
        """
        Lay a request out in guest RAM; returns it and the buffers of its chain.

        data goes to the device, length bytes come from it; parts, the lengths of the buffers that either is cut into.
        """
        queue, room = self.queues[queue], self.piece()
        header, status, at = room, room + 16, room + vhost_user.PAGE
        size = len(data) or length
        assert size <= self.room
        self.memory.write(header, struct.pack("<IIQ", kind, 0, sector))
        self.memory.write(status, bytes([NO_STATUS]))
        self.memory.write(at, data or bytes(length))
        pieces = []
        for part in parts or ([size] if size else []):
            pieces.append((at, part))
            at += part
        assert sum(part for _, part in pieces) == size
        buffers = [(header, 16, False), *((gpa, part, not data) for gpa, part in pieces), (status, 1, True)]
        return Request(queue, kind, sector, pieces, header, status, room), buffers

    def submit(self, kind, sector=0, data=b"", length=0, parts=None, queue=0, indirect=False):
        """Start a request and return it."""
        request, buffers = self.prepare(kind, sector, data, length, parts, queue)
        head = request.queue.submit(buffers, indirect)
        self.pending[request.queue.index, head] = request
        return request

    def reap(self, queue):
        """The requests of a queue that the device has finished by now."""
        done = []
        for head, written in queue.reap():
            request = self.pending.pop((queue.index, head))
            request.status, request.written = self.memory.read(request.status_at, 1)[0], written
            self._pieces.append(request.room)
            done.append(request)
        return done

    def wait(self, count=1, queue=0, timeout=vhost_user.PATIENCE):
        """Wait for at least count requests of a queue; returns those that are finished."""
        queue = self.queues[queue]
        done = self.reap(queue)
        while len(done) < count:
            if not queue.want_interrupt():
                queue_wait(queue, timeout, f"{count - len(done)} of {count} requests of queue {queue.index}")
            queue.want_no_interrupt()
            queue.interrupts()
            done += self.reap(queue)
        return done

    def do(self, kind, sector=0, data=b"", length=0, parts=None, queue=0, indirect=False):
        """One request from its start to its end, alone on its queue."""
        request = self.submit(kind, sector, data, length, parts, queue, indirect)
        done = self.wait(1, queue)
        assert done == [request], "a request came back that was not under way"
        return request

    def read(self, sector, length, **how):
        """Bytes of the disk."""
        request = self.do(IN, sector, length=length, **how)
        assert request.status == OK, f"reading sector {sector} gave status {request.status}"
        return request.bytes()

    def write(self, sector, data, **how):
        """Bytes to the disk, which must work."""
        request = self.do(OUT, sector, data, **how)
        assert request.status == OK, f"writing sector {sector} gave status {request.status}"

    def flush(self, **how):
        """Everything that was written is on the disk."""
        assert self.do(FLUSH, **how).status == OK

    def forget(self):
        """As a driver does when it reset the device: nothing is under way, and the rings are empty."""
        self._pieces += [request.room for request in self.pending.values()]
        self.pending.clear()
        for queue in self.queues:
            queue.clear()
            queue.interrupts()
        self.front.inflight = None

    def close(self):
        """End the connection."""
        self.front.close()


def queue_wait(queue, timeout, what):
    """Wait for an interrupt of a queue."""
    if not vhost_user.readable(queue.call_fd, timeout):
        raise vhost_user.BackEndError(f"not within {timeout} s: {what}")


def ranges(*pieces):
    """The data of a DISCARD or WRITE_ZEROES: (sector, sectors) or (sector, sectors, flags) each."""
    return b"".join(struct.pack("<QII", *piece, *([0] if len(piece) == 2 else [])) for piece in pieces)
