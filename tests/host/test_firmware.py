"""Debian's UEFI firmware in the guest, which takes kernel, initramfs, command line and tables from fw_cfg."""

import os
import pathlib

import pytest

import images
import testhost

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Name to suite, package, file. The last one refuses a kernel whose hashes it does not find in its own memory.
FIRMWARE = {
    "bookworm": ("bookworm", "ovmf", "usr/share/ovmf/OVMF.fd"),
    "sid": ("sid", "ovmf-generic", "usr/share/ovmf/OVMF.fd"),
    "amdsev": ("sid", "ovmf-amdsev", "usr/share/ovmf/OVMF.amdsev.fd"),
}
# Firmware unpacks itself and the kernel: emulated, this takes long.
BOOT = 180


@pytest.fixture(scope="module")
def host():
    """A host of these tests' own: where it is emulated, QEMU runs with a library that keeps it alive (qemu_cr8.c)."""
    husk = pathlib.Path(os.environ.get("HUSK", ROOT / "build" / "husk"))
    log = ROOT / "build" / "testhost-firmware-console.log"
    with testhost.choose(testhost.local_kvm_problem(husk), husk, log, firmware=True) as chosen:
        yield chosen


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


def test_guest_of_firmware_reboots_into_firmware(firmware, debian):
    machine = debian("husk.reboot", "--firmware", firmware("sid"))
    machine.expect(r"Linux .*x86_64", BOOT)
    machine.event("rebooted", BOOT)
    machine.expect(r"Linux .*x86_64", BOOT)
    machine.event("rebooted", BOOT)
