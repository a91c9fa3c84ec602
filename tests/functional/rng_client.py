"""A virtio entropy driver for tests (virtio 1.2, 5.4), on top of the front-end in vhost_user.py."""

import vhost_user


class Rng:
    """An entropy device that a back-end serves: buffers in, random bytes out."""

    def __init__(self, connection, memory=None, setup=None):
        self.memory = memory or vhost_user.Memory([vhost_user.Slot(0, 16 << 20)])
        self.front = vhost_user.FrontEnd(connection, self.memory, setup).start()

    @property
    def queue(self):
        """Its one queue."""
        return self.front.queues[0]

    def submit(self, *lengths, indirect=False):
        """Offer one request made of buffers of these lengths; returns (head, [(gpa, length), ...])."""
        pieces = [(self.memory.allocate(length), length) for length in lengths]
        return self.queue.submit([(gpa, length, True) for gpa, length in pieces], indirect), pieces

    def wait(self, count=1, timeout=vhost_user.PATIENCE):
        """Wait for requests; returns {head: bytes written}."""
        done = dict(self.queue.reap())
        while len(done) < count:
            if not self.queue.want_interrupt() and not vhost_user.readable(self.queue.call_fd, timeout):
                raise vhost_user.BackEndError(f"{count - len(done)} of {count} requests are not answered")
            self.queue.want_no_interrupt()
            self.queue.interrupts()
            done.update(self.queue.reap())
        return done

    def read(self, *lengths, indirect=False):
        """What one request was given."""
        head, pieces = self.submit(*lengths, indirect=indirect)
        done = self.wait()
        assert list(done) == [head], "a request came back that was not under way"
        return b"".join(self.memory.read(*piece) for piece in pieces)[:done[head]]

    def close(self):
        """End the connection."""
        self.front.close()
