#!/usr/bin/env python3
"""Writes the seeds in corpus/console: a queue and rows of requests as fuzz_console.c reads them."""

import pathlib
import struct

FOLDER = pathlib.Path(__file__).resolve().parent / "corpus" / "console"


def request(reads, writes):
    """One request with buffers of these (length, place)."""
    buffers = b"".join(struct.pack("<HB", length, place) for length, place in [*reads, *writes])
    return bytes([len(reads) | len(writes) << 4]) + buffers


def receive(typed, *requests):
    """The receiving queue, with so many steps of 512 bytes typed."""
    return bytes([typed << 1]) + b"".join(requests)


def transmit(*requests):
    """The transmitting queue."""
    return bytes([1]) + b"".join(requests)


SEEDS = {
    "typed": receive(1, request([], [(64, 1)]), request([], [(4096, 2)])),
    "typed-much": receive(127, *[request([], [(4096, n)]) for n in range(32)]),
    "typed-nothing": receive(0, request([], [(64, 1)])),
    "typed-scattered": receive(3, request([], [(1, n) for n in range(12)]), request([(5, 5)], [(65535, 200)])),
    "typed-no-room": receive(1, request([], []), request([(16, 1)], []), request([], [(16, 1)])),
    "shown": transmit(request([(80, 1)], []), request([(1, 9)] * 12, [])),
    "shown-much": transmit(*[request([(65535, 0)] * 4, []) for _ in range(8)]),
    "shown-nothing": transmit(request([], []), request([], [(16, 2)]), request([(1, 0)], [(65535, 0)])),
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (FOLDER / name).write_bytes(data)
