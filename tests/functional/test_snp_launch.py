"""husk launches SEV-SNP guests under the simulator: no rule broken, and the digest that husk measure predicts."""

import base64
import hashlib
import json
import re
import shlex
import subprocess
import uuid

import pytest

import igvm_files
import igvm_tools
import kernels
import sim_qemu
import snp_launch
from snp_launch import TRIPLE_FAULT, Launcher
from test_sim_id_block import Key, id_auth, id_block

KNOWN_FIRMWARE = "3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f"
# The firmware in an IGVM file of the usual layout, one vCPU, as published tools, QEMU and Cloud Hypervisor have it.
KNOWN_IGVM = "b97b77229a2e0576396f3d2d79cd1ad49122580e201faefb0f9143c28f8b59eb11547fabf32264d8f62defa4f43962a4"



@pytest.fixture
def launcher(husk, tmp_path):
    """A Launcher."""
    return Launcher(husk, tmp_path)


@pytest.fixture
def stage0(launcher):
    """A small firmware with SEV metadata, as stage0 has, in a file."""
    return launcher.file("stage0.fd", igvm_tools.firmware())


@pytest.fixture
def kernel(launcher):
    """Words for a kernel, initramfs and command line."""
    return ["--kernel", launcher.file("kernel", kernels.bzimage()), "--initramfs", launcher.file("initramfs", b"initramfs"),
            "--cmdline", "console=ttyS0"]


@pytest.mark.parametrize("vcpus", [1, 2, 4, 64])
@pytest.mark.parametrize("name", ["ovmf", "stage0"])
def test_firmware_in_an_igvm_file_has_the_digest_that_was_predicted(launcher, stage0, name, vcpus):
    image = stage0 if name == "stage0" else sim_qemu.firmware()
    words = ["--igvm", launcher.igvm(image, "--cpus", vcpus), "--cpus", f"boot={vcpus}"]
    digest = launcher.run(*words).launched(vcpus)["digest"]
    assert digest == launcher.measure(*words)


def test_devices_change_nothing_of_the_launch(launcher, stage0):
    words = ["--firmware", stage0, "--cpus", "boot=2"]
    devices = ["--disk", f"path={launcher.file('disk', bytes(1 << 20))}", "--rng", "src=/dev/urandom",
               "--vsock", f"cid=3,socket={launcher.folder / 'vsock'}"]
    outcome = launcher.run(*words, *devices)
    assert outcome.launched(2)["digest"] == launcher.measure(*words) == launcher.measure(*words, *devices)
    assert "ended by" not in outcome.stderr
    assert [event["properties"]["id"] for event in outcome.events if event["event"] == "backend-started"] == ["_disk0", "_rng", "_vsock"]


@pytest.mark.parametrize("vcpus", [1, 4])
@pytest.mark.parametrize("kernel_rules", ["6.11", "6.18", "7.0"])
def test_firmware_alone_is_launched_in_the_order_of_its_metadata(launcher, stage0, vcpus, kernel_rules):
    words = ["--firmware", stage0, "--cpus", f"boot={vcpus}"]
    digest = launcher.run(*words, sim=("--kernel", kernel_rules, "--exit", "shutdown")).launched(vcpus)["digest"]
    vmsas = [igvm_tools.vmsa(rdx=0x600)] + [igvm_tools.vmsa(igvm_tools.AP_ADDRESS, rdx=0x600)] * (vcpus - 1)
    assert digest == launcher.measure(*words) == igvm_tools.firmware_digest(stage0.read_bytes(), vmsas)


@pytest.mark.parametrize("source", ["--igvm", "--firmware"])
@pytest.mark.parametrize("hashes", ["on", "off"])
def test_kernel_hashes_are_measured_unless_they_are_off(launcher, stage0, kernel, source, hashes):
    words = [source, launcher.igvm(stage0) if source == "--igvm" else stage0, *kernel]
    platform = f",kernel_hashes={hashes}"
    digest = launcher.run(*words, platform=platform).launched()["digest"]
    assert digest == launcher.measure(*words, platform=platform)
    assert (digest == launcher.measure(*words[:2])) == (hashes == "off")


