"""Descriptors, processes and threads under the simulator: as the kernel has them."""

import os
import pathlib
import shutil
import signal
import subprocess

import pytest
import sim_steps
from sim_steps import BEFORE_FINISH, BEFORE_VCPU, FINISH, GOOD, OPEN, broken, simulate, step_vmm

MODES = pytest.mark.parametrize("mode", [(), ("--no-kvm",)], ids=["kvm", "launch-only"])


def step(result, name, number=0):
    """Line of the number-th step with a name."""
    return [line for line in result.lines if line["step"] == name][number]


@MODES
@pytest.mark.parametrize("how", ["dup", "dup2", "fcntl", "raw"])
@pytest.mark.parametrize("what", ["sev", "vm0", "memfd0", "vcpu0", "kvm"])
def test_a_copy_is_the_same_thing(husk, tmp_path, mode, how, what):
    at = 2 if what in ("kvm", "sev") else 8
    steps = GOOD[:8] + ["create-vcpu id=0"]
    steps = steps[:at] + [f"dup what={what} how={how}"] + steps[at:] + ["set-regs"] + GOOD[10:]
    if what == "vcpu0":
        steps = GOOD[:10] + [f"dup what={what} how={how}"] + GOOD[10:]
    result = simulate(husk, tmp_path, steps, *mode)
    assert all(line["errno"] == "" for line in result.lines), result.lines
    assert result.report["violations"] == [] and result.report["launches"][0]["finished"]


@MODES
@pytest.mark.parametrize("close", ["close", "raw-close"])
def test_an_asid_is_free_when_every_descriptor_is_closed(husk, tmp_path, mode, close):
    first = OPEN + ["memfd", "create-vcpu id=0"]
    again = ["create-vm", "init2 vm=1"]
    for left in ("vm0", "vcpu0", "memfd0"):
        others = [f"{close} what={what}" for what in ("vm0", "vcpu0", "memfd0") if what != left]
        result = simulate(husk, tmp_path, first + others + again + [f"{close} what={left}", "init2 vm=1"], "--asids", "1",
                          *mode)
        assert [line["errno"] for line in result.lines if line["step"] == "init2"] == ["", "EBUSY", ""], left


def test_descriptors_are_close_on_exec_as_the_kernel_has_them(husk, tmp_path):
    result = simulate(husk, tmp_path, OPEN + ["memfd", "create-vcpu id=0", "cloexec what=kvm", "cloexec what=sev"])
    assert (step(result, "create-vm")["cloexec"], step(result, "create-vcpu")["cloexec"]) == (1, 1)
    assert step(result, "memfd")["cloexec"] == 0, "guest_memfd is not"
    assert [line["result"] for line in result.lines if line["step"] == "cloexec"] == [1, 1], "as open() was told"


@MODES
def test_a_guest_memfd_survives_exec_and_holds_its_vm(husk, tmp_path, mode):
    keep = ["cloexec what=kvm set=0", "cloexec what=sev set=0"]
    after = ["create-vm", "init2 vm=0", "close what=memfd0", "init2 vm=0"]
    result = simulate(husk, tmp_path, OPEN + ["memfd"] + keep + ["exec"] + after, "--asids", "1", *mode)
    assert [line["errno"] for line in result.lines if line["step"] == "init2"] == ["", "EBUSY", ""]


@MODES
def test_exec_closes_the_vm(husk, tmp_path, mode):
    keep = ["cloexec what=kvm set=0", "cloexec what=sev set=0"]
    result = simulate(husk, tmp_path, GOOD + ["cloexec what=memfd0 set=1"] + keep + ["exec"] + ["create-vm", "init2"],
                      "--asids", "1", *mode)
    assert [line["errno"] for line in result.lines if line["step"] == "init2"] == ["", ""]
    assert result.report["launches"][0]["finished"]


@MODES
def test_a_child_holds_the_vm_but_can_not_use_it(husk, tmp_path, mode):
    result = simulate(husk, tmp_path, GOOD + ["fork", "check-cap cap=235"] + ["fork", "memfd"], *mode)
    assert step(result, "memfd", 1)["errno"] == "EIO"
    assert broken(result) == {"vm-process"}
    assert step(result, "check-cap")["result"] & 16, "the system's descriptor is everyone's"


