"""Hosts that husk runs guests on in tests: this machine where its KVM is good for that, else an emulated one.

Both are driven through the agent (agent.c), so tests do not know the difference:

    with testhost.choose(testhost.local_kvm_problem(husk), husk) as host:
        process = host.start(f"{host.husk} run --kernel {host.guest_kernel} ...", pty=True)
        process.expect("husk-guest: off", timeout=60)
        assert process.wait(timeout=30) == 0
"""

import contextlib
import ctypes
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import images

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHMEM_ENABLED = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
PAYLOAD = "tests/payloads/stockcpu.elf"
_HEAD = struct.Struct("<IBI")
_STREAMS = {ord("O"): "output", ord("R"): "errors", ord("V"): "events"}
_START_PTY = 1
_PIECE = 1 << 16
_SEND_TIMEOUT = 120
_PR_SET_PDEATHSIG = 1
# husk's exit status after a triple fault of the guest, and what share of a processor an idle guest stays far below.
_TRIPLE_FAULT = 4
_BUSY = 0.3


class HostError(Exception):
    """The host failed, or what a test waited for did not come; says what was seen instead."""


class EmulatorFault(HostError):
    """The emulated host failed in one of the ways that QEMU has and husk cannot cause (docs/testing.md): try again."""


def _die_with_parent():
    """A function to run in a child before exec: the kernel kills it when this process goes, however it goes."""
    libc, parent = ctypes.CDLL(None), os.getpid()

    def prepare():
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


class Process:
    """A command that runs on a host: a shell command line, with its input, output, errors and descriptor 3 here."""

    def __init__(self, host, number, command):
        self.command = command
        self.status = None
        self.output = b""
        self.errors = b""
        self.events = b""
        self._host = host
        self._number = number
        self._seen = {"output": 0, "errors": 0, "events": 0}

    def _describe(self):
        text = self.output.decode(errors="replace")[-3000:]
        errors = self.errors.decode(errors="replace")[-1500:]
        events = self.events.decode(errors="replace")[-1500:]
        state = "running" if self.status is None else f"ended with {self.status}"
        return f"{self.command}\n{state}\n-- output\n{text}\n-- errors\n{errors}\n-- events\n{events}"

    def failure(self, what):
        """An exception to raise: what is wrong, and all that is known of this process."""
        fault = self._host.fault(self)
        if fault:
            return EmulatorFault(f"{what} ({fault})\n{self._describe()}")
        return HostError(f"{what}\n{self._describe()}")

    def _wait_until(self, ready, timeout, what):
        """Wait for ready() to give something true, looking again whenever the host reports something."""
        deadline = time.monotonic() + timeout
        with self._host.changed:
            while not (found := ready()) and not self._host.lost:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._host.changed.wait(left)
        if not found:
            raise self.failure(f"the host is gone: {self._host.lost}" if self._host.lost else f"not within {timeout} s: {what}")
        return found

    def expect(self, pattern, timeout, stream="output"):
        """
        Wait until a stream (output, errors or events) matches the regular expression pattern, and return the match.

        Like the program of that name it goes forward: the next expect() of that stream looks behind this match. Fails
        when the process ends without it.
        """
        compiled = re.compile(pattern.encode(), re.MULTILINE)

        def look():
            match = compiled.search(getattr(self, stream), self._seen[stream])
            if match:
                self._seen[stream] = match.end()
            return match or self.status is not None

        match = self._wait_until(look, timeout, f"{stream} matching {pattern!r}")
        if match is True:
            raise self.failure(f"ended before its {stream} matched {pattern!r}")
        return match

    def wait(self, timeout):
        """Wait for the end; returns the exit status, or 128 plus the signal's number."""
        self._wait_until(lambda: self.status is not None, timeout, "the end")
        return self.status

    def write(self, data):
        """Give bytes to its standard input."""
        for at in range(0, len(data), _PIECE):
            self._host.send(self._number, b"I", data[at:at + _PIECE])

    def end_input(self):
        """Nothing more comes on its standard input."""
        self._host.send(self._number, b"E", b"")

    def kill(self, number=signal.SIGKILL, group=False):
        """Send a signal to it, or to all of its process group."""
        self._host.send(self._number, b"K", bytes([number, int(group)]))

    def resize(self, columns, rows):
        """Give the window of its terminal a size."""
        self._host.send(self._number, b"W", struct.pack("<HH", columns, rows))

    def _report(self, kind, data):
        if kind == ord("X"):
            self.status = struct.unpack("<I", data)[0]
        elif kind in _STREAMS:
            name = _STREAMS[kind]
            setattr(self, name, getattr(self, name) + data)


