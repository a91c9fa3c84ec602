"""A driver that means harm, and messages that are none: husk's block back-end neither dies, nor hangs, nor reaches beyond
guest RAM, and its other queues go on. Run against the build for use and against the one with ASan and UBSan."""

import os
import random
import socket
import struct

import pytest

import backends
import blk_client
import vhost_user
from blk_client import FLUSH, IN, OK, OUT, ranges
from hostile import EDGE, NOWHERE, RAM, RAM_GPA, SIZE, GuardedSlot
from vhost_user import DESC_INDIRECT, DESC_NEXT, DESC_WRITE, PAGE, Memory, Setup, Slot

MIB = 1 << 20
# What a back-end may need besides guest RAM, whatever it is asked for; the sanitizer's shadow comes on top.
PEAK_KIB = {"build": 48 << 10, "build-asan": 400 << 10}


class Victim:
    """A back-end with two queues: the first is tormented, the second must not notice."""

    def __init__(self, bench, build, setup=None):
        self.image = bench.image(2 * MIB)
        self.slot = GuardedSlot()
        self.memory = Memory([self.slot])
        self.build = build
        self.process, self.disk = bench.blk(self.image, "--num-queues", "2", memory=self.memory, room=4096,
                                            setup=setup or Setup(n_queues=2, queue_size=SIZE))
        self.bad, self.good = self.disk.queues
        # A correct request to build wrong ones from.
        self.at = self.memory.allocate(4 * PAGE, PAGE)
        self.header, self.status, self.data = self.at, self.at + 16, self.at + PAGE
        self.used = 0  # the bad queue's index when the request was laid out

    def lay_out(self, kind=IN, sector=2048):
        """Write a header; the status is what no device writes."""
        self.used = self.bad.used_idx()
        self.memory.write(self.header, struct.pack("<IIQ", kind, 0, sector))
        self.memory.write(self.status, bytes([blk_client.NO_STATUS]))

    def outcome(self):
        """What became of what was offered to the bad queue: 'used' or 'broken'; neither in time is a hang."""
        vhost_user.until(lambda: self.bad.used_idx() != self.used or self.broken(), "an answer of the bad queue")
        return "broken" if self.broken() else "used"

    def broken(self):
        """True once the device has said that the bad queue is broken, until it is set up anew."""
        return vhost_user.readable(self.bad.err_fd, 0)

    def restart(self):
        """Set the bad queue up anew, as a driver does that was reset."""
        self.disk.front.stop_queue(self.bad)
        self.bad.clear()
        self.bad.interrupts()
        self.bad.errors()
        self.used = 0
        self.disk.front.start_queue(self.bad)

    def check(self):
        """All is as if nothing had been."""
        assert self.process.running(), self.process.errors()
        assert self.disk.read(0, 512, queue=1) == backends.pattern(1, 512)
        assert self.slot.untouched()
        assert self.process.peak_kib() < PEAK_KIB[self.build] + 2 * RAM // 1024

    def recovers(self):
        """After a restart the bad queue serves again."""
        self.restart()
        assert self.disk.read(1, 512, queue=0) == backends.pattern(1, 1024)[512:]
        self.check()


@pytest.fixture
def victim(bench, either_build):
    """A Victim."""
    return Victim(bench, either_build)


