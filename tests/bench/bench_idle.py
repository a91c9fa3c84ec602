#!/usr/bin/python3
"""usage: tests/bench/bench_idle.py [GUESTS] [SECONDS]

Twenty idle guests at once (1 vCPU, 128 MiB, a disk, an entropy device, the machine q35), on this machine's /dev/kvm: for each, what all of its
processes hold of the host's memory beside guest RAM (PSS), and the processor time that they take in ten seconds. The guest is
firmware that halts, the same for husk and for QEMU, so that nothing is measured but the VMM. PSS shares the pages of a program among
all of its processes: twenty guests make it smaller than one does.
"""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import common
import images

BUILD = common.ROOT / "build"
# At the reset vector of firmware of 64 KiB: cli; hlt; jump back to it.
IDLE = bytes(65536 - 16) + bytes.fromhex("fa f4 eb fd").ljust(16, b"\0")
Q35 = "QEMU 10 q35"
GUEST_RAM = re.compile(r"/memfd:(husk-guest-ram|memory-backend-memfd)")
MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)$")
# How long a guest has to come to its rest.
SETTLE = 3


def programs(folder):
    """Name to the words that start a guest; {n} is its number."""
    husk = [str(BUILD / "husk"), "run", "--firmware", f"{folder}/idle", "--cpus", "boot=1", "--memory", "size=128M", "--serial", "null",
            "--disk", f"path={folder}/disk{{n}}", "--rng", "src=/dev/urandom"]
    qemu = [*images.qemu_command(), "-M", "q35,memory-backend=ram", "-accel", "kvm", "-m", "128",
            "-object", "memory-backend-memfd,id=ram,size=128M,share=on", "-nodefaults", "-no-user-config", "-display", "none",
            "-serial", "null", "-bios", f"{folder}/idle", "-drive", f"file={folder}/disk{{n}},format=raw,if=none,id=d",
            "-device", "virtio-blk-pci,drive=d", "-device", "virtio-rng-pci"]
    return {"husk": husk, Q35: qemu}


def family(pid):
    """The process and all below it."""
    below = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        below += [int(child) for child in (task / "children").read_text().split()]
    return [pid] + [one for child in below for one in family(child)]


def kilobytes(pid):
    """PSS of a process without guest RAM."""
    total, counts = 0, True
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        mapping = MAPPING.match(line)
        if mapping:
            counts = not GUEST_RAM.match(mapping[1])
        elif line.startswith("Pss:") and counts:
            total += int(line.split()[1])
    return total


def nanoseconds(pids):
    """Processor time so far of each thread of some processes."""
    return {int(task.name): int((task / "schedstat").read_text().split()[0])
            for pid in pids for task in pathlib.Path(f"/proc/{pid}/task").iterdir()}


def took(before, after):
    """Milliseconds of processor time between two looks; a thread that has ended since, as idle helpers do, is left out."""
    return sum(time_now - before.get(thread, 0) for thread, time_now in after.items()) / 1e6


def measure(words, folder, guests, seconds):
    """(KiB, milliseconds of processor time) of each guest."""
    started = []
    try:
        for n in range(guests):
            with open(f"{folder}/disk{n}", "wb") as disk:
                disk.truncate(16 << 20)
            started.append(subprocess.Popen([word.format(n=n) for word in words], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        time.sleep(SETTLE)
        families = [family(process.pid) for process in started]
        if any(process.poll() is not None for process in started):
            sys.exit(f"{' '.join(words)}: a guest ended")
        before = [nanoseconds(pids) for pids in families]
        time.sleep(seconds)
        times = [took(first, nanoseconds(pids)) for pids, first in zip(families, before)]
        return [(sum(map(kilobytes, pids)), ms) for pids, ms in zip(families, times)]
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def main():
    guests = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        sys.exit("bench_idle: needs a /dev/kvm that can be opened; nothing was measured")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "idle").write_bytes(IDLE)
        for name, words in programs(folder).items():
            found[name] = measure(words, folder, guests, seconds)
    common.table(f"memory beside guest RAM, of each of {guests} idle guests, median", "MiB",
                 {name: statistics.median(kib for kib, _ in values) / 1024 for name, values in found.items()}, Q35)
    print(f"\nprocessor time of each in {seconds:.0f} s, median and most")
    for name, values in found.items():
        times = [ms for _, ms in values]
        print(f"  {name:28} {statistics.median(times):8.1f} ms {max(times):8.1f} ms")


main()
