"""After a launch the guest runs, unencrypted, on the KVM below: private memory is other memory than shared."""

import os

import pytest
from sim_steps import OPEN, simulate

IO = 2
HYPERCALL = 3
HLT = 5
PAGE = 0xfffff000
# At the reset vector, 0xff0 into the last page below 4 GiB.
VECTOR = 0xff0

pytestmark = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="guests need a KVM")


def loop_of_out(port):
    """Machine code: out port, al; jump back."""
    return bytes([0xe6, port, 0xeb, 0xfc]).hex()


def ports(result):
    """Ports of the I/O exits, in order."""
    return [line["data"][0] >> 16 & 0xffff for line in result.lines if line["step"] == "run" and line.get("exit") == IO]


def launched(code):
    """Steps up to a guest that runs code from a private page; its shared twin is at offset 0x10000 of the VMM's memory."""
    return OPEN + ["memfd size=0x1000", f"region gpa={PAGE} size=0x1000 off=0x10000",
                   f"attributes gpa={PAGE} size=0x1000", "create-vcpu id=0", "start", f"poke off={VECTOR} bytes={code}",
                   f"update gfn={PAGE >> 12}", "fill byte=0 len=0x1000", "finish"]


def test_a_guest_runs_the_page_that_was_imported(husk, tmp_path):
    result = simulate(husk, tmp_path, launched(loop_of_out(0x42)) + ["run", "run"])
    assert ports(result) == [0x42, 0x42]
    assert result.report["violations"] == []


def test_a_converted_page_is_the_shared_one(husk, tmp_path):
    steps = launched(loop_of_out(0x42)) + [f"poke off={0x10000 + VECTOR} bytes={loop_of_out(0x43)}", "run",
                                           f"attributes gpa={PAGE} size=0x1000 attr=0", "run", "run",
                                           f"attributes gpa={PAGE} size=0x1000", "run", "run"]
    result = simulate(husk, tmp_path, steps)
    seen = ports(result)
    # The instruction behind each exit is fetched after the conversion.
    assert (seen[0], seen[2], seen[4]) == (0x42, 0x43, 0x42)
    assert set(seen) == {0x42, 0x43}


def test_a_guest_is_not_told_that_it_has_snp(husk, tmp_path):
    # mov eax, 0x8000001f; cpuid; and al, 0x1a; out 0x42, al; hlt
    code = bytes.fromhex("66b81f000080" "0fa2" "241a" "e642" "f4").hex()
    # The page's end cuts the code off at 16 bytes: it fits.
    result = simulate(husk, tmp_path, launched(code) + ["set-cpuid", "run", "read-io"])
    exits = [line for line in result.lines if line["step"] == "run"]
    assert exits[0]["exit"] == IO
    assert result.lines[-1]["byte"] == 0
