"""Streams between programs of the guest and of the host, over husk's socket device."""

import pytest

import images
from test_disk import SHELL, Shell, all_gone, backend_pids

CID, PORT = 7, 5000
KIB, MIB = 1 << 10, 1 << 20


class Sockets:
    """A guest with a socket device, and the same helper on both sides (streams.c)."""

    def __init__(self, host, debian):
        self.host = host
        self.path = f"{host.folder}/guest.vsock"
        self.helper = f"{host.folder}/streams"
        host.put(images.streams(), self.helper, 0o755)
        self.machine = debian(SHELL, "--vsock", f"cid={CID},socket={self.path}")
        self.shell = Shell(self.machine)
        self.echoes = []

    def echo_in_guest(self):
        self.shell.run(f"streams echo vsock:{CID}:{PORT} >/echo.log 2>&1 & "
                       "until grep -q listening /echo.log; do sleep 0.1; done")

    def echo_on_host(self):
        echo = self.host.start(f"exec {self.helper} echo unix:{self.path}_{PORT}")
        echo.expect("listening", 60)
        self.echoes.append(echo)

    def from_host(self, count, length):
        """Connections that the host begins, started."""
        return self.host.start(f"exec {self.helper} talk husk:{self.path}:{PORT} {count} {length}")

    def close(self):
        for echo in self.echoes:
            echo.kill()
            self.host.run(f"rm -f {self.path}_{PORT}")


@pytest.fixture
def sockets(host, debian):
    """A guest with a socket device."""
    made = Sockets(host, debian)
    yield made
    if not host.lost:
        made.close()


def test_both_sides_connect_to_the_other_64_times_at_once(host, sockets):
    sockets.echo_in_guest()
    sockets.echo_on_host()
    assert sockets.shell.run(f"streams talk vsock:2:{PORT} 1 {MIB}").split()[-2:] == ["echoed", "1"]
    talk = sockets.from_host(1, MIB)
    assert talk.wait(120) == 0 and b"echoed 1" in talk.output
    assert sockets.shell.run(f"streams talk vsock:2:{PORT} 64 {16 * KIB}").split()[-2:] == ["echoed", "64"]
    talk = sockets.from_host(64, 16 * KIB)
    assert talk.wait(120) == 0 and b"connected 64" in talk.output and b"echoed 64" in talk.output
    sockets.shell.off()
    # The socket is gone with the guest.
    assert host.run(f"ls {host.folder}")[1].split().count("guest.vsock") == 0


def test_a_port_that_nobody_listens_on_is_refused_on_either_side(sockets):
    assert "Connection reset" in sockets.shell.run(f"streams talk vsock:2:{PORT} 1 1 2>&1", status=1)
    talk = sockets.from_host(1, 1)
    assert talk.wait(60) == 1
    assert b"no answer to CONNECT" in talk.errors
    sockets.shell.off()


def test_a_back_end_that_is_killed_closes_its_connections_and_new_ones_work(host, sockets):
    sockets.echo_in_guest()
    sockets.echo_on_host()
    for _ in range(2):
        # More than can be through before the kill, both ways at once.
        talk = sockets.from_host(4, 1 << 30)
        talk.expect("connected 4", 120)
        sockets.machine.process.write(f"streams talk vsock:2:{PORT} 4 {1 << 30} >/talk.log; echo over $? >>/talk.log\n".encode())
        # Each has a process of its own on the host, beside the one that listens and the one that talks.
        host.run("for n in $(seq 1 600); do [ $(cat /proc/[0-9]*/comm 2>/dev/null | grep -c '^streams$') -ge 6 ] && exit 0; "
                 "sleep 0.1; done; exit 1", 90)
        before = backend_pids(host)
        # The back-end and its connector.
        assert len(before) == 2
        host.run(f"kill -9 {min(map(int, before))}")
        assert talk.wait(120) == 3 and b"broken 4" in talk.output
        sockets.machine.event("backend-died")
        sockets.machine.event("backend-restarted")
        assert sockets.shell.run("cat /talk.log").split()[-6:] == ["connected", "4", "broken", "4", "over", "3"]
        talk = sockets.from_host(8, 16 * KIB)
        assert talk.wait(120) == 0 and b"echoed 8" in talk.output
        assert sockets.shell.run(f"streams talk vsock:2:{PORT} 8 {16 * KIB}").split()[-2:] == ["echoed", "8"]
    sockets.shell.off()
    all_gone(host)
