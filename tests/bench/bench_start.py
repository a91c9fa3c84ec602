#!/usr/bin/python3
"""How long a start takes: exec to the guest's first instruction and back out.

Every program starts the same payload (tests/payloads/poweroff.S, 1 vCPU, 256 MiB), which powers the machine off with its
first instructions. Runs are interleaved, so that a noisy minute hits all of them; the median counts. The peer that the
ratio is against is a minimal KVM program (tests/bench/minimal_kvm.c), which makes one VM, one slot and one vCPU.
"""
import argparse
import os
import statistics
import subprocess
import time


def spawn_ms(command, expected):
    """Milliseconds from exec to exit of one run."""
    start = time.perf_counter()
    # posix_spawn through subprocess: no fork of a large address space, no shell.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, timeout=60, close_fds=False, check=False)
    elapsed = (time.perf_counter() - start) * 1000
    if done.returncode not in expected:
        raise SystemExit(f'{command[0]}: status {done.returncode}: {done.stderr.decode(errors="replace")}')
    return elapsed


def contestants(build, qemu):
    payload = os.path.join(build, 'tests/payloads/poweroff.elf')
    found = {
        'minimal KVM program': ([os.path.join(build, 'tests/bench/minimal-kvm')], {0}),
        'husk': ([os.path.join(build, 'husk'), 'run', '--kernel', payload, '--cpus', 'boot=1',
                  '--memory', 'size=256M', '--serial', 'off'], {0}),
    }
    if qemu:
        common = ['-accel', 'kvm', '-m', '256', '-nodefaults', '-display', 'none', '-no-user-config',
                  '-kernel', payload, '-device', 'isa-debug-exit,iobase=0xf4,iosize=1']
        # isa-debug-exit ends QEMU with (value << 1) | 1.
        ended = {(0x34 << 1) | 1}
        found['QEMU microvm'] = (qemu + ['-M', 'microvm'] + common, ended)
        found['QEMU q35'] = (qemu + ['-M', 'q35'] + common, ended)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--build', default='build', help='folder of the release build')
    parser.add_argument('--qemu', nargs='+', default=[], help='command that starts qemu-system-x86_64')
    parser.add_argument('--runs', type=int, default=21)
    args = parser.parse_args()

    programs = contestants(args.build, args.qemu)
    times = {name: [] for name in programs}
    for round_ in range(args.runs + 1):
        for name, (command, expected) in programs.items():
            elapsed = spawn_ms(command, expected)
            if round_:  # the first round fills caches
                times[name].append(elapsed)

    least = statistics.median(times['minimal KVM program'])
    print(f'exec to first guest instruction and exit, median of {args.runs} interleaved runs')
    print(f'{"program":24} {"ms":>8} {"ratio":>7}  (ratio to the minimal KVM program)')
    for name, values in times.items():
        median = statistics.median(values)
        print(f'{name:24} {median:8.1f} {median / least:7.2f}')


if __name__ == '__main__':
    main()
