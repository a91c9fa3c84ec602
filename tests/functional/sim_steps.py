"""The simulator and the small VMM that its tests drive: launches are lists of steps (tests/sim/step_vmm.c)."""

import collections
import json
import os
import pathlib
import subprocess

Result = collections.namedtuple("Result", "status lines report stderr")

# A launch in which nothing is wrong, step by step; tests change it.
OPEN = ["open-kvm", "open-sev", "create-vm", "enable-cap", "init2"]
MEMORY = ["memfd", "region", "attributes"]
VCPU = ["create-vcpu id=0", "set-regs"]
START = ["start"]
PAGES = ["update gfn=0 len=0x4000", "update gfn=4 type=3 len=0x2000", "update gfn=6 type=5",
         "update gfn=7 type=6 off=0x100000"]
FINISH = ["finish"]
BEFORE_VCPU = OPEN + MEMORY
BEFORE_START = BEFORE_VCPU + VCPU
BEFORE_PAGES = BEFORE_START + START
BEFORE_FINISH = BEFORE_PAGES + PAGES
GOOD = BEFORE_FINISH + FINISH


def step_vmm(husk):
    """Path of the small VMM: beside the binary under test."""
    return str(pathlib.Path(husk).parent / "tests" / "sim" / "step-vmm")


def command(husk, folder, steps, *options):
    """The words that run steps under the simulator, with its report in folder."""
    return [husk, "sim", "--json", str(folder / "report.json"), *options, "--", step_vmm(husk), *steps]


def outcome(folder, status, stdout, stderr):
    """A Result of what a finished simulation left."""
    lines = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
    path = folder / "report.json"
    report = json.loads(path.read_text()) if path.exists() else None
    return Result(status, lines, report, stderr)


def simulate(husk, folder, steps, *options, timeout=120, env=None):
    """Run steps under the simulator to their end."""
    done = subprocess.run(command(husk, folder, steps, *options), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=timeout, check=False, env=dict(os.environ, **(env or {})))
    return outcome(folder, done.returncode, done.stdout, done.stderr)


def broken(result):
    """Names of the rules that were broken."""
    return {violation["rule"] for violation in result.report["violations"]}
