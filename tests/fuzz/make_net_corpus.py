#!/usr/bin/env python3
"""Writes the seeds in corpus/net: queues of buffers, and frames for those that receive, as fuzz_net.c reads them."""

import pathlib
import struct

FOLDER = pathlib.Path(__file__).resolve().parent / "corpus" / "net"
RECEIVE, MERGE, MODERN, OFFLOADS, MORE_OFFLOADS, LIMIT = 1, 2, 4, 8, 16, 32
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
    """Frames that wait to be received."""
    return bytes([len(values)]) + b"".join(lengths(value) + b"\0" for value in values)


SEEDS = {
    "send": bytes([MODERN]) + send(PLAIN, 12, 60) + send(PLAIN, 72) * 3,
    "send-legacy": bytes([0]) + send(PLAIN, 10, 60) + send(PLAIN, 70),
    "send-scattered": bytes([MODERN | MERGE]) + send(PLAIN, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1400),
    "send-segments": bytes([MODERN | OFFLOADS | MORE_OFFLOADS]) + send(TSO, 12, 54, 65000) + send(TSO, 5, 7, 60),
    "send-none": bytes([MODERN]) + send(TSO, 12, 1000) + send(PLAIN, 12) + send(PLAIN, 3) + room(64) + send(PLAIN, 65535, 65535),
    "send-limited": bytes([MODERN | LIMIT]) + send(PLAIN, 72) * 8,
    "receive": bytes([RECEIVE | MODERN]) + frames(72, 1512) + room(2048) * 4,
    "receive-merged": bytes([RECEIVE | MODERN | MERGE]) + frames(72, 1512, 9012, 65000, 60) + room(1500) * 47,
    "receive-small": bytes([RECEIVE | MODERN | MERGE]) + frames(1512, 1512) + room(12, 1) * 3 + room(5) + room(100, 100, 100) * 20,
    "receive-legacy": bytes([RECEIVE]) + frames(70, 1510, 3000) + room(10, 1500) * 4,
    "receive-none": bytes([RECEIVE | MODERN | MERGE]) + frames(1, 12, 13, 65535) + room(64, 64, readable=1) + room(4000) * 9,
    "receive-limited": bytes([RECEIVE | MODERN | LIMIT]) + frames(*[72] * 8) + room(2048) * 8,
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (FOLDER / name).write_bytes(data)
