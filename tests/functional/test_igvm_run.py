"""Ordinary guests from IGVM files: what the file says is what the guest finds, or an error that names the header."""

import json
import struct
import subprocess

import pytest

import igvm_files
import igvm_tools
from igvm_files import PAGE, SAVE, File, long_mode, native_context, vmsa

MIB, GIB = 1 << 20, 1 << 30
VMSA_GPA = 0xFFFFFFFFF000
MEMORY = 64 * MIB
RESERVED, RAM = 1, 0


class Guest:
    """Makes files, and runs them."""

    def __init__(self, husk, payloads, folder):
        self.husk, self.payloads, self.folder = husk, payloads, folder

    def file(self, version=1, platforms=(igvm_files.NATIVE,), vtl=0):
        file = File(version)
        for bit, platform in enumerate(platforms):
            file.platform(1 << bit, platform, vtl)
        return file

    def payload(self, file, *ranges, mask=1):
        igvm_files.add_payload(file, mask, self.payloads, [(SAVE, 1024), *ranges])

    def run(self, file, *words):
        """The finished husk, and what the guest wrote to the debug port."""
        path = file.write(self.husk, self.folder)
        dump = self.folder / "dump"
        done = subprocess.run([self.husk, "run", "--igvm", path, "--memory", f"size={MEMORY}", "--no-reboot",
                               "--debug-console", f"file={dump}", *map(str, words)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120, check=False)
        return done, dump.read_bytes() if dump.exists() else b""

    def dump(self, file, *words):
        """What a guest that ran to its end wrote."""
        done, dump = self.run(file, *words)
        assert done.returncode == 3, done.stderr
        assert len(dump) >= 1024
        return dump

    def refused(self, file, *words):
        done, _ = self.run(file, *words)
        assert done.returncode == 1, done
        return done.stderr


@pytest.fixture
def guest(husk, payloads, tmp_path):
    return Guest(husk, payloads, tmp_path)


def assert_state(dump, state):
    found = igvm_files.saved_registers(dump)
    assert found == {name: state[name] for name in found if name in state} | {
        "cs": 0x10, "ds": 0x18, "es": 0x18, "fs": 0x18, "gs": 0x18, "ss": 0x18}


@pytest.mark.usefixtures("needs_kvm")
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("snp", [False, True])
def test_the_first_processor_has_the_registers_of_its_platform(guest, version, snp):
    file = guest.file(version, (igvm_files.NATIVE, igvm_files.SEV_SNP))
    guest.payload(file, mask=3)
    native = long_mode(rbx=0x1234, gs_base=0x1000)
    isolated = long_mode(rbx=0x5678, fs_base=0x4433221100, pat=0x0606060606060606, dr6=0xffff4ff0, dr7=0x401,
                         mxcsr=0x1fbf, fcw=0x27f)
    file.context(1, native_context(native))
    file.context(2, vmsa(isolated), gpa=VMSA_GPA)
    words = ["--platform", "sev_snp=off"] if snp else []
    assert_state(guest.dump(file, *words), isolated if snp else native)


@pytest.mark.usefixtures("needs_kvm")
def test_without_isolation_a_native_file_is_as_good(guest):
    file = guest.file()
    guest.payload(file)
    file.context(1, native_context(long_mode()))
    assert_state(guest.dump(file, "--platform", "sev_snp=off"), long_mode())


@pytest.mark.usefixtures("needs_kvm")
@pytest.mark.parametrize("version", [1, 2])
def test_pages_are_where_the_file_says(guest, version):
    file = guest.file(version, (igvm_files.NATIVE, igvm_files.SEV_SNP))
    large = bytes(range(256)) * (2 * MIB // 256)
    pages = [(0x400000, b"\x11" * PAGE), (0x401000, b"\x22" * 100), (0x402000, b""), (0x403000, b"\x33" * PAGE)]
    guest.payload(file, *((gpa, PAGE) for gpa, _ in pages), (0x800000 + 2 * MIB - PAGE, PAGE), (0x5000000, PAGE))
    file.page(0x400000, 1, pages[0][1])
    file.page(0x400000, 2, b"\xff")  # the other platform's
    file.page(0x401000, 3, pages[1][1], flags=2)  # unmeasured
    file.page(0x402000, 1)
    file.page(0x403000, 1, pages[3][1], flags=4)  # shared
    file.page(0x800000, 1, large, flags=1)
    file.page(0x5000000, 1, b"\x44" * PAGE)  # behind RAM
    file.context(1, native_context(long_mode()))
    dump = guest.dump(file)[1024:]
    assert [dump[at:at + PAGE] for at in range(0, len(dump), PAGE)] == [
        *(content + bytes(PAGE - len(content)) for _, content in pages), large[-PAGE:], b"\x44" * PAGE]


@pytest.mark.usefixtures("needs_kvm")
def test_pages_that_only_snp_has_are_empty_without_isolation(guest):
    file = guest.file(1, (igvm_files.SEV_SNP,))
    guest.payload(file, (0x400000, PAGE), (0x401000, PAGE))
    file.page(0x400000, 1, b"\xee" * PAGE, kind=1)
    file.page(0x401000, 1, b"\xee" * PAGE, kind=2)
    file.context(1, vmsa(long_mode()), gpa=VMSA_GPA)
    assert guest.dump(file, "--platform", "sev_snp=off")[1024:] == bytes(2 * PAGE)


@pytest.mark.usefixtures("needs_kvm")
def test_memory_that_the_file_requires_is_there_outside_of_ram_too(guest):
    file = guest.file()
    guest.payload(file, (MEMORY - PAGE, PAGE), (0x6000000, PAGE), (0x7000000, PAGE), (0x8000000, 16))
    file.required(MEMORY - PAGE, PAGE, 1)
    file.required(0x6000000, 2 * PAGE, 1)
    file.error_range(0x7000000, PAGE, 1)
    file.context(1, native_context(long_mode()))
    # What is not memory reads as ones.
    assert guest.dump(file)[1024:] == bytes(3 * PAGE) + b"\xff" * 16


def memory_map(data):
    entries = []
    for at in range(0, len(data), 24):
        page, count, kind, flags, reserved = struct.unpack_from("<QQHHI", data, at)
        if count == 0:
            return entries
        assert flags == reserved == 0
        entries.append((page * PAGE, count * PAGE, kind))
    raise AssertionError("the map has no end")


@pytest.mark.usefixtures("needs_kvm")
@pytest.mark.parametrize("version", [1, 2])
def test_parameters_are_filled(guest, version):
    file = guest.file(version)
    areas = 0x600000
    kinds = [igvm_files.MEMORY_MAP, igvm_files.MMIO, igvm_files.MADT, igvm_files.SRAT, igvm_files.SLIT,
             igvm_files.PPTT]
    guest.payload(file, (areas, (len(kinds) + 1) * PAGE))
    file.error_range(0x500000, 2 * PAGE, 1)
    file.required(0x5000000, PAGE, 1)
    for index, kind in enumerate(kinds):
        file.area(index)
        file.parameter(kind, index)
        file.insert(index, areas + index * PAGE, 1)
    last = len(kinds)
    file.area(last, data=b"\x99" * PAGE)
    file.parameter(igvm_files.VP_COUNT, last, 0x10)
    file.parameter(igvm_files.COMMAND_LINE, last, 0x20)
    file.parameter(igvm_files.ENVIRONMENT, last, 0x40)
    file.insert(last, areas + last * PAGE, 1)
    file.context(1, native_context(long_mode()))
    dump = guest.dump(file, "--cpus", "boot=2,max=4,topology=2:1:1:2", "--cmdline", "quiet a=b")[1024:]
    found = {kind: dump[at * PAGE:(at + 1) * PAGE] for at, kind in enumerate(kinds)}

    assert memory_map(found[igvm_files.MEMORY_MAP]) == [
        (0, 0x500000, RAM), (0x500000, 2 * PAGE, RESERVED), (0x502000, MEMORY - 0x502000, RAM),
        (0x5000000, PAGE, RESERVED)]
    low, low_pages, high, high_pages = struct.unpack_from("<4Q", found[igvm_files.MMIO])
    assert 0x5001 <= low and (low + low_pages) * PAGE == 0xfec00000
    assert high * PAGE >= 4 * GIB and high_pages > 0
    for kind, signature in ((igvm_files.MADT, b"APIC"), (igvm_files.SRAT, b"SRAT"), (igvm_files.SLIT, b"SLIT"),
                            (igvm_files.PPTT, b"PPTT")):
        length, = struct.unpack_from("<I", found[kind], 4)
        assert found[kind][:4] == signature and sum(found[kind][:length]) % 256 == 0
        assert found[kind][length:] == bytes(PAGE - length)
    # Two locals that are there and two that are not; the SRAT has a node for each and one for RAM.
    madt = found[igvm_files.MADT]
    assert [madt[44 + 8 * n:52 + 8 * n] for n in range(4)] == [
        struct.pack("<BBBBI", 0, 8, n, n, n < 2) for n in range(4)]
    srat = found[igvm_files.SRAT]
    assert srat[48 + 4 * 16:48 + 4 * 16 + 40] == struct.pack("<BBIHQQIIQ", 1, 40, 0, 0, 0, MEMORY, 0, 1, 0)
    assert found[igvm_files.SLIT][36:45] == struct.pack("<QB", 1, 10)

    rest = dump[last * PAGE:]
    assert rest == (b"\x99" * 0x10 + struct.pack("<I", 2) + b"\x99" * 12 + b"quiet a=b\0" + b"\x99" * 22 +
                    struct.pack("<I", 1) + b"\x99" * (PAGE - 0x44))


@pytest.mark.usefixtures("needs_kvm")
def test_headers_that_may_be_ignored_are(guest):
    file = guest.file()
    guest.payload(file)
    file.add(igvm_files.OPTIONAL | 0x399, b"\xaa" * 24)
    file.context(1, native_context(long_mode()))
    assert_state(guest.dump(file), long_mode())


@pytest.mark.usefixtures("needs_kvm")
def test_headers_that_ask_nothing_of_an_ordinary_guest_are_taken(guest):
    file = guest.file(2, (igvm_files.SEV_SNP,))
    file.add(igvm_files.POLICY, struct.pack("<QII", 0x30000, 1, 0))
    file.add(igvm_files.REGION, struct.pack("<IHBB5Q", 1, 0, 0, 2, PAGE, 0x700000, 0x10000, 0x700000, 0x900000))
    file.add(igvm_files.TABLE_REGION, struct.pack("<IHH3Q", 1, 0, 0, 0x800000, 0x4000, PAGE))
    for kind in igvm_files.CORIM:
        file.add(kind, struct.pack("<IIII", 1, 0, 16, 0), 4, b"\xd9" * 16)
    guest.payload(file, (0x700000, 16))
    file.page(0x700000, 1, b"\x66" * 16)
    file.context(1, vmsa(long_mode()), gpa=VMSA_GPA)
    file.add(igvm_files.ID_BLOCK, struct.pack("<II80s4I", 1, 0, b"\x11" * 80, 1, 7, 1, 0) + b"\x22" * 144 +
             struct.pack("<II144s", 2, 0, b"\x33" * 144) + bytes(144 + 152))
    dump = guest.dump(file, "--platform", "sev_snp=off")
    assert_state(dump[:1024], long_mode())
    assert dump[1024:] == b"\x66" * 16


@pytest.mark.usefixtures("needs_kvm")
def test_processors_without_context_are_told_of_and_wait(guest):
    file = guest.file()
    guest.payload(file)
    file.context(1, native_context(long_mode()))
    done, dump = guest.run(file, "--cpus", "boot=3")
    assert done.returncode == 3
    assert "2 of 3 vCPUs have no context in the file" in done.stderr
    assert_state(dump, long_mode())


@pytest.mark.usefixtures("needs_kvm")
def test_a_reboot_loads_everything_again(guest):
    file = guest.file()
    guest.payload(file, (0x500000, 16))
    file.area(7, data=b"\x55" * PAGE)
    file.parameter(igvm_files.VP_COUNT, 7, 4)
    file.insert(7, 0x500000, 1)
    file.context(1, native_context(long_mode()))
    path = file.write(guest.husk, guest.folder)
    ours = subprocess.Popen([guest.husk, "run", "--igvm", path, "--memory", f"size={MEMORY}", "--debug-console", "tty"],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        lives = [ours.stdout.read(1040) for _ in range(3)]
    finally:
        ours.kill()
        ours.communicate()
    for life in lives:
        assert_state(life, long_mode())
        assert life[1024:] == b"\x55" * 4 + struct.pack("<I", 1) + b"\x55" * 8


def with_parameter(file, kind, offset=0, size=PAGE):
    """An area with one parameter, inserted; the parameter's header."""
    file.area(0, size)
    number = file.parameter(kind, 0, offset)
    file.insert(0, 0x500000, 1)
    return number


UNSUPPORTED = {
    "device tree": (lambda file: with_parameter(file, igvm_files.DEVICE_TREE), "DEVICE_TREE", "no device tree"),
    "secrets": (lambda file: file.page(0x500000, 1, kind=1), "PAGE_DATA", "exists on SEV-SNP only"),
    "cpuid": (lambda file: file.page(0x500000, 1, kind=2), "PAGE_DATA", "exists on SEV-SNP only"),
    "protected": (lambda file: file.required(0x500000, PAGE, 1, flags=1), "REQUIRED_MEMORY", "virtual trust level"),
    "vbs": (lambda file: file.add(igvm_files.VBS, struct.pack("<II", 1, 1) + bytes(856)), "VBS_MEASUREMENT", ""),
    "map that does not fit": (lambda file: with_parameter(file, igvm_files.MEMORY_MAP, PAGE - 40), "MEMORY_MAP",
                              "48 bytes are to be written, but its area has 40 from byte 4056 on"),
    "command line that does not fit": (lambda file: with_parameter(file, igvm_files.COMMAND_LINE, PAGE - 2),
                                       "COMMAND_LINE", "4 bytes are to be written, but its area has 2"),
    "table that does not fit": (lambda file: with_parameter(file, igvm_files.MADT, PAGE - 8), "MADT", "its area has 8"),
    "page on the APIC": (lambda file: file.page(0xfee00000, 1, b"\x01"), "PAGE_DATA",
                         "0xfee00000 cannot be memory: there the local APICs are"),
    "unknown": (lambda file: file.add(0x3ff, bytes(8)), "", ""),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_cannot_be_honoured_is_named(guest, what):
    add, name, reason = UNSUPPORTED[what]
    file = guest.file()
    number = add(file)
    file.context(1, native_context(long_mode()))
    said = guest.refused(file, "--cmdline", "abc")
    assert f"header {number} ({name}" in said
    assert reason in said


def test_virtual_trust_levels_are_refused(guest):
    file = guest.file(1, (igvm_files.SEV_SNP,), vtl=2)
    file.context(1, vmsa(long_mode()), gpa=VMSA_GPA)
    assert "header 1 (SUPPORTED_PLATFORM): it asks for virtual trust level 2" in guest.refused(
        file, "--platform", "sev_snp=off")


@pytest.mark.parametrize("snp", [False, True])
def test_a_context_for_a_processor_that_is_not_there_is_refused(guest, snp):
    file = guest.file(1, (igvm_files.SEV_SNP if snp else igvm_files.NATIVE,))
    context = vmsa(long_mode()) if snp else native_context(long_mode())
    file.context(1, context, gpa=VMSA_GPA if snp else 0)
    number = file.context(1, context, vcpu=2, gpa=VMSA_GPA if snp else 0)
    said = guest.refused(file, "--cpus", "boot=2", *(["--platform", "sev_snp=off"] if snp else []))
    assert f"header {number} (VP_CONTEXT): it is for vCPU 2, but the guest has 2" in said
    assert "--cpus boot=3" in said


def test_a_file_for_snp_starts_as_ordinary_guest_only_if_told_to(guest):
    file = guest.file(1, (igvm_files.SEV_SNP,))
    file.context(1, vmsa(long_mode()), gpa=VMSA_GPA)
    said = guest.refused(file)
    assert "the file is for SEV_SNP, not for NATIVE" in said and "sev_snp=off" in said


@pytest.fixture
def kernel(guest):
    """Options with a kernel, an initramfs and a command line; a small firmware and another file lie beside them."""
    (guest.folder / "firmware").write_bytes(igvm_tools.firmware())
    for name in ("kernel", "initramfs", "other"):
        (guest.folder / name).write_bytes(name.encode() * 100)
    return ["--kernel", guest.folder / "kernel", "--initramfs", guest.folder / "initramfs", "--cmdline", "a=b"]


def build(guest, *words):
    path = guest.folder / f"{len(words)}.igvm"
    igvm_tools.run(guest.husk, "igvm", "build", "--firmware", guest.folder / "firmware", "-o", path, *words)
    return path


def test_a_kernel_that_the_firmware_will_refuse_is_told_of(guest, kernel):
    words = ["run", "--igvm", build(guest, *kernel), "--platform", "sev_snp=off", "--dry-run"]
    same = igvm_tools.run(guest.husk, *words, *kernel)
    assert same.stderr == "" and same.stdout == igvm_tools.run(guest.husk, *words).stdout
    for at, changed in ((1, guest.folder / "other"), (3, guest.folder / "other"), (5, "a=c")):
        other = igvm_tools.run(guest.husk, *words, *kernel[:at], changed, *kernel[at + 1:])
        assert "the kernel hashes at 0x810c00 are not those of" in other.stderr
        assert other.stdout == same.stdout


@pytest.mark.parametrize("layout", ["metadata", "buildigvm"])
def test_kernel_hashes_are_written_into_a_file_that_has_none(guest, kernel, layout):
    # As if the file had been made with them: the page's place in the order, and so the digest.
    with_none = build(guest, "--layout", layout)
    with_hashes = build(guest, "--layout", layout, *kernel)
    digest = igvm_tools.run(guest.husk, "measure", "--igvm", with_hashes).stdout
    assert igvm_tools.run(guest.husk, "measure", "--igvm", with_none).stdout != digest
    assert igvm_tools.run(guest.husk, "measure", "--igvm", with_none, *kernel).stdout == digest
    words = ["run", "--igvm", with_none, *kernel, "--dry-run", "--json", "--platform"]
    assert json.loads(igvm_tools.run(guest.husk, *words, "sev_snp=on").stdout)["launch_digest"] == digest.strip()
    ordinary = json.loads(igvm_tools.run(guest.husk, *words, "sev_snp=off").stdout)
    pages = [run for run in ordinary["runs"] if run["origin"] == "kernel hashes"]
    assert [(run["gpa"], run["bytes"], run["type"]) for run in pages] == [(0x810000, PAGE, "NORMAL")]


def test_other_vmms_measure_a_file_as_it_is(guest, kernel):
    path = build(guest)
    words = ["measure", "--igvm", path, "--vmm", "cloud-hypervisor"]
    said = igvm_tools.run(guest.husk, *words, *kernel)
    assert said.stdout == igvm_tools.run(guest.husk, *words).stdout
    assert "--kernel does not enter the digest: this VMM leaves the file's pages as they are" in said.stderr


def dry_run(guest, path, *words):
    """--dry-run where there is no KVM to be opened."""
    shell = '[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm; exec "$@"'
    done = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", shell, "sh", guest.husk, "run", "--igvm",
                           path, "--dry-run", *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def both(guest):
    """A file of two platforms with a run of pages, an area and required memory."""
    file = guest.file(2, (igvm_files.NATIVE, igvm_files.SEV_SNP))
    for number in range(3):
        file.page(0x400000 + number * PAGE, 3, bytes([number + 1]))
    file.area(0)
    file.parameter(igvm_files.VP_COUNT, 0)
    file.insert(0, 0x500000, 3)
    file.required(0x600000, PAGE, 3)
    file.context(1, native_context(long_mode()))
    file.context(2, vmsa(long_mode(cr4=0x660, rbx=1)), gpa=VMSA_GPA)
    return file.write(guest.husk, guest.folder)


def test_a_dry_run_tells_the_plan_without_kvm(guest, both):
    said = dry_run(guest, both, "--cpus", "boot=2").splitlines()
    assert said[0] == "platform: native"
    run = "  0x000000400000-0x000000402fff  NORMAL      IGVM page data, headers 3-5, from byte 0x"
    assert any(line.startswith(run) and line.endswith(f" of {both}") for line in said)
    assert "  0x000000500000-0x000000500fff  UNMEASURED  IGVM parameter area, header 8" in said
    assert "  0x000000600000-0x000000600fff  memory      header 9 (REQUIRED_MEMORY)" in said
    assert "vCPU 1: waits for a start-up interrupt" in said
    assert any("r15    0x1111111111111110" in line for line in said)
    assert "  cs   selector 0x0010 attributes 0xa9b limit 0xffffffff base 0x0" in said
    assert not any("digest" in line for line in said)


def test_the_dry_run_of_snp_has_the_digest_that_is_measured(guest, both):
    words = ["--platform", "sev_snp=on"]
    digest = subprocess.run([guest.husk, "measure", "--igvm", both], capture_output=True, text=True, check=True,
                            timeout=60).stdout.strip()
    assert dry_run(guest, both, *words).splitlines()[-1] == f"launch digest: {digest}"
    plan = json.loads(dry_run(guest, both, *words, "--json"))
    assert plan["launch_digest"] == digest and plan["platform"] == "sev-snp"
    assert plan["runs"][0] == {"gpa": 0x400000, "bytes": 3 * PAGE, "type": "NORMAL", "shared": False,
                               "origin": "IGVM page data", "headers": [3, 5],
                               "file": {"path": str(both), "offset": plan["runs"][0]["file"]["offset"]}}
    assert plan["vcpus"][0]["rbx"] == "0x1" and plan["vcpus"][0]["cs"]["attributes"] == 0xa9b
    assert plan["ranges"] == [{"gpa": 0x600000, "bytes": PAGE, "type": "REQUIRED_MEMORY", "header": 9}]


def test_json_is_about_a_dry_run(guest, both):
    done = subprocess.run([guest.husk, "run", "--igvm", both, "--json"], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 2 and "--dry-run" in done.stderr