@pytest.mark.parametrize("source", ["--igvm", "--firmware"])
@pytest.mark.parametrize("address", [0x810c00, 0x900040, 0xffff8010], ids=["its-page", "behind-all-others", "firmware"])
def test_kernel_hashes_go_where_they_are_told_to(launcher, stage0, kernel, source, address):
    words = [source, launcher.igvm(stage0) if source == "--igvm" else stage0, *kernel]
    platform = f",kernel_hashes={address:#x}"
    outcome = launcher.run(*words, platform=platform)
    if source == "--firmware" and address == 0xffff8010:
        assert outcome.status == 1 and "its own image is at 0xffff8010" in outcome.stderr
        return
    digest = outcome.launched()["digest"]
    assert digest == launcher.measure(*words, platform=platform)
    shown = json.loads(igvm_tools.run(launcher.husk, "run", *words, *snp_launch.MEMORY, "--dry-run", "--json",
                                      "--platform", f"sev_snp=on{platform}").stdout)
    page, = [run for run in shown["runs"] if run["origin"] == "kernel hashes"]
    assert page["gpa"] == address & ~0xfff and page["bytes"] == 4096 and page["type"] == "NORMAL"
    usual = launcher.measure(*words)
    assert (digest == usual) == (address == 0x810c00)


def test_an_igvm_file_without_a_place_for_hashes_is_refused_a_kernel(launcher, kernel):
    file = igvm_files.File()
    file.platform(1, igvm_files.SEV_SNP)
    file.page(0x100000, 1, b"page")
    path = file.write(launcher.husk, launcher.folder)
    refused = launcher.run("--igvm", path, *kernel)
    assert refused.status == 1 and "no firmware that names a place for hashes of the kernel" in refused.stderr
    launcher.run("--igvm", path, *kernel, platform=",kernel_hashes=off").launched()
    launcher.run("--igvm", path, *kernel, platform=",kernel_hashes=0x100800").launched()


def test_firmware_without_a_place_for_hashes_is_refused_a_kernel_in_words(launcher, kernel):
    image = igvm_tools.firmware().replace(uuid.UUID(igvm_tools.GUIDS["hashes"]).bytes_le, bytes(16))
    words = ["--firmware", launcher.file("none.fd", image), *kernel]
    refused = launcher.run(*words)
    assert refused.status == 1 and "has no place for hashes of the kernel" in refused.stderr
    assert "kernel_hashes=off" in refused.stderr
    launcher.run(*words, platform=",kernel_hashes=off").launched()


@pytest.mark.parametrize("pages", [1, 7])
def test_a_launch_that_kvm_does_in_parts_is_the_same(launcher, stage0, pages):
    words = ["--igvm", launcher.igvm(stage0)]
    whole = launcher.run(*words).launched()
    parts = launcher.run(*words, sim=("--exit", "shutdown", "--fault", f"launch-update,times=0,short={pages}")).launched()
    assert parts["digest"] == whole["digest"] and parts["pages"] == whole["pages"]


def test_a_launch_goes_on_after_a_signal_and_after_eagain(launcher, stage0):
    words = ["--igvm", launcher.igvm(stage0)]
    whole = launcher.run(*words).launched()
    for effect in ("signal", "errno=EAGAIN", "errno=EINTR"):
        again = launcher.run(*words, sim=("--exit", "shutdown", "--fault", f"launch-update,at=2,{effect}")).launched()
        assert again["digest"] == whole["digest"]


def test_policy_features_and_host_data_are_those_that_were_asked_for(launcher, stage0):
    data = bytes(range(32)).hex()
    outcome = launcher.run("--firmware", stage0, "--host-data", data, platform=",policy=0x30003,vcek_disabled=on")
    one = outcome.launched()
    assert one["policy"] == "0x30003" and one["host_data"] == data
    assert outcome.event("snp-launched")["host_data"] == data and outcome.event("snp-launched")["policy"] == "0x30003"


