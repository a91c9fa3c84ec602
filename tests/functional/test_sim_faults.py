"""Each fault and each forged exit of the simulator, seen from a VMM."""

import subprocess

import pytest
from sim_steps import BEFORE_PAGES, BEFORE_START, FINISH, GOOD, OPEN, VCPU, broken, simulate, step_vmm

PRIVATE = 8


@pytest.mark.parametrize("call, step", [
    ("open-kvm", "open-kvm"), ("open-sev", "open-sev"), ("create-vm", "create-vm"), ("enable-cap", "enable-cap"),
    ("create-vcpu", "create-vcpu"), ("create-guest-memfd", "memfd"), ("set-region", "region"),
    ("set-attributes", "attributes"), ("init2", "init2"), ("launch-start", "start"), ("launch-update", "update"),
    ("launch-finish", "finish"), ("set-registers", "set-regs"),
])
@pytest.mark.parametrize("mode", [(), ("--no-kvm",)], ids=["kvm", "launch-only"])
def test_each_call_of_a_launch_can_fail(husk, tmp_path, call, step, mode):
    result = simulate(husk, tmp_path, GOOD, "--fault", f"{call},errno=ENOMEM", *mode)
    first = next(line for line in result.lines if line["step"] == step)
    assert first["errno"] == "ENOMEM"
    assert result.report["injected"] == 1
    before = result.lines[:result.lines.index(first)]
    assert all(line["errno"] == "" for line in before)


@pytest.mark.parametrize("call, steps, options", [
    ("pre-fault", GOOD + ["pre-fault"], ()),
    ("run", GOOD + ["run"], ()),
    ("fallocate", OPEN + ["memfd", "fallocate"], ()),
    ("sev-command", OPEN + ["sev-issue"], ()),
    ("enable-req-certs", OPEN + ["sev-command id=103"], ("--kernel", "7.0")),
])
def test_each_other_call_can_fail(husk, tmp_path, call, steps, options):
    result = simulate(husk, tmp_path, steps, "--fault", f"{call},errno=EBUSY", *options)
    assert result.lines[-1]["errno"] == "EBUSY"
    assert not result.report["violations"]


@pytest.mark.parametrize("call, step", [("launch-start", "start"), ("launch-update", "update"),
                                        ("launch-finish", "finish"), ("init2", "init2")])
def test_the_firmware_can_refuse(husk, tmp_path, call, step):
    result = simulate(husk, tmp_path, GOOD, "--fault", f"{call},fw=0x17")
    first = next(line for line in result.lines if line["step"] == step)
    assert (first["errno"], first["fw"]) == ("EIO", 0x17)


def test_a_fault_comes_when_it_is_told_to(husk, tmp_path):
    steps = BEFORE_PAGES + [f"update gfn={gfn}" for gfn in range(5)]
    result = simulate(husk, tmp_path, steps, "--fault", "launch-update,at=2,times=2,errno=EAGAIN")
    assert [line["errno"] for line in result.lines[-5:]] == ["", "EAGAIN", "EAGAIN", "", ""]
    result = simulate(husk, tmp_path, steps, "--fault", "launch-update,at=4,times=0,errno=EAGAIN")
    assert [line["errno"] for line in result.lines[-5:]] == ["", "", "", "EAGAIN", "EAGAIN"]


def test_a_fault_can_be_one_vm_s(husk, tmp_path):
    steps = OPEN + ["create-vm", "init2 vm=1"]
    result = simulate(husk, tmp_path, steps, "--fault", "init2,vm=2,errno=EBUSY")
    assert [line["errno"] for line in result.lines if line["step"] == "init2"] == ["", "EBUSY"]


def test_a_failed_start_can_be_repeated(husk, tmp_path):
    result = simulate(husk, tmp_path, BEFORE_START + ["start", "start"], "--fault", "launch-start,fw=7")
    assert [line["errno"] for line in result.lines[-2:]] == ["EIO", ""]


def test_an_update_can_get_less_done(husk, tmp_path):
    steps = BEFORE_PAGES + ["update gfn=0 len=0x8000", "update gfn=3 off=0x3000 len=0x5000"] + FINISH
    result = simulate(husk, tmp_path, steps, "--fault", "launch-update,short=3")
    partial, rest = result.lines[-3:-1]
    assert (partial["errno"], partial["gfn"], partial["left"]) == ("", 3, 0x5000)
    assert (rest["errno"], rest["left"]) == ("", 0)
    assert not result.report["violations"]
    whole = simulate(husk, tmp_path, BEFORE_PAGES + ["update gfn=0 len=0x8000"] + FINISH)
    assert result.report["launches"][0]["digest"] == whole.report["launches"][0]["digest"]


def test_what_a_partial_update_left_must_come_later(husk, tmp_path):
    steps = BEFORE_PAGES + ["update gfn=0 len=0x8000"] + FINISH
    result = simulate(husk, tmp_path, steps, "--fault", "launch-update,short=3")
    assert broken(result) == {"update-dropped"}


def test_a_signal_interrupts_an_update(husk, tmp_path):
    steps = BEFORE_PAGES + ["update gfn=0 len=0x8000", "update gfn=0 len=0x8000"]
    result = simulate(husk, tmp_path, steps, "--fault", "launch-update,signal")
    assert [(line["errno"], line["fw"]) for line in result.lines[-2:]] == [("EIO", 0), ("", 0)]


