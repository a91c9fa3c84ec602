#!/usr/bin/python3
"""usage: tests/bench/bench_snp.py [RUNS]

What an SEV-SNP launch asks of KVM: the SEV and the attribute ioctls of husk (from an IGVM file) and of Debian's QEMU (sid, from the
image) for OVMF.amdsev.fd of 4 MiB, under one simulator; and of an IGVM file of 256 MiB husk's processor time, the simulator's
library in it included, against copying as many bytes.
"""

import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import common

sys.path.insert(0, str(common.ROOT / "tests" / "functional"))

import igvm_files  # noqa: E402
import sim_qemu  # noqa: E402

HUSK = common.ROOT / "build" / "husk"
LARGE = 256 << 20
HUGE = 2 << 20
# Of an issue's own making: what a launch of a 4 MiB firmware may take.
MOST_SEV, MOST_ATTRIBUTES = 11, 4


def simulated(folder, command):
    """The log of a launch under the simulator, and what the program printed on standard output."""
    log = folder / "log"
    done = subprocess.run([HUSK, "sim", "--log", log, "--exit", "shutdown", "--", *command], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=300, check=False)
    text = log.read_text()
    if "launch digest" not in text:
        raise SystemExit(done.stderr)
    return text.splitlines(), done.stdout


def calls(folder, command):
    """How many SEV commands and attribute calls a launch takes."""
    lines, _ = simulated(folder, command)
    return (sum(bool(re.search("SEV command|LAUNCH_UPDATE", line)) for line in lines),
            sum(" attributes " in line for line in lines))


def husk_run(igvm, size):
    """The words that launch an IGVM file."""
    return [str(word) for word in (HUSK, "run", "--platform", "sev_snp=on", "--igvm", igvm, "--memory", f"size={size}",
                                   "--serial", "off")]


def large(folder):
    """An IGVM file of pages of 2 MiB."""
    file = igvm_files.File()
    file.platform(1, igvm_files.SEV_SNP)
    page = bytes(range(256)) * (HUGE // 256)
    for at in range(0, LARGE, HUGE):
        file.page(HUGE + at, 1, page, flags=1)
    return file.write(HUSK, folder)


def processor_seconds(folder, command):
    """Of one run, user and system time."""
    _, said = simulated(folder, ["bash", "-c", '"$@" >&2; times', "bash", *command])
    minutes = re.findall(r"(\d+)m([\d.]+)s", said.splitlines()[-1])
    return sum(60 * int(whole) + float(seconds) for whole, seconds in minutes)


def copy_seconds():
    """Of copying so many bytes into memory that was not touched before."""
    source = bytearray(LARGE)
    source[::4096] = b"x" * (LARGE // 4096)
    begun = time.process_time()
    bytes(source)
    return time.process_time() - begun


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        igvm = folder / "ovmf.igvm"
        subprocess.run([HUSK, "igvm", "build", "--firmware", sim_qemu.firmware(), "--output", igvm], check=True)
        guest = f"sev-snp-guest,id=sev0,cbitpos={sim_qemu.c_bit(HUSK)},reduced-phys-bits=1,policy=0x30000"
        husk = calls(folder, husk_run(igvm, "512M"))
        qemu = calls(folder, sim_qemu.command("-object", guest, "-smp", "1"))
        print("OVMF.amdsev.fd of 4 MiB, ioctls:  SEV  attributes")
        print(f"  husk                            {husk[0]:3}  {husk[1]:10}")
        print(f"  QEMU of Debian sid              {qemu[0]:3}  {qemu[1]:10}   husk/QEMU {husk[0] / qemu[0]:.2f}, "
              f"{husk[1] / qemu[1]:.2f}")
        path = large(folder)
        sev, attributes = calls(folder, husk_run(path, "512M"))
        ours, copies = [], []
        for _ in range(runs):
            ours.append(processor_seconds(folder, husk_run(path, "512M")))
            copies.append(copy_seconds())
        ours, copy = statistics.median(ours), statistics.median(copies)
        print(f"IGVM file of 256 MiB: {sev} SEV ioctls, {attributes} attribute ioctls; processor time {ours * 1000:.0f} ms, "
              f"a copy {copy * 1000:.0f} ms: {ours / copy:.2f} (medians of {runs})")
    return int(husk[0] > MOST_SEV or husk[1] > MOST_ATTRIBUTES or sev > MOST_SEV)


if __name__ == "__main__":
    sys.exit(main())
