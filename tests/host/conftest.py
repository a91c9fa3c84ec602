"""One test host for the whole session, and machines that husk runs on it."""

import contextlib
import os
import pathlib
import shlex
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import testhost  # noqa: E402

# How long a guest may take to reach user space, seconds. The emulated host is slow, and busy machines make it slower.
BOOT = 120
QUIET = "console=ttyS0 quiet panic=-1 "


class Hosts:
    """The host that guests run on: one for all tests, and another when that one is lost."""

    def __init__(self):
        self._husk = pathlib.Path(os.environ.get("HUSK", ROOT / "build" / "husk"))
        self._problem = testhost.local_kvm_problem(self._husk)
        self._chosen, self._end = None, contextlib.ExitStack()

    def get(self):
        """A host that is there."""
        if not self._chosen or self._chosen.lost:
            self.close()
            chosen = self._end.enter_context(testhost.choose(self._problem, self._husk))
            for payload in sorted((self._husk.resolve().parent / "tests" / "payloads").glob("*.elf")):
                chosen.put(payload, f"{chosen.folder}/{payload.name}")
            self._chosen = chosen
        return self._chosen

    def close(self):
        """End it."""
        self._chosen = None
        self._end.close()


@pytest.fixture(scope="session")
def hosts():
    """The Hosts."""
    with contextlib.closing(Hosts()) as made:
        yield made


@pytest.fixture
def host(hosts):
    """The host that guests run on."""
    return hosts.get()


class Machine:
    """husk, running on the host with some options. Its events come on descriptor 3."""

    def __init__(self, host, options, pty):
        self.process = host.start("exec " + shlex.join([host.husk, "run", *options, "--event-monitor", "fd=3"]), pty)

    def expect(self, pattern, timeout=BOOT):
        """Wait for text on husk's standard output."""
        return self.process.expect(pattern, timeout)

    def event(self, name, timeout=BOOT):
        """Wait for an event by its name."""
        return self.process.expect(rf'"event": ?"{name}".*\n', timeout, "events")

    def ends_with(self, status, timeout=120):
        """Wait for the end, which must be with this exit status."""
        found = self.process.wait(timeout)
        if found != status:
            raise self.process.failure(f"ended with {found}, not with {status}")

    def press(self, number):
        """Send husk a signal."""
        self.process.kill(number)


@pytest.fixture
def start(host):
    """start(*options, pty=False): husk run with these options. What is left of it after the test is killed."""
    machines = []

    def begin(*options, pty=False):
        machines.append(Machine(host, [str(option) for option in options], pty))
        return machines[-1]

    yield begin
    left = [machine for machine in machines if machine.process.status is None]
    for machine in left:
        if not host.lost:
            machine.process.kill()
            machine.process.wait(120)
    # Its helpers end by themselves, a moment later; a test that counts processes finds its own.
    if left and not host.lost:
        host.run("for n in $(seq 1 50); do pidof husk husk-backend >/dev/null || exit 0; sleep 0.1; done", check=False)


@pytest.fixture
def debian(host, start):
    """debian(words, *options): Debian's kernel and the test guest, told by words what to do (guest_init.sh)."""

    def begin(words, *options, cpus=1, memory="256M", serial="tty", pty=None):
        return start("--kernel", host.guest_kernel, "--initramfs", host.guest_initramfs, "--cmdline", QUIET + words,
                     "--cpus", f"boot={cpus}", "--memory", f"size={memory}", "--serial", serial, *options,
                     pty=serial == "tty" if pty is None else pty)

    return begin
