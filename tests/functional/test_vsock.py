"""husk's socket back-end: streams between host programs and a guest, each byte once and in order."""

import fcntl
import os
import pathlib
import re
import socket
import struct
import termios
import threading
import time

import pytest

import backends
import vhost_user
import vsock_client
from vsock_client import (CREDIT_REQUEST, CREDIT_UPDATE, HOST, REQUEST, RESPONSE, RST, RW, SHUTDOWN, SHUT_RECEIVE, SHUT_SEND,
                          Stream)
from vsock_host import CID, Host, is_closed


def unread(program):
    """How many bytes of its, counted as the kernel does, the device has not taken."""
    return struct.unpack("i", fcntl.ioctl(program, termios.TIOCOUTQ, bytes(4)))[0]


@pytest.fixture
def host(bench, tmp_path):
    return Host(bench, tmp_path)


@pytest.fixture
def hosts(bench, tmp_path):
    """As many Hosts, one after another, as a test may need that is about time."""
    def made(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        return Host(bench, folder)
    return map(made, range(5))


def test_the_device_tells_the_guest_its_address(host):
    assert host.vsock.config() == CID


def test_a_host_program_says_connect_and_bytes_go_both_ways(host):
    program, stream = host.stream_from_host()
    program.sendall(b"from the host")
    assert stream.read(13) == b"from the host"
    stream.write(b"from the guest")
    assert program.recv(100) == b"from the guest"


def test_the_guest_connects_to_the_socket_of_that_port(host):
    listener = host.listen(70)
    program, stream = host.stream_to_host(listener, 70)
    stream.write(b"hello")
    assert program.recv(100) == b"hello"
    program.sendall(b"world")
    assert stream.read(5) == b"world"


def test_a_port_that_nobody_listens_on_is_refused(host):
    host.vsock.send(REQUEST, 5000, 71)
    answer = host.vsock.receive()
    assert (answer.op, answer.src_port, answer.dst_port) == (RST, 71, 5000)


@pytest.mark.parametrize("text", [b"CONNECT\n", b"CONNECT x\n", b"CONNECTED 5\n", b"CONNECT -5\n", b"CONNECT 4294967296\n",
                                  b"CONNECT 5x\n", b"CONNECT 5\0\n", b"CONNECT ++5\n", b"CONNECT 99999999999999999999999\n",
                                  b"\n", b"\nCONNECT 5\n", b"x" * 100, b"CONNECT 5" + b" " * 23])
def test_a_host_program_that_says_anything_else_is_closed_on(host, text):
    assert is_closed(host.connect(text))
    program, _ = host.stream_from_host()


@pytest.mark.parametrize("text", [b"connect 5\n", b"Connect  5\n", b"CONNECT 5\r\n", b" CONNECT\t5 \n", b"CONNECT 5 6\n",
                                  b"CONNECT +5\n", b"CONNECT 00005\n", b"CONNECT 5" + b" " * 22 + b"\n"])
def test_a_host_program_may_say_connect_as_firecracker_understands_it(host, text):
    program = host.connect(text + b"CONNECT 6\n")
    stream = Stream.from_host(host.vsock)
    assert stream.ports[0] == 5
    assert stream.read(10) == b"CONNECT 6\n"
    assert program.recv(100) == b"OK %d\n" % stream.ports[1]


def test_what_is_said_right_behind_connect_is_the_streams(host):
    program = host.connect(b"CONNECT 9\nat once")
    stream = Stream.from_host(host.vsock)
    assert stream.read(7) == b"at once"
    assert program.recv(100).startswith(b"OK ")


def test_connect_may_come_in_pieces(host):
    program = host.connect(b"CON")
    for text in (b"NECT ", b"12", b"34\nat once"):
        vhost_user.until(lambda: not unread(program), "the piece before")
        program.sendall(text)
    stream = Stream.from_host(host.vsock)
    assert stream.ports[0] == 1234
    assert stream.read(7) == b"at once"


def test_a_megabyte_each_way_at_the_same_time(host):
    program, stream = host.stream_from_host()
    sent = backends.pattern(3, 1 << 20)
    got = bytearray()

    def echo():
        while len(got) < len(sent):
            piece = program.recv(65536)
            got.extend(piece)
            program.sendall(piece)

    thread = threading.Thread(target=echo)
    thread.start()
    back = b""
    for at in range(0, len(sent), 16384):
        stream.write(sent[at:at + 16384])
        back += stream.read(16384)
    thread.join(vhost_user.PATIENCE)
    assert bytes(got) == sent and back == sent


def test_the_host_is_not_sent_more_than_the_guest_has_room_for(host):
    program, stream = host.stream_from_host()
    host.vsock.send(CREDIT_UPDATE, *stream.ports, buf_alloc=1000)
    program.sendall(bytes(5000))
    first = host.vsock.receive()
    assert (first.op, len(first.data)) == (RW, 1000)
    with pytest.raises(vhost_user.BackEndError):
        host.vsock.receive(0.3)
    host.vsock.send(CREDIT_UPDATE, *stream.ports, buf_alloc=1000, fwd_cnt=600)
    assert len(host.vsock.receive().data) == 600


def test_room_that_any_packet_tells_of_lets_the_host_go_on(host):
    program, stream = host.stream_from_host()
    host.vsock.send(CREDIT_UPDATE, *stream.ports, buf_alloc=1000)
    program.sendall(bytes(2000))
    assert len(host.vsock.receive().data) == 1000
    host.vsock.send(RW, *stream.ports, b"taken", buf_alloc=1000, fwd_cnt=1000)
    assert program.recv(10) == b"taken"
    assert len(host.vsock.receive().data) == 1000


def test_a_guest_that_sends_more_than_there_is_room_for_loses_its_stream_alone(host):
    program, stream = host.stream_from_host()
    other_program, other = host.stream_from_host(2)
    answer = None
    for _ in range(1000):
        host.vsock.send(RW, *stream.ports, bytes(4000))
        host.vsock._collect()
        answer = next((packet for packet in host.vsock.arrived if packet.op == RST), None)
        if answer:
            break
    assert answer and (answer.dst_port, answer.src_port) == stream.ports
    host.vsock.arrived.clear()
    other.write(b"still there")
    assert other_program.recv(100) == b"still there"
    program.close()


def test_credit_is_told_when_it_is_asked_for(host):
    _, stream = host.stream_from_host()
    stream.send(CREDIT_REQUEST)
    answer = stream.receive()
    assert answer.op == CREDIT_UPDATE and answer.buf_alloc > 0


def test_the_end_of_a_host_program_comes_behind_its_last_byte(host):
    program, stream = host.stream_from_host()
    program.sendall(b"last")
    program.close()
    assert stream.read(4) == b"last"
    end = stream.receive()
    assert end.op == SHUTDOWN and end.flags == SHUT_RECEIVE | SHUT_SEND
    stream.send(SHUTDOWN, flags=SHUT_RECEIVE | SHUT_SEND)
    assert stream.receive().op == RST


def test_bytes_of_a_host_program_that_has_closed_reach_a_guest_that_still_writes(host):
    program, stream = host.stream_from_host()
    host.vsock.send(CREDIT_UPDATE, *stream.ports, buf_alloc=1000)
    program.sendall(backends.pattern(1, 5000))
    got = host.vsock.receive().data
    program.close()
    host.vsock.send(RW, *stream.ports, b"to nobody", buf_alloc=1000)
    stream.taken = len(got)
    stream.send(CREDIT_UPDATE)
    end = stream.receive()
    assert end.op == SHUTDOWN and end.flags == SHUT_RECEIVE
    got += stream.read(5000 - len(got))
    assert got == backends.pattern(1, 5000)
    end = stream.receive()
    assert end.op == SHUTDOWN and end.flags == SHUT_RECEIVE | SHUT_SEND


@pytest.mark.parametrize("length", [1, 100000])
def test_bytes_of_a_host_program_that_closes_before_the_guest_answers_reach_it(host, length):
    program = host.connect(b"CONNECT 9\n" + backends.pattern(1, length))
    program.close()
    stream = Stream.from_host(host.vsock)
    end = stream.receive()
    assert end.op == SHUTDOWN and end.flags == SHUT_RECEIVE
    assert stream.read(length) == backends.pattern(1, length)
    end = stream.receive()
    assert end.op == SHUTDOWN and end.flags == SHUT_RECEIVE | SHUT_SEND
    stream.send(SHUTDOWN, flags=SHUT_RECEIVE | SHUT_SEND)
    assert stream.receive().op == RST


def test_the_guest_is_told_of_a_host_program_that_closes_without_a_word_before_it_answers(host):
    program = host.connect(b"CONNECT 9\n")
    question = host.vsock.receive()
    program.close()
    end = host.vsock.receive()
    assert end.op == RST and (end.src_port, end.dst_port) == (question.src_port, 9)


def test_a_host_program_that_reads_no_more_still_sends(host):
    program, stream = host.stream_from_host()
    program.shutdown(socket.SHUT_RD)
    stream.send(RW, b"unheard")
    end = stream.receive()
    assert end.op == SHUTDOWN and end.flags == SHUT_RECEIVE
    program.sendall(b"answer")
    assert stream.read(6) == b"answer"
    program.shutdown(socket.SHUT_WR)
    end = stream.receive()
    assert end.op == SHUTDOWN and end.flags == SHUT_RECEIVE | SHUT_SEND


def test_a_host_program_that_writes_to_a_guest_which_receives_no_more_gets_an_error(host):
    program, stream = host.stream_from_host()
    stream.send(SHUTDOWN, flags=SHUT_RECEIVE)
    with pytest.raises(BrokenPipeError):
        for _ in range(100):
            program.sendall(bytes(65536))
    stream.write(b"still heard")
    assert program.recv(100) == b"still heard"


def test_a_host_program_that_sends_no_more_still_receives(host):
    program, stream = host.stream_from_host()
    program.shutdown(socket.SHUT_WR)
    end = stream.receive()
    assert end.op == SHUTDOWN and end.flags == SHUT_SEND
    stream.write(b"answer")
    assert program.recv(100) == b"answer"


@pytest.mark.parametrize("at_once", [False, True])
def test_a_guest_that_closes_before_it_had_room_for_the_answer_is_answered_all_the_same(host, at_once):
    listener = host.listen(80)
    host.vsock.use_up_buffers()
    if at_once:
        host.vsock.send_together((REQUEST, 5000, 80), (SHUTDOWN, 5000, 80), flags=SHUT_RECEIVE | SHUT_SEND)
    else:
        host.vsock.send(REQUEST, 5000, 80)
        host.bench.keep(listener.accept()[0])
        host.vsock.send(SHUTDOWN, 5000, 80, flags=SHUT_RECEIVE | SHUT_SEND)
    while (answer := host.vsock.receive()).dst_port != 5000:
        pass
    assert answer.op == RST


def test_a_guest_that_sends_no_more_still_receives(host):
    program, stream = host.stream_from_host()
    stream.write(b"question")
    stream.send(SHUTDOWN, flags=SHUT_SEND)
    assert program.recv(100) == b"question" and program.recv(100) == b""
    program.sendall(b"answer")
    assert stream.read(6) == b"answer"


def test_the_end_of_a_guests_stream_is_answered_and_comes_behind_its_last_byte(host):
    program, stream = host.stream_from_host()
    stream.write(b"last")
    stream.send(SHUTDOWN, flags=SHUT_RECEIVE | SHUT_SEND)
    assert stream.receive().op == RST
    assert program.recv(100) == b"last" and program.recv(100) == b""


def test_bytes_that_a_guest_sent_before_it_closed_wait_for_a_slow_host_program(host):
    listener = host.listen(80)
    program, stream = host.stream_to_host(listener, 80)
    sent = backends.pattern(2, 350000)
    for at in range(0, len(sent), 4000):
        host.vsock.send(RW, *stream.ports, sent[at:at + 4000])
    stream.send(SHUTDOWN, flags=SHUT_RECEIVE | SHUT_SEND)
    stream.send(RST)
    stream.send(REQUEST)  # the same ports, before any of it was read
    while (answer := host.vsock.receive()).op == CREDIT_UPDATE:
        pass
    assert answer.op == RESPONSE
    assert vhost_user.receive(program, len(sent)) == sent and program.recv(100) == b""
    stream.send(RW, b"of the second")
    assert listener.accept()[0].recv(100) == b"of the second"


def test_a_reset_by_the_guest_closes_the_host_side(host):
    program, stream = host.stream_from_host()
    stream.send(RST)
    assert is_closed(program)


def test_a_thousand_streams_and_no_more(host):
    listener = host.listen(80)
    streams = []
    for n in range(1000):
        streams.append(host.stream_to_host(listener, 80, 10000 + n))
    for program, stream in streams[::97]:
        stream.write(b"x")
        assert program.recv(1) == b"x"
    refused = 0
    for n in range(100):
        host.vsock.send(REQUEST, 20000 + n, 80)
        refused += host.vsock.receive().op == RST
    assert refused == 100 - 24


def test_packets_that_make_no_sense_are_refused_or_dropped(host):
    # A host program listens, so that what is taken for a request after all shows.
    listener = host.listen(2)
    for fields in ({"src_cid": host.vsock.cid + 1}, {"dst_cid": 1}, {"dst_cid": 4 << 32 | HOST}):
        host.vsock.send(REQUEST, 1, 2, **fields)
    for op in (RESPONSE, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST, 0, 8, 65535):
        host.vsock.send(op, 1, 2)
        answer = host.vsock.receive()
        assert (answer.op, answer.src_port, answer.dst_port) == (RST, 2, 1)
    host.vsock.send(RST, 1, 2)
    host.vsock.send(REQUEST, 1, 2, type=2)
    assert host.vsock.receive().op == RST
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    host.vsock.send_raw(bytes(43))
    host.vsock.send(RW, 1, 2, len=1 << 31)
    host.stream_from_host()
    assert host.process.running()


def test_a_buffer_without_room_for_data_holds_nothing_up(host):
    program, stream = host.stream_from_host()
    host.vsock.give(host.vsock.memory.allocate(vsock_client.BUFFER), vsock_client.HEADER.size)
    # Behind all of those that were there before.
    for n in range(40):
        program.sendall(b"%02d" % n)
        assert stream.read(2) == b"%02d" % n
    assert host.vsock.empty == 1


def is_asleep(process):
    """Whether all of its threads wait for something."""
    return all(re.search(r"\) S ", stat.read_text(encoding="ascii")) for stat in
               pathlib.Path(f"/proc/{process.pid}/task").glob("*/stat"))


def test_a_driver_that_never_runs_out_of_packets_is_served_without_a_pause(host):
    """The ring is full again each time the device looks; kicked only as it asks for it."""
    memory, queue = host.vsock.memory, host.vsock.front.queues[vsock_client.TX]
    packet = memory.allocate(vsock_client.HEADER.size)  # to nobody: dropped at once
    memory.write(packet, vsock_client.HEADER.pack(CID, 99, 1, 2, 0, vsock_client.STREAM, RW, 0, 0, 0))
    for head in range(queue.size):
        queue.write_desc(queue.desc, head, packet, vsock_client.HEADER.size, 0)
        memory.set_word(queue.avail + 4 + 2 * head, head)
    used, moved = queue.used_idx(), time.monotonic()
    end = moved + 2
    while time.monotonic() < end:
        before, queue.avail_idx = queue.avail_idx, queue.used_idx() + queue.size & 0xffff
        memory.set_word(queue.avail + 2, queue.avail_idx)
        if queue.avail_idx != before:
            queue.kick_if_wanted(before)
        if used != queue.used_idx():
            used, moved = queue.used_idx(), time.monotonic()
        elif time.monotonic() > moved + 0.1:
            assert not is_asleep(host.process) or used != queue.used_idx(), "it sleeps while there are packets"


def test_after_a_kill_the_driver_is_told_that_its_streams_are_gone(host):
    program, stream = host.stream_from_host()
    host.process.kill()
    host.process.ends()
    assert is_closed(program)
    another, connection = backends.on_socketpair("--cid", CID, "--uds", host.path, kind="vsock")
    host.bench.keep(another)
    host.vsock.front = host.vsock.front.reconnect(connection)
    assert host.vsock.event() == 0
    stream.send(RW, b"to nobody")
    assert host.vsock.receive().op == RST
    host.stream_from_host(3)


def test_after_a_stop_and_start_of_its_queues_the_driver_is_told_that_its_streams_are_gone(host):
    program, stream = host.stream_from_host()
    front = host.vsock.front
    bases = [front.stop_queue(queue) for queue in front.queues]
    assert is_closed(program)
    assert not front.queues[vsock_client.EVENT].reap()
    for queue, base in zip(front.queues, bases):
        front.start_queue(queue, base)
    assert host.vsock.event() == 0
    stream.send(RW, b"to nobody")
    assert host.vsock.receive().op == RST
    host.stream_from_host(3)


# For how long a program that does not read holds up the end of a guest, seconds.
MOMENT = 1


@pytest.mark.parametrize("end", ["stop", "leave"])
def test_what_a_guest_sent_right_before_its_end_reaches_a_program_that_reads(hosts, end):
    sent = backends.pattern(2, 350000)

    def leave(front):
        if end == "leave":
            front.socket.close()
        else:
            for queue in front.queues:
                front.stop_queue(queue)

    def heard(host):
        """All that the program is given, and for how long it was."""
        program, stream = host.stream_to_host(host.listen(80), 80)
        for at in range(0, len(sent), 4000):
            host.vsock.send(RW, *stream.ports, sent[at:at + 4000])
        leaving = threading.Thread(target=leave, args=[host.vsock.front])
        began = time.monotonic()
        leaving.start()
        data = b""
        while len(data) < len(sent) and (piece := program.recv(1 << 16)):
            data += piece
        took = time.monotonic() - began
        leaving.join()
        return data, took

    for host in hosts:
        data, took = heard(host)
        if data == sent:
            return
        # The program was held up itself, and is one that does not read: but not each time.
        assert took >= MOMENT
    pytest.fail("it never read in time")


def test_a_program_that_does_not_read_holds_up_the_end_of_a_guest_for_a_moment_only(hosts):
    took = []
    for host in hosts:
        _, stream = host.stream_to_host(host.listen(80), 80)
        for _ in range(80):
            host.vsock.send(RW, *stream.ports, bytes(4000))
        front = host.vsock.front
        began = time.monotonic()
        for queue in front.queues:
            front.stop_queue(queue)
        took.append(time.monotonic() - began)
        # Others may take the processor once, but not each time.
        if took[-1] < 4 * MOMENT:
            return
    pytest.fail(f"it took {took} seconds")


def test_a_driver_that_begins_anew_is_told_of_no_loss(host):
    host.stream_from_host()
    front = host.vsock.front
    for queue in front.queues:
        front.stop_queue(queue)
    host.vsock.begin_anew()
    host.stream_from_host(3)
    assert not front.queues[vsock_client.EVENT].reap()


def test_the_connector_has_nothing_of_the_devices(host):
    host.stream_to_host(host.listen(80), 80)  # it has begun, and may not have closed what it has given away
    pid, = pathlib.Path(f"/proc/{host.process.pid}/task/{host.process.pid}/children").read_text().split()

    def held():
        return [number for number in map(int, os.listdir(f"/proc/{pid}/fd")) if number > 2]

    vhost_user.until(lambda: len(held()) == 1, "its own socket alone")
    assert os.readlink(f"/proc/{pid}/fd/{held()[0]}").startswith("socket:")


def test_nothing_is_left_behind(host):
    host.stream_from_host()
    host.vsock.close()
    assert host.process.ends() == 0
    assert not os.path.exists(host.path)