def test_a_policy_that_gives_the_guest_away_is_warned_of(launcher, stage0):
    outcome = launcher.run("--firmware", stage0, platform=",policy=0xb0000")
    outcome.launched()
    assert "lets the host read its memory" in outcome.stderr


@pytest.fixture
def signed(launcher, stage0):
    """signed(digest=None, author=False, base64=False): words and keys of --platform for an ID block."""
    def make(digest=None, author=False, text=False, policy=0x30000):
        digest = digest or bytes.fromhex(launcher.measure("--firmware", stage0))
        key = Key(launcher.folder, "id.pem")
        block = id_block(digest, policy)
        auth = id_auth(block, key, Key(launcher.folder, "author.pem") if author else None)
        files = [base64.encodebytes(data) if text else data for data in (block, auth)]
        return (f",id_block={launcher.file('block', files[0])},id_auth={launcher.file('auth', files[1])}"
                + (",author_key=on" if author else ""))
    return make


@pytest.mark.parametrize("author", [False, True], ids=["id-key", "author-key"])
@pytest.mark.parametrize("text", [False, True], ids=["binary", "base64"])
def test_a_guest_with_the_right_id_block_is_launched(launcher, stage0, signed, author, text):
    launcher.run("--firmware", stage0, platform=signed(author=author, text=text)).launched()


def test_an_id_block_for_another_guest_is_refused_before_the_launch(launcher, stage0, signed):
    refused = launcher.run("--firmware", stage0, platform=signed(bytes(48)))
    digest = launcher.measure("--firmware", stage0)
    assert refused.status == 1
    assert "00" * 48 in refused.stderr and digest in refused.stderr and "husk measure --compare" in refused.stderr
    assert refused.report["launches"] == []


def test_an_id_block_that_does_not_know_the_kernel_names_its_hashes(launcher, stage0, signed, kernel):
    refused = launcher.run("--firmware", stage0, *kernel, platform=signed())
    assert refused.status == 1 and "the page with the kernel's hashes is part of it" in refused.stderr


def test_an_id_block_with_another_policy_is_refused_before_anything_is_made(launcher, stage0, signed):
    refused = launcher.run("--firmware", stage0, platform=signed(policy=0x70000))
    assert refused.status == 1
    assert "the ID block is for policy 0x70000, and the guest has 0x30000" in refused.stderr
    assert refused.report["launches"] == []


def test_a_signature_that_is_not_right_is_told_by_its_name(launcher, stage0, signed):
    words = signed()
    auth = bytearray((launcher.folder / "auth").read_bytes())
    auth[0x40] ^= 1
    (launcher.folder / "auth").write_bytes(auth)
    refused = launcher.run("--firmware", stage0, platform=words)
    assert refused.status == 1 and "SNP_LAUNCH_FINISH" in refused.stderr and "BAD_SIGNATURE" in refused.stderr


def test_the_digest_is_the_published_one(launcher):
    image = sim_qemu.firmware()
    if hashlib.sha256(image.read_bytes()).hexdigest() != KNOWN_FIRMWARE:
        pytest.skip("needs OVMF.amdsev.fd of Debian's ovmf-amdsev 2026.08+ds-2")
    words = ["--igvm", launcher.igvm(image, "--layout", "buildigvm")]
    assert launcher.run(*words).launched()["digest"] == KNOWN_IGVM


def resetting():
    """Firmware that does nothing but reset the machine."""
    image = bytearray(igvm_tools.firmware())
    # At the reset vector: mov $0xcf9,%dx; mov $6,%al; out %al,(%dx); hlt
    image[-16:-9] = bytes.fromhex("ba f9 0c b0 06 ee f4")
    return bytes(image)