# Chains as lists of (address, length, flags, next), where H is the header, S the status, D data, T the indirect table.
H, S, D, T = "header", "status", "data", "table"
N, W, X = DESC_NEXT, DESC_WRITE, DESC_INDIRECT
BROKEN_CHAINS = {
    "a descriptor that follows itself": [(H, 16, N, 0)],
    "two that follow each other": [(H, 16, N, 1), (D, 512, N | W, 0)],
    "a loop after the request": [(H, 16, N, 1), (D, 512, N | W, 2), (S, 1, W | N, 1)],
    "next beyond the ring": [(H, 16, N, SIZE)],
    "next far beyond the ring": [(H, 16, N, 65535)],
    "data in no memory": [(H, 16, N, 1), (NOWHERE, 512, W | N, 2), (S, 1, W, 0)],
    "header in no memory": [(NOWHERE, 16, N, 1), (S, 1, W, 0)],
    "status in no memory": [(H, 16, N, 1), (D, 512, W | N, 2), (NOWHERE, 1, W, 0)],
    "data before the beginning of RAM": [(H, 16, N, 1), (RAM_GPA - 512, 1024, W | N, 2), (S, 1, W, 0)],
    "data over the end of RAM": [(H, 16, N, 1), (RAM_GPA + RAM - 512, 1024, W | N, 2), (S, 1, W, 0)],
    "data behind the end of RAM": [(H, 16, N, 1), (RAM_GPA + RAM, 512, W | N, 2), (S, 1, W, 0)],
    "data of four GiB": [(H, 16, N, 1), (D, 0xffffffff, W | N, 2), (S, 1, W, 0)],
    "data around the end of all addresses": [(H, 16, N, 1), (2 ** 64 - 256, 512, W | N, 2), (S, 1, W, 0)],
    "data that ends where addresses end": [(H, 16, N, 1), (2 ** 64 - 512, 512, W | N, 2), (S, 1, W, 0)],
    "front-end addresses for guest ones": [(H, 16, N, 1), (vhost_user.USER_BASE + RAM_GPA, 512, W | N, 2), (S, 1, W, 0)],
    "a table of no whole descriptors": [(T, 17, X, 0)],
    "a table of nothing": [(T, 0, X, 0)],
    "a table in no memory": [(NOWHERE, 48, X, 0)],
    "a table over the end of RAM": [(EDGE, 48, X, 0)],
    "a table around the end of all addresses": [(2 ** 64 - 16, 48, X, 0)],
}
# Tables, which follow one good descriptor of the ring that leads to them.
BROKEN_TABLES = {
    "a table in a table": [(T, 48, X, 0)],
    "a loop in a table": [(H, 16, N, 1), (D, 512, N | W, 0), (S, 1, W, 0)],
    "next beyond the table": [(H, 16, N, 1), (D, 512, N | W, 3), (S, 1, W, 0)],
    "data of a table in no memory": [(H, 16, N, 1), (NOWHERE, 512, N | W, 2), (S, 1, W, 0)],
    "lengths whose sum overflows": [(H, 16, N, 1), *[(D, 0xfffffe00, N | W, n) for n in range(2, 14)], (S, 1, W, 0)],
}
# What is a chain, but no request: the device answers with a status if there is room for one, or calls the ring broken.
ODD_CHAINS = {
    "a table of four GiB": [(T, 0xfffffff0, X, 0)],
    "nothing but a header": [(H, 16, 0, 0)],
    "nothing but a status": [(S, 1, W, 0)],
    "nothing at all": [(H, 0, 0, 0)],
    "a status of no bytes": [(H, 16, N, 1), (S, 0, W, 0)],
    "a short header": [(H, 15, N, 1), (S, 1, W, 0)],
    "a header of no bytes": [(H, 0, N, 1), (D, 512, W | N, 2), (S, 1, W, 0)],
    "data of no bytes": [(H, 16, N, 1), (D, 0, W | N, 2), (S, 1, W, 0)],
    "only empty descriptors": [(H, 0, N, 1), (D, 0, N, 2), (D, 0, W | N, 3), (S, 0, W, 0)],
    "status before header": [(S, 1, W | N, 1), (H, 16, 0, 0)],
    "read into what is the device's to read": [(H, 16, N, 1), (D, 512, N, 2), (S, 1, W, 0)],
    "read into header and status": [(H, 16, N, 1), (H, 512, W | N, 2), (S, 1, W, 0)],
    "the whole of RAM at once": [(H, 16, N, 1), (RAM_GPA, RAM, W | N, 2), (S, 1, W, 0)],
}