class Host:
    """What both hosts are: a connection to an agent. Attributes name what is there, as paths on that host."""

    def __init__(self, connection):
        self.changed = threading.Condition()
        self.lost = None
        self._connection = connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_TIMEOUT, 0))
        self._sending = threading.Lock()
        self._processes = {}
        self._next = 1
        self._hello = False
        threading.Thread(target=self._receive, daemon=True).start()

    def _read(self, length):
        data = b""
        while len(data) < length:
            piece = self._connection.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _receive(self):
        try:
            while True:
                number, kind, length = _HEAD.unpack(self._read(_HEAD.size))
                data = self._read(length)
                with self.changed:
                    if kind == ord("H"):
                        self._hello = True
                    elif number in self._processes:
                        self._processes[number]._report(kind, data)
                    self.changed.notify_all()
        except (EOFError, OSError) as error:
            self._lose(str(error) or "connection closed")

    def _lose(self, why):
        """It is of no more use: whoever waits for it is told."""
        with self.changed:
            self.lost = self.lost or why
            self.changed.notify_all()

    def send(self, number, kind, data):
        """Send one frame to the agent. If that takes none the host is lost, as whoever waits for an answer is told."""
        with self._sending:
            try:
                self._connection.sendall(_HEAD.pack(number, kind[0], len(data)) + data)
            except OSError as error:
                self._lose(f"it takes no commands: {error}")

    def fault(self, process):
        """The host's own fault for which a process did not do what it should, in words; None if it is not known to have one."""
        del process

    def wait_for_agent(self, timeout):
        """Wait until the agent says hello; False when it did not in time."""
        with self.changed:
            return self.changed.wait_for(lambda: self._hello or self.lost, timeout) and not self.lost

    def start(self, command, pty=False):
        """Start a shell command line and return its Process. It is replaced by its last command if that is exec'd."""
        with self.changed:
            process = Process(self, self._next, command)
            self._processes[self._next] = process
            self._next += 1
        self.send(process._number, b"S", bytes([_START_PTY if pty else 0]) + command.encode())
        return process

    def run(self, command, timeout=120, check=True):
        """Run a shell command line to its end and return (status, output as text). With check, status 0 is a must."""
        process = self.start(command)
        process.end_input()
        process.wait(timeout)
        if check and process.status != 0:
            raise process.failure("failed")
        return process.status, process.output.decode(errors="replace")

    def put(self, local, remote, mode=0o644):
        """Copy a file of this machine to the host."""
        process = self.start(f"cat > {shlex.quote(str(remote))} && chmod {mode:o} {shlex.quote(str(remote))}")
        process.write(pathlib.Path(local).read_bytes())
        process.end_input()
        if process.wait(300) != 0:
            raise process.failure("failed")

    def get(self, remote):
        """The bytes of a file of the host."""
        process = self.start(f"cat {shlex.quote(str(remote))}")
        if process.wait(300) != 0:
            raise process.failure("failed")
        return process.output

    def follow(self, path):
        """A Process whose output is a file of the host, as it grows, from its beginning; kill() it after use."""
        return self.start(f"exec tail -c +1 -f {shlex.quote(str(path))}")


