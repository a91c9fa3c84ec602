"""husk's console back-end: bytes each way in their order, none lost when it is killed, and a window that changes."""

import contextlib
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios

import pytest

import backends
import console_client
import vhost_user


class Terminal:
    """What a VMM gives the back-end: a socket for the bytes, a file with the size and an eventfd for its changes."""

    def __init__(self):
        self.socket, self.theirs = socket.socketpair()
        self.socket.settimeout(vhost_user.PATIENCE)
        self.size_fd = os.memfd_create("size")
        self.change_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.resize(0, 0, tell=False)

    def words(self):
        """Options of the back-end."""
        return ["--data-fd", self.theirs.fileno(), "--size-fd", self.size_fd, "--change-fd", self.change_fd]

    def fds(self):
        """Descriptors that these name."""
        return [self.theirs.fileno(), self.size_fd, self.change_fd]

    def resize(self, cols, rows, tell=True):
        """Give the window another size."""
        os.pwrite(self.size_fd, struct.pack("<HH", cols, rows), 0)
        if tell:
            os.eventfd_write(self.change_fd, 1)

    def read(self, length):
        """Output of the guest."""
        return vhost_user.receive(self.socket, length)

    def close(self):
        """Close all of it."""
        for fd in (self.size_fd, self.change_fd):
            os.close(fd)
        self.socket.close()
        self.theirs.close()


@pytest.fixture
def terminal():
    """A Terminal."""
    with contextlib.closing(Terminal()) as made:
        yield made


def start(bench, terminal):
    """A back-end on a terminal and its connection."""
    process, connection = backends.on_socketpair(*terminal.words(), kind="console", pass_fds=terminal.fds())
    return bench.keep(process), connection


@pytest.fixture
def console(bench, terminal):
    """A driver of a back-end on the terminal."""
    return bench.keep(console_client.Console(start(bench, terminal)[1]))


def test_bytes_go_each_way_in_their_order(terminal, console):
    text = backends.pattern(1, 20000)
    console.write(text[:1], text[1:5000], text[5000:5001], indirect=True)
    console.write(text[5001:])
    assert terminal.read(len(text)) == text
    terminal.socket.sendall(text)
    assert console.read(len(text)) == text


def test_many_requests_of_output_are_done_in_their_order(terminal, console):
    heads = [console.offer(b"%4d" % n) for n in range(32)]
    assert console.sent(32) == heads
    assert terminal.read(128) == b"".join(b"%4d" % n for n in range(32))


def test_input_waits_for_buffers_and_none_of_it_is_lost(bench, terminal):
    console = bench.keep(console_client.Console(start(bench, terminal)[1], buffers=0))
    terminal.socket.sendall(backends.pattern(2, 1000))
    console.write(b"x")
    assert terminal.read(1) == b"x" and console.taken() == b""
    at, data = console.memory.allocate(64), b""
    while len(data) < 1000:
        console.give_buffer(at, 64)
        data += console.read(1, again=False)
    assert data == backends.pattern(2, 1000)


def test_output_that_nobody_reads_holds_up_the_driver_and_not_the_end(bench, terminal):
    process, connection = start(bench, terminal)
    console = bench.keep(console_client.Console(connection))
    data = backends.pattern(3, 4 << 20)
    head = console.offer(data)
    # The socket is full.
    vhost_user.until(lambda: not can_write(terminal.theirs), "a full socket")
    assert console.queues[1].reap() == []
    terminal.socket.sendall(b"typed")
    assert console.read(5) == b"typed"
    # The request is given back to the ring, and done again from its beginning.
    assert console.front.stop_queue(console.queues[1]) == 0
    drain(terminal.socket)
    console.front.start_queue(console.queues[1])
    console.queues[1].kick()
    assert terminal.read(len(data)) == data
    assert console.sent() == [head]
    assert process.running()


def can_write(connection):
    """Whether a socket has room."""
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    return bool(poll.poll(0))


def drain(connection):
    """Drop what a socket holds."""
    connection.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while connection.recv(1 << 20):
            pass
    connection.settimeout(vhost_user.PATIENCE)


def test_the_window_is_in_the_configuration_and_its_changes_are_told(terminal, console):
    assert console.front.offered & console_client.F_SIZE
    assert not console.front.offered & (console_client.F_MULTIPORT | console_client.F_EMERG_WRITE)
    assert console.front.config(12) == struct.pack("<HHII", 0, 0, 1, 0)
    for size in ((80, 24), (132, 43), (1, 65535)):
        terminal.resize(*size)
        console.wait_for_change()
        assert console.size() == size


