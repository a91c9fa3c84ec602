"""The cages: what each process of a VM can still do once it runs."""

import pathlib
import subprocess

import pytest

import backends


def tasks(pid):
    """The status of each thread of a process, as dictionaries."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        lines = (line.split(":", 1) for line in (task / "status").read_text().splitlines())
        found.append({name: value.strip() for name, value in lines})
    return found


@pytest.mark.parametrize("kind", ["blk", "rng"])
def test_every_thread_of_a_back_end_has_a_filter_and_gains_no_privileges(bench, kind):
    process, device = bench.blk(bench.image()) if kind == "blk" else bench.rng()
    assert device.read(0, 512) if kind == "blk" else device.read(16)
    threads = tasks(process.pid)
    assert len(threads) >= 2
    assert {thread["Seccomp"] for thread in threads} == {"2"}
    assert {thread["NoNewPrivs"] for thread in threads} == {"1"}


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
