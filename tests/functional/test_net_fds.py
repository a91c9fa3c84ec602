"""Taps that husk is handed open: which it takes, and which it refuses before a guest starts."""

import contextlib
import functools
import os
import resource
import subprocess

import pytest

import network

pytestmark = pytest.mark.usefixtures("needs_kvm")


@pytest.fixture
def opened():
    """opened(name, ...) -> a descriptor of a tap's queue, in a network namespace that husk is not in."""
    with contextlib.ExitStack() as stack:
        namespaces = [network.Namespace() for _ in range(2)]
        for namespace in namespaces:
            stack.callback(namespace.close)

        def open_one(name="tap0", namespace=0, **how):
            fd = network.open_tap(namespaces[namespace], name, **how)
            stack.callback(os.close, fd)
            return fd
        yield open_one


@pytest.fixture
def husk_with(husk, payloads):
    """husk_with(*words, fds) -> how a husk ends whose guest powers off at once."""
    def run(*words, fds=(), limit=None):
        return subprocess.run([husk, "run", "--kernel", payloads / "poweroff.elf", "--memory", "size=64M", "--serial", "off", *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=fds, timeout=60, check=False,
                              preexec_fn=limit and functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (limit, limit)))
    return run


def refused(done, status=1):
    """The line that says why."""
    assert done.returncode == status, done.stderr
    return done.stderr.splitlines()[0]


def test_several_queues_of_one_tap_are_one_device(husk_with, opened):
    fds = [opened(multi_queue=True) for _ in range(2)]
    done = husk_with("--net", f"fd=[{fds[0]},{fds[1]}],num_queues=4", fds=fds)
    assert done.returncode == 0, done.stderr


def test_two_taps_are_two_devices_and_so_are_namesakes_of_two_namespaces(husk_with, opened):
    for fds in ([opened("tap0"), opened("tap1")], [opened("tap2"), opened("tap2", namespace=1)]):
        done = husk_with("--net", f"fd={fds[0]}", "--net", f"fd={fds[1]}", fds=fds)
        assert done.returncode == 0, done.stderr


def test_two_queues_of_one_tap_are_not_two_devices(husk_with, opened):
    a, b = (opened(multi_queue=True) for _ in range(2))
    line = refused(husk_with("--net", f"fd={a}", "--net", f"id=second,fd={b}", fds=[a, b]))
    assert f"--net: second: fd={b} is of the tap that _net0 has too" in line


def test_one_descriptor_and_its_copy_are_not_two_devices(husk_with, opened):
    fd = opened()
    copy = os.dup(fd)
    try:
        for other in (fd, copy):
            line = refused(husk_with("--net", f"fd={fd}", "--net", f"fd={other}", fds=[fd, copy]))
            assert f"_net1: fd={other} is of the tap that _net0 has too" in line
    finally:
        os.close(copy)


def test_queues_of_two_taps_are_not_one_device(husk_with, opened):
    a, b = (opened(name, multi_queue=True) for name in ("tap0", "tap1"))
    line = refused(husk_with("--net", f"fd=[{a},{b}],num_queues=4", fds=[a, b]))
    assert f"fd={b}: 'tap1' is another tap than that of fd={a}" in line


def test_a_descriptor_serves_one_pair_of_queues(husk_with, opened):
    fd = opened(multi_queue=True)
    line = refused(husk_with("--net", f"fd=[{fd},{fd}],num_queues=4", fds=[fd]), status=2)
    assert f"fd: {fd} is given twice" in line


def test_without_descriptors_for_its_queues_that_is_what_it_says(husk_with):
    refusals = 0
    for limit in range(5, 40):
        done = husk_with("--net", "num_queues=8", limit=limit)
        if done.returncode:
            assert "Too many open files" in refused(done), limit
            refusals += 1
    assert refusals > 10
