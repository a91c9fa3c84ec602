#!/usr/bin/python3
"""usage: tests/bench/bench_igvm.py [RUNS]

husk measure and libigvm on one machine, each beside what bounds it or what others took:
- the launch digest of a 256 MiB IGVM file of pages that all differ, with one thread and with one a processor, against
  `openssl speed` hashing as many bytes with SHA-384 in blocks of a page;
- reading and checking a file of 1,000,000 page headers;
- 64 MiB files made to be slow to read (tests/functional/igvm_tools.py, hostile()): 2 s are promised for each;
- the digest of Debian's 4 MiB OVMF.amdsev.fd (fetched once), against the 18 ms that igvmmeasure and the 76 ms that
  sev-snp-measure took on the machine where the bounds were set.
"""

import os
import pathlib
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import common

sys.path.insert(0, str(common.ROOT / "tests" / "functional"))
import igvm_tools  # pylint: disable=wrong-import-position

HUSK = str(common.ROOT / "build" / "husk")
PAGE = 4096
IGVMMEASURE_MS, SEV_SNP_MEASURE_MS = 18.0, 76.0


def write_file(path, pages, with_data):
    """A file of this many pages; each has data of its own, or none."""
    platform = struct.pack("<II", 1, 16) + struct.pack("<IBBHQ", 1, 0, 2, 1, 0)
    start = 24 + len(platform) + 32 * pages
    body = platform + b"".join(
        struct.pack("<IIQIIIHH", 0x302, 24, number * PAGE, 1, start + number * PAGE if with_data else 0, 0, 0, 0)
        for number in range(pages))
    total = start + (pages * PAGE if with_data else 0)
    fixed = struct.pack("<IIIIII", 0x4D564749, 1, 24, len(body), total, 0)
    with open(path, "wb") as out:
        out.write(fixed[:20] + struct.pack("<I", zlib.crc32(body, zlib.crc32(fixed))) + body)
        for _ in range(pages // 256 if with_data else 0):
            out.write(os.urandom(256 * PAGE))


def run(*words):
    """(elapsed ms, processor ms) of one run of husk."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([HUSK, *map(str, words)], check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    elapsed = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed * 1000, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def openssl_ms(size):
    """How long openssl needs for SHA-384 of so many bytes, a page at a time, on one processor."""
    text = subprocess.run(["openssl", "speed", "-evp", "sha384", "-bytes", str(PAGE), "-seconds", "1"], check=True,
                          capture_output=True, text=True).stdout
    rate = float(re.search(r"([0-9.]+)k\s*$", text).group(1)) * 1000
    return size / rate * 1000


def large(folder, runs):
    path, size = folder / "large.igvm", 256 << 20
    write_file(path, size // PAGE, True)

    def measure(threads):
        if threads is None:
            return openssl_ms(size)
        elapsed, processor = run("measure", "--igvm", path, "--vmm", "file", "--threads", threads)
        return processor if threads == 1 else elapsed

    programs = {"openssl speed SHA-384": None, "husk, one thread": 1, "husk, two threads": 2}
    medians = common.interleaved(programs, runs, measure)
    common.table(f"launch digest of a 256 MiB IGVM file ({os.cpu_count()} processors); one thread: processor time, as "
                 "openssl speed; two: elapsed", "ms", medians, "openssl speed SHA-384")
    path.unlink()


def many(folder, runs):
    path = folder / "many.igvm"
    write_file(path, 1_000_000, False)
    medians = common.interleaved({"bound": None, "husk igvm show --verify": 1}, runs, lambda program: 500.0
                                 if program is None else run("igvm", "show", "--verify", path)[0])
    common.table("1,000,000 page headers read and checked, ms", "ms", medians, "bound")
    path.unlink()


def hostile(folder, runs):
    path = folder / "hostile.igvm"

    def measure(words):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([HUSK, *words, path], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000

    medians = {"bound": 2000.0}
    for kind in igvm_tools.HOSTILE:
        path.write_bytes(igvm_tools.hostile(kind))
        programs = {f"{kind}: show --verify": ["igvm", "show", "--verify"], f"{kind}: measure": ["measure", "--igvm"]}
        medians |= common.interleaved(programs, runs, measure)
    common.table("64 MiB made to be slow, refused or read, processor ms", "ms", medians, "bound")
    path.unlink()


def firmware(runs):
    path, reason = igvm_tools.fetch("ovmf-amdsev", "OVMF.amdsev.fd")
    if path is None:
        print(f"\n4 MiB firmware: not measured, Debian's ovmf-amdsev cannot be fetched: {reason}")
        return
    programs = {"igvmmeasure (as it was)": IGVMMEASURE_MS, "sev-snp-measure (as it was)": SEV_SNP_MEASURE_MS,
                "husk": None}
    medians = common.interleaved(programs, runs, lambda known: known or run(
        "measure", "--firmware", path, "--vmm", "qemu", "--cpu-model", "EPYC-v4")[0])
    common.table("launch digest of the 4 MiB OVMF.amdsev.fd, ms", "ms", medians, "igvmmeasure (as it was)")


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as folder:
        large(pathlib.Path(folder), runs)
        many(pathlib.Path(folder), runs)
        hostile(pathlib.Path(folder), min(runs, 3))
    firmware(runs)


main()