@MODES
def test_a_child_can_launch_its_own(husk, tmp_path, mode):
    script = tmp_path / "two"
    vmm = step_vmm(husk)
    steps = " ".join(f"'{one}'" for one in GOOD)
    script.write_text(f"#!/bin/sh\n{vmm} {steps} & {vmm} {steps} & wait\n")
    script.chmod(0o755)
    report = tmp_path / "report.json"
    done = subprocess.run([husk, "sim", "--json", str(report), *mode, "--", str(script)], capture_output=True, text=True,
                          check=False, timeout=60)
    result = sim_steps.outcome(tmp_path, done.returncode, done.stdout, done.stderr)
    assert done.returncode == 0 and [one["finished"] for one in result.report["launches"]] == [True, True]


@MODES
@pytest.mark.parametrize("how", ["close-all", "close-all loop=1"])
def test_closing_everything_leaves_the_simulator_reachable(husk, tmp_path, mode, how):
    result = simulate(husk, tmp_path, OPEN + ["memfd", how] + OPEN, "--asids", "1", *mode)
    assert [line["errno"] for line in result.lines] == [""] * len(result.lines)


@MODES
def test_no_lock_is_held_while_vcpus_run(husk, tmp_path, mode):
    vcpus = [f"create-vcpu id={i}" for i in range(8)]
    result = simulate(husk, tmp_path, BEFORE_VCPU + vcpus + ["start"] + FINISH + ["run-all"], *mode)
    assert step(result, "run-all")["cap"] & 16, "an ioctl went through while they ran"
    if mode:
        assert step(result, "run-all")["result"] == 8


@MODES
def test_a_strict_filter_does_not_stop_it(husk, tmp_path, mode):
    launch = GOOD[2:]
    result = simulate(husk, tmp_path, GOOD[:2] + ["seccomp"] + launch + ["run immediate=1"], *mode)
    assert result.status == 0, result.stderr
    assert result.report["launches"][0]["finished"] and not result.report["violations"]


def test_a_filter_in_a_child_does_not_stop_it(husk, tmp_path):
    # The child that is filtered makes the connection before the filter closes the way to it.
    result = simulate(husk, tmp_path, ["open-kvm", "open-sev", "fork", "seccomp"])
    assert [line["errno"] for line in result.lines] == [""] * 4


