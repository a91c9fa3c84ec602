"""What the benchmarks share: interleaved runs, medians, one table."""

import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "host"))


def interleaved(programs, runs, measure):
    """
    Measure every program in turn, runs times, after one round that only fills caches: a noisy minute hits all of them.
    Returns the medians by name.
    """
    values = {name: [] for name in programs}
    for round_ in range(runs + 1):
        for name, program in programs.items():
            value = measure(program)
            if round_:
                values[name].append(value)
        if sys.stderr.isatty():
            print(f"\r  round {round_} of {runs}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r" + " " * 30 + "\r", end="", file=sys.stderr, flush=True)
    return {name: statistics.median(found) for name, found in values.items()}


def table(title, unit, medians, peer):
    """Print medians, each with its ratio to the peer's."""
    print(f"\n{title}")
    print(f"  {'program':28} {unit:>8} {'ratio':>7}  (to {peer})")
    for name, median in medians.items():
        print(f"  {name:28} {median:8.1f} {median / medians[peer]:7.2f}")
    sys.stdout.flush()
