"""The serial port on each kind of back end: a shell in the guest answers there."""

import re
import signal

SHELL = "husk.shell"
QUESTION = b"echo answer-$((6*7))\n"
ANSWER = r"answer-42"


def converse(process):
    """Ask the guest's shell something through a Process that reaches its serial port, and tell it to end."""
    # What is typed while the shell sets up its terminal may be an end of input to it: the guest's kernel says so.
    process.expect(r"built-in shell", 180)
    process.expect(r"/ # ", 60)
    process.write(QUESTION)
    process.expect(ANSWER, 60)
    process.write(b"exit\n")


def test_tty(debian):
    machine = debian(SHELL, serial="tty")
    converse(machine.process)
    machine.ends_with(0)


def test_file(host, debian):
    path = f"{host.folder}/serial.log"
    machine = debian("husk.poweroff", serial=f"file={path}")
    machine.event("shutdown")
    machine.ends_with(0)
    assert re.search(rb"^Linux .*x86_64.*husk-guest: off", host.get(path), re.MULTILINE | re.DOTALL)


def test_pty(host, debian):
    machine = debian(SHELL, serial="pty", pty=False)
    path = machine.process.expect(r"(/dev/pts/\d+)\b.*\n", 60, "errors")[1].decode()
    terminal = host.start(f"exec {host.agent} connect {path}")
    try:
        converse(terminal)
        machine.ends_with(0)
    finally:
        terminal.kill(signal.SIGKILL)


def test_socket(host, debian):
    path = f"{host.folder}/serial.sock"
    machine = debian(SHELL, serial=f"socket={path}")
    machine.event("booting")
    client = host.start(f"exec {host.agent} connect {path}")
    converse(client)
    machine.ends_with(0)
    assert client.wait(120) == 0
