"""Machines of a few instructions on the local KVM: how they end, what husk says of it, and what it leaves behind."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import select
import signal
import socket
import subprocess
import termios
import time

import pytest

import vhost_user

pytestmark = pytest.mark.usefixtures("needs_kvm")


class Machine:
    """A husk that runs, its events in a file."""

    def __init__(self, husk, folder, kernel, *words, memory="size=64M", **kwargs):
        self.events_path = folder / "events"
        self.events_path.unlink(missing_ok=True)
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([husk, "run", "--kernel", kernel, "--memory", memory, "--event-monitor",
                                         f"path={self.events_path}", *words], **{**streams, **kwargs})
        self.proc = pathlib.Path(f"/proc/{self.process.pid}")

    def events(self):
        """Each event so far, as "source/event"; every whole line has to be JSON with the three keys."""
        if not self.events_path.exists():
            return []
        lines = self.events_path.read_bytes().split(b"\n")[:-1]
        found = [json.loads(line) for line in lines]
        assert all(set(event) == {"timestamp", "source", "event", "properties"} for event in found)
        return [f"{event['source']}/{event['event']}" for event in found]

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.events(), self.process.poll())
            time.sleep(0.005)

    def booted(self):
        self.until(lambda: "vm/booted" in self.events())
        return self

    def fds(self):
        return len(list((self.proc / "fd").iterdir()))

    def cpu_ticks(self):
        fields = (self.proc / "stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def end_by(self, number):
        """The signal as the power button, then again; the exit status."""
        before = self.events().count("vm/power-button")
        self.process.send_signal(number)
        self.until(lambda: self.events().count("vm/power-button") > before)
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def start(husk, payloads, tmp_path):
    machines = []

    def make(payload, *words, **kwargs):
        machines.append(Machine(husk, tmp_path, payloads / f"{payload}.elf", *words, **kwargs))
        return machines[-1]

    yield make
    for machine in machines:
        machine.process.kill()
        machine.process.communicate()


@pytest.mark.parametrize("payload, words, status, event", [
    ("poweroff", [], 0, "shutdown"),
    ("reset", ["--no-reboot"], 3, "reset"),
    ("triplefault", [], 4, "triple-fault"),
])
def test_each_ending_has_its_status_and_event(start, payload, words, status, event):
    machine = start(payload, *words)
    assert machine.process.wait(60) == status
    assert machine.events() == ["vmm/starting", "vm/booting", "vm/booted", f"vm/{event}", "vmm/shutdown"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_husk(start, number):
    machine = start("spin", "--cpus", "boot=2").booted()
    assert machine.end_by(number) == 128 + number
    assert machine.events()[-2:] == ["vm/killed", "vmm/shutdown"]


def test_two_signals_end_a_guest_that_resets_all_the_time(start):
    machine = start("reset")
    machine.until(lambda: machine.events().count("vm/rebooted") >= 3)
    machine.process.send_signal(signal.SIGTERM)
    machine.until(lambda: "vm/power-button" in machine.events())
    lives = machine.events().count("vm/rebooted")
    machine.until(lambda: machine.events().count("vm/rebooted") >= lives + 2)
    machine.process.send_signal(signal.SIGTERM)
    assert machine.process.wait(60) == 143
    assert machine.events().count("vm/power-button") == 1


def test_the_second_signal_is_not_lost_to_a_reset_at_the_same_moment(start):
    for n in range(40):
        machine = start("reset")
        machine.until(lambda: "vm/rebooted" in machine.events())
        machine.process.send_signal(signal.SIGTERM)
        machine.until(lambda: "vm/power-button" in machine.events())
        time.sleep(n * 0.0005)  # at all sorts of moments of a life
        machine.process.send_signal(signal.SIGTERM)
        assert machine.process.wait(60) == 143


def test_files_are_not_mistaken_for_standard_streams_that_were_closed(husk, payloads, tmp_path):
    events, log = tmp_path / "events", tmp_path / "log"
    done = subprocess.run(["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", husk, "run", "--kernel", payloads / "poweroff.elf",
                           "-vv", "--log-file", log, "--event-monitor", f"path={events}"], check=False, timeout=60)
    assert done.returncode == 0
    assert [json.loads(line)["event"] for line in events.read_text().splitlines()][0] == "starting"
    assert all(line.startswith("husk[") for line in log.read_text().splitlines())


def test_a_log_that_nobody_reads_does_not_hold_the_guest(start):
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    machine = start("reset", "-vv", stderr=writer)
    os.close(writer)
    machine.until(lambda: machine.events().count("vm/rebooted") >= 60)
    said = b""
    while b" lines of the log were lost\n" not in said:
        assert select.select([reader], [], [], 60)[0], said
        said += os.read(reader, 4096)
    machine.process.kill()
    machine.process.wait(60)
    os.close(reader)


def test_fifty_reboots_leak_no_descriptor_and_no_thread(start):
    machine = start("reset")
    machine.until(lambda: machine.events().count("vm/rebooted") >= 3)
    early = max(machine.fds() for _ in range(10))
    machine.until(lambda: machine.events().count("vm/rebooted") >= 53)
    assert machine.fds() <= early + 3
    # One more may be on its way out at any moment; a leak stays.
    machine.until(lambda: len(list((machine.proc / "task").iterdir())) <= 3)


def test_no_shutdown_keeps_husk_until_a_signal(start):
    machine = start("poweroff", "--no-shutdown")
    machine.until(lambda: "vm/shutdown" in machine.events())
    ticks = machine.cpu_ticks()
    with pytest.raises(subprocess.TimeoutExpired):
        machine.process.wait(0.2)
    assert machine.cpu_ticks() - ticks <= 2
    machine.process.send_signal(signal.SIGTERM)
    assert machine.process.wait(60) == 0


def test_254_vcpus_start_and_stop(start):
    machine = start("poweroff", "--cpus", "boot=254")
    assert machine.process.wait(120) == 0
    assert start("poweroff", "--cpus", "boot=255").process.wait(60) == 2


def test_a_topology_is_taken(start):
    assert start("poweroff", "--cpus", "boot=2,topology=1:2:1:1").process.wait(60) == 0


def test_affinity_binds_the_thread_of_that_vcpu_alone(start):
    machine = start("spin", "--cpus", "boot=2,affinity=[0@[0]]").booted()
    deadline = time.monotonic() + 60
    allowed = {}
    # A thread that needs no placement may take its name after the machine has booted.
    while "vcpu1" not in allowed and time.monotonic() < deadline:
        for task in (machine.proc / "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
                allowed[fields["Name"].strip()] = fields["Cpus_allowed_list"].strip()
    assert allowed["vcpu0"] == "0"
    assert allowed["vcpu1"] == allowed["husk"]


@pytest.mark.parametrize("size", ["3584M", "6G"])
def test_memory_is_not_touched_before_the_guest_does(start, size):
    machine = start("spin", memory=f"size={size}").booted()
    assert int((machine.proc / "statm").read_text().split()[1]) * 4096 < 64 << 20


def test_prefault_touches_all_memory(start):
    machine = start("spin", memory="size=64M,prefault=on,thp=off").booted()
    assert int((machine.proc / "statm").read_text().split()[1]) * 4096 >= 64 << 20


def test_missing_huge_pages_are_said_with_a_way_out(start):
    free = pathlib.Path("/proc/meminfo").read_text()
    if "HugePages_Free:        0" not in free:
        pytest.skip("needs a host without free huge pages")
    machine = start("poweroff", memory="size=64M,hugepages=on,hugepage_size=2M")
    said = machine.process.communicate(timeout=60)[1].decode()
    assert machine.process.returncode == 1
    assert "huge pages" in said and "nr_hugepages" in said and len(said.splitlines()) == 2


def test_kill_9_leaves_no_process(start):
    machine = start("spin", "--cpus", "boot=4").booted()
    for path in machine.proc.glob("task/*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            assert path.read_text() == ""
    machine.process.kill()
    assert machine.process.wait(60) == -signal.SIGKILL
    assert not machine.proc.exists()


def test_a_printed_configuration_starts_the_same_machine(husk, payloads, tmp_path):
    words = [husk, "run", "--kernel", payloads / "reset.elf", "--memory", "size=64M", "--no-reboot", "--cpus", "boot=2"]
    printed = subprocess.run([*words, "--print-config"], capture_output=True, check=True, timeout=60).stdout
    (tmp_path / "vm.json").write_bytes(printed)
    from_file = [husk, "run", "--config", tmp_path / "vm.json"]
    assert subprocess.run(from_file, stdin=subprocess.DEVNULL, timeout=60, check=False).returncode == 3
    again = subprocess.run([*from_file, "--print-config"], capture_output=True, check=True, timeout=60).stdout
    assert again == printed


def test_events_go_to_an_inherited_descriptor(husk, payloads):
    ours, theirs = os.pipe()
    done = subprocess.run([husk, "run", "--kernel", payloads / "poweroff.elf", "--memory", "size=64M",
                           "--event-monitor", f"fd={theirs}"], pass_fds=[theirs], timeout=60, check=False)
    os.close(theirs)
    with open(ours, encoding="utf-8") as pipe:
        events = [json.loads(line)["event"] for line in pipe]
    assert done.returncode == 0
    assert events == ["starting", "booting", "booted", "shutdown", "shutdown"]


def test_the_log_is_json_lines_where_that_was_asked_for(start, tmp_path):
    machine = start("triplefault", "-vv", "--log-file", str(tmp_path / "log"), "--log-format", "json")
    assert machine.process.wait(60) == 4
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert any(line["level"] == "error" and "triple fault" in line["message"] for line in lines)
    assert machine.process.stderr.read() == b""


def test_output_goes_to_files_and_the_guest_sees_pvpanic(start, tmp_path):
    serial, debug = tmp_path / "serial", tmp_path / "debug"
    machine = start("serial", "--serial", f"file={serial}", "--debug-console", f"file={debug},iobase=0x402",
                    "--pvpanic").booted()
    machine.until(lambda: serial.read_bytes() == b"hello\np")
    assert debug.read_bytes() == b"hello\n"


def test_a_guest_without_pvpanic_finds_none(start, tmp_path):
    serial = tmp_path / "serial"
    machine = start("serial", "--serial", f"file={serial}").booted()
    machine.until(lambda: serial.read_bytes() == b"hello\nn")


def test_a_pipe_as_terminal_carries_both_directions(start):
    machine = start("serial", "--serial", "tty", stdin=subprocess.PIPE)
    assert machine.process.communicate(b"Z", timeout=60)[0] == b"hello\nnZ"
    assert machine.process.returncode == 0


def test_output_to_a_closed_pipe_does_not_end_husk(start):
    ours, theirs = os.pipe()
    os.close(ours)
    machine = start("chatter", "--serial", "tty", stdout=theirs).booted()
    os.close(theirs)
    said = b""
    while b"output is lost" not in said:
        said += read_until(machine.process.stderr.fileno(), b"\n")
    with pytest.raises(subprocess.TimeoutExpired):
        machine.process.wait(0.3)
    assert machine.end_by(signal.SIGTERM) == 143


def read_until(fd, ending):
    got = b""
    while not got.endswith(ending):
        ready = select.poll()
        ready.register(fd, select.POLLIN)
        assert ready.poll(60000), got
        piece = os.read(fd, 4096)
        assert piece, got
        got += piece
    return got


@pytest.mark.parametrize("by_signal", [False, True])
def test_the_terminal_is_raw_while_husk_runs_and_as_before_after(start, by_signal):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    machine = start("serial", "--serial", "tty", stdin=slave, stdout=slave, start_new_session=True).booted()
    read_until(master, b"hello\nn")
    if by_signal:
        assert machine.end_by(signal.SIGTERM) == 143
    else:
        os.write(master, b"\x03")  # the guest's, not a signal
        assert machine.process.wait(60) == 0
        assert read_until(master, b"\x03") == b"\x03"
    assert termios.tcgetattr(slave) == before


@pytest.mark.parametrize("option", ["--serial", "--console"])
def test_the_terminal_is_as_before_whatever_signal_ends_husk_at_once(start, option):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM,
                   signal.SIGXCPU, signal.SIGTRAP):
        machine = start("spin", option, "tty", stdin=slave, stdout=slave, start_new_session=True).booted()
        assert termios.tcgetattr(slave) != before
        machine.process.send_signal(number)
        assert machine.process.wait(60) == -number
        assert termios.tcgetattr(slave) == before, number
    os.close(master)
    os.close(slave)


def test_a_pseudo_terminal_carries_both_directions(start):
    machine = start("serial", "--serial", "pty")
    said = machine.process.stderr.readline().decode()
    fd = os.open(said.split()[-1], os.O_RDWR | os.O_NOCTTY)
    assert read_until(fd, b"n") == b"hello\nn"
    os.write(fd, b"Q")
    assert machine.process.wait(60) == 0


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(path))
    return client


def test_a_socket_carries_both_directions_and_is_removed(start, tmp_path):
    path = tmp_path / "serial.sock"
    machine = start("serial", "--serial", f"socket={path}").booted()
    with connect(path) as client:
        assert vhost_user.receive(client, 7) == b"hello\nn"
        client.sendall(b"Q")
        assert machine.process.wait(60) == 0
        assert client.recv(100) == b"Q"
    assert not path.exists()


def test_a_client_that_sends_no_more_goes_on_reading_and_makes_room_when_it_leaves(start, tmp_path):
    path = tmp_path / "serial.sock"
    start("chatter", "--serial", f"socket={path}").booted()
    for _ in range(2):
        with connect(path) as client:
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read(300) == b"x" * 300


def test_a_client_that_leaves_with_its_input_unread_makes_room_for_the_next(start, tmp_path):
    path = tmp_path / "serial.sock"
    start("chatter", "--serial", f"socket={path}").booted()
    for _ in range(3):
        with connect(path) as client:
            client.sendall(b"i" * 2000)
            assert client.recv(1) == b"x"


def test_a_fifo_that_nobody_reads_does_not_hold_husk(start, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    machine = start("poweroff", "--serial", f"file={path}")
    assert machine.process.wait(60) == 1
    assert str(path).encode() in machine.process.stderr.read()

    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    machine = start("chatter", "--serial", f"file={path}").booted()
    assert machine.end_by(signal.SIGTERM) == 143
    os.close(reader)


@pytest.mark.parametrize("words", [["--serial", "tty"], ["--serial", "pty"]])
def test_an_idle_machine_uses_no_processor_time(start, words):
    machine = start("halt", *words, stdin=subprocess.DEVNULL).booted()
    ticks = machine.cpu_ticks()
    time.sleep(0.5)
    assert machine.cpu_ticks() - ticks <= 2


def test_clients_that_half_close_or_leave_use_no_processor_time(start, tmp_path):
    path = tmp_path / "serial.sock"
    machine = start("halt", "--serial", f"socket={path}").booted()
    client = connect(path)
    client.sendall(b"i" * 2000)
    client.shutdown(socket.SHUT_WR)
    ticks = machine.cpu_ticks()
    time.sleep(0.3)
    client.close()
    time.sleep(0.3)
    assert machine.cpu_ticks() - ticks <= 3


def test_of_machines_that_start_on_one_disk_at_the_same_moment_one_gets_it(start, tmp_path):
    for n in range(5):
        image = tmp_path / f"shared{n}.raw"
        image.write_bytes(bytes(1 << 20))
        left = [start("spin", "--disk", f"path={image}", stderr=subprocess.PIPE) for _ in range(3)]
        until = time.monotonic() + 60
        while len(left) > 1:
            assert time.monotonic() < until
            for machine in [machine for machine in left if machine.process.poll() is not None]:
                errors = machine.process.stderr.read()
                assert machine.process.returncode == 1
                assert f"'{image}' is in use by".encode() in errors
                left.remove(machine)
        assert left[0].process.poll() is None
        left[0].process.kill()
        left[0].process.wait(60)
