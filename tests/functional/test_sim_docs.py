"""docs/simulator.md says what the simulator does: its tables are compared with the program."""

import pathlib
import re
import subprocess

import pytest
from sim_steps import step_vmm

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "simulator.md"


def output(husk, *words):
    """Standard output of husk sim with these words."""
    return subprocess.run([husk, "sim", *words], capture_output=True, text=True, check=True).stdout


def table(heading):
    """First cells' code words in the tables below a heading."""
    section = DOCS.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def test_the_table_of_rules_is_the_program_s(husk):
    assert DOCS.read_text().endswith(output(husk, "--rules"))


def listed(husk, name):
    """The words that the help lists for CALL or KIND."""
    text = " ".join(output(husk, "--help").split())
    words = re.search(rf"{name} is ((?:[a-z0-9-]+, )+[a-z0-9-]+ or [a-z0-9-]+)", text)[1]
    return set(re.split(r", | or ", words))


def test_every_call_that_can_fail_is_described(husk):
    effects = {"errno=NAME", "fw=N", "short=N", "signal"}
    assert set(table("Faults")) - effects == listed(husk, "CALL")
    for call in listed(husk, "CALL"):
        output(husk, "--fault", f"{call},errno=EIO", "--", step_vmm(husk))


def test_every_exit_is_described(husk):
    assert set(table("Forged exits")) == listed(husk, "KIND")
    for kind in listed(husk, "KIND"):
        output(husk, "--exit", kind, "--", step_vmm(husk))


def test_every_option_is_described(husk):
    documented = {word.split()[0] for word in re.findall(r"^\| `(--[^`]+)`", DOCS.read_text(), re.MULTILINE)}
    offered = set(re.findall(r"^  (--[a-z-]+)", output(husk, "--help"), re.MULTILINE))
    assert documented == offered


@pytest.mark.parametrize("option", ["--json", "--log"])
def test_a_file_that_cannot_be_written_is_named(husk, option):
    done = subprocess.run([husk, "sim", option, "/nonexistent/file", "--", step_vmm(husk)], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1 and "/nonexistent/file" in done.stderr
