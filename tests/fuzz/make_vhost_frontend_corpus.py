#!/usr/bin/env python3
"""Writes the seeds in corpus/vhost-user-frontend: what back-ends of several feature sets answer."""
import pathlib
import struct

OUT = pathlib.Path(__file__).parent / "corpus" / "vhost-user-frontend"
REPLY = 1 | 4
QUEUES = 2
CONFIG_CHANGE = 2


def message(request, payload=b"", flags=REPLY):
    return struct.pack("<III", request, flags, len(payload)) + payload


def number(request, value=0):
    return message(request, struct.pack("<Q", value))


def config(request=24):
    return message(request, struct.pack("<III", 0, 60, 0) + struct.pack("<Q", 2048) + bytes(52))


def life(ack, multi_queue, channel, inflight, reset):
    """The answers, and where descriptors come along."""
    protocol = 1 << 9 | multi_queue | ack << 3 | channel << 5 | inflight << 12 | reset << 13
    out = number(1, 1 << 30 | 1 << 32) + number(15, protocol)

    def told(request):
        return number(request) if ack else b""

    if multi_queue:
        out += number(17, QUEUES)
    out += told(3)
    if channel:
        out += told(21)
    out += config() + told(25) + told(2) + told(5)
    at = len(out)
    if inflight:
        out += message(31, struct.pack("<QQHHI", 4096, 0, QUEUES, 16, 0)) + told(32)
    for _ in range(QUEUES):
        for request in (8, 10, 9, 13, 14, 12, 18):
            out += told(request)
    for queue in range(QUEUES):
        out += message(11, struct.pack("<II", queue, 5))
    if reset:
        out += told(34)
    return out, at


def seed(name, main, at=0, n_fds=0, channel=b""):
    (OUT / name).write_bytes(struct.pack("<HHH", len(main), at, n_fds) + main + channel)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for bits in range(32):
        answers, at = life(*(bits >> i & 1 for i in range(5)))
        seed(f"life-{bits:02}", answers, at, bits >> 3 & 1,
             message(CONFIG_CHANGE, flags=1) + message(CONFIG_CHANGE, flags=1 | 8) + message(77, b"12345678", flags=9))
    answers, at = life(1, 1, 1, 1, 1)
    seed("half", answers[:-7], at, 1)
    seed("descriptors", answers, 0, 11)
    seed("huge", struct.pack("<III", 1, REPLY, 0xFFFFFFFF))
    seed("old", number(1, 0))


if __name__ == "__main__":
    main()
