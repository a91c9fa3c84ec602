#!/usr/bin/python3
"""usage: tests/bench/bench_boot.py [RUNS]

How long Debian's cloud kernel takes to user space and power-off, from exec to exit, 1 vCPU and 512 MiB: husk against
QEMU q35 with the same kernel and initramfs, started directly and by the same OVMF. On this machine's KVM where that runs
stock kernels, else in the emulated test host, with nothing else running there; husk is measured there a second time with
transparent huge pages for shared memory, which Debian's kernels leave off.
"""

import shlex
import sys
import time

import common
import host_qemu
import images
import testhost

HUSK = common.ROOT / "build" / "husk"
OVMF = ("bookworm", "ovmf", "usr/share/ovmf/OVMF.fd")
CMDLINE = "console=ttyS0 quiet panic=-1 husk.poweroff"
Q35 = "QEMU 10 q35"


def husk_words(host, firmware):
    words = [host.husk, "run", "--kernel", host.guest_kernel, "--initramfs", host.guest_initramfs, "--cmdline", CMDLINE,
             "--cpus", "boot=1", "--memory", "size=512M", "--serial", "tty"]
    return words + (["--firmware", firmware] if firmware else [])


def q35_words(host, firmware):
    words = [*host_qemu.words(host), "-M", "q35", "-accel", "kvm", "-cpu", "host", "-m", "512", "-nodefaults",
             "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", host.guest_kernel, "-initrd",
             host.guest_initramfs, "-append", CMDLINE]
    return words + (["-bios", firmware] if firmware else [])


def measure(host, runs, firmware, title):
    husk = husk_words(host, firmware)
    # Name to (what shmem_enabled is set to before, command).
    programs = {"husk": ("never", husk), Q35: ("never", q35_words(host, firmware))}
    if host.emulated:
        programs["husk, shmem_enabled=advise"] = ("advise", husk)

    def seconds(program):
        shmem, command = program
        if host.emulated:
            host.run(f"echo {shmem} > {testhost.SHMEM_ENABLED}")
        began = time.monotonic()
        guest = host.start("exec " + shlex.join(command))
        guest.expect(r"husk-guest: off", timeout=300)
        if guest.wait(timeout=120) != 0:
            sys.exit(f"{shlex.join(command)}: status {guest.status}")
        return time.monotonic() - began

    medians = common.interleaved(programs, runs, seconds)
    common.table(f"{title} to user space and power-off, exec to exit, on {host.name}, median of {runs} interleaved runs", "s",
                 medians, Q35)


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    problem = testhost.local_kvm_problem(HUSK)
    kernel = f"Debian's {images.guest_kernel().name}"
    with testhost.choose(problem, HUSK) as host:
        measure(host, runs, None, kernel)
        firmware = f"{host.folder}/OVMF.fd"
        host.put(images.firmware(*OVMF), firmware)
        measure(host, runs, firmware, f"{kernel}, started by Debian 12's OVMF,")


main()
