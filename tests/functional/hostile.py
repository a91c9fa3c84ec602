"""A driver that means harm, for back-ends of any kind: guest RAM with guards around it, and chains that are none."""

import random

import vhost_user
from vhost_user import DESC_INDIRECT, DESC_NEXT, DESC_WRITE, PAGE, Memory, Slot

MIB = 1 << 20
RAM_GPA, RAM, BEFORE, BEHIND = 64 * MIB, 8 * MIB, 64 << 10, 64 << 10
SIZE = 16  # entries of a ring
NOWHERE, EDGE = 0xdead_0000, RAM_GPA + RAM - 16

# Chains as lists of (address, length, flags, next); D stands for data in RAM, T for a table there.
D, T = "data", "table"
N, W, X = DESC_NEXT, DESC_WRITE, DESC_INDIRECT
# In the ring, or in a table which a good descriptor of the ring leads to.
BROKEN = {
    "a descriptor that follows itself": [(D, 16, N, 0)],
    "two that follow each other": [(D, 16, N | W, 1), (D, 512, N | W, 0)],
    "next beyond the end": [(D, 16, N, SIZE)],
    "next far beyond the end": [(D, 16, N, 65535)],
    "data in no memory": [(NOWHERE, 512, W, 0)],
    "data to read in no memory": [(NOWHERE, 512, 0, 0)],
    "data before the beginning of RAM": [(RAM_GPA - 512, 1024, W, 0)],
    "data over the end of RAM": [(RAM_GPA + RAM - 512, 1024, W, 0)],
    "data behind the end of RAM": [(D, 16, W | N, 1), (RAM_GPA + RAM, 512, W, 0)],
    "data of four GiB": [(D, 0xffffffff, W, 0)],
    "data around the end of all addresses": [(2 ** 64 - 256, 512, W, 0)],
    "data that ends where addresses end": [(2 ** 64 - 512, 512, W, 0)],
    "front-end addresses for guest ones": [(vhost_user.USER_BASE + RAM_GPA, 512, W, 0)],
    "data to read behind data to write": [(D, 16, W | N, 1), (D, 16, 0, 0)],
    "a table of no whole descriptors": [(T, 17, X, 0)],
    "a table of nothing": [(T, 0, X, 0)],
    "a table in no memory": [(NOWHERE, 48, X, 0)],
    "a table over the end of RAM": [(EDGE, 48, X, 0)],
    "a table around the end of all addresses": [(2 ** 64 - 16, 48, X, 0)],
}


class GuardedSlot(Slot):
    """Guest RAM in the middle of a memory whose other pages are nobody's business."""

    def __init__(self):
        super().__init__(RAM_GPA, RAM + BEHIND, BEFORE)
        self.length = RAM
        self.map[:BEFORE] = b"\xc3" * BEFORE
        self.map[BEFORE + RAM:] = b"\xc3" * BEHIND

    def untouched(self):
        """True if only guest RAM was written."""
        return self.map[:BEFORE] == b"\xc3" * BEFORE and self.map[BEFORE + RAM:] == b"\xc3" * BEHIND


def guarded_memory():
    """Guest RAM with guards; memory.slots[0].untouched() tells whether they held."""
    return Memory([GuardedSlot()])


class Torment:
    """One queue of a device that is offered what no driver offers. well() says whether the back-end is as it should be."""

    def __init__(self, front, queue, well):
        self.front, self.queue, self.memory, self._well = front, queue, front.memory, well
        self.data, self.table = (self.memory.allocate(PAGE, PAGE) for _ in range(2))
        self.used = 0

    def well(self):
        """The back-end lives, and wrote to nothing but guest RAM."""
        assert self.memory.slots[0].untouched()
        self._well()

    def broken(self):
        """True once the device has said that the queue is broken, until it is set up anew."""
        return vhost_user.readable(self.queue.err_fd, 0)

    def outcome(self, what):
        """What became of what was offered: 'used' or 'broken'; neither in time is a hang."""
        vhost_user.until(lambda: self.queue.used_idx() != self.used or self.broken(), f"an answer to {what}")
        return "broken" if self.broken() else "used"

    def restart(self):
        """Set the queue up anew, as a driver does that was reset."""
        self.front.stop_queue(self.queue)
        self.queue.clear()
        self.queue.interrupts()
        self.queue.errors()
        self.used = 0
        self.front.start_queue(self.queue)

    def offer(self, chain, indirect):
        """Write a chain as it stands, in the ring or in a table, and offer it."""
        queue = self.queue
        # The last descriptor of RAM leads on, to what is no RAM any more.
        queue.write_desc(EDGE, 0, self.data, 16, DESC_NEXT, 1)
        if indirect:
            queue.write_desc(queue.desc, 0, self.table, 16 * len(chain), DESC_INDIRECT)
        for n, (at, length, flags, following) in enumerate(chain):
            queue.write_desc(self.table if indirect else queue.desc, n, {D: self.data, T: self.table}.get(at, at), length,
                             flags, following)
        queue.offer(0)
        queue.kick()

    def broken_chains(self):
        """Every chain that cannot be followed breaks the queue, which serves again when it was set up anew."""
        for indirect in (False, True):
            for name, chain in BROKEN.items():
                self.offer(chain, indirect)
                assert self.outcome(name) == "broken", f"{name}{' in a table' * indirect}"
                assert self.queue.used_idx() == 0
                self.restart()
                self.well()

    def broken_rings(self):
        """Heads and indices that no ring of this size has."""
        for head in (SIZE, SIZE + 1, 255, 32768, 65535):
            self.queue.offer(head)
            self.queue.kick()
            assert self.outcome(f"head {head}") == "broken"
            self.restart()
        for jump in (SIZE + 1, 1000, 32767, 32768, 65535):
            self.memory.set_word(self.queue.avail + 2, jump)
            self.queue.kick()
            assert self.outcome(f"a jump of {jump}") == "broken"
            self.restart()
        self.well()

    def chance(self, rounds=150):
        """Descriptors and indices by chance, mostly plausible; the seed is fixed."""
        chance, queue = random.Random(5), self.queue
        places = [self.data, queue.desc, queue.used, queue.avail, RAM_GPA, RAM_GPA + RAM - 600, RAM_GPA + RAM, NOWHERE,
                  2 ** 64 - 600, self.table]
        lengths = [0, 1, 15, 16, 17, 48, 512, 513, 4096, 65536, RAM, 0xffffffff]
        for _ in range(rounds):
            for n in range(SIZE):
                for at in (queue.desc, self.table):
                    queue.write_desc(at, n, chance.choice([*places, RAM_GPA + chance.randrange(RAM)]), chance.choice(lengths),
                                     chance.choice([0, 0, N, N, W, W, N | W, N | W, X, 7, 65535]),
                                     chance.choice([n + 1, n + 1, n + 1, chance.randrange(SIZE + 1)]))
            for _ in range(chance.randrange(1, SIZE)):
                queue.offer(chance.randrange(SIZE))
            queue.kick()
            if chance.random() < 0.5:
                self.memory.set_word(queue.avail + 2, chance.randrange(65536))
                queue.kick()
            self.well()
            self.restart()
