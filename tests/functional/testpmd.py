"""DPDK's testpmd as a driver of virtio network devices (virtio-user): a front-end and a guest that nobody of husk's wrote."""

import os
import pathlib
import pty
import re
import select
import subprocess
import time

import backends
import vhost_user
from backends import peers

# Memory pools' size, MiB, and what they hold. No huge pages: memory is a memfd then, which a back-end can be given.
_MEMORY, _BUFFERS = 128, 4096


class Dpdk:
    """testpmd on some devices (its --vdev), which forwards frames in one of its ways; it does what it is told by words."""

    def __init__(self, devices, *words, cpus=None):
        """@cpus: of its main thread, which waits, and of the one that forwards, which never does."""
        allowed = sorted(os.sched_getaffinity(0))
        cpus = cpus or (allowed[0], allowed[-1])
        loaded = [word for driver in peers.TESTPMD_DRIVERS for word in ("-d", driver)]
        command = [*peers.tool("dpdk-testpmd"), "--lcores", f"0@{cpus[0]},1@{cpus[1]}", "--no-huge", "-m", str(_MEMORY),
                   "--no-shconf", "--no-pci", "--no-telemetry", *loaded,
                   *(word for device in devices for word in ("--vdev", device)),
                   "--", "-i", "--nb-cores=1", f"--total-num-mbufs={_BUFFERS}", *words]
        # A terminal: what it prints elsewhere comes late.
        self._output, theirs = pty.openpty()
        self._said = ""
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs)
        os.close(theirs)
        try:
            self.expect(r"testpmd> $")
        except BaseException:
            self.close()
            raise

    def expect(self, pattern, timeout=vhost_user.PATIENCE):
        """Wait for text; returns what came up to its end, which is then forgotten."""
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self._said)
            if found:
                said, self._said = self._said[:found.end()], self._said[found.end():]
                return said
            left = deadline - time.monotonic()
            try:
                data = b"" if left <= 0 or not select.select([self._output], [], [], left)[0] else os.read(self._output, 1 << 16)
            except OSError:
                data = b""  # it has ended
            if not data:
                raise vhost_user.BackEndError(f"testpmd did not say {pattern!r}\n{self._said}")
            self._said += data.decode(errors="replace")

    def tell(self, words):
        """Have it do something; returns what it says to that."""
        self.process.stdin.write(words.encode() + b"\n")
        self.process.stdin.flush()
        return self.expect(r"testpmd> $")

    def queues(self):
        """Stop forwarding; returns the frames received by each queue of port 0."""
        said = self.tell("stop") + self.tell("show fwd stats all")
        return {int(queue): int(frames) for queue, frames in
                re.findall(r"RX Port= 0/Queue= *(\d+) .*\s+RX-packets: (\d+)", said)}

    def close(self):
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        os.close(self._output)


def virtio_user(path, pairs=1, more=""):
    """A device that a back-end at a socket serves."""
    return f"net_virtio_user0,path={path},queues={pairs},queue_size=256,mac=02:00:00:00:00:01{more}"


def husk_on_tap(bench, namespace, path, pairs=1, *options):
    """husk's back-end on the tap interface tap0 of a namespace, listening at a socket."""
    process = bench.keep(namespace.run(lambda: backends.Process(
        [backends.husk_backend(), "net", "--socket", path, "--tap", "tap0", "--num-queues", str(2 * pairs), *options])))

    def listens():
        # A socket is there before it is listened on, which is a flag of it.
        lines = namespace.run(lambda: pathlib.Path("/proc/thread-self/net/unix").read_text(encoding="utf-8")).splitlines()
        return any(words[3] == "00010000" and words[-1] == str(path) for words in map(str.split, lines))

    vhost_user.until(lambda: listens() or not process.running(), f"{process.command} listening on {path}")
    return process
