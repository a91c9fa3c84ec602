#!/usr/bin/env python3
"""
husk's block back-end against qemu-storage-daemon's vhost-user-blk export, on the same cached raw file, driven by
libblkio (tests/bench/blkio_load.c), whose driver is neither's.

qemu-storage-daemon runs twice, with aio=threads and with aio=io_uring; the better of the two counts. In each round every
program is measured once, so that a noisy minute hits all.

usage: bench_blk.py [--runs N] [--ms MILLISECONDS] [--only WORDS] [-- OPTION...]
Options behind -- are husk-backend's.
"""

import argparse
import os
import pathlib
import socket as socket_module
import statistics
import subprocess
import sys
import tempfile
import time

from common import ROOT

import cache
import debian
import peers

IMAGE_MIB = 256
LOADS = {"4 KiB read, depth 1": ("read", 4096, 1), "4 KiB read, depth 32": ("read", 4096, 32),
         "4 KiB write, depth 1": ("write", 4096, 1), "4 KiB write, depth 32": ("write", 4096, 32),
         "1 MiB read, depth 4": ("read", 1 << 20, 4)}
DAEMONS = {"daemon, threads": "threads", "daemon, io_uring": "io_uring"}
PATIENCE = 30


def load_program(folder):
    """Compile the load against libblkio of Debian trixie, which this machine's libc serves."""
    def make(work):
        cache.say("fetching libblkio of Debian trixie")
        debian.alone("trixie", ["libblkio1", "libblkio-dev"], work / "root")

    root = cache.entry("libblkio-dev", cache.digest("trixie", "libblkio1", "libblkio-dev"), make) / "root/usr"
    libraries = root / "lib/x86_64-linux-gnu"
    program = folder / "blkio-load"
    subprocess.run(["cc", "-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{root / 'include'}",
                    str(ROOT / "tests/bench/blkio_load.c"), "-o", str(program), str(libraries / "libblkio.so.1"),
                    f"-Wl,-rpath,{libraries}"], check=True)
    return program


def start(command, socket, errors):
    """Start a back-end and wait until it listens."""
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket_module.socket(socket_module.AF_UNIX) as probe:
            try:
                probe.connect(str(socket))
                return process
            except OSError:
                pass # not listening yet
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"bench_blk: {command[0]} does not serve {socket}")
        time.sleep(0.01)


def start_all(folder, image, options, errors):
    """Start every back-end; returns their processes and sockets by name."""
    processes, sockets = [], {}
    sockets["husk"] = folder / "husk.sock"
    husk = os.environ.get("HUSK_BACKEND", ROOT / "build/husk-backend")
    processes.append(start([husk, "blk", "--socket", sockets["husk"], "--path", image, "--lock", "off", *options],
                           sockets["husk"], errors))
    for name, aio in DAEMONS.items():
        sockets[name] = folder / f"{aio}.sock"
        processes.append(start([*peers.tool("qemu-storage-daemon"), "--blockdev",
                                f"driver=file,node-name=disk,filename={image},aio={aio},locking=off", "--export",
                                "type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,"
                                f"addr.path={sockets[name]}"], sockets[name], errors))
    return processes, sockets


def measure(program, socket, load, milliseconds):
    """Accesses a second."""
    done = subprocess.run([program, socket, *(str(word) for word in load), str(milliseconds)], check=True,
                          stdout=subprocess.PIPE, timeout=PATIENCE)
    return float(done.stdout)


def compare(program, sockets, arguments):
    """All loads; returns husk's ratio to the best other, by load."""
    ratios = {}
    print(f"{'':24}" + "".join(f"{name:>18}" for name in sockets) + f"{'ratio':>8}")
    for what, load in LOADS.items():
        if arguments.only and arguments.only not in what:
            continue
        values = {name: [] for name in sockets}
        for round_ in range(arguments.runs + 1):
            for name, socket in sockets.items():
                value = measure(program, socket, load, arguments.ms)
                if round_: # the first one only warms up
                    values[name].append(value)
        medians = {name: statistics.median(found) for name, found in values.items()}
        ratios[what] = medians["husk"] / max(medians[name] for name in DAEMONS)
        print(f"{what:24}" + "".join(f"{median:18.0f}" for median in medians.values()) + f"{ratios[what]:8.2f}",
              flush=True)
    return ratios


def main():
    """Print a table of accesses a second; fails if husk is slower than the best of the others anywhere."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--ms", type=int, default=200)
    parser.add_argument("--only", default="")
    parser.add_argument("options", nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="husk-bench-") as name:
        folder = pathlib.Path(name)
        program = load_program(folder)
        image = folder / "disk.raw"
        image.write_bytes(os.urandom(1 << 20) * IMAGE_MIB) # every block written: no holes, all in the page cache
        with open(folder / "errors", "w+", encoding="utf-8") as errors:
            processes = []
            try:
                processes, sockets = start_all(folder, image, arguments.options, errors)
                ratios = compare(program, sockets, arguments)
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
    slower = [what for what, ratio in ratios.items() if ratio < 1.0]
    if slower:
        print(f"slower than qemu-storage-daemon: {'; '.join(slower)}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
