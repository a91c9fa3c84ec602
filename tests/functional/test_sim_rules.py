"""Each rule of the simulator is broken once, and caught. The table of rules is in src/sim/rules.def."""

import hashlib
import subprocess

import pytest
from sim_steps import (BEFORE_FINISH, BEFORE_PAGES, BEFORE_START, BEFORE_VCPU, FINISH, GOOD, OPEN, PAGES,
                       START, VCPU, broken, simulate)

K7 = ("--kernel", "7.0")
K618 = ("--kernel", "6.18")
CPUID_OFFSET = 0x200000

# rule, how the marked step ends (an errno, or "" where it succeeds), steps with the marked one last or preceded by "!",
# options
CASES = [
    ("vm-type", "EINVAL", ["open-kvm", "!create-vm type=3"], ("--no-kvm",)),
    ("vm-process", "EIO", OPEN + ["!fork", "memfd"], ()),  # the child's line comes first
    ("hypercall-mask", "EINVAL", OPEN[:3] + ["!enable-cap arg=0x2000"], ()),
    ("hypercall-missing", "", [s for s in GOOD if s != "enable-cap"], ()),
    ("sev-vm-type", "EINVAL", ["open-kvm", "open-sev", "create-vm type=0", "!init2"], ("--no-kvm",)),
    ("sev-command", "EINVAL", OPEN + ["!sev-command id=103"], ()),
    ("sev-old-command", "EPERM", OPEN + ["!init2"], ()),
    ("init2-missing", "ENOTTY", OPEN[:4] + ["!start"], ()),
    ("init2-missing", "EINVAL", OPEN[:4] + ["!update"], ()),
    ("init2-missing", "ENOTTY", OPEN[:4] + ["!finish"], ()),
    ("init2-vcpus", "EINVAL", OPEN[:4] + ["create-vcpu id=0", "!init2"], ()),
    ("init2-flags", "EINVAL", OPEN[:4] + ["!init2 flags=1"], ()),
    ("init2-features", "EINVAL", OPEN[:4] + ["!init2 features=1"], ()),
    ("init2-features", "EINVAL", OPEN[:4] + ["!init2 features=0x200"], ()),
    ("init2-ghcb", "EINVAL", OPEN[:4] + ["!init2 ghcb=3"], ()),
    ("init2-asid", "EBUSY", OPEN + ["create-vm", "!init2 vm=1"], ("--asids", "1")),
    ("certs-order", "EINVAL", OPEN + ["create-vcpu id=0", "!sev-command id=103"], K7),
    ("certs-order", "EINVAL", OPEN[:4] + ["!sev-command id=103"], K7),
    ("start-twice", "EINVAL", BEFORE_PAGES + ["!start"], ()),
    ("start-flags", "EINVAL", BEFORE_START + ["!start flags=1"], ()),
    ("start-policy-bits", "EINVAL", BEFORE_START + ["!start policy=0x70000"], ()),
    ("start-policy-bits", "EINVAL", BEFORE_START + ["!start policy=0x230000"], K618),
    ("start-policy-mbo", "EINVAL", BEFORE_START + ["!start policy=0x10000"], ()),
    ("start-policy-smt", "EINVAL", BEFORE_START + ["!start policy=0x20000"], ()),
    ("start-policy-socket", "EINVAL", BEFORE_START + ["!start policy=0x130000"], ()),
    ("start-policy-abi", "EIO", BEFORE_START + ["!start policy=0x30200"], ()),
    ("sev-fd", "ENOTTY", BEFORE_START + ["!start sevfd=0"], ()),
    ("sev-fd", "EIO", BEFORE_PAGES + ["!update sevfd=0"], ()),
    ("sev-fd", "EBADF", BEFORE_FINISH + ["!finish sevfd=0"], ()),
    ("sev-fd-kept", "EBADF", BEFORE_FINISH + ["dup what=sev how=dup2 to=60", "!finish"], ()),
    ("update-context", "EINVAL", BEFORE_START + ["!update"], ()),
    ("update-finished", "EIO", GOOD + ["!update gfn=0x20"], ()),
    ("update-flags", "EINVAL", BEFORE_PAGES + ["!update flags=1"], ()),
    ("update-type", "EINVAL", BEFORE_PAGES + ["!update type=2"], ()),
    ("update-type", "EINVAL", BEFORE_PAGES + ["!update type=7"], ()),
    ("update-length", "EINVAL", BEFORE_PAGES + ["!update len=0x800"], ()),
    ("update-length", "EINVAL", BEFORE_PAGES + ["!update len=0"], K7),
    ("update-aligned", "EINVAL", BEFORE_PAGES + ["!update off=0x10"], K7),
    ("update-unaligned", "", BEFORE_PAGES + ["!update off=0x10"], ()),
    ("update-slot", "EINVAL", BEFORE_PAGES + ["!update gfn=0x1000"], ()),
    ("update-slot", "EINVAL", BEFORE_PAGES + ["region slot=1 flags=0 gpa=0x1000000", "!update gfn=0x1000"], ()),
    ("update-memfd-open", "EIO", BEFORE_PAGES + ["close what=memfd0", "!update"], ()),
    ("update-private", "EIO", BEFORE_PAGES + ["attributes attr=0 size=0x1000", "!update"], ()),
    ("update-twice", "EIO", BEFORE_FINISH + ["!update gfn=3"], ()),
    ("update-source", "EIO", BEFORE_PAGES + ["!update uaddr=0x1000"], ()),
    ("update-source", "EIO", BEFORE_PAGES + ["protect off=0x5000", "!update off=0x5000"], ()),
    ("update-crosses", "", BEFORE_PAGES + ["!update gfn=0xfe len=0x4000"], ()),
    ("update-dropped", "", BEFORE_PAGES + ["update gfn=0xfe len=0x4000", "!finish"], ()),
    ("secrets-once", "", BEFORE_FINISH + ["!update gfn=0x20 type=5"], ()),
    ("cpuid-once", "", BEFORE_FINISH + ["!update gfn=0x20 type=6 off=0x100000"], ()),
    ("finish-context", "EINVAL", BEFORE_START + ["!finish"], ()),
    ("finish-flags", "EINVAL", BEFORE_FINISH + ["!finish flags=1"], ()),
    ("finish-twice", "EINVAL", GOOD + ["!finish"], ()),
    ("finish-twice", "EIO", BEFORE_VCPU + START + FINISH + ["!finish"], ()),
    ("finish-vcpus", "", BEFORE_VCPU + START + PAGES + ["!finish"], ()),
    ("finish-debug", "EINVAL", BEFORE_START + ["guest-debug control=1"] + START + PAGES + ["!finish"], ()),
    ("finish-debug", "EINVAL", BEFORE_START + ["set-debugregs dr7=0x401"] + START + PAGES + ["!finish"], ()),
    ("region-flags", "EINVAL", OPEN + ["!region flags=8"], ()),
    ("region-flags", "EINVAL", OPEN + ["memfd", "!region form=1"], ()),
    ("region-readonly", "EINVAL", OPEN + ["!region flags=2"], ()),
    ("region-dirty", "EINVAL", OPEN + ["memfd", "!region flags=5"], ()),
    ("region-aligned", "EINVAL", OPEN + ["memfd", "!region gpa=0x800"], ()),
    ("region-aligned", "EINVAL", OPEN + ["memfd", "!region size=0x800"], ()),
    ("region-aligned", "EINVAL", OPEN + ["memfd", "!region off=0x800"], ()),
    ("region-aligned", "EINVAL", OPEN + ["memfd", "!region memfdoff=0x800"], ()),
    ("region-number", "EINVAL", OPEN + ["memfd", "!region slot=0x10000"], ()),
    ("region-number", "EINVAL", OPEN + ["memfd", "!region slot=32764"], ()),
    ("region-overlap", "EEXIST", BEFORE_VCPU + ["!region slot=1 flags=0 gpa=0xff000"], ()),
    ("region-missing", "EINVAL", OPEN + ["!region flags=0 size=0"], ()),
    ("region-fixed", "EINVAL", BEFORE_VCPU + ["!region flags=0"], ()),
    ("region-fixed", "EINVAL", OPEN + ["region flags=0", "!region flags=0 size=0x2000"], ()),
    ("region-memfd", "EINVAL", OPEN + ["!region fd=0"], ()),
    ("region-memfd", "EBADF", OPEN + ["!region fd=99"], ()),
    ("region-memfd", "EINVAL", OPEN + ["create-vm", "memfd", "!region vm=1"], ()),
    ("region-memfd-range", "EINVAL", OPEN + ["memfd size=0x1000", "!region"], ()),
    ("region-memfd-bound", "EINVAL", BEFORE_VCPU + ["!region slot=1 gpa=0x1000000"], ()),
    ("memfd-vm", "EINVAL", ["open-kvm", "create-vm type=0", "!memfd"], ("--no-kvm",)),
    ("memfd-size", "EINVAL", OPEN + ["!memfd size=0"], ()),
    ("memfd-size", "EINVAL", OPEN + ["!memfd size=0x1800"], ()),
    ("memfd-flags", "EINVAL", OPEN + ["!memfd flags=1"], ()),
    ("memfd-flags", "EINVAL", OPEN + ["!memfd flags=2"], K7),
    ("memfd-mmap", "ENODEV", OPEN + ["memfd", "!mmap-memfd"], ()),
    ("fallocate-mode", "EOPNOTSUPP", OPEN + ["memfd", "!fallocate mode=0"], ()),
    ("fallocate-range", "EINVAL", OPEN + ["memfd", "!fallocate off=0x800"], ()),
    ("fallocate-range", "EINVAL", OPEN + ["memfd", "!fallocate mode=1 off=0x100000"], ()),
    ("attributes-flags", "EINVAL", OPEN + ["!attributes flags=1"], ()),
    ("attributes-known", "EINVAL", OPEN + ["!attributes attr=1"], ()),
    ("attributes-range", "EINVAL", OPEN + ["!attributes size=0"], ()),
    ("attributes-range", "EINVAL", OPEN + ["!attributes gpa=0x800"], ()),
    ("attributes-range", "EINVAL", OPEN + ["!attributes gpa=0xfffffffffffff000 size=0x2000"], ()),
    ("vcpu-id", "EEXIST", OPEN + ["create-vcpu id=0", "!create-vcpu id=0"], ()),
    ("vcpu-id", "EINVAL", OPEN + ["!create-vcpu id=4096"], ()),
    ("vcpu-late", "", GOOD + ["!create-vcpu id=1"], ()),
    ("vcpu-protected", "EINVAL", GOOD + ["!get-regs"], ()),
    ("vcpu-protected", "EINVAL", GOOD + ["!set-regs"], ()),
    ("vcpu-protected", "EINVAL", GOOD + ["!set-debugregs"], ()),
    ("vcpu-protected", "EINVAL", GOOD + ["!set-xcrs"], ()),
    ("vcpu-fpu", "", GOOD + ["!set-fpu"], ()),
    ("vcpu-debug", "EINVAL", GOOD + ["!guest-debug"], ()),
    ("sregs-mode", "EINVAL", BEFORE_VCPU + VCPU + ["!set-sregs efer=0x100 cr0=0x80000011"], ()),
    ("sregs-mode", "EINVAL", BEFORE_VCPU + VCPU + ["!set-sregs efer=0x400"], ()),
    ("debugregs", "EINVAL", BEFORE_VCPU + VCPU + ["!set-debugregs flags=1"], ()),
    ("xcrs", "EINVAL", BEFORE_VCPU + VCPU + ["!set-xcrs xcr0=2"], ()),
    ("pre-fault-early", "EOPNOTSUPP", BEFORE_START + ["!pre-fault"], ()),
    ("pre-fault-range", "EINVAL", GOOD + ["!pre-fault size=0"], ()),
    ("run-init", "EINVAL", OPEN[:4] + ["create-vcpu id=0", "!run"], ()),
    ("run-finished", "", BEFORE_FINISH + ["!run"], ()),
    ("run-finished", "", GOOD + ["create-vcpu id=1", "!run vcpu=1"], ()),
    ("certs-ret", "EINVAL", GOOD + ["run", "!run ret2=5000"], K7 + ("--exit", "snp-req-certs,gpa=0x8000,npages=4")),
    ("fault-endless", "EINTR", GOOD + ["run", "!run immediate=1"], ("--exit", "memory-fault,gpa=0x8000,flags=8")),
    ("sev-device", "EINVAL", ["open-kvm", "open-sev", "!sev-issue cmd=0"], ()),
]


