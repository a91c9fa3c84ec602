"""husk probe: what it says of this host, and of simulated ones."""

import json
import os
import subprocess


def probe(husk, *sim):
    """(exit status, report) of husk probe --json, under husk sim if @sim has words for it."""
    wrapper = [husk, "sim", *sim[1:], "--"] if sim else []
    done = subprocess.run([*wrapper, husk, "probe", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    return done.returncode, json.loads(done.stdout)


def texts(report, verdict):
    return [finding["text"] for finding in report["findings"] if finding["verdict"] == verdict]


def test_it_agrees_with_what_the_kernel_says_of_this_host(husk):
    status, report = probe(husk)
    with open("/proc/cpuinfo", encoding="ascii") as file:
        cpu = dict(line.strip().split("\t: ", 1) for line in file.read().split("\n\n")[0].splitlines() if "\t: " in line)
    cpu = {key.strip(): value for key, value in cpu.items()}
    assert report["processor"]["vendor"] == cpu["vendor_id"]
    assert (report["processor"]["family"], report["processor"]["model"]) == (int(cpu["cpu family"]), int(cpu["model"]))
    assert report["kernel"] == os.uname().release
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    assert report["can"]["ordinary"] == usable and status == (0 if usable else 1)
    if not os.path.exists("/dev/sev"):
        assert not report["can"]["sev_snp"] and texts(report, "missing")


def test_a_simulated_host_can_start_snp_guests(husk, needs_kvm):
    status, report = probe(husk, "sim")
    assert status == 0
    assert report["can"] == {"ordinary": True, "sw_protected": report["can"]["sw_protected"], "sev_snp": True}
    assert texts(report, "missing") == []
    assert report["firmware"]["api_major"] == 1


def test_faults_of_a_simulated_host_are_told(husk, needs_kvm):
    for fault, said in (("open-sev,errno=EACCES", "/dev/sev may not be opened: Permission denied"),
                        ("open-sev,errno=ENOENT", "/dev/sev could not be opened: No such file or directory"),
                        ("sev-command,fw=1", "the firmware gives no status: it answers with error 1"),
                        ("sev-command,errno=ENODEV", "the firmware gives no status: No such device")):
        status, report = probe(husk, "sim", "--fault", fault)
        assert texts(report, "missing") == [said]
        assert status == 0 and not report["can"]["sev_snp"] and report["can"]["ordinary"]


def test_without_kvm_it_says_what_to_do(husk, needs_kvm):
    status, report = probe(husk, "sim", "--fault", "open-kvm,errno=EACCES,times=0")
    assert status == 1 and not any(report["can"].values())
    found = next(finding for finding in report["findings"] if "/dev/kvm may not be opened" in finding["text"])
    assert "group" in found["hint"]


def test_the_text_ends_with_what_can_be_started(husk):
    done = subprocess.run([husk, "probe"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    _, report = probe(husk)
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    for line, can in zip(lines[-3:], ("ordinary", "sw_protected", "sev_snp")):
        assert line.split("guests")[1].split()[0] == ("yes" if report["can"][can] else "no")
    for finding in report["findings"]:
        assert finding["text"] in done.stdout and (finding["hint"] or "") in done.stdout


def test_wrong_words_are_refused(husk):
    for words in (["--jsno"], ["now"]):
        done = subprocess.run([husk, "probe", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                              check=False)
        assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) <= 3
