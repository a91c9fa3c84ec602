"""husk killed by SIGKILL at any moment: what it started, made and locked goes with it."""

import fcntl
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import time
import uuid

import pytest

import network

pytestmark = pytest.mark.usefixtures("needs_kvm")

TIMES = 50
F_OFD_GETLK = 36
# struct flock: the whole file, for writing.
WHOLE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def can_make_taps():
    """Whether husk may make a tap interface here."""
    return os.access("/dev/net/tun", os.R_OK | os.W_OK) and os.geteuid() == 0


class Victim:
    """
    A husk with a device of each kind, known by a word in the environment of all of its processes; with a network
    device, in a network namespace where nobody else makes interfaces.
    """

    def __init__(self, husk, payloads, folder, namespace):
        self.mark = f"HUSK_VICTIM={uuid.uuid4()}"
        self.folder, self.disk = folder, folder / "disk"
        self.disk.touch()
        os.truncate(self.disk, 1 << 20)
        self.events = folder / "events"
        self.events.unlink(missing_ok=True)
        name, _, value = self.mark.partition("=")
        words = ["--disk", f"path={self.disk}", "--rng", "src=/dev/urandom", "--console", f"socket={folder}/hvc0",
                 "--serial", f"socket={folder}/ttyS0", "--vsock", f"cid=3,socket={folder}/vsock",
                 "--event-monitor", f"path={self.events}"]
        self.namespace = namespace
        if namespace:
            words += ["--net", "ip=192.0.2.1,mask=255.255.255.0"]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = self.here(lambda: subprocess.Popen(
                [husk, "run", "--kernel", payloads / "spin.elf", "--memory", "size=64M", *words],
                env=os.environ | {name: value}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log))

    def here(self, action):
        """What action() returns, called where it runs."""
        return self.namespace.run(action) if self.namespace else action()

    def booted(self):
        """Wait until the guest runs."""
        end = time.monotonic() + 60
        while not (self.events.exists() and b'"booted"' in self.events.read_bytes()):
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.002)

    def left(self):
        """What is there of it still, in words."""
        found = []
        for proc in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (proc / "environ").read_bytes().split(b"\0"):
                    found.append(f"process {(proc / 'comm').read_text().strip()} {proc.name}")
            except OSError:
                continue
        found += [f"socket {path.name}" for path in self.folder.iterdir() if path.is_socket()]
        with self.disk.open("r+b") as disk:
            if struct.unpack("hhqqi4x", fcntl.fcntl(disk, F_OFD_GETLK, WHOLE))[0] != fcntl.F_UNLCK:
                found.append("a lock on the disk")
        if self.namespace:
            names = self.here(lambda: {name for _, name in socket.if_nameindex()})
            found += [f"interface {name}" for name in names - {"lo"}]
        return found


def gone(victim):
    """Wait until nothing is left, which the broker may take some seconds for."""
    end = time.monotonic() + 120
    while left := victim.left():
        assert time.monotonic() < end, left
        time.sleep(0.01)


@pytest.mark.parametrize("net", [False, True], ids=["no-net", "net"])
def test_nothing_is_left_of_a_husk_that_was_killed_at_any_moment(husk, payloads, tmp_path, net):
    if net and not can_make_taps():
        pytest.skip("needs root and /dev/net/tun to make a tap")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    namespace = network.Namespace() if net else None
    start, reached = None, {"start": 0, "run": 0, "shutdown": 0}
    for number in range(TIMES):
        began = time.monotonic()
        victim = Victim(husk, payloads, tmp_path, namespace)
        # The first one tells how long a start takes here.
        phase = "run" if start is None else ("start", "run", "shutdown")[number % 3]
        if phase != "start":
            victim.booted()
            start = start or time.monotonic() - began
            time.sleep(chance.uniform(0, 0.02))
        if phase == "shutdown":
            # The power button, which this guest has no use for, and then the end without it.
            victim.process.send_signal(signal.SIGTERM)
            victim.process.send_signal(signal.SIGTERM)
            time.sleep(chance.uniform(0, 0.02))
        if phase == "start":
            time.sleep(chance.uniform(0, start * 1.2))
        reached[phase] += victim.process.poll() is None
        victim.process.kill()
        victim.process.wait(60)
        gone(victim)
    if namespace:
        namespace.close()
    # It was alive when it was killed, most times.
    assert reached["start"] >= 8 and reached["run"] >= 10 and sum(reached.values()) >= TIMES // 2, reached
