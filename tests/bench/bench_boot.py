#!/usr/bin/python3
"""usage: tests/bench/bench_boot.py [RUNS]

How long Debian's cloud kernel takes to user space and power-off, from exec to exit, 1 vCPU and 512 MiB: husk against
QEMU q35 with the same kernel and initramfs. On this machine's KVM where that runs stock kernels, else in the emulated test
host, with nothing else running there; husk is measured there a second time with transparent huge pages for shared memory,
which Debian's kernels leave off.
"""

import io
import pathlib
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time

import common
import images
import testhost

HUSK = common.ROOT / "build" / "husk"
CMDLINE = "console=ttyS0 quiet panic=-1 husk.poweroff"
Q35 = "QEMU 10 q35"
SHMEM_ENABLED = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
FIRMWARE = ["bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin"]


def qemu_archive():
    """A tar of QEMU with its loader, libraries and firmware, all below qemu/."""
    loader, _, libraries, binary, *data = images.qemu_command()
    listed = subprocess.run([loader, "--library-path", libraries, "--list", binary], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    folders = [pathlib.Path(folder) for folder in data if folder != "-L"]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", dereference=True) as tar:
        tar.add(loader, "qemu/ld.so")
        tar.add(binary, "qemu/qemu")
        for library in re.findall(r"=> (\S+)", listed):
            tar.add(library, "qemu/lib/" + pathlib.Path(library).name)
        for name in FIRMWARE:
            found = [folder / name for folder in folders if (folder / name).exists()]
            if found:
                tar.add(str(found[0]), "qemu/share/" + name)
    return packed.getvalue()


def qemu_in(host):
    """The words that start QEMU on the host, brought there first if it is another machine."""
    if not host.emulated:
        return images.qemu_command()
    with tempfile.NamedTemporaryFile() as archive:
        archive.write(qemu_archive())
        archive.flush()
        host.put(archive.name, "/tmp/qemu.tar")
    host.run("cd /tmp && tar xf qemu.tar && rm qemu.tar", timeout=120)
    return ["/tmp/qemu/ld.so", "--library-path", "/tmp/qemu/lib", "/tmp/qemu/qemu", "-L", "/tmp/qemu/share"]


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    problem = testhost.local_kvm_problem(HUSK)
    with testhost.choose(problem, HUSK) as host:
        husk = [host.husk, "run", "--kernel", host.guest_kernel, "--initramfs", host.guest_initramfs,
                "--cmdline", CMDLINE, "--cpus", "boot=1", "--memory", "size=512M", "--serial", "tty"]
        # Name to (what shmem_enabled is set to before, command).
        programs = {
            "husk": ("never", husk),
            Q35: ("never", [*qemu_in(host), "-M", "q35", "-accel", "kvm", "-cpu", "host", "-m", "512", "-nodefaults",
                            "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel",
                            host.guest_kernel, "-initrd", host.guest_initramfs, "-append", CMDLINE]),
        }
        if host.emulated:
            programs["husk, shmem_enabled=advise"] = ("advise", husk)

        def seconds(program):
            shmem, command = program
            if host.emulated:
                host.run(f"echo {shmem} > {SHMEM_ENABLED}")
            began = time.monotonic()
            guest = host.start("exec " + shlex.join(command))
            guest.expect(r"husk-guest: off", timeout=300)
            if guest.wait(timeout=120) != 0:
                sys.exit(f"{shlex.join(command)}: status {guest.status}")
            return time.monotonic() - began

        medians = common.interleaved(programs, runs, seconds)
        common.table(f"Debian's {images.guest_kernel().name} to user space and power-off, exec to exit, on {host.name}, "
                     f"median of {runs} interleaved runs", "s", medians, Q35)


main()
