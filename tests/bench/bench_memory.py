#!/usr/bin/python3
"""usage: tests/bench/bench_memory.py [RUNS]

Host memory beside the guest's: the PSS of every process of one VM, less what of it is guest RAM, once Debian's guest with
1 vCPU, 128 MiB and one raw disk has read 8 MiB of that disk. husk (the VMM, the broker, the block back-end) against QEMU q35
with virtio-blk-pci. On this machine's KVM where that runs stock kernels, else in the emulated test host. husk's libraries are
shared with nobody else there, so that PSS is its upper bound.
"""

import re
import shlex
import statistics
import sys

import common
import host_qemu
import testhost

HUSK = common.ROOT / "build" / "husk"
CMDLINE = "console=ttyS0 quiet panic=-1 husk.shell"
DISK = "/tmp/bench-memory.raw"
Q35 = "QEMU 10 q35"
# What the mapping of guest RAM is called.
GUEST_RAM = re.compile(r"/memfd:(husk-guest-ram|memory-backend-memfd)")
MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)$")


def family(host, name):
    """(pid, name, parent) of the processes called so by /proc, and of all below them."""
    listed = host.run("for s in /proc/[0-9]*/stat; do cat $s 2>/dev/null; done; true")[1]
    found = {}
    for pid, comm, parent in re.findall(r"^(\d+) \((.*)\) \S (\d+) ", listed, re.MULTILINE):
        found[int(pid)] = (comm, int(parent))
    chosen = {pid for pid, (comm, _) in found.items() if comm == name}
    while True:
        below = {pid for pid, (_, parent) in found.items() if parent in chosen} - chosen
        if not below:
            return {pid: found[pid][0] for pid in chosen}
        chosen |= below


def kilobytes(host, pid):
    """PSS of a process without guest RAM."""
    total, counts = 0, True
    for line in host.run(f"cat /proc/{pid}/smaps")[1].splitlines():
        mapping = MAPPING.match(line)
        if mapping:
            counts = not GUEST_RAM.match(mapping[1])
        elif line.startswith("Pss:") and counts:
            total += int(line.split()[1])
    return total


def measure(host, command, name):
    """PSS by process of one VM, its guest running."""
    guest = host.start("exec " + shlex.join(command), pty=True)
    guest.expect(r"/ # ", timeout=300)
    guest.write(b"dd if=/dev/vda of=/dev/null bs=64k count=128; echo husk-bench: re''ad\n")
    guest.expect(r"husk-bench: read", timeout=120)
    found = {}
    for pid, comm in family(host, name).items():
        found[comm] = found.get(comm, 0) + kilobytes(host, pid)
    guest.write(b"exit\n")
    guest.wait(timeout=120)
    return found


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    problem = testhost.local_kvm_problem(HUSK)
    with testhost.choose(problem, HUSK) as host:
        host.run(f"rm -f {DISK} && truncate -s 64M {DISK}")
        programs = {
            "husk": ("husk", [host.husk, "run", "--kernel", host.guest_kernel, "--initramfs", host.guest_initramfs,
                              "--cmdline", CMDLINE, "--cpus", "boot=1", "--memory", "size=128M", "--serial", "tty",
                              "--disk", f"path={DISK}"]),
            Q35: ("qemu" if host.emulated else "qemu-system-x86",
                  [*host_qemu.words(host), "-M", "q35,memory-backend=ram", "-accel", "kvm", "-cpu", "host", "-m", "128",
                   "-object", "memory-backend-memfd,id=ram,size=128M,share=on", "-nodefaults", "-no-user-config",
                   "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", host.guest_kernel,
                   "-initrd", host.guest_initramfs, "-append", CMDLINE,
                   "-drive", f"file={DISK},format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d,disable-legacy=on"]),
        }
        if host.emulated:
            programs[Q35] = ("ld.so", programs[Q35][1])
        values = {name: [] for name in programs}
        parts = {}
        for _ in range(runs):
            for name, (comm, command) in programs.items():
                found = measure(host, command, comm)
                if not found:
                    sys.exit(f"{name}: no process is called {comm}")
                values[name].append(sum(found.values()) / 1024)
                parts[name] = found
        common.table(f"PSS less guest RAM, 1 vCPU, 128 MiB, one disk, on {host.name}, median of {runs} runs", "MiB",
                     {name: statistics.median(found) for name, found in values.items()}, Q35)
        for name, found in parts.items():
            print(f"  {name}: " + ", ".join(f"{comm} {size} KiB" for comm, size in sorted(found.items())))


main()
