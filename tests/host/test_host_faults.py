"""What is taken for a fault of the emulated host, and tried again, and what never is."""

import os
import signal

import pytest

import testhost


def failure(wait, *arguments):
    """The exception that a wait ends in."""
    with pytest.raises(testhost.HostError) as raised:
        wait(*arguments)
    return type(raised.value)


def test_a_triple_fault_and_spinning_processors_may_be_the_emulations_and_an_idle_guest_is_not(host, start):
    machines = [start("--kernel", f"{host.folder}/{name}.elf", "--memory", "size=64M") for name in ("triplefault", "halt")]
    of_the_emulation = testhost.EmulatorFault if host.emulated else testhost.HostError
    assert failure(machines[0].ends_with, 0) is of_the_emulation
    machines[1].event("booted")
    assert failure(machines[1].expect, "never printed", 1) is testhost.HostError
    spinning = start("--kernel", f"{host.folder}/spin.elf", "--memory", "size=64M")
    spinning.event("booted")
    # The host itself may not be run for a moment, and its guests no more than it.
    assert of_the_emulation in (failure(spinning.expect, "never printed", 1) for _ in range(3))


def test_a_host_that_does_not_answer_is_replaced(hosts, monkeypatch):
    hung = hosts.get()
    if not hung.emulated:
        pytest.skip("needs the emulated host: this machine is the host, and cannot be stopped")
    monkeypatch.setattr(hung, "patience", 1)
    os.kill(hung._qemu.pid, signal.SIGSTOP)
    waiting = hung.start("true")
    assert failure(waiting.wait, 1) is testhost.EmulatorFault
    assert hung.lost == "it does not answer"
    another = hosts.get()
    assert another is not hung
    assert another.run("echo fine")[1] == "fine\n"
    assert hung._qemu.poll() == -signal.SIGKILL