def marked(steps):
    """The steps as the VMM takes them, and the index of the marked one's line."""
    at = next((i for i, step in enumerate(steps) if step.startswith("!")), len(steps) - 1)
    return [step.removeprefix("!") for step in steps], at


def rule_table(husk):
    """The rules, as husk prints them: name -> severity."""
    text = subprocess.run([husk, "sim", "--rules"], capture_output=True, text=True, check=True).stdout
    rows = [line.split("|") for line in text.splitlines()[2:]]
    return {row[1].strip().strip("`"): row[2].strip() for row in rows}


@pytest.mark.parametrize("mode", [(), ("--no-kvm",)], ids=["kvm", "launch-only"])
def test_a_correct_launch_breaks_no_rule(husk, tmp_path, mode):
    result = simulate(husk, tmp_path, GOOD, *mode)
    assert result.status == 0
    assert all(line["errno"] == "" for line in result.lines)
    assert result.report["violations"] == []
    launch, = result.report["launches"]
    assert launch["finished"] and launch["vcpus"] == 1
    assert launch["pages"] == {"normal": 4, "zero": 2, "secrets": 1, "cpuid": 1, "vmsa": 1}


@pytest.mark.parametrize("rule, error, steps, options", CASES,
                         ids=[f"{case[0]}-{number}" for number, case in enumerate(CASES)])
