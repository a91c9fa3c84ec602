#!/usr/bin/env python3
"""Writes the seeds in corpus/blk: one of each kind of request, whole and in pieces, on each kind of disk."""

import pathlib
import struct

FOLDER = pathlib.Path(__file__).parent / "corpus" / "blk"
KINDS = {"in": 0, "out": 1, "flush": 4, "get-id": 8, "discard": 11, "write-zeroes": 13, "unknown": 99}


def buffer(length, at, data=b""):
    """A buffer as fuzz_blk.c reads it."""
    return struct.pack("<HB", length, at) + data


def request(out, in_):
    """A request: buffers to read, buffers to write."""
    return bytes([len(out) | len(in_) << 4]) + b"".join(out) + b"".join(in_)


def of_kind(name, sector, pieces):
    """One request of a kind, its header whole or in two."""
    head = struct.pack("<IIQ", KINDS[name], 0, sector)
    segment = struct.pack("<QII", sector, 8, 1 if name == "write-zeroes" else 0)
    out = [buffer(16, 0, head)] if pieces == 1 else [buffer(7, 0, head[:7]), buffer(9, 1, head[7:])]
    if name == "out":
        out.append(buffer(4096, 8, b"data" * 12))
    if name in ("discard", "write-zeroes"):
        out.append(buffer(16, 2, segment))
    data = {"in": 4096, "get-id": 20}.get(name)
    in_ = [buffer(data, 100)] if data and pieces == 1 else [buffer(1, 90), buffer(data - 1, 101)] if data else []
    return request(out, in_ + [buffer(1, 80)])


def main():
    """Write all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in KINDS:
        for pieces in (1, 2):
            (FOLDER / f"{name}-{pieces}").write_bytes(bytes([0x80]) + of_kind(name, 8, pieces))
    for how in (0, 0x81, 0x83, 0x84, 0x88, 0xb0, 0xc0, 0xb1):
        row = b"".join(of_kind(name, 3, 1) for name in KINDS)
        (FOLDER / f"all-{how:02x}").write_bytes(bytes([how]) + row)


if __name__ == "__main__":
    main()