@pytest.mark.parametrize("parts", [1, 2, 3, 8, 100])
def test_parts_cut_every_update(husk, tmp_path, parts):
    steps = BEFORE_PAGES + ["update gfn=0 len=0x8000 all=1", "update gfn=8 len=0x1000 all=1"] + FINISH
    result = simulate(husk, tmp_path, steps, "--parts", str(parts))
    many, one = result.lines[-3:-1]
    assert (many["calls"], one["calls"]) == (min(parts, 8), 1)
    assert many["left"] == 0 and not result.report["violations"]


@pytest.mark.parametrize("spec, expected", [
    ("map-gpa-range,gpa=0x8000,npages=16,attrs=0x10", {"errno": "", "exit": 3, "data": [12, 0x8000, 16, 0x10]}),
    ("memory-fault,gpa=0x7000,size=0x2000,flags=8", {"errno": "EFAULT", "exit": 39, "data": [8, 0x7000, 0x2000, 0]}),
    ("memory-fault,gpa=0x7000,errno=EHWPOISON", {"errno": "EHWPOISON", "exit": 39, "data": [0, 0x7000, 0x1000, 0]}),
    ("sev-term,set=1,reason=2", {"errno": "", "exit": 24, "data": [1 << 32 | 6, 0x21100, 0, 0]}),
    ("sev-term,data=0x5000", {"errno": "", "exit": 24, "data": [1 << 32 | 6, 0x5000, 0, 0]}),
    ("snp-req-certs,gpa=0x9000,npages=3", {"errno": "", "exit": 43, "data": [0x9000, 3, 0, 0]}),
    ("fail-entry,cpu=2", {"errno": "", "exit": 9, "data": [2**64 - 1, 2, 0, 0]}),
    ("shutdown", {"errno": "", "exit": 8, "data": [0, 0, 0, 0]}),
    ("internal-error,reason=3", {"errno": "", "exit": 17, "data": [3, 0, 0, 0]}),
    ("errno,errno=EAGAIN", {"errno": "EAGAIN"}),
])
@pytest.mark.parametrize("mode", [(), ("--no-kvm",)], ids=["kvm", "launch-only"])
def test_each_exit_can_be_forged(husk, tmp_path, spec, expected, mode):
    result = simulate(husk, tmp_path, GOOD + ["run", "attributes gpa=0x7000 size=0x2000 attr=0", "run immediate=1"],
                      "--exit", spec, *mode)
    forged, _, after = result.lines[-3:]
    assert {key: forged[key] for key in expected} == expected
    assert after["errno"] == "EINTR", "the guest is entered again after it"
    assert not result.report["violations"] and result.report["injected"] == 1


def test_exits_come_to_the_vcpu_and_the_run_they_are_for(husk, tmp_path):
    steps = OPEN + ["memfd", "region", "attributes", "create-vcpu id=0", "create-vcpu id=1", "start"] + FINISH
    steps += ["run vcpu=1", "run vcpu=0", "run vcpu=1"]
    result = simulate(husk, tmp_path, steps, "--no-kvm", "--exit", "shutdown,vcpu=1,at=2", "--exit", "sev-term,vcpu=0",
                      "--exit", "fail-entry,vcpu=1")
    assert [line["exit"] for line in result.lines[-3:]] == [9, 24, 8]


def test_the_answer_to_a_hypercall_is_logged(husk, tmp_path):
    log = tmp_path / "log"
    simulate(husk, tmp_path, GOOD + ["run", "run ret7=22 immediate=1"], "--exit", "map-gpa-range,gpa=0,npages=1,attrs=16",
             "--log", str(log))
    assert "hypercall answered with 22" in log.read_text()


@pytest.mark.parametrize("option, spec, complaint", [
    ("--fault", "launch-updte,errno=EIO", "launch-updte"),
    ("--fault", "launch-update", "how it fails"),
    ("--fault", "launch-update,errno=EWHAT", "errno"),
    ("--fault", "launch-update,at=0,fw=1", "at"),
    ("--fault", "create-vm,fw=1", "does not reach the firmware"),
    ("--fault", "init2,short=1", "only launch-update"),
    ("--fault", "x" * 300, "too long"),
    ("--exit", "shutdwn", "shutdwn"),
    ("--exit", "shutdown,when=1", "when"),
    ("--kernel", "5.10", "6.11, 6.18 and 7.0"),
    ("--parts", "0", "not a number"),
    ("--bogus", "1", "no option"),
])
def test_a_wrong_option_is_named(husk, option, spec, complaint):
    done = subprocess.run([husk, "sim", option, spec, "--", step_vmm(husk)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_vcpus_that_were_set_up_differ_in_the_digest(husk, tmp_path):
    digests = set()
    for regs in ("set-regs rdx=0x600", "set-regs rdx=0x800f12", "set-sregs csbase=0", "set-fpu fcw=0x40",
                 "set-xcrs xcr0=3"):
        result = simulate(husk, tmp_path, OPEN + ["memfd", "region", "attributes"] + VCPU[:1] + [regs, "start"] + FINISH)
        digests.add(result.report["launches"][0]["digest"])
    assert len(digests) == 5
