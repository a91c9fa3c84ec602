#!/usr/bin/env python3
"""Writes the seeds in corpus/rng: rows of requests as fuzz_rng.c reads them."""

import pathlib
import struct

FOLDER = pathlib.Path(__file__).resolve().parent / "corpus" / "rng"


def request(reads, writes, gives):
    """One request with buffers of these (length, place), and how much the source gives behind it."""
    buffers = b"".join(struct.pack("<HB", length, place) for length, place in [*reads, *writes])
    return bytes([len(reads) | len(writes) << 4]) + buffers + bytes([gives])


SEEDS = {
    "one": request([], [(64, 1)], 4),
    "many": b"".join(request([], [(64, n)], n * 7) for n in range(32)),
    "scattered": request([], [(1, n) for n in range(12)], 0) + request([], [(1000, 3), (3000, 250), (65535, 255)], 255),
    "nothing": request([], [], 0) * 3 + request([(16, 2)], [], 1),
    "dry": b"".join(request([(16, 2)], [(65535, 0)], 0) for _ in range(8)),
    "overlapping": request([(512, 4), (512, 4)], [(512, 4), (4096, 0), (1, 255)], 200),
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (FOLDER / name).write_bytes(data)
