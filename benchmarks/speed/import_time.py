"""How long ``import sdk`` takes in a fresh interpreter: below half a second.

    python benchmarks/speed/import_time.py [--runs 9]

Prints the median and the fastest run with date, machine and commit; exits 1 if the median is too slow.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 0.5
PROGRAM = "import time; start = time.perf_counter(); import sdk; print(time.perf_counter() - start)"


def measure(runs: int) -> list[float]:
    """Seconds of ``import sdk``, one fresh interpreter a run, after one that fills the disk cache."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seconds = []
    for _ in range(runs + 1):
        result = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True)
        seconds.append(float(result.stdout))
    return seconds[1:]


def processor() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str:
    """The checked-out commit, marked where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def main() -> int:
    """Measure, print, and say by the exit status whether it is quick enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="fresh interpreters [default: 9]")
    seconds = measure(parser.parse_args().runs)
    median = statistics.median(seconds)
    print(f"import sdk: {median:.3f} s median, {min(seconds):.3f} s fastest of {len(seconds)}, limit {LIMIT_SECONDS} s")
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    print(f"{date}, {processor()}, {os.cpu_count()} cores, {platform.system()}, "
          f"Python {platform.python_version()}, commit {commit()}")
    return int(median >= LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
