"""The virtio console: a login on hvc0 over each kind of endpoint, with the window's size and over deaths of its back-end."""

import signal

from test_disk import backend_pids


def log_in(terminal):
    """Log in as root through a Process that reaches hvc0; a shell is there then."""
    terminal.expect(r"login: ", 180)
    terminal.write(b"root\n")
    terminal.expect(r"# ", 60)


def ask(terminal, question, answer, timeout=60):
    """Type a command, whose output matches answer; the terminal's echo of the command does not."""
    terminal.write(question.encode() + b"\n")
    return terminal.expect(answer, timeout)


def log_out(terminal, machine):
    """End the shell, upon which the guest switches off."""
    terminal.write(b"exit\n")
    machine.ends_with(0)


def wait_for_size(terminal, columns, rows):
    """Until the guest's own terminal has that size; its shell has been told by a signal before it says so."""
    ask(terminal, f"until [ \"$(stty size)\" = '{rows} {columns}' ]; do sleep 0.2; done; echo it''is $(stty size)",
        rf"itis {rows} {columns}\r", 120)


def test_login_on_a_terminal_with_the_windows_size_following(host, debian):
    machine = debian("husk.login", "--console", "tty", serial="off", pty=True)
    machine.process.resize(91, 31)
    log_in(machine.process)
    wait_for_size(machine.process, 91, 31)
    # The process in the foreground hears of it.
    ask(machine.process, "sh -c 'trap \"echo win\"dow\"; exit\" WINCH; echo rea\"\"dy; while :; do sleep 0.2; done'", r"ready\r")
    machine.process.resize(132, 43)
    machine.expect(r"window\r", 60)
    wait_for_size(machine.process, 132, 43)
    # Ctrl-C is the guest's, once its shell has made the terminal cooked again.
    ask(machine.process, "sh -c 'echo slee\"\"ping; exec sleep 1000'", r"sleeping\r")
    machine.process.write(b"\x03")
    ask(machine.process, "echo ali''ve", r"alive\r")
    log_out(machine.process, machine)


LINES = 400
# What the kernel's hvc driver hands on at once, which a new back-end may do a second time.
HVC_PIECE = 16


def lines(tag):
    """What a guest says in a round of the test below."""
    return b"".join(b"line%d-%d\r\n" % (tag, number) for number in range(1, LINES + 1))


def is_whole(seen, told):
    """Whether seen is told, but for at most one piece of it that is there twice in a row."""
    again = len(seen) - len(told)
    same = next((i for i, (one, other) in enumerate(zip(seen, told)) if one != other), len(told))
    return 0 <= again <= HVC_PIECE and same >= again and seen[same:] == told[same - again:]


def test_the_console_goes_on_when_its_back_end_is_killed_while_busy(host, debian):
    # What husk says of the deaths is not to come between the bytes.
    machine = debian("husk.login", "--console", "tty", "--log-file", f"{host.folder}/log", serial="off", pty=True)
    terminal = machine.process
    log_in(terminal)
    for n in range(5):
        before = backend_pids(host)
        assert len(before) == 1
        terminal.write(f"stty -echo; echo be''gin; for n in $(seq 1 {LINES}); do echo line{n}-$n; done; "
                       "echo e''nd; read typed; stty echo; echo it''was \"$typed\"\n".encode())
        begin = terminal.expect(r"begin\r\n", 60).end()
        terminal.expect(rf"line{n}-20\r", 60)
        host.run(f"kill -9 {before[0]}")
        # Should it come twice, the shell that reads it next does nothing.
        terminal.write(f": typed {n}\n".encode())
        end = terminal.expect(r"end\r", 120).start()
        assert is_whole(terminal.output[begin:end], lines(n))
        terminal.expect(rf"itwas : typed {n}\r", 60)
        machine.event("backend-restarted")
        assert backend_pids(host) != before
    terminal.resize(100, 30)
    wait_for_size(terminal, 100, 30)
    log_out(terminal, machine)


def test_the_console_is_there_again_after_a_reboot(host, debian):
    machine = debian("husk.login", "--console", "tty", serial="off", pty=True)
    machine.process.resize(91, 31)
    log_in(machine.process)
    machine.process.write(b"reboot -f\n")
    machine.event("rebooted")
    log_in(machine.process)
    wait_for_size(machine.process, 91, 31)
    machine.process.resize(92, 32)
    wait_for_size(machine.process, 92, 32)
    log_out(machine.process, machine)


def test_the_terminal_is_as_it_was_however_the_back_end_ends(host):
    """Killed, stopped, and with husk itself ended by a signal: always the modes of before."""
    command = (f"stty -a > /tmp/before; {host.husk} run --kernel {host.folder}/spin.elf --memory size=64M --console tty"
               " --event-monitor fd=3; stty -a > /tmp/after; cmp /tmp/before /tmp/after && echo sa''me")
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT):
        process = host.start(command, pty=True)
        process.expect(r'"event": ?"booted".*\n', 90, "events")
        assert host.run("stty -a < $(readlink /proc/$(pidof husk | tr ' ' '\\n' | sort -n | head -n 1)/fd/0)")[1].count("-icanon")
        host.run(f"kill -{int(number)} $(pidof husk-backend)")
        host.run("kill -TERM $(pidof husk | tr ' ' '\\n' | sort -n | head -n 1)")
        # Two that came before husk looked would be one.
        process.expect(r'"event": ?"power-button".*\n', 60, "events")
        host.run("kill -TERM $(pidof husk | tr ' ' '\\n' | sort -n | head -n 1)")
        process.expect(r"same\r", 60)
        assert process.wait(60) == 0


def test_login_through_a_pseudo_terminal(host, debian):
    machine = debian("husk.login", "--console", "pty", serial="null")
    path = machine.process.expect(r"(/dev/pts/\d+)\b.*\n", 60, "errors")[1].decode()
    terminal = host.start(f"exec {host.agent} connect {path}")
    try:
        log_in(terminal)
        ask(terminal, "echo $((6 * 7)) $(tty)", r"42 /dev/hvc0\r")
        log_out(terminal, machine)
    finally:
        terminal.kill(signal.SIGKILL)


def test_login_through_a_socket(host, debian):
    path = f"{host.folder}/hvc0.sock"
    machine = debian("husk.login", "--console", f"socket={path}", serial="null")
    machine.event("booting")
    terminal = host.start(f"exec {host.agent} connect {path}")
    log_in(terminal)
    ask(terminal, "echo $((6 * 7)) $(tty)", r"42 /dev/hvc0\r")
    log_out(terminal, machine)
    assert terminal.wait(120) == 0


def test_a_file_has_all_that_the_guest_wrote_to_the_console(host, debian):
    path = f"{host.folder}/hvc0.log"
    machine = debian("husk.hvc0 husk.poweroff", "--console", f"file={path}", serial="null")
    machine.event("shutdown")
    machine.ends_with(0)
    assert host.get(path) == b"".join(b"line %d\r\n" % n for n in range(1, 1001))