def place(victim, chain, table):
    """Replace the names in a chain by addresses."""
    return [({H: victim.header, S: victim.status, D: victim.data, T: table}.get(at, at), length, flags, following)
            for at, length, flags, following in chain]


def offer_chain(victim, chain, indirect):
    """Write a chain as it stands, in the ring or in a table, and offer it."""
    table = victim.memory.allocate(PAGE, PAGE)
    victim.lay_out()
    # The last descriptor of RAM leads on, to what is no RAM any more.
    victim.bad.write_desc(EDGE, 0, victim.header, 16, DESC_NEXT, 1)
    if indirect:
        victim.bad.write_desc(victim.bad.desc, 0, table, 16 * len(chain), DESC_INDIRECT)
    for n, (at, length, flags, following) in enumerate(place(victim, chain, table)):
        victim.bad.write_desc(table if indirect else victim.bad.desc, n, at, length, flags, following)
    victim.bad.offer(0)
    victim.bad.kick()


@pytest.mark.parametrize("name", [*BROKEN_CHAINS, *BROKEN_TABLES])
def test_a_chain_that_cannot_be_followed_breaks_its_queue_alone(victim, name):
    offer_chain(victim, BROKEN_CHAINS.get(name) or BROKEN_TABLES[name], name in BROKEN_TABLES)
    assert victim.outcome() == "broken"
    assert victim.bad.used_idx() == 0
    assert victim.memory.read(victim.status, 1) == bytes([blk_client.NO_STATUS])
    victim.check()
    # Nothing more of it is served until it is set up anew.
    victim.bad.kick()
    victim.check()
    assert victim.bad.used_idx() == 0
    victim.recovers()


def test_chains_that_are_wrong_in_a_table_and_in_the_ring_are_the_same(victim):
    for name, chain in BROKEN_CHAINS.items():
        if not name.startswith("next"):
            offer_chain(victim, chain, True)
            assert victim.outcome() == "broken", name
            victim.recovers()


def test_odd_chains_are_answered_or_called_broken(victim):
    for indirect in (False, True):
        for name, chain in ODD_CHAINS.items():
            offer_chain(victim, chain, indirect)
            found = victim.outcome()
            status = victim.memory.read(victim.status, 1)[0]
            if found == "used" and "status before" not in name and "whole" not in name:
                assert status in (OK, blk_client.IOERR, blk_client.UNSUPP, blk_client.NO_STATUS), name
                if "nothing but a header" in name or "of no bytes" in name and "status" in name:
                    assert status == blk_client.NO_STATUS, name
            victim.recovers()


@pytest.mark.parametrize("kind", [IN, OUT, blk_client.DISCARD, blk_client.WRITE_ZEROES, blk_client.GET_ID, FLUSH, 77])
def test_data_may_overlap_everything_that_guest_ram_holds(victim, kind):
    """Reads into the rings, the table and the request itself: the guest harms itself and nobody else."""
    places = [victim.header, victim.status, victim.bad.desc, victim.bad.avail, victim.bad.used, victim.data]
    for writes in (DESC_WRITE, 0):
        for at in places:
            victim.lay_out(kind)
            table = victim.memory.allocate(PAGE, PAGE)
            for n, (address, length, flags) in enumerate([(victim.header, 16, N), (at, 512, N | writes),
                                                          (table, 512, N | writes), (at, 512, N | writes),
                                                          (victim.status, 1, W)]):
                victim.bad.write_desc(table, n, address, length, flags, n + 1)
            victim.bad.write_desc(victim.bad.desc, 0, table, 16 * 5, DESC_INDIRECT)
            victim.bad.offer(0)
            victim.bad.kick()
            victim.outcome()
            victim.recovers()


@pytest.mark.parametrize("head", [SIZE, SIZE + 1, 255, 32768, 65535])
def test_a_head_beyond_the_ring_breaks_its_queue_alone(victim, head):
    victim.bad.offer(head)
    victim.bad.kick()
    assert victim.outcome() == "broken"
    victim.recovers()


