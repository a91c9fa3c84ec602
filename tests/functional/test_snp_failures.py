"""Every failure of an SEV-SNP launch that docs/errors.md lists: its status and its sentence, and nothing is left behind."""

import fcntl
import pathlib
import re
import struct

import pytest

import igvm_files
import igvm_tools
import snp_launch

ERRORS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "errors.md"


def listed():
    """The rows of the table: what is wrong, status, sentence."""
    text = ERRORS.read_text().split("## Failures of an SEV-SNP launch")[1].split("\n## ")[0]
    return [(what, int(status or 1), sentence)
            for what, status, sentence in re.findall(r"^\| (.+?) \| (?:status (\d): )?`(.+)` \|$", text, re.MULTILINE)]


class Bench:
    """A Launcher, and files that are right."""

    def __init__(self, husk, folder):
        self.launcher = snp_launch.Launcher(husk, folder)
        self.firmware = self.launcher.file("firmware.fd", igvm_tools.firmware())
        self.igvm = self.launcher.igvm(self.firmware)

    def fault(self, *specs):
        """A right launch in which calls fail."""
        words = [word for spec in specs for word in ("--fault", spec)]
        return self.launcher.run("--igvm", self.igvm, sim=("--exit", "shutdown", *words))

    def firmware_with(self, *words, platform=""):
        """Firmware, with more options."""
        return self.launcher.run("--firmware", self.firmware, *words, platform=platform)

    def file(self, data):
        """An IGVM file of these bytes."""
        return self.launcher.run("--igvm", self.launcher.file("wrong.igvm", data))

    def changed(self, change):
        """The right IGVM file with its bytes changed."""
        data = bytearray(self.igvm.read_bytes())
        change(data)
        return self.file(bytes(data))

    def pages(self, *addresses, platform=igvm_files.SEV_SNP):
        """An IGVM file with a page at each address."""
        file = igvm_files.File()
        file.platform(1, platform)
        for address in addresses:
            file.page(address, 1, b"page")
        return self.launcher.run("--igvm", file.write(self.launcher.husk, self.launcher.folder))

    def huge(self):
        """An IGVM file of 1 TiB, most of it a hole."""
        path = self.launcher.file("huge.igvm", self.igvm.read_bytes())
        with open(path, "r+b") as file:
            file.truncate(1 << 40)
        return self.launcher.run("--igvm", path)

    def id_block(self, data):
        """Firmware with an ID block of these bytes."""
        block = self.launcher.file("block", data)
        return self.firmware_with(platform=f",id_block={block},id_auth={block}")


def ordinary(bench):
    """An ordinary guest that is given a policy."""
    done = igvm_tools.run(bench.launcher.husk, "run", "--kernel", "k", "--platform", "policy=0x30000", check=False)
    return snp_launch.Outcome(done.returncode, done.stderr, {"launches": [], "violations": []}, [])


def fault(*specs):
    """A cause that lets calls fail."""
    return lambda bench: bench.fault(*specs)


