"""The guest's network: a tap interface that husk's back-end serves, and passt in its place."""

import hashlib
import os
import re
import shlex
import signal

import pytest

import images
import peers
from test_disk import SHELL, Shell, backend_pids, listens

MIB = 1 << 20
LENGTH = 100 * MIB
MAC = "52:54:00:68:75:73"
HERE, THERE = "10.96.0.1", "10.96.0.2"  # the host's end and the guest's
PORT = 5001
TRANSFER = 240  # seconds, for any of the transfers below


def stream(length, busybox="/bin/busybox"):
    """A shell command that prints so many bytes that all sides have: busybox itself, again and again, by one process."""
    times = -(-length // images.busybox().stat().st_size)
    return f"cat {' '.join([busybox] * times)} | head -c {length}"


def stream_md5(length):
    """The MD5 of what stream() prints."""
    one = images.busybox().read_bytes()
    whole, rest = divmod(length, len(one))
    found = hashlib.md5()
    for _ in range(whole):
        found.update(one)
    found.update(one[:rest])
    return found.hexdigest()


def ends(said):
    """(bytes, sum) of what one end of a pour said."""
    found = re.search(r"(?:poured|drained) (\d+) ([0-9a-f]{16})", said)
    return int(found[1]), found[2]


class Net:
    """A guest with an interface on the host's tap, and addresses on both sides."""

    def __init__(self, host, debian, options="", cpus=2):
        if not host.emulated and os.geteuid() != 0:
            pytest.skip("only root makes tap interfaces")
        self.host = host
        self.machine = debian(SHELL, "--net", f"tap=husk0,ip={HERE},mask=255.255.255.0,mac={MAC}{options}", cpus=cpus)
        self.shell = Shell(self.machine)
        self.shell.run(f"ip addr add {THERE}/24 dev eth0 && ip link set eth0 up")

    def _listening(self):
        self.host.run(f"for n in $(seq 1 600); do {self.host.busybox} netstat -ltn | grep -q :{PORT} && exit 0; sleep 0.1; done; "
                      "exit 1")

    def ping(self, size):
        """Three packets from the host to the guest; what was said of them."""
        return self.host.run(f"{self.host.busybox} ping -c 3 -s {size} {THERE}")[1]

    def pour(self, length):
        """Bytes from the guest to the host, then as many the other way: what each of the four ends counted and summed up."""
        helper = f"{self.host.folder}/streams"
        self.host.put(images.streams(), helper, 0o755)
        drain = self.host.start(f"exec {helper} drain tcp:{HERE}:{PORT}")
        drain.expect("listening", 60)
        sums = [ends(self.shell.run(f"streams pour tcp:{HERE}:{PORT} 1 {length}", TRANSFER))]
        assert drain.wait(60) == 0
        sums.append(ends(drain.output.decode()))
        # It is refused until the guest listens. In the guest's shell nothing runs behind: ash takes a job's end for its input's.
        pour = self.host.start(f"for n in $(seq 1 600); do {helper} pour tcp:{THERE}:{PORT} 2 {length} && exit 0; sleep 0.1; done; exit 1")
        received = ends(self.shell.run(f"streams drain tcp:{THERE}:{PORT}", TRANSFER))
        assert pour.wait(60) == 0
        return [*sums, ends(pour.output.decode()), received]

    def guest_sends(self, length):
        """Bytes from the guest to the host, as both sides' MD5: (wanted, found)."""
        receiver = self.host.start(f"{self.host.busybox} nc -l -p {PORT} | md5sum")
        self._listening()
        self.shell.run(f"({stream(length)}) | nc {HERE} {PORT}", TRANSFER)
        assert receiver.wait(60) == 0
        return stream_md5(length), receiver.output.decode()[:32]

    def guest_receives(self, length):
        """Bytes from the host to the guest, the same."""
        sender = self.host.start(f"({stream(length, self.host.busybox)}) | {self.host.busybox} nc -l -p {PORT}")
        self._listening()
        # An input that does not end: nc would take its own end for the connection's.
        said = self.shell.run(f"[ -p /input ] || mkfifo /input; nc {HERE} {PORT} <>/input | md5sum", TRANSFER)
        sender.wait(60)
        return stream_md5(length), re.search(r"[0-9a-f]{32}", said)[0]


def test_a_hundred_mib_each_way_on_two_pairs_of_queues_with_mtu_9000(host, debian):
    net = Net(host, debian, ",num_queues=4,mtu=9000")
    assert net.shell.run("cat /sys/class/net/eth0/address").strip() == MAC
    assert net.shell.run("cat /sys/class/net/eth0/mtu").strip() == "9000"
    assert host.run("cat /sys/class/net/husk0/mtu")[1].strip() == "9000"
    assert "rx-1" in net.shell.run("ls /sys/class/net/eth0/queues")
    # No fragments: the largest that fits.
    said = net.shell.run(f"ping -c 3 -s {9000 - 28} {HERE}")
    assert " 0% packet loss" in said and f"{9000 - 20} bytes from" in said
    assert " 0% packet loss" in net.ping(9000 - 28)
    there, here, back, returned = net.pour(LENGTH)
    assert there == here and back == returned and there[1] != back[1]
    assert {there[0], back[0]} == {LENGTH}
    net.shell.off()
    assert "husk0" not in host.run("ls /sys/class/net")[1]


# Bytes each way while the back-end is killed three times, each once as many bytes again have gone through the tap: there are
# always some on their way.
UNDER_KILLS = 12 * MIB
KILLER = f"""
moved() {{ echo $(($(cat /sys/class/net/husk0/statistics/rx_bytes) + $(cat /sys/class/net/husk0/statistics/tx_bytes))); }}
for n in 1 2 3; do
    from=$(moved)
    while [ $(($(moved) - from)) -lt {UNDER_KILLS // 6} ]; do sleep 0.1; done
    kill -9 $(pidof husk-backend) || exit 1
done
"""


def test_a_back_end_that_is_killed_while_busy_loses_the_guest_nothing(host, debian):
    net = Net(host, debian)
    for direction in (net.guest_sends, net.guest_receives):
        killer = host.start(KILLER)
        # Once would do, were the killer not slow now and then: what is through before the third kill comes no more.
        while True:
            wanted, found = direction(UNDER_KILLS)
            assert found == wanted
            if killer.status is not None:
                break
        assert killer.status == 0
    for _ in range(6):
        net.machine.event("backend-died")
        net.machine.event("backend-restarted")
    assert " 0% packet loss" in net.shell.run(f"ping -c 3 {HERE}")
    assert HERE in host.run("ip addr show husk0")[1]
    assert len(backend_pids(host)) == 1
    net.shell.off()


def test_a_guest_fetches_a_page_over_passt(host, debian):
    folder, guest, gateway = f"{host.folder}/passt", "10.0.2.15", "10.0.2.2"
    host.run(f"mkdir -p {folder}/www && ({stream(4 * MIB, host.busybox)}) > {folder}/www/page")
    passt = "/usr/local/bin/passt" if host.emulated else shlex.join(peers.tool("passt"))
    started = [host.start(f"exec {host.busybox} httpd -f -p 127.0.0.1:{PORT} -h {folder}/www"),
               host.start(f"exec {passt} --vhost-user --foreground --socket {folder}/passt.sock --runas 65534:65534 --ipv4-only "
                          f"--address {guest} --netmask 24 --gateway {gateway} --map-host-loopback {gateway}")]
    try:
        listens(host, f"{folder}/passt.sock")
        machine = debian(SHELL, "--net", f"vhost_user=on,socket={folder}/passt.sock,mac={MAC}")
        shell = Shell(machine)
        assert shell.run("cat /sys/class/net/eth0/address").strip() == MAC
        shell.run(f"ip addr add {guest}/24 dev eth0 && ip link set eth0 up && ip route add default via {gateway}")
        said = shell.run(f"wget -q -O - http://{gateway}:{PORT}/page | md5sum", 300)
        assert re.search(r"[0-9a-f]{32}", said)[0] == stream_md5(4 * MIB)
        # None of husk's serves it.
        assert not backend_pids(host)
        shell.off()
    finally:
        for process in started:
            process.kill(signal.SIGTERM)
