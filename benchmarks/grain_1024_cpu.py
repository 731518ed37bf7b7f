"""The paper's decoder at 1024 x 1024 on the CPU: export it with random weights, run it, measure time and memory.

    python benchmarks/grain_1024_cpu.py [--config grain-1024-lr16-paper] [--runs 3] [--threads 0]

Every step runs in a process of its own, so that its peak memory is its own. Random weights cost what trained ones do.
Prints date, machine and commit with the figures; needs about 12 GiB of memory and some minutes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def export(config: str, path: Path) -> dict[str, float]:
    """Write the graph, float32."""
    from export.decoder_sources import random_decoder
    from export.server import export_decoder

    start = time.perf_counter()
    source = random_decoder(config)
    path.write_bytes(export_decoder(source.decoder, source.network.lr))
    return {"seconds": time.perf_counter() - start, "megabytes": path.stat().st_size / 1e6}


def run(path: Path, runs: int, threads: int) -> dict[str, float]:
    """Decode one LR ``runs`` times after a warm-up, as a server does."""
    import numpy as np

    from server_decoder.runtime import DecoderSession

    start = time.perf_counter()
    session = DecoderSession(path, threads=threads or None)
    loading = time.perf_counter() - start
    width, height = session.lr_size or (16, 16)
    lr = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        session.decode(lr)
        seconds.append(time.perf_counter() - start)
    return {"loading_seconds": loading, "first_seconds": seconds[0], "median_seconds": statistics.median(seconds[1:])}


def run_torch(config: str, threads: int) -> dict[str, float]:
    """The same picture once with torch, for comparison."""
    import torch

    from export.decoder_sources import random_decoder

    if threads:
        torch.set_num_threads(threads)
    source = random_decoder(config)
    with torch.inference_mode():
        start = time.perf_counter()
        source.decoder(torch.zeros(1, 3, source.network.lr, source.network.lr))
        return {"first_seconds": time.perf_counter() - start}


def peak_gibibytes() -> float:
    """Most memory this process ever held; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / (2**30 if sys.platform == "darwin" else 2**20))


def main() -> None:
    """Run the steps one after another, each in a fresh interpreter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="grain-1024-lr16-paper", help="a GRAIN configuration by name")
    parser.add_argument("--runs", type=int, default=3, help="timed runs after the warm-up")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all")
    parser.add_argument("--step", choices=("export", "run", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        steps = {"export": lambda: export(given.config, given.model),
                 "run": lambda: run(given.model, given.runs, given.threads),
                 "torch": lambda: run_torch(given.config, given.threads)}
        result = steps[given.step]()
        print(json.dumps({**result, "peak_gibibytes": peak_gibibytes()}))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{datetime.date.today()}  {platform.machine()}, {os.cpu_count()} CPUs  {commit.strip()}  {given.config}")
    with tempfile.TemporaryDirectory() as folder:
        for step in ("export", "run", "torch"):
            command = [sys.executable, __file__, "--step", step, "--model", str(Path(folder) / "decoder.onnx"),
                       "--config", given.config, "--runs", str(given.runs), "--threads", str(given.threads)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            print(f"{step:<7}" + ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
