#!/usr/bin/env python3
"""Writes the seeds in corpus/net: queues of buffers, and frames for those that receive, as fuzz_net.c reads them."""

import pathlib
import struct

FOLDER = pathlib.Path(__file__).resolve().parent / "corpus" / "net"
RECEIVE, MERGE, MODERN, OFFLOADS, MORE_OFFLOADS, LIMIT = 1, 2, 4, 8, 16, 32
# What a driver takes, as the second byte says it.
CSUM, TSO4, TSO6, ECN, UFO, USO4, USO6 = (1 << bit for bit in range(7))
PLAIN = bytes(12)
TSO = struct.pack("<BBHHHHH", 1, 1, 54, 1448, 34, 16, 0)


def lengths(*values):
    """Two bytes each."""
    return b"".join(struct.pack("<H", value) for value in values)


def send(data, *parts):
    """A frame to be sent in buffers of these lengths, of which the first 64 bytes each are told."""
    text, at = bytes([len(parts)]), 0
    for part in parts:
        text += lengths(part) + data[at:at + min(part, 64)].ljust(min(part, 64), b"\0")
        at += part
    return text


def room(*parts, readable=0):
    """Buffers to receive into, of which the first are not to be written."""
    text = bytes([readable | (len(parts) - readable) << 4])
    for number, part in enumerate(parts):
        text += lengths(part) + (bytes(min(part, 64)) if number < readable else b"")
    return text


def frames(*values):
    """Frames that wait to be received: a length each, or a length, flags and the kind of segments."""
    wide = [value if isinstance(value, tuple) else (value, 0, 0) for value in values]
    return bytes([len(wide)]) + b"".join(lengths(length) + bytes([0, flags, gso]) for length, flags, gso in wide)


def begin(how, takes=0):
    """What every input begins with."""
    return bytes([how, takes])


SEEDS = {
    "send": begin(MODERN) + send(PLAIN, 12, 60) + send(PLAIN, 72) * 3,
    "send-legacy": begin(0) + send(PLAIN, 10, 60) + send(PLAIN, 70),
    "send-scattered": begin(MODERN | MERGE) + send(PLAIN, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1400),
    "send-segments": begin(MODERN | OFFLOADS | MORE_OFFLOADS) + send(TSO, 12, 54, 65000) + send(TSO, 5, 7, 60),
    "send-none": begin(MODERN) + send(TSO, 12, 1000) + send(PLAIN, 12) + send(PLAIN, 3) + room(64) + send(PLAIN, 65535, 65535),
    "send-limited": begin(MODERN | LIMIT) + send(PLAIN, 72) * 8,
    "receive": begin(RECEIVE | MODERN) + frames(72, 1512) + room(2048) * 4,
    "receive-merged": begin(RECEIVE | MODERN | MERGE) + frames(72, 1512, 9012, 65000, 60) + room(1500) * 47,
    "receive-small": begin(RECEIVE | MODERN | MERGE) + frames(1512, 1512) + room(12, 1) * 3 + room(5) + room(100, 100, 100) * 20,
    "receive-legacy": begin(RECEIVE) + frames(70, 1510, 3000) + room(10, 1500) * 4,
    "receive-none": begin(RECEIVE | MODERN | MERGE) + frames(1, 12, 13, 65535) + room(64, 64, readable=1) + room(4000) * 9,
    "receive-offloads": begin(RECEIVE | MODERN | MERGE, CSUM | TSO4 | TSO6 | ECN | UFO | USO4 | USO6) +
                        frames((9012, 1, 1), (9012, 1, 0x84), (9012, 1, 5), (9012, 1, 3), (72, 2, 0), (72, 1, 0)) + room(1500) * 47,
    "receive-not-agreed": begin(RECEIVE | MODERN | MERGE, CSUM | USO4) +
                          frames((9012, 1, 1), (9012, 1, 5), (72, 1, 0), (72, 9, 0x21), (72, 4, 0), 72) + room(1500) * 47,
    "receive-no-offloads": begin(RECEIVE) + frames((70, 1, 0), (70, 2, 0), (70, 1, 1), 70) + room(1500) * 4,
    "receive-half-offloads": begin(RECEIVE | MODERN, ECN | USO6 | CSUM) + frames((72, 1, 0x80), (72, 1, 5), 72) + room(65535) * 4,
    "receive-limited": begin(RECEIVE | MODERN | LIMIT) + frames(*[72] * 8) + room(2048) * 8,
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (FOLDER / name).write_bytes(data)