@pytest.mark.parametrize("jump", [SIZE + 1, 1000, 32767, 32768, 65535])
def test_an_available_index_that_jumps_breaks_its_queue_alone(victim, jump):
    victim.bad.memory.set_word(victim.bad.avail + 2, jump)
    victim.bad.kick()
    assert victim.outcome() == "broken"
    victim.recovers()


def test_one_head_offered_again_and_again_while_it_is_under_way(victim):
    victim.lay_out()
    for n, (at, length, flags) in enumerate([(victim.header, 16, N), (victim.data, 512, N | W), (victim.status, 1, W)]):
        victim.bad.write_desc(victim.bad.desc, n, at, length, flags, n + 1)
    for _ in range(50):
        victim.bad.offer(*[0] * SIZE)
        victim.bad.kick()
        vhost_user.until(lambda: victim.bad.used_idx() == victim.bad.avail_idx or victim.broken(), "the repeats")
        victim.check()
        victim.restart()
    victim.recovers()


def test_indirect_tables_that_were_not_agreed_break_the_queue(bench, either_build):
    victim = Victim(bench, either_build, Setup(n_queues=2, queue_size=SIZE,
                                          features=0x7fffff | vhost_user.F_VERSION_1 | vhost_user.F_EVENT_IDX))
    offer_chain(victim, [(H, 16, N, 1), (D, 512, N | W, 2), (S, 1, W, 0)], True)
    assert victim.outcome() == "broken"
    victim.recovers()


def test_tables_longer_than_any_queue(victim):
    """A driver that lies about the longest chain is answered or refused, with bounded memory."""
    entries = 32768
    table = victim.memory.allocate(16 * (entries + 2), PAGE)
    for count in (1024, 4096, entries):
        victim.lay_out()
        victim.bad.write_desc(table, 0, victim.header, 16, N, 1)
        piece = b"".join(struct.pack("<QIHH", victim.data, 512, N | W, n + 1 & 0xffff) for n in range(1, count + 1))
        victim.memory.write(table + 16, piece)
        victim.bad.write_desc(table, count + 1, victim.status, 1, W)
        victim.bad.write_desc(victim.bad.desc, 0, table, 16 * (count + 2), DESC_INDIRECT)
        victim.bad.offer(0)
        victim.bad.kick()
        victim.outcome()
        victim.recovers()


