#!/usr/bin/python3
"""usage: tests/bench/bench_firmware.py [RUNS]

What an initramfs of 64 MiB adds from exec to the moment when firmware has all of it, on this machine's /dev/kvm: the same
firmware (tests/payloads/firmware) fetches it by fw_cfg's DMA, or has none to fetch, and resets. The peers: reading the
file from the page cache into fresh memory of the same kind, which is the least that it can take, and QEMU's q35.
"""

import mmap
import os
import subprocess
import sys
import tempfile
import time

import common
import images

BUILD = common.ROOT / "build"
FIRMWARE = str(BUILD / "tests/payloads/firmware/firmware.bin")
BYTES = 64 << 20
READING = "reading the file"


def programs(folder):
    """Name to (command, exit status that means success)."""
    kernel, initramfs = f"{folder}/kernel", f"{folder}/initramfs"
    head = bytearray(4096)
    head[0x1F1], head[0x1FE:0x200], head[0x202:0x208] = 1, b"\x55\xaa", b"HdrS\x0f\x02"
    head[0x22C:0x230] = b"\xff\xff\xff\x7f"  # an initramfs may be anywhere
    with open(kernel, "wb") as file:
        file.write(head)
    with open(initramfs, "wb") as file:
        file.write(os.urandom(BYTES))
    husk = [str(BUILD / "husk"), "run", "--firmware", FIRMWARE, "--kernel", kernel, "--memory", "size=256M", "--no-reboot",
            "--serial", "off", "--fw-cfg-config", "items=[name=opt/only-fetch,string=y]"]
    qemu = [*images.qemu_command(), "-accel", "kvm", "-M", "q35", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-bios", FIRMWARE, "-kernel", kernel, "-fw_cfg", "name=opt/only-fetch,string=y"]
    return {
        "husk": (husk, 3), "husk with it": ([*husk, "--initramfs", initramfs], 3),
        "QEMU 10 q35": (qemu, 0), "QEMU 10 q35 with it": ([*qemu, "-initrd", initramfs], 0),
        READING: (initramfs, None),
    }


def read_into_fresh_memory(path):
    """As a guest's RAM is: pages of a file in memory that nobody has touched yet."""
    memory_fd = os.memfd_create("ram")
    os.ftruncate(memory_fd, BYTES)
    with mmap.mmap(memory_fd, BYTES) as memory, open(path, "rb", buffering=0) as file:
        began = time.perf_counter()
        assert file.readinto(memory) == BYTES
        elapsed = (time.perf_counter() - began) * 1000
    os.close(memory_fd)
    return elapsed


def milliseconds(program):
    """From exec to exit of one run."""
    command, status = program
    if status is None:
        return read_into_fresh_memory(command)
    began = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          timeout=120, close_fds=False, check=False)
    elapsed = (time.perf_counter() - began) * 1000
    if done.returncode != status:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return elapsed


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        sys.exit("bench_firmware: needs a /dev/kvm that can be opened; nothing was measured")
    with tempfile.TemporaryDirectory() as folder:
        medians = common.interleaved(programs(folder), runs, milliseconds)
    added = {name: medians[f"{name} with it"] - medians[name] for name in ("husk", "QEMU 10 q35")}
    common.table(f"what an initramfs of 64 MiB adds until firmware has it, median of {runs} interleaved runs", "ms",
                 {READING: medians[READING], **added}, READING)


main()