def test_breaking_a_rule_is_caught(husk, tmp_path, rule, error, steps, options):
    severity = rule_table(husk)[rule]
    steps, at = marked(steps)
    result = simulate(husk, tmp_path, steps, *options)
    step = result.lines[at]
    assert (step["errno"], step["result"] < 0) == (error, error != ""), result.lines
    assert broken(result) == {rule} or rule in ("finish-vcpus", "finish-twice", "update-dropped", "run-finished")
    assert rule in broken(result)
    violation = next(v for v in result.report["violations"] if v["rule"] == rule)
    assert violation["severity"] == severity and violation["source"]
    assert f"{'ERROR' if severity == 'error' else 'WARNING'} {rule}" in result.stderr
    # An earlier step that fails would hide what this one shows.
    assert all(line["errno"] == "" for line in result.lines[:at] if line["step"] != "run")
    assert result.status == (99 if result.report["errors"] else 0)


def cpuid_page(*entries, count=None):
    """A CPUID page: entries of (function, index, eax, ebx, ecx, edx)."""
    page = (len(entries) if count is None else count).to_bytes(16, "little")
    for function, index, *registers in entries:
        xcr0 = 1 if function == 0xd else 0
        page += function.to_bytes(4, "little") + index.to_bytes(4, "little")
        page += xcr0.to_bytes(8, "little") + bytes(8)
        page += b"".join(register.to_bytes(4, "little") for register in registers) + bytes(8)
    return page.ljust(4096, b"\0")


