"""The cages: what each process of a VM can still do once it runs."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

import backends


def tasks(pid):
    """The status of each thread of a process, as dictionaries."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        lines = (line.split(":", 1) for line in (task / "status").read_text().splitlines())
        found.append({name: value.strip() for name, value in lines})
    return found


@pytest.fixture
def machine(husk, payloads, tmp_path):
    """Starts a guest that never ends; returns its process once every vCPU's thread has its name."""
    processes = []

    def start(*words):
        events = tmp_path / "events"
        process = subprocess.Popen([husk, "run", "--kernel", payloads / "spin.elf", "--memory", "size=64M",
                                    "--event-monitor", f"path={events}", *words], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        processes.append(process)
        wait_for(lambda: process.poll() is not None or (events.exists() and "booted" in events.read_text()))
        wait_for(lambda: process.poll() is not None or any(thread["Name"].startswith("vcpu") for thread in tasks(process.pid)))
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(condition, seconds=60):
    """Until it is true, looked at often."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["blk", "rng"])
def test_every_thread_of_a_back_end_has_a_filter_and_gains_no_privileges(bench, kind):
    process, device = bench.blk(bench.image()) if kind == "blk" else bench.rng()
    assert device.read(0, 512) if kind == "blk" else device.read(16)
    threads = tasks(process.pid)
    assert len(threads) >= 2
    assert {thread["Seccomp"] for thread in threads} == {"2"}
    assert {thread["NoNewPrivs"] for thread in threads} == {"1"}


def filters_of(pid, name):
    """How many filters are around the thread of that name."""
    return {thread["Name"]: thread["Seccomp_filters"] for thread in tasks(pid)}[name]


@pytest.mark.usefixtures("needs_kvm")
@pytest.mark.parametrize("mode", ["true", "log", "errno", "false"])
def test_every_thread_of_husk_has_a_filter_once_it_runs(machine, mode):
    running = machine("--seccomp", mode, "--cpus", "boot=2")
    wait_for(lambda: {"vcpu0", "vcpu1"} <= {thread["Name"] for thread in tasks(running.pid)})
    wait_for(lambda: mode == "false" or filters_of(running.pid, "vcpu0") == "2")
    threads = {thread["Name"]: thread for thread in tasks(running.pid)}
    assert {"vcpu0", "vcpu1"} <= threads.keys()
    assert {thread["Seccomp"] for thread in threads.values()} == {"0" if mode == "false" else "2"}
    # One around the process, and a second one around each vCPU.
    assert mode == "false" or filters_of(running.pid, "husk") == "1"


def test_a_back_end_runs_with_any_mode_of_its_filter_and_refuses_others(tmp_path):
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(4096))
    command = [backends.husk_backend(), "blk", "--path", image, "--fd", "0"]
    for mode in ("true", "log", "errno", "false"):
        ended = subprocess.run([*command, "--seccomp", mode], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               timeout=60, check=False)
        assert ended.returncode == 1 and "Socket operation on non-socket" in ended.stderr, mode
    ended = subprocess.run([*command, "--seccomp", "on"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2 and "--seccomp on: true, false, log or errno" in ended.stderr


def back_ends(process):
    """The running back-ends of a husk, by the broker's children."""
    def children(pid):
        words = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(word) for word in words]

    return [child for broker in children(process.pid) for child in children(broker)]


@pytest.mark.usefixtures("needs_kvm")
def test_husk_in_its_filter_starts_devices_again_and_ends_them(machine, tmp_path):
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    running = machine("--disk", f"path={image}", "--rng", "src=/dev/urandom")
    wait_for(lambda: running.poll() is not None or len(back_ends(running)) == 2)
    first = back_ends(running)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: running.poll() is not None or len(set(back_ends(running)) - set(first)) == 2)
    running.send_signal(signal.SIGTERM)
    wait_for(lambda: running.poll() is not None or "power-button" in (tmp_path / "events").read_text())
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=60)
    assert b"forbids" not in errors, errors
    assert running.returncode == 128 + signal.SIGTERM, errors
