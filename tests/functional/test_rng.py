"""husk's entropy back-end: bytes of its source, each given once, and a source that has none holds up nobody else."""

import os
import signal
import subprocess

import pytest

import backends
import rng_client
import vhost_user
from vhost_user import Setup

# What one request is given at most.
MOST = 4096


@pytest.fixture
def source(tmp_path):
    """A pipe as a source, and the test's end of it: (path, descriptor)."""
    path = tmp_path / "source"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield path, fd
    os.close(fd)


@pytest.mark.parametrize("words", [[], ["--src", "/dev/urandom"]])
def test_requests_of_any_shape_are_filled_with_random_bytes(bench, words):
    _, rng = bench.rng(*words)
    first, second = rng.read(MOST), rng.read(1000, 3000, 96, indirect=True)
    assert len(first) == MOST and len(second) == 1000 + 3000 + 96
    assert first != second
    # Of 256 values in 8192 random bytes none is missing but once in a billion runs.
    assert len(set(first + second)) > 240
    assert len(rng.read(1)) == 1


def test_many_requests_at_once_are_all_answered_with_different_bytes(bench):
    _, rng = bench.rng(setup=Setup(queue_size=64))
    requests = dict(rng.submit(32) for _ in range(64))
    done = rng.wait(64)
    assert done.keys() == requests.keys() and set(done.values()) <= set(range(1, 33))
    given = [rng.memory.read(*requests[head][0])[:16] for head, written in done.items() if written >= 16]
    assert len(set(given)) == len(given) > 32


def test_no_byte_of_the_source_is_given_twice_or_lost(bench, source):
    path, fd = source
    _, rng = bench.rng("--src", path)
    sent = bytes(n % 256 for n in range(1024))
    os.write(fd, sent)
    given = b""
    while len(given) < len(sent):
        piece = rng.read(100)
        assert piece
        given += piece
    # In which order they come is nobody's business.
    assert sorted(given) == sorted(sent)


def test_a_source_that_has_none_holds_up_its_requests_until_it_has(bench, source):
    path, fd = source
    process, rng = bench.rng("--src", path)
    head, _ = rng.submit(64)
    # Nothing was taken, so the queue stops at once and begins where it was.
    assert rng.front.stop_queue(rng.queue) == 0
    rng.front.start_queue(rng.queue)
    rng.queue.kick()
    assert rng.queue.reap() == []
    rng.queue.interrupts()
    before = cpu_ticks(process.pid)
    assert not vhost_user.readable(rng.queue.call_fd, 0.5)
    assert cpu_ticks(process.pid) - before < 10, "it does not wait, it spins"
    os.write(fd, bytes(64))
    assert rng.wait() == {head: 64}


def cpu_ticks(pid):
    """Processor time of a process so far, in hundredths of a second."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_source_that_ended_is_told_of_once_and_does_not_end_the_back_end(bench):
    process, rng = bench.rng("--src", "/dev/null")
    rng.submit(64)
    vhost_user.until(lambda: "gives none" in process.errors(), "a line of the log")
    rng.front.stop_queue(rng.queue)
    rng.front.start_queue(rng.queue)
    rng.queue.kick()
    assert rng.front.stop_queue(rng.queue) == 0
    assert process.running() and process.errors().count("gives none") == 1


def test_requests_go_on_with_the_next_back_end_after_a_kill(bench, source):
    path, fd = source
    process, rng = bench.rng("--src", path)
    heads = {rng.submit(16)[0] for _ in range(8)}
    os.write(fd, bytes(32))
    done = rng.wait(2)
    process.kill()
    process.ends()
    another, connection = backends.on_socketpair("--src", path, kind="rng")
    bench.keep(another)
    rng.front = rng.front.reconnect(connection)
    rng.queue.kick()
    os.write(fd, bytes(6 * 16))
    done.update(rng.wait(6))
    assert done.keys() == heads and all(0 < written <= 16 for written in done.values())


def test_it_serves_one_front_end_after_another_on_a_socket(bench):
    path = bench.folder / "rng.sock"
    process = bench.keep(backends.Process([backends.husk_backend(), "rng", "--socket", path]))
    for _ in range(3):
        rng = rng_client.Rng(backends.connect(process, path))
        assert rng.read(16) != bytes(16)
        rng.close()
    process.kill(signal.SIGTERM)
    assert process.ends() == 0 and not path.exists()


@pytest.mark.parametrize("words, status, why", [
    (["--src", "/dev/urandom", "--src-fd", "0"], 2, "either --src or --src-fd"),
    (["--src-fd", "x"], 2, "not a descriptor"),
    (["--src", "/nonexistent/source"], 1, "could not open '/nonexistent/source'"),
    (["--src", __file__], 1, "neither a character device nor a pipe"),
    (["--src", "/"], 1, "neither a character device nor a pipe"),
    (["--src-fd", "77"], 1, "could not use the source"),
])
def test_what_is_no_source_is_refused_with_a_sentence(words, status, why):
    ended = subprocess.run([backends.husk_backend(), "rng", "--fd", "0", *words], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == status and why in ended.stderr
