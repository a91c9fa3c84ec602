"""Back-ends for tests: husk's own, and qemu-storage-daemon's to compare with."""

import functools
import gc
import hashlib
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile

import blk_client
import rng_client
import vhost_user

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "host"))

import peers  # noqa: E402


def husk_backend():
    """The husk-backend under test: $HUSK_BACKEND, else the one beside husk ($HUSK, else build/husk)."""
    path = os.environ.get("HUSK_BACKEND")
    if path:
        return path
    return str(pathlib.Path(os.environ.get("HUSK", ROOT / "build" / "husk")).parent / "husk-backend")


@functools.lru_cache(maxsize=512)
def pattern(seed, length):
    """Bytes that tell from which seed they are and how far from its beginning, in every 16."""
    return b"".join(b"%8d%8d" % (seed % 10 ** 8, at) for at in range(0, length, 16))[:length]


def md5(data):
    """As md5sum prints it, which every small system has."""
    return hashlib.md5(data).hexdigest()


def _limit_files(count):
    """Of this process, as programs are started with; the most that it may ask for stays."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


class Process:
    """A back-end process. Its errors go to a file, which a failing test shows. files: the descriptors that it begins with a right to."""

    def __init__(self, command, pass_fds=(), environment=None, files=None):
        self.command = [str(word) for word in command]
        self._errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors,
                                        pass_fds=pass_fds, env=dict(os.environ, **(environment or {})),
                                        preexec_fn=files and functools.partial(_limit_files, files))

    @property
    def pid(self):
        """Its process number."""
        return self.process.pid

    def errors(self):
        """What it has printed so far."""
        # The position in the file is the process's, too: read from there, its next line would go over another one.
        fd = self._errors.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")

    def running(self):
        """True while it runs."""
        return self.process.poll() is None

    def ends(self, timeout=vhost_user.PATIENCE):
        """Wait for its end; returns the exit status."""
        return self.process.wait(timeout)

    def kill(self, number=signal.SIGKILL):
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self):
        """End it, as a test that is over does."""
        if self.running():
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self._errors.close()

    def peak_kib(self):
        """The most memory it has had, guest RAM included."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0])


def on_socketpair(*options, kind="blk", environment=None, pass_fds=(), files=None):
    """One of husk's back-ends for one connection; returns (Process, connected socket)."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = Process([husk_backend(), kind, "--fd", theirs.fileno(), *options], [theirs.fileno(), *pass_fds],
                          environment, files)
    return process, ours


def connect(process, path, timeout=vhost_user.PATIENCE):
    """Connect to a socket that a back-end listens on, or is about to."""
    connection = socket.socket(socket.AF_UNIX)

    def connected():
        if not process.running():
            raise vhost_user.BackEndError(f"{process.command} ended\n{process.errors()}")
        return connection.connect_ex(str(path)) == 0

    vhost_user.until(connected, f"{process.command} listening on {path}", timeout)
    return connection


def wait_until_served(process, path):
    """Until a back-end on a socket answers, which it does once it is in its cage."""
    with connect(process, path) as connection:
        connection.sendall(struct.pack("<III", 1, 1, 0))  # GET_FEATURES
        assert len(vhost_user.receive(connection, 20)) == 20


def storage_daemon(path, image, n_queues=1, read_only=False, more="", image_type="raw"):
    """qemu-storage-daemon that serves a file to whoever connects to path."""
    return Process([*peers.tool("qemu-storage-daemon"),
                    "--blockdev", f"driver=file,node-name=file,filename={image},read-only={'on' if read_only else 'off'}"
                    ",discard=unmap" + more,
                    "--blockdev", f"driver={image_type},node-name=disk,file=file,discard=unmap,"
                    f"read-only={'on' if read_only else 'off'}",
                    "--export", f"type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={path},"
                    f"writable={'off' if read_only else 'on'},num-queues={n_queues}"])


class Bench:
    """Starts back-ends and connects drivers to them; ends all of it with the test."""

    def __init__(self, folder):
        self.folder = folder
        self._open = []

    def image(self, length=8 << 20, name="disk.raw"):
        """An image file full of a pattern; returns its path."""
        path = self.folder / name
        path.write_bytes(pattern(1, length))
        return path

    def keep(self, thing):
        """Stop or close it with the test."""
        self._open.append(thing)
        return thing

    def blk(self, image, *options, setup=None, memory=None, room=64 << 10):
        """husk's back-end and a driver on it: (Process, Disk)."""
        process, connection = on_socketpair("--path", image, *options)
        self.keep(process)
        try:
            return process, self.keep(blk_client.Disk(connection, memory, setup, room))
        except vhost_user.BackEndError as error:
            raise vhost_user.BackEndError(f"{error}\n{process.errors()}") from error

    def rng(self, *options, setup=None, memory=None):
        """husk's entropy back-end and a driver on it: (Process, Rng)."""
        process, connection = on_socketpair(*options, kind="rng")
        self.keep(process)
        try:
            return process, self.keep(rng_client.Rng(connection, memory, setup))
        except vhost_user.BackEndError as error:
            raise vhost_user.BackEndError(f"{error}\n{process.errors()}") from error

    def storage_daemon(self, image, setup=None, **how):
        """The same of qemu-storage-daemon."""
        path = self.folder / "daemon.sock"
        process = self.keep(storage_daemon(path, image, **how))
        return process, self.keep(blk_client.Disk(connect(process, path), setup=setup))

    def close(self):
        """End everything; a back-end that a sanitizer stopped fails the test whatever else it saw."""
        for thing in reversed(self._open):
            if isinstance(thing, Process):
                text = thing.errors()
                thing.stop()
                if text:
                    print(f"-- {' '.join(thing.command)}\n{text}")
                assert "Sanitizer" not in text and "runtime error" not in text, text
            else:
                thing.close()
        self._open.clear()
        # Guest memory and queues close their descriptors when they go.
        gc.collect()
