"""What husk says to a command line, from outside: exit status, at most three lines, the nearest word."""

import json
import subprocess

import pytest


def run(husk, *words, **kwargs):
    return subprocess.run([husk, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                          errors="replace", **kwargs)


def refused(husk, *words):
    """The lines on standard error of a run that must be refused as a wrong option."""
    done = run(husk, *words)
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert 1 <= len(lines) <= 3, done.stderr
    assert lines[0].startswith("husk: ")
    return lines


def understood(husk, *words):
    done = run(husk, *words, "--print-config")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("words, bad, nearest", [
    (["--memory", "sise=1G"], "unknown key 'sise' in 'sise=1G'", "'size'"),
    (["--memroy", "size=1G"], "unknown option '--memroy'", "'--memory'"),
    (["run", "--kernl=x"], "unknown option '--kernl'", "'--kernel'"),
    (["--serial", "ttty"], "--serial: unknown key 'ttty'", "'tty'"),
    (["--cpus", "bot=1"], "--cpus: unknown key 'bot' in 'bot=1'", "'boot'"),
    (["--cpus", "core_scheduling=vmm"], "core_scheduling: 'vmm' is none of vm, vcpu, off", "'vm'"),
    (["--log-format", "jsn"], "--log-format: 'jsn' is none of text, json", "'json'"),
    (["--platform", "uid=1"], "--platform: unknown key 'uid' in 'uid=1'", "'uuid'"),
    (["-cpus", "boot=1"], "unknown option '-c'", "'--cpus'"),
    (["rnu"], "no subcommand 'rnu'", "'husk run'"),
    (["help", "rum"], "no subcommand 'rum'", "'husk run'"),
])
def test_a_mistyped_word_is_named_with_the_nearest(husk, words, bad, nearest):
    lines = refused(husk, *words)
    assert bad in lines[0]
    assert f"did you mean {nearest}?" in lines[1]


@pytest.mark.parametrize("words, said", [
    (["--kernel"], "--kernel: needs a value"),
    (["--kernel", "k", "--kernel", "k"], "--kernel: given twice"),
    (["--kernel", "k", "--memory", "size=1X"], "'1X' is not a size"),
    (["--kernel", "k", "--memory", "size=1M"], "must be 2M to 64T, not 1M"),
    (["--kernel", "k", "--cpus", "boot=255"], "must be 1 to 254, not 255"),
    (["--kernel", "k", "--cpus", "affinity=[0@[1]"], "missing ']'"),
    (["--kernel", "k", "--serial", "tty", "--console", "tty"], "both on tty"),
    (["--kernel", "k", "--serial", "tty", "--debug-console", "tty"], "both on tty"),
    (["--kernel", "k", "--event-monitor", "path=a,fd=1"], "exclude each other"),
    (["--kernel", "k", "--net", "tap=a", "--net", "tap=a"], "--net: a: tap: two devices have 'a'"),
    (["--kernel", "k", "--platform", "uuid=x"], "is not a UUID"),
    (["--pvpanic"], "nothing to boot"),
    (["--pmem", "file=a"], "husk does not have this option of Cloud Hypervisor's yet"),
])
def test_a_wrong_option_ends_with_status_2(husk, words, said):
    assert said in refused(husk, *words)[0]


def test_bytes_that_are_no_text_do_not_spoil_the_message(husk):
    for word in (b"--\x1b[31m\nred", b"--memory=\xff\xfe", b"--kernel=\xff", b"x" * 100000):
        done = subprocess.run([husk.encode(), word], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) <= 3
        assert b"\x1b" not in done.stderr
        assert len(done.stderr) < 1000


def test_run_may_be_left_out(husk):
    words = ["--kernel", "k", "--cpus", "boot=2", "--memory=size=1G"]
    assert understood(husk, *words) == understood(husk, "run", *words)


def test_print_config_says_what_was_understood(husk):
    config = understood(husk, "--kernel", "k", "--cpus", "boot=2,affinity=[1@[0-2]]", "--serial", "file=/tmp/a")
    assert config["payload"] == {"kernel": "k"}
    assert config["cpus"] == {"boot_vcpus": 2, "max_vcpus": 2, "core_scheduling": "Vm",
                              "affinity": [{"vcpu": 1, "host_cpus": [0, 1, 2]}]}
    assert config["serial"] == {"mode": "File", "file": "/tmp/a"}
    assert config["memory"]["size"] == 512 << 20


def test_a_printed_config_can_be_read_back_and_overridden(husk, tmp_path):
    words = ["--kernel", "k", "--memory", "size=1G,thp=off", "--platform", "oem_strings=[a,b]", "--pvpanic", "-v"]
    config = understood(husk, *words)
    path = tmp_path / "vm.json"
    path.write_text(json.dumps(config))
    assert understood(husk, "--config", str(path)) == config
    config["memory"].update(size=2 << 30, thp=True)
    assert understood(husk, "--config", str(path), "--memory", "size=2G") == config


@pytest.mark.parametrize("text, said", [
    ('{"cpus": {"boot_vcpus": 300}}', "cpus.boot_vcpus: must be 1 to 254, not 300"),
    ('{"cpus": {"boot_vcpu": 3}}', "cpus: unknown field 'boot_vcpu'"),
    ('{"memory": {"size": "1G"}}', "memory.size: must be a whole number, not a string"),
    ('{"memory": ', "line 1"),
    ("[" * 5000, "line 1"),
    ("x" * (2 << 20), "is larger than 1048576 bytes"),
    ("", "line 1"),
], ids=["range", "name", "type", "cut", "deep", "huge", "empty"])
def test_a_wrong_file_is_told_by_the_path_of_the_field(husk, tmp_path, text, said):
    path = tmp_path / "vm.json"
    path.write_text(text)
    assert said in refused(husk, "--config", str(path))[0]


def test_a_missing_file_is_an_error_of_its_own(husk):
    done = run(husk, "--config", "/nonexistent/vm.json")
    assert done.returncode == 1
    assert done.stderr == "husk: --config: could not open '/nonexistent/vm.json': No such file or directory\n"


def test_help_is_on_standard_output(husk):
    for words in (["--help"], ["-h"], ["help"], []):
        done = run(husk, *words)
        assert done.returncode == 0 and done.stderr == ""
        assert "Subcommands:" in done.stdout and "Examples:" in done.stdout
    for words in (["run", "--help"], ["help", "run"], ["--kernel", "k", "--help"]):
        done = run(husk, *words)
        assert done.returncode == 0 and done.stderr == ""
        assert "core_scheduling=vm|vcpu|off" in done.stdout
        assert max(len(line) for line in done.stdout.splitlines()) <= 100


def test_the_version_is_one_line(husk):
    lines = {run(husk, *words).stdout for words in (["--version"], ["-V"], ["version"], ["run", "--version"])}
    assert len(lines) == 1
    assert lines.pop().startswith("husk ")


def test_the_manual_page_has_no_roff_errors(husk):
    page = run(husk, "help", "man").stdout
    done = subprocess.run(["groff", "-man", "-ww", "-Tascii", "-P-cbou"], input=page, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0
    assert done.stderr == ""
    for section in ("NAME", "SYNOPSIS", "OPTIONS", "EXIT STATUS", "EXAMPLES"):
        assert f"\n{section}\n" in done.stdout
    assert "--debug-console" in done.stdout