CAUSES = {
    "there is no /dev/kvm": fault("open-kvm,errno=ENOENT"),
    "there is no /dev/sev": fault("open-sev,errno=ENOENT"),
    "/dev/sev may not be opened": fault("open-sev,errno=EACCES"),
    "KVM makes no VM": fault("create-vm,errno=ENOMEM"),
    "KVM hands on no hypercalls": fault("enable-cap,errno=EINVAL"),
    "all ASIDs are in use": fault("init2,errno=EBUSY"),
    "SNP is not initialised": fault("init2,fw=1"),
    "no memory for a guest_memfd": fault("create-guest-memfd,errno=ENOMEM"),
    "a slot is refused": fault("set-region,errno=EINVAL"),
    "attributes are refused": fault("set-attributes,errno=ENOMEM"),
    "a vCPU is refused": fault("create-vcpu,errno=EEXIST"),
    "registers are refused": fault("set-registers,errno=EINVAL"),
    "the host cannot keep the policy": fault("launch-start,fw=7"),
    "the kernel refuses the policy": lambda bench: bench.firmware_with(platform=",policy=0x20000"),
    "the guest gets no context": fault("launch-start,errno=ENOTTY"),
    "/dev/sev is another device": fault("launch-start,errno=EBADF"),
    "the secure processor hangs": fault("launch-start,errno=ETIMEDOUT"),
    "the firmware refuses a page": fault("launch-update,fw=26"),
    "it refuses a page in the middle": fault("launch-update,short=3", "launch-update,at=2,fw=26"),
    "it refuses the CPUID page": fault("launch-update,at=4,fw=22"),
    "KVM refuses a page without a reason": fault("launch-update,errno=EIO,times=0"),
    "KVM always wants another try": fault("launch-update,errno=EAGAIN,times=0"),
    "no memory for private pages": fault("launch-update,errno=ENOMEM"),
    "the ID block's signature is wrong": fault("launch-finish,fw=10"),
    "the firmware measured another digest": fault("launch-finish,fw=11"),
    "the firmware answers what nobody knows": fault("launch-finish,fw=200"),
    "the vCPU cannot be entered": fault("run,errno=EINVAL"),
    "the policy has no meaning": lambda bench: bench.firmware_with(platform=",policy=0x10000"),
    "the policy is no number": lambda bench: bench.firmware_with(platform=",policy=abc"),
    "KVM lacks a VMSA feature": lambda bench: bench.firmware_with(platform=",vmsa_features=0x801"),
    "the host data is too short": lambda bench: bench.firmware_with("--host-data", "00"),
    "an ID block without signatures": lambda bench: bench.firmware_with(platform=",id_block=/nowhere"),
    "an ID block of another length": lambda bench: bench.id_block(bytes(95)),
    "an ID block that is not there": lambda bench: bench.firmware_with(platform=",id_block=/nowhere,id_auth=/nowhere"),
    "an option of SEV-SNP for another guest": ordinary,
    "a kernel without firmware": lambda bench: bench.launcher.run("--kernel", bench.firmware),
    "firmware without SEV metadata": lambda bench: bench.launcher.run("--firmware",
                                                                      bench.launcher.file("f", b"\xf4" * 65536)),
    "firmware that is an ELF file": lambda bench: bench.launcher.run("--firmware", bench.launcher.husk),
    "the kernel is not there": lambda bench: bench.firmware_with("--kernel", "/nowhere/kernel"),
    "the IGVM file is not there": lambda bench: bench.launcher.run("--igvm", "/nowhere/guest.igvm"),
    "the IGVM file is empty": lambda bench: bench.file(b""),
    "the IGVM file is cut off": lambda bench: bench.file(bench.igvm.read_bytes()[:18772]),
    "the IGVM file is damaged": lambda bench: bench.changed(lambda data: data.__setitem__(60, data[60] ^ 1)),
    "the IGVM file is something else": lambda bench: bench.file(bytes(65536)),
    "the IGVM file is a device": lambda bench: bench.launcher.run("--igvm", "/dev/zero"),
    "the IGVM file is huge": lambda bench: bench.huge(),
    "the kernel is a directory": lambda bench: bench.firmware_with("--kernel", "/"),
    "the kernel is cut off": lambda bench: bench.firmware_with("--kernel", bench.launcher.file("k", b"MZ" * 300)),
    "the IGVM file is for another platform": lambda bench: bench.pages(0x100000, platform=igvm_files.NATIVE),
    "a page lies outside of memory": lambda bench: bench.pages(0xfec00000),
    "two pages are at one address": lambda bench: bench.pages(0x100000, 0x100000),
}


def test_each_failure_that_is_listed_is_brought_about_and_none_else():
    assert [what for what, _, _ in listed()] == list(CAUSES)


@pytest.mark.parametrize("what,status,sentence", listed(), ids=[what for what, _, _ in listed()])
def test_a_launch_that_fails_says_why(husk, tmp_path, what, status, sentence):
    outcome = CAUSES[what](Bench(husk, tmp_path))
    assert outcome.status == status, outcome.stderr
    assert sentence in outcome.stderr
    # No rule of the kernel's was broken on the way, but the one that the case is about.
    assert {broken["rule"] for broken in outcome.report["violations"]} <= {"start-policy-smt"}
    # One sentence, and one line of advice at most.
    said = [line for line in outcome.stderr.splitlines() if not line.startswith("husk sim:")]
    assert 1 <= len([line for line in said if "warning:" not in line]) <= 2


def test_a_launch_that_stopped_without_an_answer_is_tried_once_more(husk, tmp_path):
    Bench(husk, tmp_path).fault("launch-update,errno=EIO").launched()


EXITS = {
    "sev-term,set=1,reason=2": (8, "guest-terminated", "reason set 1 (Linux), reason 2: a page could not be validated"),
    "sev-term,set=0,reason=1": (8, "guest-terminated", "it does not support the host's GHCB protocol version"),
    "sev-term,set=3,reason=9": (8, "guest-terminated", "reason set 3, reason 9; a set of the firmware's own"),
    "sev-term,data=0x7000": (8, "guest-terminated", "in a page at 0x7000 that husk does not read"),
    "shutdown": (4, "triple-fault", "an SEV-SNP guest's registers are encrypted"),
    "internal-error": (5, "internal-error", "KVM internal error 1 (emulation) on vCPU 0"),
    "fail-entry": (6, "fail-entry", "its encrypted state is not valid, or was withdrawn"),
    "memory-fault,gpa=0x40000000,flags=8": (7, "memory-fault", "there is no memory at 0x40000000"),
    "memory-fault,gpa=0x123,flags=8": (7, "memory-fault", "no pages that can be converted"),
    "memory-fault,gpa=0x1000,errno=EHWPOISON": (1, "host-error", "the host's memory behind 0x1000 is damaged"),
    "map-gpa-range,gpa=0x1ffff000,npages=2,attrs=0": (7, "memory-fault", "there is no memory at 0x20000000"),
    "errno,errno=EINVAL": (1, "host-error", "KVM_RUN of vCPU 0 failed: Invalid argument"),
}


