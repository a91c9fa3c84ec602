#!/usr/bin/python3
"""usage: make_sim_corpus.py FOLDER -- writes the seeds of fuzz-sim: launches as the harness reads them."""

import pathlib
import struct
import sys

OPS = ["", "hello", "resolve", "reap", "open", "check-cap", "device-attr", "create-vm", "enable-cap", "create-vcpu",
       "create-memfd", "region", "attributes", "sev-command", "update-begin", "probe", "pages", "update-end", "fetch",
       "vcpu-set", "vcpu-call", "vm-call", "pre-fault", "run", "fallocate", "mmap-memfd", "sev-issue"]
SEV, VM, MEMFD, VCPU = range(4)  # objects, in the order in which they are made


def message(op, target=0, arguments=(), payload=b""):
    """One message: the arguments as 64-bit numbers."""
    arguments = [*arguments, 0, 0, 0, 0][:4]
    packed = b"".join(b"\3" + struct.pack("<Q", argument) for argument in arguments)
    return bytes([OPS.index(op), target]) + packed + struct.pack("<H", len(payload)) + payload


def region(memfd_object):
    """struct sim_region of 1 MiB with guest_memfd."""
    return struct.pack("<IIQQQQQIIII", 0, 4, 0, 0x100000, 0x10000, 0, 0, memfd_object, 1, 2, 0)


def update(gfn, length, kind):
    """kvm_sev_snp_launch_update."""
    return struct.pack("<QQQBBHI32x", gfn, 0x10000, length, kind, 0, 0, 0)


def launch():
    """A launch from start to end, and a first entry."""
    memfd_id = 1 << 16 | 2
    yield message("open", 0, [2])
    yield message("create-vm", 0, [4])
    yield message("enable-cap", VM, [201, 0, 0x1000])
    yield message("sev-command", VM, [22, 0], bytes(48))
    yield message("create-memfd", VM, [0x100000, 0])
    yield message("region", VM, [], region(memfd_id))
    yield message("attributes", VM, [0, 0x100000, 8, 0])
    yield message("create-vcpu", VM, [0])
    yield message("vcpu-set", VCPU, [0x4090ae82], bytes(144))
    yield message("sev-command", VM, [100, SEV], struct.pack("<Q56x", 0x30000))
    for gfn, length, kind in ((0, 0x4000, 1), (4, 0x2000, 3), (6, 0x1000, 5), (7, 0x1000, 6)):
        yield message("update-begin", VM, [101, SEV], update(gfn, length, kind))
        yield message("pages", VM, [0, length // 4096, 0])
        yield message("update-end", VM)
    yield message("sev-command", VM, [102, SEV], bytes(88) + struct.pack("<II", 1 << 16, 0) + bytes(96 + 4096))
    yield message("run", VCPU, [], bytes(264))
    yield message("attributes", VM, [0x4000, 0x1000, 0, 0])
    yield message("fallocate", MEMFD, [3, 0x4000, 0x1000])
    yield message("pre-fault", VCPU, [0, 0x1000, 0])
    yield bytes([0xff, MEMFD])
    yield message("sev-issue", SEV, [9])


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    whole = list(launch())
    for mode in (0, 1, 2, 4, 0xc4):
        (folder / f"launch-{mode:02x}").write_bytes(bytes([mode]) + b"".join(whole))
    for count in (4, 8, 12):
        (folder / f"part-{count}").write_bytes(b"\4" + b"".join(whole[:count]))


main()
