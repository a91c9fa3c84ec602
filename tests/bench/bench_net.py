#!/usr/bin/env python3
"""
husk's network back-end against testpmd's own (DPDK's vhost PMD, and its tap PMD behind that), each between a tap interface and
DPDK's virtio-user, which sends frames of one length as fast as they are taken. What counts is the frames a second that the
kernel got from the tap. Each program's back-end has one processor to itself, the driver another.

Driver and back-end are started anew for each measurement, in a network namespace of its own, and the programs take turns, so
that a noisy minute hits all. Needs root.

usage: bench_net.py [--runs N] [--ms MILLISECONDS]
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile
import time

import common

sys.path.insert(0, str(common.ROOT / "tests" / "functional"))

import backends  # noqa: E402
import network  # noqa: E402
import testpmd  # noqa: E402

SIZES = (64, 1500)
# Medians of seven runs differ by a quarter from one minute to the next on a machine that others share.
LEAST = 0.5
WARM_UP = 0.2
TAP = "tap0"


def frames(namespace):
    """(frames that the kernel has had from the tap, when)"""
    link = json.loads(namespace.ip("-s", "-j", "link", "show", "dev", TAP))[0]
    return link["stats64"]["rx"]["packets"], time.monotonic()


def husk(bench, namespace, path, cpu):
    """husk's back-end."""
    process = testpmd.husk_on_tap(bench, namespace, path)
    for thread in os.listdir(f"/proc/{process.pid}/task"):
        os.sched_setaffinity(int(thread), {cpu})


def vhost(bench, namespace, path, cpu):
    """testpmd, from its end of vhost-user to a tap that it makes."""
    words = [f"net_vhost0,iface={path},queues=1", f"net_tap0,iface={TAP}"], "--auto-start", "--forward-mode=io"
    bench.keep(namespace.run(lambda: testpmd.Dpdk(*words, cpus=(cpu, cpu))))


def measure(start, size, arguments):
    """Thousands of frames a second."""
    cpus = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="husk-bench-") as folder:
        bench = backends.Bench(pathlib.Path(folder))
        try:
            namespace, path = bench.keep(network.Namespace()), bench.folder / "net.sock"
            start(bench, namespace, path, cpus[0])
            bench.keep(testpmd.Dpdk([testpmd.virtio_user(path)], "--auto-start", "--forward-mode=txonly",
                                    f"--txpkts={size}", cpus=(cpus[0], cpus[-1])))
            time.sleep(WARM_UP)
            before, began = frames(namespace)
            time.sleep(arguments.ms / 1000)
            after, ended = frames(namespace)
            return (after - before) / (ended - began) / 1000
        finally:
            # What the programs said is for who looks into a failure.
            with contextlib.redirect_stdout(sys.stderr if sys.exc_info()[0] else io.StringIO()):
                bench.close()


def main():
    """Print a table for each length of frames; fails if husk does less than LEAST of what testpmd does."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--ms", type=int, default=1000)
    arguments = parser.parse_args()
    slower = []
    peer = "testpmd, vhost and tap"
    for size in SIZES:
        medians = common.interleaved({"husk": husk, peer: vhost}, arguments.runs,
                                     lambda start, size=size: measure(start, size, arguments))
        common.table(f"frames of {size} bytes from the guest to a tap, thousands a second", "k/s", medians, peer)
        if medians["husk"] < LEAST * medians[peer]:
            slower.append(f"{size} bytes")
    if slower:
        print(f"below {LEAST} of testpmd's: {', '.join(slower)}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
