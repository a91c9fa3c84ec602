"""How many streams, host programs and descriptors there may be, and what becomes of one more."""

import os
import pathlib
import resource
import signal
import socket
import time

import pytest

import backends
import vhost_user
from vsock_client import REQUEST, SHUTDOWN
from vsock_host import Host, is_closed


@pytest.fixture
def host(bench, tmp_path):
    return Host(bench, tmp_path)


def processor_seconds(process):
    """What it has used so far."""
    user, system = pathlib.Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_soft_limit_of_descriptors_is_no_limit_of_streams(bench, tmp_path):
    host = Host(bench, tmp_path, files=100)
    listener = host.listen(80)
    streams = [host.stream_to_host(listener, 80, 10000 + n) for n in range(150)]
    program, stream = streams[-1]
    stream.write(b"x")
    assert program.recv(1) == b"x"


def test_without_a_descriptor_for_it_a_host_program_waits_and_nothing_spins(host):
    programs = [host.stream_from_host(1000 + n)[0] for n in range(4)]
    held = set(map(int, os.listdir(f"/proc/{host.process.pid}/fd")))
    first_free = next(number for number in range(len(held) + 1) if number not in held)
    resource.prlimit(host.process.pid, resource.RLIMIT_NOFILE, (first_free, first_free))
    waiting = host.connect(b"CONNECT x\n")
    before = processor_seconds(host.process)
    assert not vhost_user.readable(waiting, 1.2)
    assert processor_seconds(host.process) - before < 0.3
    programs[0].close()
    assert host.vsock.receive().op == SHUTDOWN
    assert is_closed(waiting)


def test_a_host_program_that_says_half_a_line_is_waited_for_and_nothing_spins(host):
    program = host.connect(b"CONNECT 5")
    before = processor_seconds(host.process)
    assert not vhost_user.readable(program, 1.2)
    assert processor_seconds(host.process) - before < 0.3


def test_nothing_spins_while_bytes_of_a_host_program_that_has_gone_wait_for_the_guest(host):
    host.connect(b"CONNECT 5\nlast words").close()
    assert host.vsock.receive().op == REQUEST
    before = processor_seconds(host.process)
    time.sleep(1.2)
    assert processor_seconds(host.process) - before < 0.3


def test_host_programs_that_come_while_the_device_is_busy_wait_for_it(host):
    host.process.kill(signal.SIGSTOP)
    programs = []
    for _ in range(100):
        program = host.bench.keep(socket.socket(socket.AF_UNIX))
        program.setblocking(False)
        program.connect(host.path)
        program.sendall(b"CONNECT x\n")
        programs.append(program)
    host.process.kill(signal.SIGCONT)
    for program in programs:
        program.settimeout(vhost_user.PATIENCE)
        assert is_closed(program)


def test_a_path_that_leaves_no_room_for_a_port_is_refused(bench, tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    most = 107 - len("_4294967295")
    for length, served in ((most, True), (most + 1, False)):
        path = str(folder / "x").ljust(length, "x")
        process, connection = backends.on_socketpair("--cid", 3, "--uds", path, kind="vsock")
        bench.keep(process)
        if served:
            vhost_user.until(lambda path=path: os.path.exists(path), "its socket")
        connection.close()
        assert process.ends() == (0 if served else 1)
        assert ("longer than 96 characters" in process.errors()) != served
        assert not os.path.exists(path)
