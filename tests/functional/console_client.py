"""A virtio console driver for tests (virtio 1.2, 5.3), on top of the front-end in vhost_user.py."""

import socket
import struct

import vhost_user

RECEIVE, TRANSMIT = 0, 1
F_SIZE, F_MULTIPORT, F_EMERG_WRITE = 1, 2, 4
CONFIG_CHANGE = 2  # VHOST_USER_BACKEND_CONFIG_CHANGE_MSG
BUFFER = 256


class Console:
    """A console that a back-end serves: a terminal's other side."""

    def __init__(self, connection, memory=None, setup=None, buffers=8):
        setup = setup or vhost_user.Setup(n_queues=2, queue_size=32)
        setup.protocol |= vhost_user.P_BACKEND_REQ
        self.memory = memory or vhost_user.Memory([vhost_user.Slot(0, 16 << 20)])
        self.front = vhost_user.FrontEnd(connection, self.memory, setup)
        self.told = self.listen()
        self.front.start()
        self._places = {}
        for _ in range(buffers):
            self.give_buffer(self.memory.allocate(BUFFER))

    def listen(self):
        """Give the back-end a channel for what it says unasked; returns our end."""
        ours, theirs = socket.socketpair()
        ours.settimeout(vhost_user.PATIENCE)
        with theirs:
            self.front.must(vhost_user.SET_BACKEND_REQ_FD, fds=[theirs.fileno()])
        return ours

    @property
    def queues(self):
        """Its two queues."""
        return self.front.queues

    def give_buffer(self, gpa, length=BUFFER):
        """A buffer for input."""
        self._places[self.queues[RECEIVE].submit([(gpa, length, True)])] = gpa

    def taken(self, again=True):
        """Input that is there already; its buffers go back to the device, unless again is false."""
        pieces = [(self._places.pop(head), written) for head, written in self.queues[RECEIVE].reap()]
        data = b"".join(self.memory.read(gpa, written) for gpa, written in pieces)
        for gpa, _ in pieces if again else ():
            self.give_buffer(gpa)
        return data

    def read(self, length, again=True, timeout=vhost_user.PATIENCE):
        """Wait for input."""
        data, queue = self.taken(again), self.queues[RECEIVE]
        while len(data) < length:
            if not queue.want_interrupt() and not vhost_user.readable(queue.call_fd, timeout):
                raise vhost_user.BackEndError(f"{len(data)} of {length} bytes of input came")
            queue.interrupts()
            data += self.taken(again)
        return data

    def offer(self, *pieces, indirect=False):
        """Start the output of one request made of pieces; returns its head."""
        buffers = []
        for piece in pieces:
            gpa = self.memory.allocate(max(len(piece), 1))
            self.memory.write(gpa, piece)
            buffers.append((gpa, len(piece), False))
        return self.queues[TRANSMIT].submit(buffers, indirect)

    def sent(self, count=1, timeout=vhost_user.PATIENCE):
        """Wait until requests of output are done; returns their heads in order."""
        queue, done = self.queues[TRANSMIT], []
        done += [head for head, _ in queue.reap()]
        while len(done) < count:
            if not queue.want_interrupt() and not vhost_user.readable(queue.call_fd, timeout):
                raise vhost_user.BackEndError(f"{len(done)} of {count} requests of output are done")
            queue.interrupts()
            done += [head for head, _ in queue.reap()]
        return done

    def write(self, *pieces, **how):
        """Output, to its end."""
        head = self.offer(*pieces, **how)
        assert self.sent() == [head]

    def size(self):
        """(columns, rows), of the configuration."""
        return struct.unpack("<HH", self.front.config(4))

    def wait_for_change(self):
        """Wait until the back-end says that its configuration is another."""
        request, flags, length = struct.unpack("<III", vhost_user.receive(self.told, 12))
        assert (request, flags & 3, length) == (CONFIG_CHANGE, 1, 0)

    def close(self):
        """End the connection."""
        self.front.close()
        self.told.close()
