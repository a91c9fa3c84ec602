"""One test host for the whole session, and machines that husk runs on it."""

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
BOOT = 90
QUIET = "console=ttyS0 quiet panic=-1 "


@pytest.fixture(scope="session")
def host():
    """The host that guests run on; its console is shown if it is lost."""
    husk = pathlib.Path(os.environ.get("HUSK", ROOT / "build" / "husk"))
    with testhost.choose(testhost.local_kvm_problem(husk), husk) as chosen:
        for payload in sorted((husk.resolve().parent / "tests" / "payloads").glob("*.elf")):
            chosen.put(payload, f"{chosen.folder}/{payload.name}")
        yield chosen
        if chosen.lost and chosen.emulated:
            print(chosen.console())


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

    def ends_with(self, status, timeout=60):
        """Wait for the end, which must be with this exit status."""
        found = self.process.wait(timeout)
        assert found == status, self.process._describe()

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
    for machine in machines:
        if machine.process.status is None and not host.lost:
            machine.process.kill()
            machine.process.wait(30)


@pytest.fixture
def debian(host, start):
    """debian(words, *options): Debian's kernel and the test guest, told by words what to do (guest_init.sh)."""

    def begin(words, *options, cpus=1, memory="256M", serial="tty", pty=None):
        return start("--kernel", host.guest_kernel, "--initramfs", host.guest_initramfs, "--cmdline", QUIET + words,
                     "--cpus", f"boot={cpus}", "--memory", f"size={memory}", "--serial", serial, *options,
                     pty=serial == "tty" if pty is None else pty)

    return begin