@pytest.mark.parametrize("rule, page, corrected", [
    ("cpuid-count", cpuid_page(count=65), None),
    ("cpuid-range", cpuid_page((0x10000, 0, 0, 0, 0, 0)), None),
    ("cpuid-value", cpuid_page((1, 0, 0, 0, 1 << 24, 0)), cpuid_page((1, 0, 0, 0, 0, 0))),
    ("cpuid-value", cpuid_page((7, 0, 0, 3, 0, 5)), cpuid_page((7, 0, 0, 1, 0, 0))),
    ("cpuid-value", cpuid_page((0x80000008, 0, 0, 1 << 25, 0, 0)), cpuid_page((0x80000008, 0, 0, 0, 0, 0))),
    ("cpuid-value", cpuid_page((0x80000021, 0, 1, 0, 2, 0)), cpuid_page((0x80000021, 0, 1, 0, 0, 0))),
    ("cpuid-value", cpuid_page((0xd, 0, 7, 0x340, 0, 0)), cpuid_page((0xd, 0, 7, 0x240, 0, 0))),
])
def test_a_cpuid_page_is_refused_and_comes_back_corrected(husk, tmp_path, rule, page, corrected):
    path = tmp_path / "cpuid"
    path.write_bytes(page)
    update = f"update gfn=7 type=6 off={CPUID_OFFSET}"
    result = simulate(husk, tmp_path, BEFORE_PAGES + [f"load off={CPUID_OFFSET} file={path}", update,
                                                      f"read off={CPUID_OFFSET} len=128", update])
    first, read, second = result.lines[-3:]
    assert (first["errno"], first["fw"]) == ("EIO", 22)
    assert broken(result) == {rule}
    if corrected:
        assert read["bytes"] == corrected[:128].hex()
        assert second["errno"] == "", "the corrected page is taken"
    else:
        assert second["errno"] == "EIO"