def test_a_driver_that_starts_is_told_of_a_size_that_is_known(bench, terminal):
    terminal.resize(91, 31, tell=False)
    console = bench.keep(console_client.Console(start(bench, terminal)[1]))
    console.wait_for_change()
    assert console.size() == (91, 31)


def test_killed_while_busy_it_loses_nothing(bench, terminal):
    process, connection = start(bench, terminal)
    console = bench.keep(console_client.Console(connection))
    seen, typed, done = b"", b"", []
    for n in range(20):
        terminal.socket.sendall(b"in %6d\n" % n)
        done.append(console.offer(b"out %6d\n" % n))
        if n % 4 == 3:
            process.kill()
            process.ends()
            process, connection = start(bench, terminal)
            console.front = console.front.reconnect(connection)
            for queue in console.queues:
                queue.kick()
    finished = []
    while len(finished) < 20:
        finished += console.sent()
    assert finished == done
    while b"out %6d\n" % 19 not in seen:
        seen += terminal.read(1)
    while b"in %6d\n" % 19 not in typed:
        typed += console.read(1)
    # At least once, and in order where it is the first time.
    for text, found in ((b"out %6d\n", seen), (b"in %6d\n", typed)):
        places = [found.find(text % n) for n in range(20)]
        assert -1 not in places and places == sorted(places), found


def test_the_end_of_the_terminal_is_not_the_end_of_the_back_end(bench, terminal):
    process, connection = start(bench, terminal)
    console = bench.keep(console_client.Console(connection))
    terminal.socket.close()
    for _ in range(3):
        console.write(b"to nobody")
    assert process.running()
    assert process.errors().count("output is lost") == 1


def test_null_takes_output_and_has_no_input(bench):
    process, connection = backends.on_socketpair("--null", kind="console")
    bench.keep(process)
    console = bench.keep(console_client.Console(connection))
    console.write(backends.pattern(1, 100000))
    assert console.taken() == b"" and console.size() == (0, 0)


def test_alone_it_has_its_own_terminal_raw_and_gives_it_back(bench):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    termios.tcsetwinsize(theirs, (31, 91))
    mine, back_ends = socket.socketpair()
    process = subprocess.Popen([backends.husk_backend(), "console", "--fd", str(back_ends.fileno())], stdin=theirs,
                               stdout=theirs, pass_fds=[back_ends.fileno()], start_new_session=True)
    back_ends.close()
    try:
        console = console_client.Console(mine)
        assert console.size() == (91, 31)
        console.wait_for_change()
        console.write(b"hello\r\n")
        said = b""
        while len(said) < 7:
            assert vhost_user.readable(ours, vhost_user.PATIENCE), said
            said += os.read(ours, 100)
        assert said == b"hello\r\n"
        os.write(ours, b"\x03\r")
        assert console.read(2) == b"\x03\r"
        termios.tcsetwinsize(ours, (43, 132))
        process.send_signal(signal.SIGWINCH)
        console.wait_for_change()
        assert console.size() == (132, 43)
        assert termios.tcgetattr(theirs) != before
        console.close()
        assert process.wait(vhost_user.PATIENCE) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("number, status", [
    (signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 129), (signal.SIGQUIT, 131), (signal.SIGABRT, 134),
    (signal.SIGBUS, 1), (signal.SIGFPE, 136), (signal.SIGUSR1, 138), (signal.SIGSEGV, 139), (signal.SIGALRM, 142),
])
def test_alone_it_gives_its_terminal_back_whatever_signal_ends_it(number, status):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    mine, back_ends = socket.socketpair()
    with subprocess.Popen([backends.husk_backend(), "console", "--fd", str(back_ends.fileno())], stdin=theirs,
                          stdout=theirs, stderr=subprocess.DEVNULL, pass_fds=[back_ends.fileno()],
                          start_new_session=True) as process:
        back_ends.close()
        try:
            console = console_client.Console(mine)
            assert termios.tcgetattr(theirs) != before
            process.send_signal(number)
            assert process.wait(vhost_user.PATIENCE) == status
            assert termios.tcgetattr(theirs) == before
            console.close()
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)


@pytest.mark.parametrize("words, status, why", [
    (["--null", "--data-fd", "0"], 2, "either --data-fd or --null"),
    (["--data-fd", "x"], 2, "not a descriptor"),
    (["--data-fd", "77"], 1, "no descriptor for input"),
])
def test_wrong_words_are_refused_with_a_sentence(words, status, why):
    ended = subprocess.run([backends.husk_backend(), "console", "--fd", "0", *words], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == status and why in ended.stderr