def test_a_reboot_launches_the_same_guest_anew(launcher, needs_kvm):
    words = ["--firmware", launcher.file("reset.fd", resetting())]
    # There is room for one guest at a time: nothing of the life before may be left.
    outcome = launcher.run(*words, sim=("--asids", "1", "--exit", "shutdown,vm=3"))
    assert outcome.status == TRIPLE_FAULT, outcome.stderr
    assert outcome.report["violations"] == []
    assert [event["event"] for event in outcome.events].count("rebooted") == 2
    assert [one["digest"] for one in outcome.report["launches"]] == [launcher.measure(*words)] * 3


def test_a_file_that_changes_while_the_guest_runs_stops_it_at_its_next_launch(launcher, needs_kvm):
    image = launcher.file("reset.fd", resetting())
    process = launcher.start("--firmware", image)
    launcher.wait_for("rebooted")
    with open(image, "r+b") as file:
        file.seek(0x100)
        file.write(b"something else")
    outcome = launcher.end(process)
    assert outcome.status == 1 and "its files have changed, and with them the launch digest from" in outcome.stderr
    assert outcome.report["launches"][0]["digest"] in outcome.stderr and launcher.measure("--firmware", image) in outcome.stderr


@pytest.mark.parametrize("now", [kernels.bzimage() + b"more", b""], ids=["longer", "empty"])
def test_a_kernel_that_changes_while_the_guest_runs_is_named_at_its_next_launch(launcher, kernel, needs_kvm, now):
    process = launcher.start("--firmware", launcher.file("reset.fd", resetting()), *kernel)
    launcher.wait_for("rebooted")
    kernel[1].write_bytes(now)
    outcome = launcher.end(process)
    assert outcome.status == 1 and f"'{kernel[1]}' has changed since its hash was measured" in outcome.stderr


def calls(launcher, *words):
    """How many (SEV commands, attribute calls) a launch takes."""
    log = launcher.folder / "log"
    launcher.run(*words, sim=("--exit", "shutdown", "--log", log)).launched()
    lines = log.read_text().splitlines()
    return (sum(bool(re.search("SEV command|LAUNCH_UPDATE", line)) for line in lines),
            sum(" attributes " in line for line in lines))


def test_a_launch_takes_as_many_calls_as_it_has_runs(launcher):
    sev, attributes = calls(launcher, "--igvm", launcher.igvm(sim_qemu.firmware()))
    assert sev <= 11 and attributes <= 4
    small, large = (calls(launcher, "--igvm", launcher.igvm(launcher.file("f", igvm_tools.firmware(pages=pages))))
                    for pages in (8, 4000))
    assert small == large


def test_imported_pages_are_held_once(launcher, stage0):
    outcome = launcher.run("--firmware", stage0)
    pages = int(outcome.event("snp-launched")["pages"])
    counters = outcome.event("private-memory")
    assert int(counters["punched_bytes"]) == 4096 * pages and counters["punch_failures"] == "0"


def test_husk_launches_within_its_whole_sandbox(launcher, stage0):
    outcome = launcher.run("--igvm", launcher.igvm(stage0), "--seccomp", "true", "--landlock")
    outcome.launched()


def test_sixteen_husks_launch_at_once_under_one_simulator(launcher, stage0):
    igvm = launcher.igvm(stage0)
    one = [launcher.husk, "run", "--platform", "sev_snp=on", "--memory", "size=64M", "--serial", "off", "--landlock",
           "--igvm", str(igvm)]
    script = f"for i in $(seq 16); do {shlex.join(one)} & done; wait"
    report = launcher.folder / "report.json"
    done = subprocess.run([launcher.husk, "sim", "--json", report, "--exit", "shutdown,vm=0", "--", "sh", "-c", script],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(report.read_text())
    assert report["violations"] == [] and len(report["launches"]) == 16
    assert {launch["digest"] for launch in report["launches"]} == {launcher.measure("--igvm", igvm)}
    assert len({launch["pid"] for launch in report["launches"]}) == 16
