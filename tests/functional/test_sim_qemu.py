"""Debian's QEMU 11 launches the SNP firmware under the simulator, and measures what it should."""

import hashlib
import json
import pathlib
import struct
import subprocess

import pytest
import sim_qemu

# Published measuring tools and QEMU's own ioctls agree on this one: OVMF.amdsev.fd 2026.08+ds-2, one vCPU, EPYC-v4.
KNOWN_FIRMWARE = "3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f"
KNOWN_DIGEST = ("d74bd3ea40b240c3228edc5177ce6193561ebff633dbd0be76d6c143b876d65102425c0e2e8a930857c48daa5eacda58")


def launch(husk, folder, vcpus, *more, options=(), sev=""):
    """Run QEMU until its guest's first entry, which ends as a triple fault: the launch is done then."""
    guest = f"sev-snp-guest,id=sev0,cbitpos={sim_qemu.c_bit(husk)},reduced-phys-bits=1,policy=0x30000{sev}"
    command = [husk, "sim", "--json", str(folder / "report.json"), "--exit", "shutdown", *options, "--",
               *sim_qemu.command("-object", guest, "-smp", str(vcpus), *more)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "report.json").read_text())


def checked_digest(report, vcpus):
    """The digest of the one launch in a report that broke no rule."""
    assert report["violations"] == []
    one, = report["launches"]
    assert one["finished"] and one["vcpus"] == vcpus and one["policy"] == "0x30000"
    assert one["pages"]["cpuid"] == one["pages"]["secrets"] == 1
    return one["digest"]


def measured(husk, *options):
    """What husk measure says of the same launch."""
    done = subprocess.run([husk, "measure", "--firmware", str(sim_qemu.firmware()), "--vmm", "qemu", "--cpu-model", "EPYC-v4",
                           *options], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(name="image", scope="module")
def image_fixture():
    """The firmware's bytes."""
    return sim_qemu.firmware().read_bytes()


@pytest.mark.parametrize("kernel", ["6.11", "6.18", "7.0"])
def test_qemu_launches_one_vcpu_without_breaking_a_rule(husk, tmp_path, image, kernel):
    digest = checked_digest(launch(husk, tmp_path, 1, options=("--kernel", kernel)), 1)
    assert digest == sim_qemu.expected_digest(image, 1) == measured(husk)
    if hashlib.sha256(image).hexdigest() == KNOWN_FIRMWARE:
        assert digest == KNOWN_DIGEST


@pytest.mark.parametrize("vcpus", [2, 4])
@pytest.mark.parametrize("mode", [(), ("--no-kvm",)], ids=["kvm", "launch-only"])
def test_qemu_launches_several_vcpus(husk, tmp_path, image, vcpus, mode):
    digest = checked_digest(launch(husk, tmp_path, vcpus, options=mode), vcpus)
    assert digest == sim_qemu.expected_digest(image, vcpus) == measured(husk, "--cpus", f"boot={vcpus}")


def test_qemu_launches_in_parts(husk, tmp_path, image):
    digest = checked_digest(launch(husk, tmp_path, 1, options=("--parts", "7")), 1)
    assert digest == sim_qemu.expected_digest(image, 1)


def small_bzimage():
    """The least that QEMU loads as a kernel: a setup sector with the boot protocol's header, and one more."""
    setup = bytearray(1024)
    setup[0x1f1] = 1
    struct.pack_into("<H4sH", setup, 0x1fe, 0xaa55, b"\xeb\x66Hd", 0)
    struct.pack_into("<4sH", setup, 0x202, b"HdrS", 0x20c)
    setup[0x211] = 1
    struct.pack_into("<I", setup, 0x22c, 0x7fffffff)
    struct.pack_into("<I", setup, 0x238, 2047)
    return bytes(setup) + bytes(range(256)) * 64


def test_qemu_launches_with_kernel_hashes(husk, tmp_path, image):
    kernel, initrd, cmdline = small_bzimage(), b"initial ramdisk" * 100, b"console=ttyS0 quiet"
    pathlib.Path(tmp_path / "kernel").write_bytes(kernel)
    pathlib.Path(tmp_path / "initrd").write_bytes(initrd)
    report = launch(husk, tmp_path, 1, "-kernel", str(tmp_path / "kernel"), "-initrd", str(tmp_path / "initrd"), "-append",
                    cmdline.decode(), sev=",kernel-hashes=on")
    digest = checked_digest(report, 1)
    assert digest == sim_qemu.expected_digest(image, 1, (kernel, initrd, cmdline))
    assert digest == measured(husk, "--kernel", str(tmp_path / "kernel"), "--initramfs", str(tmp_path / "initrd"),
                              "--cmdline", cmdline.decode())


def test_qemu_reports_what_the_firmware_says(husk, tmp_path):
    guest = f"sev-snp-guest,id=sev0,cbitpos={sim_qemu.c_bit(husk)},reduced-phys-bits=1,policy=0x30000"
    command = [husk, "sim", "--json", str(tmp_path / "report.json"), "--fault", "launch-finish,fw=11", "--",
               *sim_qemu.command("-object", guest)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "fw_error=11" in done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert not report["launches"][0]["finished"]
