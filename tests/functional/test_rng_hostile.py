"""A driver that means harm: husk's entropy back-end neither dies, nor hangs, nor reaches beyond guest RAM."""

import pytest

import hostile
from vhost_user import DESC_NEXT, DESC_WRITE, Setup

# What a back-end may need besides guest RAM, whatever it is asked for; the sanitizer's shadow comes on top.
PEAK_KIB = {"build": 16 << 10, "build-asan": 300 << 10}


@pytest.fixture
def victim(bench, either_build):
    """The driver, and the torment of its queue."""
    process, rng = bench.rng(memory=hostile.guarded_memory(), setup=Setup(queue_size=hostile.SIZE))

    def well():
        assert process.running(), process.errors()
        assert process.peak_kib() < PEAK_KIB[either_build] + 2 * hostile.RAM // 1024

    return rng, hostile.Torment(rng.front, rng.queue, well)


def test_what_cannot_be_followed_breaks_the_queue_until_it_is_set_up_anew(victim):
    rng, torment = victim
    torment.broken_chains()
    torment.broken_rings()
    assert len(rng.read(64)) == 64


def test_descriptors_full_of_chance(victim):
    rng, torment = victim
    torment.chance()
    assert len(rng.read(64)) == 64


def test_a_request_without_room_is_given_back_empty(victim):
    rng, torment = victim
    read, no_room = (hostile.D, 64, 0, 0), (hostile.D, 0, DESC_WRITE, 0)
    chains = {"nothing": [(hostile.D, 0, 0, 0)], "no room": [no_room], "something to read": [read],
              "something to read and no room": [(hostile.D, 64, DESC_NEXT, 1), no_room]}
    for name, chain in chains.items():
        torment.offer(chain, False)
        assert torment.outcome(name) == "used"
        assert rng.memory.read(rng.queue.used + 4, 8) == bytes(8), name
        torment.restart()


def test_a_request_for_all_of_guest_ram_is_given_no_more_than_others(victim):
    rng, torment = victim
    torment.offer([(hostile.RAM_GPA + hostile.RAM // 2, hostile.RAM // 2, DESC_WRITE, 0)], False)
    assert torment.outcome("a request for all of it") == "used"
    written = int.from_bytes(rng.memory.read(rng.queue.used + 8, 4), "little")
    assert 0 < written <= 4096
    torment.well()
