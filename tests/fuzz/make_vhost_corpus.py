#!/usr/bin/env python3
"""Writes the seeds of fuzz_vring and fuzz_vhost_user_server: make_vhost_corpus.py CORPUS_FOLDER."""

import pathlib
import struct
import sys

NEXT, WRITE, INDIRECT = 1, 2, 4
FAR = 0x10000
MEMORY, EVENT, LOG, INFLIGHT, SOCKET = 0, 1, 2, 3, 6
NEED_REPLY = 8
USER = 0x7f0000000000


def desc(addr, length, flags=0, following=0):
    """One descriptor."""
    return struct.pack("<QIHH", addr, length, flags, following)


def ring(settings, descriptors, heads, steps, extra=()):
    """An input of fuzz_vring: settings, first page of memory, steps."""
    image = bytearray(4096)
    for i, one in enumerate(descriptors):
        image[i * 16:i * 16 + 16] = one
    struct.pack_into(f"<HH{len(heads)}H", image, 0x400, 0, len(heads), *heads)
    for at, data in extra:
        image[at:at + len(data)] = data
    return bytes(settings) + bytes(image) + b"".join(bytes(step) for step in steps)


def rings():
    """Seeds of fuzz_vring."""
    pop, push, notify, kicks, die = (1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 0, 0), (4, 1, 0, 0), (7, 0, 0, 0)
    chain = [desc(0x800, 16, NEXT, 1), desc(0xff0, 64, NEXT | WRITE, 2), desc(FAR, 16, WRITE)]
    table = (0xc00, desc(0x800, 8, NEXT, 1) + desc(FAR, 8, WRITE))
    yield "chain", ring((3, 4, 0, 0), chain, [0], [pop, notify, push, notify, kicks])
    yield "chain-event-idx", ring((11, 4, 0, 0), chain, [0], [kicks, pop, push, notify, kicks])
    yield "indirect", ring((1, 4, 0, 0), [desc(0xc00, 32, INDIRECT)], [0], [pop, push], [table])
    yield "indirect-refused", ring((5, 4, 0, 0), [desc(0xc00, 32, INDIRECT)], [0], [pop, push], [table])
    yield "across-regions", ring((0, 4, 0, 0), [desc(0x1ff0 - 0x1000, 32)], [0], [pop, push])
    yield "loop", ring((0, 4, 0, 0), [desc(0x800, 8, NEXT, 0)], [0], [pop])
    yield "outside", ring((0, 4, 0, 0), [desc(0x3000, 8)], [0], [pop])
    yield "wraps", ring((0, 4, 0, 0), [desc(2 ** 64 - 8, 16)], [0], [pop])
    yield "twice", ring((0, 4, 0, 0), [desc(0x800, 8)], [0, 0], [pop, pop])
    yield "takeover", ring((1, 4, 0, 0), [desc(0x800, 8)] * 4, [3, 1, 2], [pop, pop, die, pop, push, die, pop])
    yield "nonsense-in-flight", ring((9, 5, 0, 0), [desc(0x800, 8)] * 4, [0],
                                     [pop, (6, 0, 0, 1), (6, 16, 0, 1), (6, 2, 1, 255), die, pop, pop])
    yield "written-behind", ring((0, 4, 0, 0), chain, [0], [(5, 0, 4, 7), (5, 8, 0, 255), pop, (0, 0, 0, 0), push])


def message(request, payload=b"", fds=0, sort=0, flags=NEED_REPLY):
    """One message of fuzz_vhost_user_server."""
    return bytes((request, flags, fds | sort << 4, len(payload))) + payload


def state(request, index, num, **more):
    """A message about a ring."""
    return message(request, struct.pack("<II", index, num), **more)


def region(gpa=0, length=0x10000, offset=0):
    """A memory region."""
    return struct.pack("<QQQQ", gpa, length, USER + gpa, offset)


def agreement():
    """Features."""
    return [message(1), message(15), message(16, struct.pack("<Q", 0xb22b), flags=0), message(3),
            message(2, struct.pack("<Q", 1 << 32 | 1 << 30 | 3 << 28 | 1)), message(17)]


def vring(index=0, kick=True):
    """All of a ring."""
    ready = [state(8, index, 8), state(10, index, 0),
             message(9, struct.pack("<IIQQQQ", index, 0, USER, USER + 0x2000, USER + 0x1000, 0x2000)),
             message(13, struct.pack("<Q", index), 1, EVENT), message(14, struct.pack("<Q", index), 1, EVENT)]
    return ready + ([message(12, struct.pack("<Q", index), 1, EVENT), state(18, index, 1)] if kick else [])


def connections():
    """Seeds of fuzz_vhost_user_server."""
    table = message(5, struct.pack("<II", 1, 0) + region(), 1, MEMORY)
    base = state(11, 0, 0, flags=0)
    inflight = struct.pack("<QQHH", 4096, 0, 2, 8)
    yield "serve", [*agreement(), table, *vring(), base]
    yield "polled", [*agreement(), table, *vring(kick=False), message(12, struct.pack("<Q", 0x100)), state(18, 0, 1), base]
    yield "slots", [*agreement(), message(36), message(37, bytes(8) + region(), 1, MEMORY), *vring(),
                    message(37, bytes(8) + region(0x20000, 0x1000, 0x1000), 1, MEMORY),
                    message(38, bytes(8) + region(0x20000, 0x1000)), message(38, bytes(8) + region()), base]
    yield "in-flight", [*agreement(), table, message(31, inflight, flags=0), message(32, inflight, 1, INFLIGHT), *vring(), base]
    yield "log", [*agreement(), table, message(6, struct.pack("<QQ", 4096, 0), 1, LOG), message(7, b"", 1, EVENT), *vring(),
                  message(2, struct.pack("<Q", 1 << 32 | 1 << 30 | 1 << 26)),
                  message(9, struct.pack("<IIQQQQ", 0, 1, USER, USER + 0x2000, USER + 0x1000, 0x2000)), base]
    yield "config", [*agreement(), message(24, struct.pack("<III", 0, 60, 0) + bytes(60), flags=0),
                     message(25, struct.pack("<III", 32, 1, 0) + b"\1"), message(21, b"", 1, SOCKET)]
    yield "reset", [*agreement(), table, *vring(), message(34), *vring(), message(4), table]
    yield "two-rings", [*agreement(), table, *vring(0), *vring(1), state(18, 1, 0), state(11, 1, 0, flags=0), base]
    yield "huge-region", [*agreement(), message(5, struct.pack("<II", 1, 0) + region(0, 1 << 40), 1, MEMORY)]
    yield "wrong-sort", [*agreement(), message(5, struct.pack("<II", 1, 0) + region(), 1, EVENT),
                         message(12, struct.pack("<Q", 0), 1, 5)]
    yield "too-many", [*agreement(), message(5, struct.pack("<II", 8, 0) + region() * 7, 10, 8)]
    yield "cut-off", [*agreement(), message(2, bytes(8), flags=0x80)]


def main():
    """Write all of them."""
    folder = pathlib.Path(sys.argv[1])
    for name, data in rings():
        (folder / "vring" / name).write_bytes(data)
    for name, messages in connections():
        (folder / "vhost-user-server" / name).write_bytes(b"".join(messages))


main()
