"""A block back-end that dies in the middle of writes: its successor finishes them, and every block is right."""

import os
import random

import pytest

import backends
import blk_client
import vhost_user
from blk_client import FLUSH, OK, OUT, WRITE_ZEROES, ranges
from vhost_user import Setup

KILLS = 100
BLOCKS, BLOCK = 512, 4096
QUEUE_SIZE = 64


class Writer:
    """Keeps a disk busy with writes, zeroes and flushes, and knows what every block must hold."""

    def __init__(self, disk, seed):
        self.disk, self.random = disk, random.Random(seed)
        self.versions = [0] * BLOCKS  # 0: as the image was, negative: zeroes
        self.count = 0
        self.busy = {}  # block -> request
        self.zeroes_offered = bool(disk.front.features & blk_client.F_WRITE_ZEROES)

    def submit_one(self):
        """Start a request; no two at once for one block, so that what a block holds in the end is known."""
        queue = self.random.randrange(len(self.disk.queues))
        indirect = bool(self.random.randrange(2))
        if not indirect and len(self.disk.queues[queue].free) < 8 or len(self.disk.queues[queue].free) < 2:
            return
        self.count += 1
        what = self.random.random()
        if what < 0.1:
            self.disk.submit(FLUSH, queue=queue, indirect=indirect)
            return
        block = self.random.choice([block for block in range(BLOCKS) if block not in self.busy])
        if what < 0.15 and self.zeroes_offered:
            self.versions[block] = -self.count
            request = self.disk.submit(WRITE_ZEROES, data=ranges((block * 8, 8)), queue=queue, indirect=indirect)
        else:
            self.versions[block] = self.count
            request = self.disk.submit(OUT, block * 8, backends.pattern(self.count, BLOCK), queue=queue,
                                       indirect=indirect, parts=self.random.choice([None, [512, 3584], [4095, 1]]))
        self.busy[block] = request

    def submit(self, count):
        """Start so many requests, as far as there is room."""
        for _ in range(count):
            self.submit_one()

    def reap(self):
        """Take what is finished; every request must have worked, whoever finished it."""
        done = [request for queue in self.disk.queues for request in self.disk.reap(queue)]
        for request in done:
            assert request.status == OK
            for block in [block for block, other in self.busy.items() if other is request]:
                del self.busy[block]
        return len(done)

    def finish(self):
        """Wait until nothing is under way."""
        vhost_user.until(lambda: (self.reap(), not self.disk.pending)[1], f"{len(self.disk.pending)} requests")

    def wanted(self, block):
        """What a block must hold once nothing is under way."""
        version = self.versions[block]
        if version < 0:
            return bytes(BLOCK)
        if version == 0:
            return backends.pattern(1, BLOCKS * BLOCK)[block * BLOCK:(block + 1) * BLOCK]
        return backends.pattern(version, BLOCK)

    def check(self, image):
        """Every block of the disk against what it must hold."""
        data = image.read_bytes()
        wrong = [block for block in range(BLOCKS) if data[block * BLOCK:(block + 1) * BLOCK] != self.wanted(block)]
        assert not wrong


def region_offsets(length, offset, n_queues):
    """Where each queue's part of an in-flight region is: equal parts, each no smaller than it has to be."""
    part = length // n_queues
    assert part >= vhost_user.inflight_bytes(QUEUE_SIZE)
    return [offset + n * part for n in range(n_queues)]