def test_static_programs_are_refused_by_name(husk):
    static = pathlib.Path(step_vmm(husk)).with_name("step-vmm-static")
    done = subprocess.run([husk, "sim", "--", str(static)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and str(static) in done.stderr and "statically linked" in done.stderr


def test_setuid_programs_are_refused_by_name(husk, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can make a file another user's")
    program = tmp_path / "set-uid"
    shutil.copy(step_vmm(husk), program)
    os.chown(program, 65534, 65534)
    program.chmod(0o4755)
    done = subprocess.run([husk, "sim", "--", str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and str(program) in done.stderr and "set-user-ID" in done.stderr


def test_a_script_is_judged_by_its_interpreter(husk, tmp_path):
    static = pathlib.Path(step_vmm(husk)).with_name("step-vmm-static")
    script = tmp_path / "script"
    script.write_text(f"#!{static} open-kvm\n")
    script.chmod(0o755)
    done = subprocess.run([husk, "sim", "--", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "statically linked" in done.stderr


def test_a_program_that_is_not_there_is_named(husk):
    done = subprocess.run([husk, "sim", "--", "no-such-vmm"], capture_output=True, text=True, check=False)
    assert done.returncode == 127 and "no-such-vmm" in done.stderr


@pytest.mark.parametrize("script, status", [("exit 7", 7), ("kill -TERM $$", 143), ("true", 0)])
def test_the_exit_status_is_the_program_s(husk, script, status):
    done = subprocess.run([husk, "sim", "--", "/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == status


def test_a_signal_to_the_simulator_reaches_the_program(husk):
    with subprocess.Popen([husk, "sim", "--", step_vmm(husk), "open-kvm", "wait"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert "waiting" in lines[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM


@MODES
def test_a_vmm_killed_at_any_point_leaves_no_state(husk, tmp_path, mode):
    """After each step of a launch a VMM dies; the next one finds the one ASID free."""
    vmm = step_vmm(husk)
    script = tmp_path / "deaths"
    lines = ["#!/bin/bash"]
    for count in range(len(GOOD) + 1):
        steps = " ".join(f"'{one}'" for one in GOOD[:count] + ["die"])
        lines.append(f"{vmm} {steps} > /dev/null 2>&1")
    steps = " ".join(f"'{one}'" for one in GOOD)
    lines.append(f"exec {vmm} {steps}")
    script.write_text("\n".join(lines))
    script.chmod(0o755)
    report = tmp_path / "report.json"
    done = subprocess.run([husk, "sim", "--json", str(report), "--asids", "1", *mode, "--", str(script)],
                          capture_output=True, text=True, check=False, timeout=60)
    result = sim_steps.outcome(tmp_path, done.returncode, done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    assert result.report["violations"] == [] and result.report["launches"][-1]["finished"]


@MODES
def test_sixteen_vmms_at_once(husk, tmp_path, mode):
    vmm = step_vmm(husk)
    steps = " ".join(f"'{one}'" for one in BEFORE_FINISH + ["wait"] + FINISH)
    script = tmp_path / "sixteen"
    # Each waits, launched but unfinished, until standard input ends: then all sixteen are there.
    script.write_text("#!/bin/bash\nexec 3<&0\n" + f"for i in {{1..16}}; do {vmm} {steps} <&3 & done\nwait\n")
    script.chmod(0o755)
    report = tmp_path / "report.json"
    with subprocess.Popen([husk, "sim", "--json", str(report), "--asids", "16", *mode, "--", str(script)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        waiting = 0
        while waiting < 16:
            waiting += "waiting" in process.stdout.readline()
        out, err = process.communicate(timeout=60)
    result = sim_steps.outcome(tmp_path, process.returncode, out, err)
    assert process.returncode == 0, err
    assert [one["finished"] for one in result.report["launches"]] == [True] * 16
    assert len({one["digest"] for one in result.report["launches"]}) == 1
    assert result.report["violations"] == []


@MODES
def test_64_vcpus_are_measured_in_order(husk, tmp_path, mode):
    vcpus = [f"create-vcpu id={i}" for i in range(64)] + [f"set-regs vcpu={i} rdx={i}" for i in range(64)]
    result = simulate(husk, tmp_path, BEFORE_VCPU + vcpus + ["start"] + FINISH, *mode)
    other = [f"create-vcpu id={i}" for i in range(64)] + [f"set-regs vcpu={i} rdx={i ^ 1}" for i in range(64)]
    swapped = simulate(husk, tmp_path, BEFORE_VCPU + other + ["start"] + FINISH, *mode)
    one, two = result.report["launches"][0], swapped.report["launches"][0]
    assert one["vcpus"] == 64 and one["pages"]["vmsa"] == 64 and one["digest"] != two["digest"]


@MODES
def test_a_launch_takes_little_longer_than_its_hashes(husk, tmp_path, mode):
    """A bound that a busy machine keeps; docs/simulator.md has the figure of an idle one."""
    size = 256 << 20
    vcpus = [f"create-vcpu id={i}" for i in range(64)]
    steps = OPEN + [f"memfd size={size}", f"region size={size}", f"attributes size={size}"] + vcpus
    steps += ["start", f"fill byte=1 len={size}", f"update len={size}"] + FINISH
    ratios = []
    for _ in range(3):
        result = simulate(husk, tmp_path, steps, *mode)
        update = step(result, "update")
        assert update["left"] == 0 and result.report["launches"][0]["finished"]
        ratios.append(update["ms"] / result.report["launches"][0]["hashing_ms"])
        # Over a KVM the guest's memory is made during the update as well.
        if ratios[-1] < (3 if mode else 6):
            return
    # Others may take the processor outside of the hashes once, but not each time.
    pytest.fail(f"an update takes {ratios} times as long as its hashes")
