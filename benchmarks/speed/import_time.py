"""Measure ``import sdk`` in a fresh interpreter; the limit is half a second.

    python benchmarks/speed/import_time.py [--runs 9]

Prints the median and the fastest run with date, machine and commit. The exit code is 1 if the median exceeds the limit.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys

from machine import ROOT, measured_on

LIMIT_SECONDS = 0.5
PROGRAM = "import time; start = time.perf_counter(); import sdk; print(time.perf_counter() - start)"


def measure(runs: int) -> list[float]:
    """Seconds of ``import sdk`` in fresh interpreters, after a first one that fills the disk cache."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seconds = []
    for _ in range(runs + 1):
        result = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True)
        seconds.append(float(result.stdout))
    return seconds[1:]


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="number of interpreters [default: 9]")
    seconds = measure(parser.parse_args().runs)
    median = statistics.median(seconds)
    print(f"import sdk: {median:.3f} s median, {min(seconds):.3f} s fastest of {len(seconds)}, limit {LIMIT_SECONDS} s")
    facts = measured_on()
    print(f"{facts['date']}, {facts['machine']}, {facts['cores']} cores, {platform.system()}, "
          f"Python {platform.python_version()}, commit {facts['commit']}")
    return int(median >= LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