def test_requests_full_of_chance(victim):
    """Descriptors, headers and indices by chance, mostly plausible; the seeds are fixed."""
    chance = random.Random(5)
    slot = victim.slot
    places = [victim.header, victim.status, victim.data, victim.bad.desc, victim.bad.used, RAM_GPA, RAM_GPA + RAM - 600,
              RAM_GPA + RAM, NOWHERE, 2 ** 64 - 600]
    lengths = [0, 1, 15, 16, 17, 48, 512, 513, 4096, 65536, RAM, 0xffffffff]
    table = victim.memory.allocate(PAGE, PAGE)
    for _ in range(150):
        for n in range(SIZE):
            for at in (victim.bad.desc, table):
                victim.bad.write_desc(at, n, chance.choice([*places, table, RAM_GPA + chance.randrange(RAM)]),
                                      chance.choice(lengths), chance.choice([0, 0, N, N, W, N | W, N | W, X, 7, 65535]),
                                      chance.choice([n + 1, n + 1, n + 1, chance.randrange(SIZE + 1)]))
        victim.memory.write(victim.header, struct.pack("<IIQ", chance.choice([0, 1, 4, 8, 11, 13, 99]), 0,
                                                       chance.choice([0, 1, 4000, 2 ** 55, 2 ** 64 - 1])))
        for _ in range(chance.randrange(1, SIZE)):
            victim.bad.offer(chance.randrange(SIZE))
        victim.bad.kick()
        if chance.random() < 0.5:
            slot.words[(victim.bad.avail + 2 - RAM_GPA) // 2] = chance.randrange(65536)
            victim.bad.kick()
        victim.check()
        victim.restart()
    # The image may have been written, by requests that happened to be right; its length may not.
    assert victim.image.stat().st_size == 2 * MIB
    victim.image.write_bytes(backends.pattern(1, 2 * MIB))
    victim.recovers()


BAD_ADDRESSES = [0, 8, NOWHERE, RAM_GPA, vhost_user.USER_BASE, 2 ** 64 - 16, 2 ** 64 - PAGE, 2 ** 63]


def test_rings_at_wrong_addresses_are_refused_or_break_their_queue(victim):
    queue, front = victim.bad, victim.disk.front
    right = [victim.memory.user(at) for at in (queue.desc, queue.used, queue.avail)]
    edge = victim.slot.user + RAM
    for which in range(3):
        for wrong in [*BAD_ADDRESSES, edge, edge - 8, edge - 16, edge - 64, right[which] + 1]:
            front.stop_queue(queue)
            addresses = list(right)
            addresses[which] = wrong
            try:
                front.start_queue(queue, 0, addresses)
            except vhost_user.BackEndError as error:
                assert "refused" in str(error), error
            queue.kick()
            victim.check()
    front.stop_queue(queue)
    victim.recovers()


@pytest.mark.parametrize("size", [0, 3, 100, 32769, 65535, 65536, 0xffffffff])
def test_ring_sizes_that_cannot_be_are_refused(victim, size):
    front = victim.disk.front
    front.stop_queue(victim.bad)
    assert front.tell(vhost_user.SET_VRING_NUM, struct.pack("<II", 0, size)) != 0
    victim.recovers()


@pytest.mark.parametrize("request_number", [vhost_user.SET_VRING_NUM, vhost_user.SET_VRING_BASE, vhost_user.SET_VRING_ENABLE,
                                            vhost_user.SET_VRING_ADDR, vhost_user.SET_VRING_KICK,
                                            vhost_user.SET_VRING_CALL, vhost_user.SET_VRING_ERR])
def test_queues_that_do_not_exist_are_refused(victim, request_number):
    front = victim.disk.front
    for index in (2, 3, 127, 255):
        if request_number == vhost_user.SET_VRING_ADDR:
            payload = struct.pack("<IIQQQQ", index, 0, *[victim.slot.user] * 3, 0)
        elif request_number in (vhost_user.SET_VRING_KICK, vhost_user.SET_VRING_CALL, vhost_user.SET_VRING_ERR):
            payload = struct.pack("<Q", index | vhost_user.VRING_NO_FD)
        else:
            payload = struct.pack("<II", index, 1)
        assert front.tell(request_number, payload) != 0
    victim.check()


def test_configuration_writes_of_every_offset_and_width_change_nothing(victim):
    front = victim.disk.front
    before = front.config(blk_client.CONFIG_BYTES)
    writeback = 32
    for width in (1, 2, 4, 8, 60, 256):
        for offset in range(0, blk_client.CONFIG_BYTES + 8):
            front.tell(vhost_user.SET_CONFIG, struct.pack("<III", offset, width, 0) + b"\xff" * width)
    for offset, width in ((0xffffffff, 1), (0xffffff00, 256), (256, 256), (0, 257), (0, 0), (0, 0xffffffff)):
        front.tell(vhost_user.SET_CONFIG, struct.pack("<III", offset, width, 0) + b"\xff" * min(width, 256))
        if not victim.process.running() or front.socket.fileno() < 0:
            break
    after = front.config(blk_client.CONFIG_BYTES)
    assert after[:writeback] + after[writeback + 1:] == before[:writeback] + before[writeback + 1:]
    victim.check()


def test_configuration_reads_beyond_its_end_give_nothing_of_the_back_ends(victim):
    front = victim.disk.front
    for offset, width in ((0, 61), (0, 256), (60, 1), (59, 2), (128, 128), (255, 1)):
        payload, _ = front.ask(vhost_user.GET_CONFIG, struct.pack("<III", offset, width, 0) + bytes(width))
        # Refused with an empty payload, or filled up with zeroes.
        at = max(0, blk_client.CONFIG_BYTES - offset)
        assert len(payload) <= 12 or payload[12 + at:] == bytes(len(payload) - 12 - at)
    victim.check()


@pytest.mark.parametrize("offset, width, sent", [(256, 4, 4), (0xfffffffc, 8, 8), (0xffffffff, 1, 1), (0, 60, 8), (0, 8, 60)])
def test_configuration_reads_that_cannot_be_are_refused(victim, offset, width, sent):
    front = victim.disk.front
    try:
        payload, _ = front.ask(vhost_user.GET_CONFIG, struct.pack("<III", offset, width, 0) + bytes(sent))
    except vhost_user.BackEndError:
        # Only a front-end that is broken asks for that: the end of the connection is an answer, too.
        assert victim.process.ends() in (0, 1)
    else:
        assert payload[12:] in (b"", bytes(sent))
        victim.check()


@pytest.mark.parametrize("regions", [
    [(0, 0, vhost_user.USER_BASE, 0)],
    [(0, PAGE, vhost_user.USER_BASE, 0), (0, PAGE, vhost_user.USER_BASE + MIB, 0)],
    [(0, 2 * PAGE, vhost_user.USER_BASE, 0), (PAGE, PAGE, vhost_user.USER_BASE + MIB, 0)],
    [(2 ** 64 - PAGE, 2 * PAGE, vhost_user.USER_BASE, 0)],
    [(0, PAGE, 2 ** 64 - 16, 0)],
    [(0, 2 ** 40, vhost_user.USER_BASE, 0)],
    [(0, PAGE, vhost_user.USER_BASE, MIB)],
    [(0, PAGE, vhost_user.USER_BASE, 2 ** 64 - PAGE)],
    [(0, 2 ** 63, vhost_user.USER_BASE, 0)],
], ids=["empty", "twice the same", "overlapping", "around the end", "user addresses around the end", "beyond the file",
        "behind the file", "offset that overflows", "half of everything"])
def test_memory_that_cannot_be_is_refused(victim, regions):
    front = victim.disk.front
    small = Slot(0, MIB)
    table = struct.pack("<II", len(regions), 0) + b"".join(struct.pack("<QQQQ", *region) for region in regions)
    assert front.tell(vhost_user.SET_MEM_TABLE, table, [small.fd] * len(regions)) != 0
    assert victim.process.running()
    if len(regions) == 1:
        assert front.tell(vhost_user.ADD_MEM_REG, bytes(8) + table[8:], [small.fd]) != 0
    victim.disk.front.set_memory()
    victim.recovers()


GARBAGE = {
    "no header": b"x", "half a header": b"\1\0\0\0\1\0", "version 0": struct.pack("<III", 1, 0, 0),
    "version 2": struct.pack("<III", 1, 2, 0), "a length of four GiB": struct.pack("<III", 5, 1, 0xffffffff),
    "an unknown request": struct.pack("<III", 4242, 1, 0), "request 0": struct.pack("<III", 0, 1, 0),
    "a payload that never comes": struct.pack("<III", 2, 1, 8) + b"\0\0",
    "a reply": struct.pack("<III", 1, 5, 8) + bytes(8), "short features": struct.pack("<III", 2, 1, 4) + bytes(4),
    "a table of nine": struct.pack("<IIIII", 5, 1, 8, 9, 0), "a table without memory": struct.pack("<IIIII", 5, 1, 8, 1, 0),
    "a long enough table of too many": struct.pack("<IIIII", 5, 1, 8 + 9 * 32, 9, 0) + bytes(9 * 32),
    "vring messages before anything": b"".join(struct.pack("<IIIII", n, 1, 8, 0, 4) for n in (8, 10, 18)),
    "noise": bytes(random.Random(1).randrange(256) for _ in range(4096)),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_messages_that_are_none_end_the_connection_at_most(bench, either_build, name):
    image, path = bench.image(MIB), bench.folder / "blk.sock"
    process = bench.keep(backends.Process([backends.husk_backend(), "blk", "--socket", path, "--path", image]))
    connection = backends.connect(process, path)
    connection.sendall(GARBAGE[name])
    connection.shutdown(socket.SHUT_WR)
    assert vhost_user.Channel(connection).closed_by_peer()
    connection.close()
    disk = bench.keep(blk_client.Disk(backends.connect(process, path)))
    assert disk.read(0, 512) == backends.pattern(1, 512)


def test_descriptors_that_nobody_asked_for_are_closed(bench, either_build):
    image, path = bench.image(MIB), bench.folder / "blk.sock"
    process = bench.keep(backends.Process([backends.husk_backend(), "blk", "--socket", path, "--path", image]))
    disk = bench.keep(blk_client.Disk(backends.connect(process, path)))

    def count():
        return len(os.listdir(f"/proc/{process.pid}/fd"))

    disk.read(0, 512)
    before = count()
    fds = [os.dup(0) for _ in range(8)]
    for request, payload in ((vhost_user.GET_FEATURES, b""), (vhost_user.SET_VRING_KICK, bytes(8)),
                             (vhost_user.SET_VRING_NUM, struct.pack("<II", 0, 16)), (4242, b""),
                             (vhost_user.SET_MEM_TABLE, struct.pack("<II", 1, 0) + bytes(32)),
                             (vhost_user.SET_INFLIGHT_FD, bytes(24))):
        for _ in range(5):
            disk.close()
            disk.front = vhost_user.FrontEnd(backends.connect(process, path), disk.memory)
            disk.front.send(request, payload, fds)
    for fd in fds:
        os.close(fd)
    disk.close()
    disk.front = vhost_user.FrontEnd(backends.connect(process, path), disk.memory).start()
    assert disk.read(0, 512) == backends.pattern(1, 512)
    assert count() == before


def test_a_front_end_that_goes_in_mid_flight_leaves_the_next_a_back_end(bench, either_build):
    image, path = bench.image(2 * MIB), bench.folder / "blk.sock"
    process = bench.keep(backends.Process([backends.husk_backend(), "blk", "--socket", path, "--path", image,
                                           "--num-queues", "2"]))
    for n in range(20):
        disk = blk_client.Disk(backends.connect(process, path), setup=Setup(n_queues=2))
        for k in range(100):
            disk.submit(IN if k % 3 else OUT, 8 * k, b"" if k % 3 else backends.pattern(1, 4096), 4096 if k % 3 else 0,
                        queue=k % 2, indirect=True)
        if n % 2:
            disk.front.send(vhost_user.GET_VRING_BASE, struct.pack("<II", 0, 0))
        disk.close()
    disk = bench.keep(blk_client.Disk(backends.connect(process, path)))
    assert disk.do(FLUSH).status == OK
    assert process.running()


def test_ranges_of_a_hostile_driver_stay_on_the_disk(victim):
    chance = random.Random(9)
    for _ in range(200):
        pieces = [(chance.choice([0, 8, 4095, 4096, 2 ** 55, 2 ** 63, 2 ** 64 - 1, chance.randrange(5000)]),
                   chance.choice([0, 1, 8, 0x7fffffff, 0xffffffff]), chance.choice([0, 1, 2, 0xffffffff]))
                  for _ in range(chance.randrange(1, 20))]
        kind = chance.choice([blk_client.DISCARD, blk_client.WRITE_ZEROES])
        assert victim.disk.do(kind, data=ranges(*pieces)).status in (OK, blk_client.IOERR, blk_client.UNSUPP)
    assert victim.image.stat().st_size == 2 * MIB
    assert victim.slot.untouched() and victim.process.running()
