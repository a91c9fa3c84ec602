#!/usr/bin/env python3
"""Seeds of corpus/table-loader: usual machines, told as fuzz_table_loader.c reads them."""

import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent / "corpus" / "table-loader"
MIB, GIB = 1 << 20, 1 << 30


def machine(q35, boot, most, topology, low, ram, at=0x7FE0_0000, ecam=0xE000_0000, wide=False):
    flags = 3 | q35 << 2 | wide << 7
    numbers = struct.pack("<6I" if wide else "<6H", boot, most, *topology).ljust(24, b"\0")
    high = max(ram - low, 0)
    return struct.pack("<B3xI", flags, at) + numbers + struct.pack("<8Q", 8 * GIB, 1024 * GIB, low, 0, min(ram, low), 4 * GIB, high, ecam)


SEEDS = {
    "direct-1": machine(False, 1, 1, (1, 1, 1, 1), 3 * GIB, 512 * MIB, ecam=0xE800_0000),
    "q35-1": machine(True, 1, 1, (1, 1, 1, 1), 2 * GIB, 512 * MIB),
    "q35-254": machine(True, 254, 254, (2, 127, 1, 1), 2 * GIB, 64 * GIB),
    "q35-topology": machine(True, 3, 16, (2, 2, 2, 2), 2 * GIB, 6 * GIB, ecam=0),
    "too-many": machine(True, 1, 0xFFFFFFFF, (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF), 2 * GIB, GIB, wide=True),
}

if __name__ == "__main__":
    HERE.mkdir(parents=True, exist_ok=True)
    for name, seed in SEEDS.items():
        (HERE / name).write_bytes(seed)