@pytest.mark.parametrize("end", EXITS)
def test_each_end_of_a_guest_has_its_status_event_and_sentence(husk, tmp_path, end):
    status, event, sentence = EXITS[end]
    bench = Bench(husk, tmp_path)
    outcome = bench.launcher.run("--igvm", bench.igvm, sim=("--exit", end))
    assert outcome.status == status, outcome.stderr
    assert sentence in outcome.stderr and sentence in outcome.event(event)["reason"]
    assert outcome.report["violations"] == []


ANSWERS = {
    "gpa=0x100000,npages=2,attrs=0": 0,
    "gpa=0x100000,npages=2,attrs=0x10": 0,
    "gpa=0x100000,npages=512,attrs=0x11": 0,
    "gpa=0x100001,npages=1,attrs=0": -22,
    "gpa=0x100000,npages=0,attrs=0": -22,
    "gpa=0,npages=0x10000000000000,attrs=0": -22,
}


@pytest.mark.parametrize("asked", ANSWERS)
def test_each_wish_to_convert_is_answered_and_the_guest_goes_on(husk, tmp_path, asked):
    bench, log = Bench(husk, tmp_path), tmp_path / "log"
    # With a KVM, the simulator's own library makes calls in the vCPU's thread, which its filter has no place for.
    sim = ("--no-kvm", "--exit", f"map-gpa-range,{asked}", "--exit", "shutdown,at=2", "--log", log)
    outcome = bench.launcher.run("--igvm", bench.igvm, sim=sim)
    assert outcome.status == snp_launch.TRIPLE_FAULT, outcome.stderr
    assert f"hypercall answered with {ANSWERS[asked]}\n" in log.read_text()
    assert outcome.report["violations"] == []


def test_two_processors_that_fault_on_one_page_both_go_on(husk, tmp_path):
    bench = Bench(husk, tmp_path)
    igvm = bench.launcher.igvm(bench.firmware, "--cpus", "2")
    sim = [word for vcpu in (0, 1) for word in ("--exit", f"memory-fault,vcpu={vcpu},gpa=0x100000")]
    outcome = bench.launcher.run("--igvm", igvm, "--cpus", "boot=2", sim=("--no-kvm", *sim, "--exit", "shutdown,at=2"))
    assert outcome.status == snp_launch.TRIPLE_FAULT, outcome.stderr
    assert int(outcome.event("private-memory")["to_shared"]) == 1


def certificates(length):
    """A table with one certificate."""
    return bytes(range(16)) + struct.pack("<II", 48, length - 48) + bytes(24) + b"c" * (length - 48)


@pytest.mark.parametrize("pages,locked,answer", [(2, False, 0), (1, False, 28), (2, True, 11)],
                         ids=["fits", "too-small", "locked"])
def test_a_request_for_certificates_is_answered(husk, tmp_path, pages, locked, answer):
    bench, log = Bench(husk, tmp_path), tmp_path / "log"
    path = bench.launcher.file("certs", certificates(5000))
    sim = ("--kernel", "7.0", "--exit", f"snp-req-certs,gpa=0x100000,npages={pages}", "--exit", "shutdown,at=3",
           "--log", log)
    with open(path, "r+b") as file:
        if locked:
            fcntl.lockf(file, fcntl.LOCK_EX)
        outcome = bench.launcher.run("--igvm", bench.igvm, platform=f",certs={path}", sim=sim)
    assert outcome.status == snp_launch.TRIPLE_FAULT, outcome.stderr
    assert f"certificates answered with {answer}\n" in log.read_text()
    assert outcome.report["violations"] == []


def test_certificates_that_are_missing_or_none_are_refused_before_the_launch(husk, tmp_path):
    bench = Bench(husk, tmp_path)
    for platform, sim, said in (
            (",certs=/nowhere", ("--kernel", "7.0"), "--platform certs: could not open '/nowhere'"),
            (f",certs={bench.firmware}", ("--kernel", "7.0"), "certificate 1 lies at"),
            (f",certs={bench.launcher.file('c', certificates(4000))}", (), "takes Linux 7.0")):
        outcome = bench.launcher.run("--igvm", bench.igvm, platform=platform, sim=sim)
        assert outcome.status == 1 and said in outcome.stderr
        assert outcome.report["launches"] == []