class LocalHost(Host):
    """This machine."""

    name = "this machine's /dev/kvm"
    emulated = False

    def __init__(self, husk):
        mine, theirs = socket.socketpair()
        self._agent = subprocess.Popen([str(images.agent()), str(theirs.fileno())], pass_fds=[theirs.fileno()],
                                       stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent())
        theirs.close()
        self.folder = tempfile.mkdtemp(prefix="husk-test-")
        self.agent = str(images.agent())
        self.husk = str(husk)
        self.guest_kernel = str(images.guest_kernel())
        self.guest_initramfs = str(images.guest_initramfs())
        self.busybox = str(images.busybox())
        super().__init__(mine)
        if not self.wait_for_agent(60):
            raise HostError("the agent did not start")

    def close(self):
        """Kill everything that was started and remove its files."""
        self._connection.shutdown(socket.SHUT_RDWR)
        self._agent.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class EmulatedHost(Host):
    """An x86 machine emulated by QEMU (TCG), with AMD's virtualization: KVM is real there, though slow."""

    name = "an emulated machine with nested KVM"
    emulated = True
    kernel = staticmethod(images.host_kernel)
    # For how long it may not answer at all and still be alive, seconds.
    patience = 30
    # Numbers from measurement: one processor hangs when a nested guest switches off; the model is one whose nested
    # guests run; q35, because microvm hangs under emulation.
    machine = ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "EPYC-Rome,+svm,+npt", "-smp", "2", "-m", "4096"]

    def __init__(self, husk, log=None, start_timeout=300):
        self.folder = "/tmp"
        self.agent = "/agent"
        self.husk = "/usr/bin/husk"
        self.guest_kernel = "/guest/vmlinuz"
        self.guest_initramfs = "/guest/initramfs"
        self.busybox = "/bin/busybox"
        self.log = pathlib.Path(log) if log else ROOT / "build" / "testhost-console.log"
        mine, theirs = socket.socketpair()
        # Level-triggered interrupts and no suppressed notifications: with MSI-X and event indices the port stalled, all
        # processors idle and nothing pending, once in some dozens of guests.
        command = [*images.qemu_command(), *self.machine, "-nodefaults", "-no-user-config", "-display", "none",
                   "-no-reboot", "-serial", f"file:{self.log}",
                   "-device", "virtio-serial-pci,vectors=0,event_idx=off,ioeventfd=off",
                   "-chardev", f"socket,id=agent,fd={theirs.fileno()}",
                   "-device", "virtserialport,chardev=agent,name=agent",
                   "-kernel", str(self.kernel()),
                   "-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable"]
        # In memory, so that nothing is left behind however this process ends.
        with os.fdopen(os.memfd_create("initramfs", 0), "wb") as initramfs, theirs:
            initramfs.write(images.host_initramfs().read_bytes())
            initramfs.write(images.program_archive(husk, "usr/bin/husk", "libcrypto.so.3"))
            # husk finds it beside itself.
            backend = pathlib.Path(husk).resolve().parent / "husk-backend"
            initramfs.write(images.program_archive(backend, "usr/bin/husk-backend"))
            initramfs.flush()
            # It warns of each processor feature that it does not emulate: shown only if it fails.
            self._errors = tempfile.TemporaryFile()
            self._qemu = subprocess.Popen([*command, "-initrd", f"/proc/self/fd/{initramfs.fileno()}"],
                                          pass_fds=[theirs.fileno(), initramfs.fileno()], stdin=subprocess.DEVNULL,
                                          env=images.qemu_environment(),
                                          stderr=self._errors, preexec_fn=_die_with_parent())
        super().__init__(mine)
        up = self.wait_for_agent(start_timeout)
        if not up:
            self.close()
            raise HostError(f"the emulated host did not come up\n{self.console()}")
        # Huge pages as guests fault, so that husk does not collapse pages under a running guest: QEMU then walks a guest's
        # page tables wrongly now and then, and the guest takes a triple fault (docs/testing.md).
        try:
            self.run(f"echo advise > {SHMEM_ENABLED}")
        except HostError:
            self.close()
            raise

    def fault(self, process):
        if self.lost:
            return f"it is the emulated host that is lost:\n{self.console()}"
        if process.status == _TRIPLE_FAULT and b"triple-fault" in process.events:
            return "triple faults come of the emulation"
        if process.status is None and self._vcpus_busy() > _BUSY:
            return "the guest's processors are busy: guests hang in the emulation"
        return None

    def _vcpus_busy(self):
        """For how much of two seconds the vCPUs of all guests run, as processors; all of it if the host does not answer."""
        # Fields of /proc/PID/task/TID/stat behind the name in parentheses: utime and stime.
        ticks = ("cat /proc/[0-9]*/task/*/stat 2>/dev/null | grep '(vcpu' | sed 's/.*) //' | "
                 "awk '{ n += $12 + $13 } END { print n + 0 }'")
        process = self.start(f"{ticks}; sleep 2; {ticks}")
        with self.changed:
            answered = self.changed.wait_for(lambda: process.status is not None or self.lost, self.patience)
            if not answered:
                # Nothing more can be done with it.
                self._lose("it does not answer")
            if self.lost:
                return 1.0
        first, last = map(int, process.output.split())
        return (last - first) / os.sysconf("SC_CLK_TCK") / 2

    def console(self):
        """The end of what QEMU, the emulated host's kernel and its first process printed."""
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace")
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"-- QEMU\n{errors[-2000:]}\n-- console ({self.log})\n{text[-3000:]}"

    def close(self):
        """Switch it off as a power cut does: nothing in it is worth keeping."""
        self._qemu.kill()
        self._qemu.wait()


class ProtectedHost(EmulatedHost):
    """An emulated machine whose kernel has software-protected VMs, and control groups."""

    name = "an emulated machine with software-protected VMs"
    kernel = staticmethod(images.protected_host_kernel)


def sev_snp():
    """True when this machine's KVM can start SEV-SNP guests."""
    flag = pathlib.Path("/sys/module/kvm_amd/parameters/sev_snp")
    return flag.exists() and flag.read_text(encoding="ascii").strip() in ("Y", "1")


def local_kvm_problem(husk):
    """
    Why this machine's KVM cannot run stock kernels, or None when it can.

    Found out by doing: husk runs a payload with instructions that kernels use and weak KVMs lack
    (tests/payloads/stockcpu.S), which must switch the guest off.
    """
    if os.environ.get("HUSK_TEST_HOST") == "emulated":
        return "HUSK_TEST_HOST asks for the emulated one"
    if not os.path.exists("/dev/kvm"):
        return "there is no /dev/kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened by this user"
    payload = pathlib.Path(husk).resolve().parent / PAYLOAD
    command = [str(husk), "run", "--kernel", str(payload), "--cpus", "boot=1", "--memory", "size=64M", "--serial", "off"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return "a test payload hangs on it"
    if done.returncode != 0:
        return f"a test payload does not run on it (status {done.returncode})"
    return None


@contextlib.contextmanager
def choose(problem, husk, log=None):
    """The host to run guests on, ready for use: the emulated one if local_kvm_problem() found a problem."""
    host = EmulatedHost(husk, log) if problem else LocalHost(husk)
    try:
        yield host
    finally:
        host.close()
