"""fw_cfg as firmware sees it: a small firmware of the tests' own walks all of it, under husk on KVM and under QEMU."""

import os
import random
import re
import struct
import subprocess
import sys
import zlib

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "host"))

import images  # noqa: E402

SETUP_SECTS = 3
CMDLINE = "console=ttyS0 a=b"
MIB, GIB = 1 << 20, 1 << 30


def crc(data):
    """Size and checksum, as the firmware tells them."""
    return f"size={len(data):x} crc={zlib.crc32(data):x}"


class Firmware:
    """Runs the firmware with a kernel, an initramfs and a command line."""

    def __init__(self, husk, payloads, folder):
        self.husk, self.image, self.folder = husk, payloads / "firmware" / "firmware.bin", folder
        noise = random.Random(1)
        kernel = bytearray(noise.randbytes(6001))
        kernel[0x1F1], kernel[0x1FE:0x200], kernel[0x202:0x208] = SETUP_SECTS, b"\x55\xaa", b"HdrS" + struct.pack("<H", 0x20F)
        self.setup, self.kernel = kernel[:(SETUP_SECTS + 1) * 512], kernel[(SETUP_SECTS + 1) * 512:]
        self.initramfs = noise.randbytes(1001)
        (folder / "kernel").write_bytes(kernel)
        (folder / "initramfs").write_bytes(self.initramfs)

    def start(self, *words):
        """husk, with the image in some form; the finished process and what the firmware said."""
        said = self.folder / "said"
        done = subprocess.run([self.husk, "run", "--kernel", self.folder / "kernel", "--initramfs", self.folder / "initramfs",
                               "--cmdline", CMDLINE, "--debug-console", f"file={said}", "--no-reboot", *map(str, words)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False)
        return done, said.read_text().splitlines()

    def passes(self, *words):
        """What it said of a machine in which it found nothing wrong; it has switched that off."""
        done, said = self.start(*words)
        assert not [line for line in said if line.startswith("FAIL")]
        assert said[-1] == "PASS"
        assert done.returncode == 0, done.stderr
        return said

    def payload_lines(self):
        """What it says of a kernel that came as it is."""
        return [f"item setup {crc(self.setup)}", f"item kernel {crc(self.kernel)}", f"item initrd {crc(self.initramfs)}",
                f"item cmdline {crc(CMDLINE.encode() + bytes(1))}"]


@pytest.fixture
def firmware(husk, payloads, tmp_path):
    return Firmware(husk, payloads, tmp_path)


def named(said):
    """The names of the files that were there."""
    return [match[1] for match in (re.match(r"item (\S*/\S*) ", line) for line in said) if match]


def e820(said):
    """Base, length and type of each range."""
    found = [re.match(r"e820 base=(\S+) len=(\S+) type=(\S+)", line) for line in said]
    return [tuple(int(word, 16) for word in match.groups()) for match in found if match]


@pytest.mark.usefixtures("needs_kvm")
@pytest.mark.parametrize(("chipset", "bridge", "ecam", "low"), [
    ("q35", "vendor=8086 device=29c0", 0xE0000000, 2 * GIB),
    ("cloud-hypervisor", "vendor=8086 device=d57", 0xE8000000, 3 * GIB),
])
@pytest.mark.parametrize(("memory", "cpus"), [(128 * MIB, 1), (5 * GIB, 3)])
def test_firmware_finds_everything_as_it_was_given(firmware, tmp_path, chipset, bridge, ecam, low, memory, cpus):
    (tmp_path / "item").write_bytes(random.Random(2).randbytes(777))
    said = firmware.passes("--firmware", firmware.image, "--platform", f"chipset={chipset}", "--memory", f"size={memory}",
                           "--cpus", f"boot={cpus}", "--fw-cfg-config",
                           f"items=[name=opt/z,file={tmp_path}/item:name=opt/a,string=of the user's]")
    assert said[:2] == [f"bridge {bridge}", f"cpus now={cpus} max={cpus}"]
    assert said[2:6] == firmware.payload_lines()
    assert f"item opt/z {crc((tmp_path / 'item').read_bytes())}" in said
    assert f"item opt/a {crc(b'of the user' + bytes([39]) + b's')}" in said
    assert named(said) == ["etc/acpi/rsdp", "etc/acpi/tables", "etc/e820", "etc/smbios/smbios-anchor",
                           "etc/smbios/smbios-tables", "etc/table-loader", "opt/a", "opt/z"]
    assert e820(said) == [(0, min(memory, low), 1), *([(4 * GIB, memory - low, 1)] if memory > low else [])]
    assert f"mcfg base={ecam:x}" in said


@pytest.mark.usefixtures("needs_kvm")
def test_firmware_from_an_igvm_file_finds_the_same(firmware, tmp_path):
    subprocess.run([firmware.husk, "igvm", "build", "--platform", "native", "--firmware", firmware.image, "--cpus", "1", "-o",
                    tmp_path / "igvm"], check=True, timeout=60)
    from_image = firmware.passes("--firmware", firmware.image, "--memory", "size=128M")
    assert firmware.passes("--igvm", tmp_path / "igvm", "--memory", "size=128M") == from_image


@pytest.mark.usefixtures("needs_kvm")
def test_what_is_switched_off_is_not_there(firmware):
    done, said = firmware.start("--firmware", firmware.image, "--fw-cfg-config",
                                "acpi_table=off,kernel=off,initramfs=off,cmdline=off")
    assert said[2:6] == [f"item {name} size=0 crc=0" for name in ("setup", "kernel", "initrd", "cmdline")]
    assert named(said) == ["etc/e820", "etc/smbios/smbios-anchor", "etc/smbios/smbios-tables"]
    assert said[-1] == "PASS, without tables"
    assert done.returncode == 3, done.stderr


@pytest.mark.usefixtures("needs_kvm")
@pytest.mark.parametrize("same", [True, False])
def test_firmware_tells_another_kernel_from_the_expected_one(firmware, same):
    expected = zlib.crc32(firmware.kernel) ^ (not same)
    done, said = firmware.start("--firmware", firmware.image, "--fw-cfg-config",
                                f"items=[name=opt/expected-kernel,string={expected:08x}]")
    failures = [line for line in said if line.startswith("FAIL")]
    assert failures == ([] if same else [f"FAIL the kernel is not the expected one value={expected:x}"])
    assert (said[-1] == "PASS") == same
    assert done.returncode == (0 if same else 3), done.stderr


@pytest.mark.usefixtures("needs_kvm")
def test_qemu_hands_the_same_payload_to_the_same_firmware(firmware, tmp_path):
    said = tmp_path / "of-qemu"
    done = subprocess.run([*images.qemu_command(), "-machine", "q35", "-accel", "tcg", "-smp", "2", "-m", "128M", "-nodefaults",
                           "-no-user-config", "-display", "none", "-no-reboot", "-bios", firmware.image,
                           "-kernel", tmp_path / "kernel", "-initrd", tmp_path / "initramfs", "-append", CMDLINE,
                           "-chardev", f"file,id=said,path={said}", "-device", "isa-debugcon,iobase=0x402,chardev=said"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    ours = firmware.passes("--firmware", firmware.image, "--memory", "size=128M", "--cpus", "boot=2")
    theirs = said.read_text().splitlines()
    # QEMU writes into the setup area; ACPI tables, SMBIOS and what else it has are of a machine of its own.
    first = ("bridge", "cpus", "item kernel", "item initrd", "item cmdline", "ram")
    assert [line for line in theirs if line.startswith(first)] == [line for line in ours if line.startswith(first)]
    assert len([line for line in ours if line.startswith(first)]) == len(first)
    assert e820(ours)[0] in e820(theirs)
    assert not [line for line in theirs if line.startswith("FAIL") and "table" not in line and "FADT" not in line]


@pytest.mark.usefixtures("needs_kvm")
def test_an_elf_file_as_firmware_is_entered_by_its_pvh_note_and_finds_its_tables_in_memory(firmware, payloads, tmp_path):
    serial = tmp_path / "serial"
    done = subprocess.run([firmware.husk, "run", "--firmware", payloads / "serial.elf", "--kernel", tmp_path / "kernel",
                           "--serial", "tty"], input=b"Z", stdout=serial.open("wb"), stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert serial.read_bytes() == b"hello\nnZ"
    plan = subprocess.run([firmware.husk, "run", "--firmware", payloads / "serial.elf", "--kernel", tmp_path / "kernel",
                           "--dry-run"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "ACPI tables" in plan and "serial.elf" in plan and str(tmp_path / "kernel") not in plan


@pytest.mark.parametrize(("platform", "message"), [
    ("chipset=q35", "--platform: chipset=q35 is for images that end at 4 GiB"),
    ("sev_snp=on", "--platform: sev_snp=on needs an image that ends at 4 GiB"),
])
def test_an_elf_file_as_firmware_is_refused_where_only_an_image_will_do(husk, payloads, platform, message):
    done = subprocess.run([husk, "run", "--firmware", payloads / "serial.elf", "--platform", platform, "--dry-run"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert message in done.stderr and "is an ELF file" in done.stderr


def test_firmware_that_cannot_be_entered_is_named(husk, tmp_path):
    (tmp_path / "elf").write_bytes(b"\x7fELF")
    (tmp_path / "short").write_bytes(bytes(100))
    os.mkfifo(tmp_path / "fifo")
    for name, message in (("elf", f"--firmware: kernel '{tmp_path}/elf' is neither a bzImage nor an ELF file"),
                          ("short", f"{tmp_path}/short: a firmware image is 4 KiB to 64 MiB of whole pages, not 100 bytes"),
                          ("fifo", f"'{tmp_path}/fifo' is not a regular file")):
        done = subprocess.run([husk, "run", "--firmware", tmp_path / name], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60, check=False)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
