"""husk backend from outside: its words, its socket, its end."""

import json
import os
import signal
import socket
import subprocess

import pytest

import backends
import blk_client
import vhost_user


@pytest.fixture
def bench(tmp_path):
    """Starts what a test needs and ends it."""
    made = backends.Bench(tmp_path)
    yield made
    made.close()


def run(*words):
    """husk-backend with these words; returns what it came to."""
    return subprocess.run([backends.husk_backend(), *map(str, words)], capture_output=True, text=True, timeout=120,
                          check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("words", [[], ["floppy"], ["blk"], ["blk", "--socket"], ["blk", "--frobnicate"],
                                   ["blk", "--socket", "s", "--fd", "3"], ["blk", "--fd", "x", "--path", "p"],
                                   ["blk", "--fd", "3", "--path", "p", "more"],
                                   ["blk", "--fd", "3", "--path", "p", "--log-format", "xml"]])
def test_wrong_words_are_told_with_status_2(words):
    ended = run(*words)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1 or "usage" in ended.stdout


def test_help_lists_kinds_and_their_options():
    overview = run("--help")
    assert overview.returncode == 0 and "\n  blk " in overview.stdout
    options = run("blk", "--help")
    assert options.returncode == 0
    for option in ("--socket PATH", "--fd N", "--name NAME", "--log-format FORMAT", "--path FILE"):
        assert f"  {option}" in options.stdout


def test_a_descriptor_that_is_no_connection_ends_it_with_status_1(tmp_path):
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(4096))
    ended = run("blk", "--path", image, "--fd", 0, "--name", "disk0", "--log-format", "json")
    assert ended.returncode == 1
    line = json.loads(ended.stderr)
    assert line["level"] == "error" and line["message"].startswith("disk0: ")


def test_only_a_dead_socket_is_replaced(bench):
    image, path = bench.image(), bench.folder / "blk.sock"
    first = bench.keep(backends.Process([backends.husk_backend(), "blk", "--path", image, "--socket", path]))
    bench.keep(blk_client.Disk(backends.connect(first, path))).flush()
    second = run("blk", "--path", bench.image(name="other.raw"), "--socket", path)
    assert second.returncode == 1 and "another process listens there" in second.stderr
    first.kill()
    first.ends()
    assert path.is_socket()
    third = bench.keep(backends.Process([backends.husk_backend(), "blk", "--path", image, "--socket", path]))
    bench.keep(blk_client.Disk(backends.connect(third, path))).flush()
    third.kill(signal.SIGTERM)
    assert third.ends() == 0
    assert not path.exists()


def test_a_file_where_the_socket_is_to_be_is_left_alone(bench):
    image, path = bench.image(), bench.image(4096, "precious.raw")
    ended = run("blk", "--path", image, "--socket", path)
    assert ended.returncode == 1 and str(path) in ended.stderr
    assert path.read_bytes() == backends.pattern(1, 4096)


def test_ctrl_c_belongs_to_whoever_ignores_it(bench):
    image = bench.image()
    ours, theirs = socket.socketpair()
    with theirs:
        process = bench.keep(backends.Process(
            ["sh", "-c", 'trap "" INT TERM; exec "$0" "$@"', backends.husk_backend(), "blk", "--path", image, "--fd",
             theirs.fileno()], [theirs.fileno()]))
    disk = blk_client.Disk(ours)
    process.kill(signal.SIGINT)
    process.kill(signal.SIGTERM)
    disk.write(0, backends.pattern(5, 4096))
    assert disk.read(0, 4096) == backends.pattern(5, 4096)
    disk.close()
    assert process.ends() == 0


def test_memory_that_is_cut_off_ends_it_with_a_sentence(bench):
    process, connection = backends.on_socketpair("--path", bench.image())
    bench.keep(process)
    fd = os.memfd_create("unsealed")
    os.ftruncate(fd, 1 << 20)
    front = vhost_user.Channel(connection)
    front.tell(vhost_user.SET_FEATURES, (1 << 32 | 1 << 30).to_bytes(8, "little"))
    region = b"".join(n.to_bytes(8, "little") for n in (1, 0, 1 << 20, 1 << 40, 0))
    front.tell(vhost_user.SET_MEM_TABLE, region, [fd])
    ring = (0).to_bytes(4, "little")
    front.tell(vhost_user.SET_VRING_NUM, ring + (8).to_bytes(4, "little"))
    front.tell(vhost_user.SET_VRING_ADDR, ring * 2 + b"".join(
        ((1 << 40) + at).to_bytes(8, "little") for at in (0, 0x2000, 0x1000)) + bytes(8))
    # The answer tells that the table was taken in; then the file loses what was mapped.
    front.ask(vhost_user.GET_VRING_BASE, ring * 2)
    os.ftruncate(fd, 0)
    kick = os.eventfd(0)
    front.tell(vhost_user.SET_VRING_KICK, bytes(8), [kick])
    front.tell(vhost_user.SET_VRING_ENABLE, ring + (1).to_bytes(4, "little"))
    assert process.ends() == 1
    assert "was cut off (SIGBUS)" in process.errors()
    os.close(kick)
    os.close(fd)
    connection.close()
