#!/usr/bin/env python3
"""Writes the seeds in corpus/vsock: what driver, host programs and connector do, step by step, as fuzz_vsock.c reads them."""

import pathlib
import struct

FOLDER = pathlib.Path(__file__).resolve().parent / "corpus" / "vsock"
REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
LEARNT = 64  # the host's port that the device chose last


def packet(op, ports=0, length=0, flags=0, how=0, extra=b"", cut=0):
    """A packet of the driver's."""
    return b"\0" + struct.pack("<HBB", length, how, ports) + bytes([op, flags]) + extra + bytes([cut])


def buffer(first=44, second=4096):
    """Room for a packet."""
    return b"\2" + struct.pack("<BH", first, second)


def connect(program, port):
    """A host program says CONNECT."""
    return bytes([3, program, 1, port - 1])


def send(program, length):
    """A host program sends."""
    return bytes([4, program]) + struct.pack("<H", length)


def read(program, length):
    """A host program reads."""
    return bytes([4, 64 | program]) + struct.pack("<H", length)


SHUT, LEAVE, TURN, EVENT, LOSS, EXPIRE = bytes([4, 128 | 8]), bytes([4, 192]), b"\6", b"\x0f", b"\x4f", b"\x17"
ACCEPT, REFUSE, FULL, ODD, UNASKED = bytes([5, 0]), bytes([5, 1]), bytes([5, 33]), bytes([5, 255]), bytes([5, 252])
ROOM = buffer() * 4

SEEDS = {
    "host-begins": ROOM + connect(0, 1) + TURN + packet(RESPONSE, LEARNT | 1) + TURN + ROOM + send(0, 300) + TURN +
    packet(RW, LEARNT | 1, 100) + TURN + read(0, 200) + LEAVE + ROOM + TURN,
    "guest-begins": ROOM + packet(REQUEST) + TURN + ACCEPT + TURN + packet(RW, 0, 4000) + TURN + read(0, 4000) + ROOM + TURN +
    packet(SHUTDOWN, 0, 0, 3) + ROOM + TURN,
    "refused": ROOM + packet(REQUEST, 5) + TURN + REFUSE + TURN + packet(RW, 9, 10) + ROOM + TURN,
    "several": ROOM * 2 + b"".join(packet(REQUEST, ports) for ports in (0, 5, 10, 15)) + TURN + FULL + ACCEPT + REFUSE + ACCEPT +
    TURN + send(0, 20) + TURN + packet(REQUEST, 1) + packet(REQUEST, 2) + TURN + ACCEPT + UNASKED + TURN,
    "halves": ROOM + packet(REQUEST) + TURN + ACCEPT + TURN + packet(SHUTDOWN, 0, 0, 2) + TURN + send(0, 99) + ROOM + TURN + SHUT +
    ROOM + TURN,
    "full": packet(REQUEST) + TURN + ACCEPT + TURN + (packet(RW, 0, 0x3fff) * 20 + TURN) * 3 + read(0, 65535) + ROOM + TURN,
    "loss": LOSS + TURN + EVENT + TURN + LOSS + EVENT * 2 + packet(REQUEST) + TURN,
    "many": ROOM * 4 + packet(REQUEST) + TURN + ACCEPT + TURN + packet(CREDIT_REQUEST, 1) * 130 + ROOM * 40 + TURN + send(0, 65535) +
    send(0, 65535) + ROOM * 16 + TURN + packet(RW, 0, 9) + ROOM + TURN,
    "words": bytes([3, 0, 4]) + b" connect\t+2 3\r\nbehind it, 40 bytes of it" + TURN + bytes([3, 1, 4]) + b"CONNECT 7",
    "slow-reader": packet(REQUEST) + TURN + ACCEPT + TURN + (packet(RW, 0, 0x3fff) * 20 + TURN) * 2 + packet(SHUTDOWN, 0, 0, 3) +
    packet(RST) + TURN + read(0, 65535) + packet(REQUEST) + TURN + read(0, 65535) * 9 + ROOM + TURN + EXPIRE + TURN,
    "nonsense": ROOM + packet(9) + packet(0, 1) + packet(RW, 2, 10, how=4, extra=b"\xff\xff") +
    packet(REQUEST, how=1, extra=b"\x09") + packet(REQUEST, how=8, extra=b"\x02") + packet(RW, cut=255, extra=b"") + TURN,
    "pieces": buffer(1, 43) + buffer(20, 100) + buffer(10, 20) + packet(REQUEST, cut=21) + TURN + ODD + TURN + EVENT + TURN,
    "late": ROOM + connect(1, 2) + TURN + EXPIRE + ROOM + TURN + connect(2, 3) + packet(CREDIT_REQUEST, LEARNT) + EXPIRE + TURN,
    "no-room": ROOM + connect(0, 1) + TURN + packet(RESPONSE, LEARNT | 1) + TURN + buffer(44, 0) * 3 + send(0, 300) + TURN + ROOM +
    TURN,
    "broken": ROOM + packet(REQUEST) * 3 + bytes([7 | 32 | 64, 1]) + TURN + packet(REQUEST) * 2 + bytes([7 | 32, 0]) + ROOM + TURN +
    ACCEPT + TURN,
    "no-credit": ROOM + packet(REQUEST, how=16, extra=b"\0\0") + TURN + ACCEPT + TURN + send(0, 5000) + ROOM + TURN +
    packet(CREDIT_UPDATE) + ROOM + TURN,
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (FOLDER / name).write_bytes(data)
