"""The terminal of a husk that a shell stops and lets go on: the shell's as it was, and raw again for the guest."""

import fcntl
import os
import pathlib
import pty
import select
import signal
import subprocess
import termios

import pytest

import vhost_user

pytestmark = pytest.mark.usefixtures("needs_kvm")


def take_terminal():
    """Of standard input, as a login does."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Shell:
    """A shell with job control that changes no modes of its terminal, and husk as its job."""

    def __init__(self, command):
        self.master, self.slave = pty.openpty()
        self._said = b""
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(["dash", "-i"], stdin=self.slave, stdout=self.slave, stderr=subprocess.DEVNULL,
                                        preexec_fn=take_terminal, env=os.environ | {"PS1": "", "ENV": ""})
        self.say(command)
        vhost_user.until(self.raw, "a raw terminal")
        self.husk = next(int(pid) for pid in self._children(self.process.pid))

    @staticmethod
    def _children(pid):
        return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()

    def say(self, line):
        """Type a command."""
        os.write(self.master, line.encode() + b"\n")

    def said(self):
        """All that was shown so far."""
        if select.select([self.master], [], [], 0)[0]:
            self._said += os.read(self.master, 4096)
        return self._said

    def raw(self):
        """Whether the terminal is a guest's."""
        return termios.tcgetattr(self.slave) != self.before

    def state(self):
        """Of husk's process: T when it is stopped."""
        return pathlib.Path(f"/proc/{self.husk}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]

    def close(self):
        """End both."""
        for pid in (self.husk, self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(params=[["--serial", "tty"], ["--console", "tty", "--serial", "off"]], ids=["serial", "console"])
def shell(request, bench, husk, payloads):
    """A Shell whose husk runs in the foreground."""
    words = [str(husk), "run", "--kernel", str(payloads / "spin.elf"), "--memory", "size=64M", *request.param]
    return bench.keep(Shell(" ".join(words)))


def test_a_stopped_husk_gives_the_terminal_back_until_it_goes_on(shell):
    for _ in range(3):
        os.kill(shell.husk, signal.SIGTSTP)
        vhost_user.until(lambda: shell.state() == "T", "a stop")
        assert not shell.raw()
        shell.say("fg")
        vhost_user.until(shell.raw, "a raw terminal")
        assert shell.state() != "T"


def test_modes_that_a_shell_set_while_husk_was_stopped_outright_are_raw_again(shell):
    os.kill(shell.husk, signal.SIGSTOP)
    vhost_user.until(lambda: shell.state() == "T", "a stop")
    termios.tcsetattr(shell.slave, termios.TCSANOW, shell.before)
    shell.say("fg")
    vhost_user.until(shell.raw, "a raw terminal")


def test_a_husk_that_goes_on_in_the_background_leaves_the_terminal_alone(shell):
    os.kill(shell.husk, signal.SIGTSTP)
    vhost_user.until(lambda: shell.state() == "T", "a stop")
    shell.say("bg; echo $((6 * 7))")
    vhost_user.until(lambda: b"42\r\n" in shell.said(), "the shell's answer")
    vhost_user.until(lambda: shell.state() != "T", "a husk that runs")
    assert not shell.raw()
    # The end of it is no reason to touch the terminal either.
    os.kill(shell.husk, signal.SIGTERM)
    os.kill(shell.husk, signal.SIGINT)
    vhost_user.until(lambda: shell.state() in "ZX", "its end")
    assert not shell.raw()
