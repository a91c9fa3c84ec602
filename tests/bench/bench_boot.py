#!/usr/bin/python3
"""usage: tests/bench/bench_boot.py [RUNS]

How long Debian's cloud kernel takes to user space and power-off, from exec to exit, 1 vCPU and 512 MiB: husk against
QEMU q35 with the same kernel and initramfs. On this machine's KVM where that runs stock kernels, else in the emulated test
host, with nothing else running there; husk is measured there a second time with transparent huge pages for shared memory,
which Debian's kernels leave off.
"""

import shlex
import sys
import time

import common
import host_qemu
import images
import testhost

HUSK = common.ROOT / "build" / "husk"
CMDLINE = "console=ttyS0 quiet panic=-1 husk.poweroff"
Q35 = "QEMU 10 q35"


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    problem = testhost.local_kvm_problem(HUSK)
    with testhost.choose(problem, HUSK) as host:
        husk = [host.husk, "run", "--kernel", host.guest_kernel, "--initramfs", host.guest_initramfs,
                "--cmdline", CMDLINE, "--cpus", "boot=1", "--memory", "size=512M", "--serial", "tty"]
        # Name to (what shmem_enabled is set to before, command).
        programs = {
            "husk": ("never", husk),
            Q35: ("never", [*host_qemu.words(host), "-M", "q35", "-accel", "kvm", "-cpu", "host", "-m", "512", "-nodefaults",
                            "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel",
                            host.guest_kernel, "-initrd", host.guest_initramfs, "-append", CMDLINE]),
        }
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
        common.table(f"Debian's {images.guest_kernel().name} to user space and power-off, exec to exit, on {host.name}, "
                     f"median of {runs} interleaved runs", "s", medians, Q35)


main()
