"""husk probe on a host with kvm_amd (the emulated one) or whatever this machine has."""

import json


def test_probe_knows_the_host_that_guests_run_on(host):
    report = json.loads(host.run(f"{host.husk} probe --json")[1])
    assert report["can"]["ordinary"] and report["kernel"] == host.run("uname -r")[1].strip()
    if not host.emulated:
        return
    assert (report["processor"]["vendor"], report["processor"]["family"]) == ("AuthenticAMD", 0x17)
    assert not report["can"]["sev_snp"] and report["firmware"] is None
    found = next(finding for finding in report["findings"] if finding["text"].startswith("no SEV-SNP: CPUID"))
    assert found["verdict"] == "missing" and "on the machine itself" in found["hint"]
