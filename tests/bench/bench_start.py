#!/usr/bin/python3
"""usage: tests/bench/bench_start.py [RUNS]

How long a start takes on this machine's /dev/kvm: exec to the guest's first instructions and back out. Every program
starts the same payload (tests/payloads/poweroff.S, 1 vCPU, 256 MiB), which powers the machine off at once. The peer is a
minimal KVM program (tests/bench/minimal_kvm.c), which makes one VM, one slot and one vCPU and serves nothing else.
"""

import os
import subprocess
import sys
import time

import common
import images

BUILD = common.ROOT / "build"
PAYLOAD = str(BUILD / "tests/payloads/poweroff.elf")
MINIMAL = "minimal KVM program"
# QEMU's isa-debug-exit ends it with (value << 1) | 1.
QEMU_STATUS = (0x34 << 1) | 1


def programs():
    """Name to (command, exit status that means success)."""
    qemu = [*images.qemu_command(), "-accel", "kvm", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none",
            "-kernel", PAYLOAD, "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    return {
        MINIMAL: ([str(BUILD / "tests/bench/minimal-kvm")], 0),
        "husk": ([str(BUILD / "husk"), "run", "--kernel", PAYLOAD, "--cpus", "boot=1", "--memory", "size=256M",
                  "--serial", "off"], 0),
        "QEMU 10 microvm": ([*qemu, "-M", "microvm"], QEMU_STATUS),
        "QEMU 10 q35": ([*qemu, "-M", "q35"], QEMU_STATUS),
    }


def milliseconds(program):
    """From exec to exit of one run."""
    command, status = program
    began = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          timeout=60, close_fds=False, check=False)
    elapsed = (time.perf_counter() - began) * 1000
    if done.returncode != status:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return elapsed


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        sys.exit("bench_start: needs a /dev/kvm that can be opened; nothing was measured")
    medians = common.interleaved(programs(), runs, milliseconds)
    common.table(f"exec to first guest instruction and exit, median of {runs} interleaved runs", "ms", medians, MINIMAL)


main()