def test_every_rule_is_broken_by_a_test(husk):
    table = rule_table(husk)
    tried = {case[0] for case in CASES} | {"cpuid-count", "cpuid-range", "cpuid-value"}
    in_test_sim_id_block = {"id-address", "id-version", "id-algorithm", "id-digest", "id-policy", "id-signature",
                            "id-author"}
    assert len(table) >= 40
    assert tried | in_test_sim_id_block == set(table)


def extend(digest, kind, gpa, contents=None):
    """One page into a launch digest (SNP ABI 8.17.2)."""
    body = hashlib.sha384(contents).digest() if contents is not None else bytes(48)
    return hashlib.sha384(digest + body + (0x70).to_bytes(2, "little") + bytes([kind]) + bytes(5) +
                          gpa.to_bytes(8, "little")).digest()


def test_the_digest_chains_pages_in_the_order_of_the_calls(husk, tmp_path):
    steps = BEFORE_VCPU + START + ["fill off=0x3000 byte=0x5a len=0x1000", "update gfn=9 type=3",
                                   "update gfn=2 off=0x3000 len=0x2000", "update gfn=1 type=4", "update gfn=5 type=5",
                                   "update gfn=6 type=6 off=0x100000"] + FINISH
    result = simulate(husk, tmp_path, steps)
    digest = extend(bytes(48), 3, 0x9000)
    digest = extend(digest, 1, 0x2000, b"\x5a" * 4096)
    digest = extend(digest, 1, 0x3000, bytes(4096))
    digest = extend(digest, 4, 0x1000)
    digest = extend(digest, 5, 0x5000)
    digest = extend(digest, 6, 0x6000)
    assert result.report["launches"][0]["digest"] == digest.hex()


@pytest.mark.parametrize("kernel, policy, error", [
    ("6.11", 0x130000, "EINVAL"), ("6.18", 0x130000, ""), ("7.0", 0x130000, ""),
    ("6.11", 0x20000, "EINVAL"), ("6.18", 0x20000, ""),
    ("6.18", 0x2030000, "EINVAL"), ("7.0", 0x2030000, ""),
    ("7.0", 0x70000, "EINVAL"),
])
def test_policy_bits_depend_on_the_kernel(husk, tmp_path, kernel, policy, error):
    result = simulate(husk, tmp_path, BEFORE_START + [f"start policy={policy}"], "--kernel", kernel)
    assert result.lines[-1]["errno"] == error


def test_what_the_kernel_offers_depends_on_its_generation(husk, tmp_path):
    steps = OPEN + ["check-cap cap=244 vm=0", "attr attr=0", "attr attr=1", "attr attr=2", "attr attr=9"]
    lines = {kernel: simulate(husk, tmp_path, steps, "--kernel", kernel).lines[-5:] for kernel in ("6.11", "6.18", "7.0")}
    assert [lines[k][0]["result"] for k in lines] == [0, 1, 1]
    assert [lines[k][1]["value"] for k in lines] == [0x20, 0x220, 0x220]
    assert [lines[k][2]["errno"] for k in lines] == ["ENXIO", "ENXIO", ""]
    assert lines["7.0"][2]["value"] == 0x3fbffff
    assert [lines[k][3]["errno"] for k in lines] == ["ENXIO", "ENXIO", ""]
    assert [lines[k][4]["errno"] for k in lines] == ["ENXIO"] * 3


def test_a_punched_page_can_be_imported_again(husk, tmp_path):
    result = simulate(husk, tmp_path, BEFORE_PAGES + ["update gfn=0", "fallocate mode=3 off=0 len=0x1000", "update gfn=0",
                                                      "update gfn=1"] + FINISH)
    assert result.status == 0 and result.report["violations"] == []


def test_it_can_not_be_taken_for_the_real_thing(husk, tmp_path):
    result = simulate(husk, tmp_path, OPEN + ["sev-issue", "cpuid"])
    status, cpuid = result.lines[-2:]
    assert (status["api"], status["build"], status["guests"]) == ("1.255", 0x4d495348, 1)
    assert cpuid["eax"] & 0x1a == 0x1a, "the VMM sees SNP"
    assert "THIS IS A SIMULATION" in result.stderr
    assert result.report["simulated"] is True
