"""Private memory on real KVM: software-protected VMs, in an emulated host whose kernel has them (testhost.ProtectedHost)."""

import contextlib
import json
import os
import pathlib

import pytest

import testhost

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HUSK", ROOT / "build" / "husk")).resolve().parent
GROUP = "/sys/fs/cgroup/guest"
# STOP_MEMORY_FAULT of src/vmm/vcpu.h, and husk's exit status for it.
STOP_MEMORY_FAULT = 6
MEMORY_FAULT = 7
PAGE = 4096
MIB = 1 << 20
# How often the guest converts a page, 2 MiB and 1 GiB. An emulated host needs some 2 ms for a page: all of them are for those
# who ask (docs/testing.md).
COUNTS = {"4K": 100000, "2M": 1000, "1G": 20} if os.environ.get("HUSK_TEST_CONVERSIONS") == "full" else \
    {"4K": 10000, "2M": 100, "1G": 8}
# Pages of the guest that converts single ones (tests/payloads/convert/main.c).
POOL_PAGES = 2 * 64 * MIB // PAGE


class ProtectedHosts:
    """A host with software-protected VMs, and a control group for a guest: one for all tests, another when it is lost."""

    def __init__(self):
        self._host = None

    def get(self):
        """A host that is there."""
        if not self._host or self._host.lost:
            self.close()
            host = self._host = testhost.ProtectedHost(BUILD / "husk", BUILD / "protected-host-console.log")
            host.put(BUILD / "tests/payloads/convert/convert.elf", "/tmp/convert.elf")
            host.put(BUILD / "tests/host/fault-vmm", "/tmp/fault-vmm", 0o755)
            groups = "/sys/fs/cgroup"
            host.run(f"mount -t cgroup2 none {groups} && echo +memory >{groups}/cgroup.subtree_control && mkdir {GROUP}")
            host.run("truncate -s 1M /tmp/disk")
        return self._host

    def close(self):
        """End it."""
        if self._host:
            self._host.close()
        self._host = None


@pytest.fixture(scope="module")
def protected_hosts():
    """The ProtectedHosts."""
    with contextlib.closing(ProtectedHosts()) as made:
        yield made


@pytest.fixture
def protected(protected_hosts):
    """The host that guests run on."""
    return protected_hosts.get()


@pytest.fixture
def guest(protected):
    """guest(cmdline, *options): husk with the guest that converts its memory, in the control group."""
    started = []

    def begin(cmdline, *options):
        words = f"husk run --kernel /tmp/convert.elf --cmdline '{cmdline}' --platform sw_protected=on --serial tty " \
                f"--event-monitor fd=3 {' '.join(options)}"
        started.append(protected.start(f"echo $$ >{GROUP}/cgroup.procs; exec {words}"))
        return started[-1]

    yield begin
    for process in started:
        if process.status is None and not protected.lost:
            process.kill()
            process.wait(120)


def charged(host):
    """Bytes of memory that the control group holds."""
    return int(host.run(f"cat {GROUP}/memory.current")[1])


def counters(process):
    """What the event vm/private-memory says."""
    for line in process.events.decode().splitlines():
        event = json.loads(line)
        if event["event"] == "private-memory":
            return {key: int(value) for key, value in event["properties"].items()}
    raise AssertionError(process.events.decode())


def test_pages_converted_by_hypercall_hold_what_was_written_and_are_held_once(protected, guest):
    words = " ".join(f"{size}={times}" for size, times in COUNTS.items())
    process = guest(words, "--memory size=6G", "--disk path=/tmp/disk")
    process.expect(r"ready, disks: 1\r*\n", 120)
    before = charged(protected)
    process.write(b"x")
    for size, times in COUNTS.items():
        process.expect(rf"^{size} conversions: {times}\r*\n", 900)
    moves = int(process.expect(r"^disk moves: (\d+)\r*\n", 60)[1])
    grown = charged(protected) - before
    process.write(b"x")
    assert process.wait(60) == 0 and b"FAILED" not in process.output
    # All that the guest wrote to, in one half or the other: single pages, 16 of each larger piece, 2 of the disk's.
    pages = min(COUNTS["4K"], POOL_PAGES) + 16 * min(COUNTS["2M"], 32) + 16 * min(COUNTS["1G"], 2) + 2
    print(f"memory grew by {grown / MIB:.1f} MiB, the guest has written to {pages * PAGE / MIB:.1f} MiB")
    assert 0.9 * pages * PAGE < grown < 1.05 * pages * PAGE + 2 * MIB
    seen = counters(process)
    assert moves > 0 and seen["unchanged"] == 1
    assert seen["to_private"] + seen["to_shared"] == sum(COUNTS.values()) + 2 * moves
    assert seen["punches"] == seen["to_private"] + seen["to_shared"] and seen["punch_failures"] == 0
    assert seen["private_bytes"] + seen["shared_bytes"] == 6 << 30


def test_private_memory_can_be_allocated_before_the_guest_runs(protected, guest):
    process = guest("", "--memory size=256M,prefault=on")
    process.expect(r"ready, disks: 0\r*\n", 120)
    # All of RAM but the few pages that the loader wrote; the shared half has only those.
    assert 0.99 * 256 * MIB < charged(protected) < 1.1 * 256 * MIB + 16 * MIB
    process.write(b"xx")
    assert process.wait(60) == 0


def test_a_request_for_memory_that_is_not_there_stops_the_guest(guest):
    process = guest(f"hole={0x80000000 // PAGE}", "--memory size=256M")
    # EINVAL, by KVM itself: no pages at all.
    process.expect(r"nothing at all: 22\r*\n", 120)
    assert process.wait(60) == MEMORY_FAULT
    told = "the guest asked for 0x1000 bytes at 0x80000000 as private memory on vCPU 0: there is no memory at 0x80000000"
    assert told in process.errors.decode()
    process.expect(r'"event": ?"memory-fault"', 10, "events")


@pytest.mark.parametrize("what", ["slot", "hole"])
def test_a_real_memory_fault_where_no_private_memory_is_stops_the_guest(protected, what):
    status, said = protected.run(f"/tmp/fault-vmm {what}", check=False)
    assert status == STOP_MEMORY_FAULT
    assert said == "the guest used 0x1000 bytes at 0x10000 as private memory on vCPU 0: there is no memory at 0x10000\n"


def test_a_kernel_with_software_protected_vms_is_told_from_one_without(protected):
    report = json.loads(protected.run("husk probe --json", check=False)[1])
    assert report["can"]["sw_protected"] and not report["can"]["sev_snp"]
