"""Debian's UEFI firmware in the guest, which takes kernel, initramfs, command line and tables from fw_cfg."""

import re
import shlex
import subprocess
import time

import pytest

import images
import peers
import testhost
from test_disk import SHELL, Shell
from conftest import QUIET

# Name to suite, package, file. The last one refuses a kernel whose hashes it does not find in its own memory.
FIRMWARE = {
    "bookworm": ("bookworm", "ovmf", "usr/share/ovmf/OVMF.fd"),
    "secboot": ("bookworm", "ovmf", "usr/share/OVMF/OVMF_CODE_4M.secboot.fd"),
    "sid": ("sid", "ovmf-generic", "usr/share/ovmf/OVMF.fd"),
    "amdsev": ("sid", "ovmf-amdsev", "usr/share/ovmf/OVMF.amdsev.fd"),
}
# Firmware unpacks itself and the kernel: emulated, this takes long.
BOOT = 180


@pytest.fixture
def firmware(host):
    """firmware(name): where the host has it."""

    def bring(name):
        path = f"{host.folder}/{name}.fd"
        host.put(images.firmware(*FIRMWARE[name]), path)
        return path

    return bring


@pytest.mark.parametrize("name, cpus, memory, mib", [("bookworm", 1, "512M", 512), ("sid", 2, "6G", 6144),
                                                     ("amdsev", 1, "3584M", 3584)])
def test_firmware_boots_the_kernel_it_is_handed(firmware, debian, name, cpus, memory, mib):
    machine = debian("husk.poweroff", "--firmware", firmware(name), cpus=cpus, memory=memory)
    machine.expect(r"Linux .*x86_64", BOOT)
    kib = int(machine.expect(r"husk-guest: memory (\d+) kB\r*\n")[1])
    machine.expect(rf"husk-guest: cpus {cpus}\r*\n")
    assert mib * 0.85 - 64 < kib / 1024 <= mib
    machine.expect(r"husk-guest: off")
    machine.ends_with(0)


def test_firmware_that_needs_smm_is_told_of(firmware, debian):
    machine = debian("husk.poweroff", "--firmware", firmware("secboot"))
    machine.expect(r"the firmware needs system management mode, which husk's guests do not have", BOOT)
    machine.ends_with(1)