@pytest.mark.parametrize("n_queues, options", [(1, []), (4, []), (2, ["--direct"])], ids=["one", "four", "direct"])
def test_a_hundred_kills_in_the_middle_of_writes_lose_and_repeat_nothing(bench, n_queues, options):
    image = bench.image(BLOCKS * BLOCK)
    options = ["--num-queues", str(n_queues), "--queue-size", str(QUEUE_SIZE), "--lock-wait", "60000", *options]
    process, disk = bench.blk(image, *options, setup=Setup(n_queues=n_queues, queue_size=QUEUE_SIZE), room=BLOCK)
    writer = Writer(disk, n_queues)
    resumed = 0
    for kill in range(KILLS):
        writer.submit(20)
        for _ in range(writer.random.randrange(4)):
            writer.reap()
            writer.submit(writer.random.randrange(12))
        # Some die at once, even before they took up what their predecessor left.
        process.kill()
        process.ends()
        resumed += len(disk.pending)
        process, connection = backends.on_socketpair("--path", image, *options)
        bench.keep(process)
        disk.front = disk.front.reconnect(connection)
        if kill % 5 == 4:
            writer.finish()
            writer.check(image)
    writer.finish()
    writer.check(image)
    assert resumed > KILLS // 4, "nothing was under way at the kills: they prove nothing"
    # Each request was finished once: the used rings counted all of them, and nothing is left in the region.
    assert sum(queue.used_idx() for queue in disk.queues) == writer.count & 0xffff
    for queue in disk.queues:
        disk.front.stop_queue(queue)
    fd, length, offset = disk.front.inflight
    for queue, at in zip(disk.queues, region_offsets(length, offset, n_queues)):
        state = vhost_user.inflight_state(fd, at, QUEUE_SIZE)
        assert (state.version, state.desc_num) == (1, QUEUE_SIZE)
        assert state.under_way == []
        assert state.used_idx == queue.used_idx()


@pytest.mark.parametrize("at_finish", [False, True])
def test_requests_in_flight_are_resumed_in_their_order(bench, at_finish):
    """The region is written here as a dead back-end would have left it; the new one must believe it."""
    image = bench.image(BLOCKS * BLOCK)
    options = ["--queue-size", str(QUEUE_SIZE), "--lock-wait", "60000"]
    process, disk = bench.blk(image, *options, setup=Setup(queue_size=QUEUE_SIZE), room=BLOCK)
    queue = disk.queues[0]
    base = disk.front.stop_queue(queue)
    process.kill()
    process.ends()
    # Three writes to the same block, taken from the ring in this order, with heads that are not in it.
    queue.free.sort(key=lambda index: index * 7 % QUEUE_SIZE)
    requests = [disk.submit(OUT, 0, backends.pattern(n + 10, BLOCK), indirect=True) for n in range(3)]
    heads = [next(iter(key for key, value in disk.pending.items() if value is request))[1] for request in requests]
    assert heads != sorted(heads) or heads != sorted(heads, reverse=True)
    fd, length, offset = disk.front.inflight
    part = offset
    for n, head in enumerate(heads):
        vhost_user.mark_in_flight(fd, part, head, 100 + n)
    if at_finish:
        # It died after it had put the first into the used ring, and before it said so in the region.
        at = queue.used + 4 + 8 * (base % queue.size)
        queue.memory.write(at, heads[0].to_bytes(4, "little") + (1).to_bytes(4, "little"))
        queue.memory.write(requests[0].status_at, bytes([OK]))
        vhost_user.set_last_batch_head(fd, part, heads[0])
        queue.memory.set_word(queue.used + 2, base + 1)
    process, connection = backends.on_socketpair("--path", image, *options)
    bench.keep(process)
    disk.front = disk.front.reconnect(connection)
    disk.wait(3)
    assert [request.status for request in requests] == [OK] * 3
    assert queue.used_idx() == base + 3
    assert image.read_bytes()[:BLOCK] == backends.pattern(12, BLOCK)
    assert disk.read(0, BLOCK) == backends.pattern(12, BLOCK)


def test_a_region_of_nonsense_does_no_harm(bench):
    image = bench.image(BLOCKS * BLOCK)
    options = ["--queue-size", str(QUEUE_SIZE), "--lock-wait", "60000"]
    chance = random.Random(3)
    for _ in range(10):
        process, disk = bench.blk(image, *options, setup=Setup(queue_size=QUEUE_SIZE), room=BLOCK)
        fd, length, offset = disk.front.inflight
        disk.close()
        assert process.ends() == 0
        os.pwrite(fd, bytes(chance.choice((0, 1, 255, chance.randrange(256))) for _ in range(length)), offset)
        process, connection = backends.on_socketpair("--path", image, *options)
        bench.keep(process)
        try:
            disk.front = disk.front.reconnect(connection)
        except vhost_user.BackEndError as error:
            # It may refuse such a region, in so many words.
            assert "was refused" in str(error) and process.running(), error
            connection.close()
        else:
            disk.front.stop_queue(disk.queues[0])
            disk.forget()
            disk.front.start()
            assert disk.do(FLUSH).status == OK
            disk.close()
        assert process.ends() == 0
