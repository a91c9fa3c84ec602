"""The guest connects to host programs: each stream to the one that was meant, whatever became of those before."""

import pathlib
import resource
import socket

import pytest

from vsock_client import REQUEST, RESPONSE, RST
from vsock_host import Host


@pytest.fixture
def host(bench, tmp_path):
    return Host(bench, tmp_path)


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
        pid = int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii"))
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
