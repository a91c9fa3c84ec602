"""The guest connects to host programs: each stream to the one that was meant, whatever became of those before."""

import contextlib
import ctypes
import os
import pathlib
import resource
import signal
import socket
import struct

import pytest

import vhost_user
from vsock_client import REQUEST, RESPONSE, RST
from vsock_host import Host


SYS_PIDFD_GETFD = 438
ECONNREFUSED = 111


@pytest.fixture
def host(bench, tmp_path):
    return Host(bench, tmp_path)


def connector_of(process):
    """Its process."""
    return int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii"))


def sockets_of(pid):
    """The descriptors of a process that are sockets."""
    found = []
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += [int(link.name)] if os.readlink(link).startswith("socket:") else []
    return found


def connection_of(connector):
    """The end of a connector's that it answers on."""
    # What it has connected for the device it closes when that has got it.
    vhost_user.until(lambda: len(sockets_of(connector)) == 1, "the connector to be done")
    fd, = sockets_of(connector)
    pidfd = os.pidfd_open(connector)
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)
    finally:
        os.close(pidfd)
    assert copy >= 0, os.strerror(ctypes.get_errno())
    return socket.socket(fileno=copy)


def fill_backlog(host, port):
    """A host program that accepts nobody, and as many that wait for it as may."""
    busy = host.bench.keep(socket.socket(socket.AF_UNIX))
    busy.bind(f"{host.path}_{port}")
    busy.listen(0)
    host.bench.keep(socket.socket(socket.AF_UNIX)).connect(f"{host.path}_{port}")


def test_a_program_whose_backlog_is_full_refuses_and_the_next_stream_gets_its_own(host):
    fill_backlog(host, 1000)
    other = host.listen(2000)
    host.vsock.send(REQUEST, 5000, 1000)
    answer = host.vsock.receive()
    assert (answer.op, answer.src_port, answer.dst_port) == (RST, 1000, 5000)
    program, stream = host.stream_to_host(other, 2000, 5001)
    program.sendall(b"of 2000")
    assert stream.read(7) == b"of 2000"


def test_refusals_and_streams_do_not_mix_when_many_are_asked_for_at_once(host):
    fill_backlog(host, 1000)
    listeners = {port: host.listen(port) for port in (2000, 2001)}
    asked = {5000 + n: (1000, 2000, 999, 2001)[n % 4] for n in range(40)}
    host.vsock.send_together(*((REQUEST, guest_port, port) for guest_port, port in asked.items()))
    answers = [host.vsock.receive() for _ in asked]
    assert {packet.dst_port: packet.src_port for packet in answers} == asked
    for packet in answers:
        assert packet.op == (RESPONSE if packet.src_port in listeners else RST), packet
    for port, listener in listeners.items():
        for _ in range(10):
            program = host.bench.keep(listener.accept()[0])
            program.sendall(b"%d" % port)
            packet = host.vsock.receive()
            assert packet.src_port == port and packet.data == b"%d" % port


@pytest.mark.parametrize("of", ["device", "connector"])
def test_without_a_descriptor_for_it_a_stream_is_refused_and_later_ones_are_not(host, of):
    listener = host.listen(80)
    host.stream_to_host(listener, 80, 4000)  # it has begun
    pid = host.process.pid
    if of == "connector":
        pid = connector_of(host.process)
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))  # it has those
    for n in range(3):
        host.vsock.send(REQUEST, 5000 + n, 80)
        answer = host.vsock.receive()
        assert (answer.op, answer.dst_port) == (RST, 5000 + n)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    if of == "device":  # its programs were reached, and left
        for _ in range(3):
            assert listener.accept()[0].recv(100) == b""
    program, stream = host.stream_to_host(listener, 80, 6000)
    stream.write(b"hello")
    assert program.recv(100) == b"hello"


@pytest.mark.parametrize("answer", [struct.pack("<IIi", 2, 80, -ECONNREFUSED), struct.pack("<IIi", 1, 81, -ECONNREFUSED),
                                    struct.pack("<IIi", 1, 80, 1), struct.pack("<II", 1, 80), bytes(100)],
                         ids=["number", "port", "code", "short", "long"])
def test_an_answer_to_what_was_not_asked_ends_the_connectors_service_and_no_stream(host, answer):
    listener = host.listen(80)
    program, stream = host.stream_to_host(listener, 80, 4000)
    connector = connector_of(host.process)
    with connection_of(connector) as stolen:
        os.kill(connector, signal.SIGSTOP)
        host.vsock.send(REQUEST, 5000, 80)  # question 1
        stolen.send(answer)
        refused = host.vsock.receive()
        assert (refused.op, refused.src_port, refused.dst_port) == (RST, 80, 5000)
        os.kill(connector, signal.SIGCONT)
    vhost_user.until(lambda: "answers what it was not asked" in host.process.errors(), "the line in the log")
    host.vsock.send(REQUEST, 5001, 80)
    refused = host.vsock.receive()
    assert (refused.op, refused.dst_port) == (RST, 5001)
    stream.write(b"still there")
    assert program.recv(100) == b"still there"
    host.connect(b"CONNECT 9\n")
    packet = host.vsock.receive()
    assert (packet.op, packet.dst_port) == (REQUEST, 9)


def test_an_answer_that_nobody_waits_for_ends_the_connectors_service(host):
    host.stream_to_host(host.listen(80), 80, 4000)
    with connection_of(connector_of(host.process)) as stolen:
        stolen.send(struct.pack("<IIi", 1, 80, -ECONNREFUSED))
    vhost_user.until(lambda: "answers what it was not asked" in host.process.errors(), "the line in the log")
    host.vsock.send(REQUEST, 5000, 80)
    refused = host.vsock.receive()
    assert (refused.op, refused.dst_port) == (RST, 5000)