@pytest.fixture
def efi_disk(host, tmp_path):
    """A disk with a FAT file system that the firmware's shell boots Debian's kernel from, told to do this; its path."""

    def make(words):
        # Lines as that shell takes them; it runs this file by itself.
        script = f"fs0:\r\nvmlinuz.efi initrd=\\initrd console=ttyS0 quiet panic=-1 {words}\r\n"
        (tmp_path / "startup.nsh").write_bytes(script.encode())
        (tmp_path / "initrd").write_bytes(images.guest_initramfs().read_bytes())
        (tmp_path / "vmlinuz.efi").write_bytes(images.guest_kernel().read_bytes())
        image = tmp_path / "efi.raw"
        with open(image, "wb") as file:
            file.truncate(40 << 20)
        for tool in (["mformat", "-i", image, "-T", (40 << 20) // 512, "-h", 64, "-s", 32, "::"],
                     ["mcopy", "-i", image, *(tmp_path / name for name in ("startup.nsh", "initrd", "vmlinuz.efi")), "::"]):
            subprocess.run([*peers.tool("mtools"), "-c", *map(str, tool)], check=True)
        path = f"{host.folder}/efi.raw"
        host.put(image, path)
        return path

    return make


def test_firmware_boots_from_a_disk_that_linux_goes_on_with(firmware, start, efi_disk):
    # The firmware's driver polls, at addresses that the firmware chose; then Linux resets the device and takes it over.
    machine = start("--firmware", firmware("bookworm"), "--memory", "size=512M", "--serial", "tty", "--disk",
                    f"path={efi_disk('husk.poweroff')},serial=from-efi", pty=True)
    machine.expect(r"Linux .*x86_64", BOOT)
    machine.expect(rf"husk-guest: vda {40 << 20} bytes, 1 queues, serial from-efi, ro 0")
    machine.expect(r"husk-guest: off")
    machine.ends_with(0)


def test_firmware_is_told_of_the_disks_by_the_places_where_they_are(host, firmware, debian):
    disks = []
    for n in range(2):
        host.run(f"truncate -s 1M {host.folder}/order{n}")
        disks += ["--disk", f"path={host.folder}/order{n}"]
    shell = Shell(debian(SHELL, "--firmware", firmware("bookworm"), *disks))
    slots = re.findall(r"/pci@i0cf8/scsi@([0-9a-f]+)/disk@0,0", shell.run("cat /sys/firmware/qemu_fw_cfg/by_name/bootorder/raw"))
    places = re.findall(r"0000:00:([0-9a-f]+)\.0/virtio", shell.run("readlink -f /sys/block/vda; readlink -f /sys/block/vdb"))
    assert [int(slot, 16) for slot in slots] == [int(place, 16) for place in places]
    assert len(slots) == 2
    shell.off()


@pytest.mark.parametrize("name", ["bookworm", None])
def test_the_guest_sees_items_and_tables_as_they_were_made(host, firmware, debian, name):
    host.run(f"head -c 5000 /dev/urandom > {host.folder}/item")
    told = f"items=[name=opt/org.husk/text,string=\"a: b, c\":name=opt/org.husk/file,file={host.folder}/item]"
    machine = debian(SHELL, *(["--firmware", firmware(name)] if name else []), "--fw-cfg-config", told)
    shell = Shell(machine)
    items = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.husk"
    assert shell.run(f"cat {items}/text/raw").strip() == "a: b, c"
    assert shell.run(f"md5sum < {items}/file/raw").split()[0] == host.run(f"md5sum < {host.folder}/item")[1].split()[0]
    # Whoever made a table says so in bytes 10 to 15 of it; ACPICA has checked the sums.
    for table in ("APIC", "FACP", "MCFG", "DSDT"):
        assert shell.run(f"head -c 16 /sys/firmware/acpi/tables/{table} | tail -c 6").strip() == "HUSK"
    shell.off()


def test_guest_of_firmware_reboots_into_firmware(firmware, debian):
    machine = debian("husk.reboot", "--firmware", firmware("sid"))
    machine.expect(r"Linux .*x86_64", BOOT)
    machine.event("rebooted", BOOT)
    machine.expect(r"Linux .*x86_64", BOOT)
    machine.event("rebooted", BOOT)


@pytest.fixture
def igvm(host, firmware):
    """igvm(name, platform, words, *options): an IGVM file of that firmware; with words, for a kernel that is told them."""

    def build(name, platform, words, *options):
        path = f"{host.folder}/{name}.igvm"
        kernel = ["--kernel", host.guest_kernel, "--initramfs", host.guest_initramfs, "--cmdline", QUIET + words]
        host.run(shlex.join([host.husk, "igvm", "build", "--firmware", firmware(name), "--platform", platform, "--output",
                             path, *map(str, options), *(kernel if words else [])]))
        return path

    return build


# A file made for this kernel, and one that was made for none: husk writes the hashes.
@pytest.mark.parametrize("made_for, platform, words, cpus, memory, mib", [
    ("husk.poweroff", "sev-snp", ["--platform", "sev_snp=off"], 2, "6G", 6144), ("", "native", [], 1, "512M", 512)])
def test_firmware_from_an_igvm_file_boots_the_kernel_it_is_handed(igvm, debian, made_for, platform, words, cpus, memory,
                                                                  mib):
    path = igvm("amdsev", platform, made_for, "--host-map", "--cpus", cpus)
    machine = debian("husk.poweroff", "--igvm", path, *words, cpus=cpus, memory=memory)
    machine.expect(r"Linux .*x86_64", BOOT)
    kib = int(machine.expect(r"husk-guest: memory (\d+) kB\r*\n")[1])
    machine.expect(rf"husk-guest: cpus {cpus}\r*\n")
    assert mib * 0.85 - 64 < kib / 1024 <= mib
    machine.expect(r"husk-guest: off")
    machine.ends_with(0)


class Kernels:
    """Debian's kernel in a file of the host, and another kernel to take its place: the same with a byte behind it."""

    def __init__(self, host):
        self.host, self.path = host, f"{host.folder}/vmlinuz-now"
        self.bytes = int(host.run(f"cp {host.guest_kernel} {self.path}; wc -c < {self.path}")[1])

    def exchange(self):
        self.host.run(f"cp {self.path} {self.path}.next; echo >> {self.path}.next; mv {self.path}.next {self.path}")

    def alter(self):
        """In place, where husk has it open."""
        self.host.run(f"echo >> {self.path}")

    def bytes_read(self):
        """By husk, of all files, so far."""
        return int(self.host.run(f"for pid in $(pidof husk); do grep -q {self.path} /proc/$pid/cmdline && "
                                 "awk '/rchar/ { print $2 }' /proc/$pid/io; done")[1])


def boot(start, kernels, *options, ending="husk.reboot"):
    return start("--kernel", kernels.path, "--initramfs", kernels.host.guest_initramfs, "--cmdline",
                 QUIET + ending, "--memory", "size=512M", "--serial", "tty", *options, pty=True)


def assert_refused(machine, kernels, read_before, seconds):
    """The firmware reads the kernel, and nothing comes of it in several times as long as it takes from reset to Linux."""
    end = time.monotonic() + BOOT
    while kernels.bytes_read() < read_before + kernels.bytes:
        assert time.monotonic() < end
    with pytest.raises(testhost.HostError, match="not within"):
        machine.expect(r"Linux .*x86_64", 3 * seconds)
    assert machine.process.status is None


def test_firmware_refuses_a_kernel_that_is_not_the_one_hashed(firmware, start, host):
    # The hashes are made when husk starts, from files that stay open; what is in them is read in each of the guest's lives.
    kernels = Kernels(host)
    machine = boot(start, kernels, "--firmware", firmware("amdsev"), ending=SHELL)
    machine.event("booted", BOOT)
    began = time.monotonic()
    machine.expect(r"Linux .*x86_64", BOOT)
    seconds = time.monotonic() - began
    shell = Shell(machine)
    kernels.alter()
    read_before = kernels.bytes_read()
    shell.machine.process.write(b"reboot -f\n")
    machine.event("rebooted", BOOT)
    assert_refused(machine, kernels, read_before, seconds)


def test_firmware_in_an_igvm_file_refuses_another_kernel(igvm, start, host):
    kernels = Kernels(host)
    path = igvm("amdsev", "sev-snp", "husk.reboot")
    words = ["--igvm", path, "--platform", "sev_snp=off"]
    machine = boot(start, kernels, *words, "--no-reboot")
    machine.event("booted", BOOT)
    began = time.monotonic()
    machine.expect(r"Linux .*x86_64", BOOT)
    seconds = time.monotonic() - began
    machine.ends_with(3)
    kernels.exchange()
    machine = boot(start, kernels, *words)
    machine.expect("kernel hashes at 0x810c00 are not those of --kernel", BOOT)
    machine.event("booted", BOOT)
    assert_refused(machine, kernels, 0, seconds)
