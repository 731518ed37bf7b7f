"""Measure the parts of a worker's start, in seconds of processor time, and its memory when it is ready.

    python benchmarks/speed/warm_up.py [--bundle faces] [--repeats 5]

Each start is a process of its own. The last line compares the decoder's session with one from the model that ONNX
Runtime saved after its optimizations, which the service could cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measurement import ROOT, measured_on

from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import find_bundle

START = """
import json, os, sys, time
marks = [time.process_time()]
from edgegrain.service import worker
marks.append(time.process_time())
engine = worker.Engine([sys.argv[1]], threads=1, batch_sizes=(1, 2, 4, 8))
marks.append(time.process_time())
engine.warm_up()
marks.append(time.process_time())
pages = int(open("/proc/self/statm").read().split()[1])
print(json.dumps([late - early for early, late in zip([0, *marks], marks)] + [pages * os.sysconf("SC_PAGE_SIZE")]))
"""
PARTS = ("interpreter", "imports", "open (hashes, sessions)", "warm-up", "resident MiB")
SESSION = """
import hashlib, sys, time
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 4
start = time.process_time()
data = open(sys.argv[1], "rb").read()
hashlib.sha256(data).hexdigest()
if len(sys.argv) > 2:
    options.optimized_model_filepath = sys.argv[2]
elif sys.argv[1].endswith("optimized.onnx"):
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
print(time.process_time() - start)
"""


def child(program: str, *arguments: str) -> list[float]:
    """The numbers that a program prints in a process of its own."""
    output = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout
    found = json.loads(output)
    return found if isinstance(found, list) else [found]


def medians(rows: list[list[float]]) -> list[float]:
    """Median of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="faces", help="id, alias or folder [default: faces]")
    parser.add_argument("--repeats", type=int, default=5, help="starts to measure [default: 5]")
    options = parser.parse_args()
    manifest = load_manifest(find_bundle(options.bundle))
    row = medians([child(START, str(manifest.folder)) for _ in range(options.repeats)])
    row[-1] /= 1 << 20
    for name, value in zip(PARTS, row, strict=True):
        print(f"{name:26} {value:8.2f}")
    model = str(manifest.folder / manifest.decoder["file"])
    with tempfile.TemporaryDirectory() as folder:
        optimized = str(Path(folder) / "optimized.onnx")
        child(SESSION, model, optimized)
        plain, cached = (medians([child(SESSION, source) for _ in range(options.repeats)])[0]
                         for source in (model, optimized))
        size = Path(optimized).stat().st_size >> 20
    print(f"decoder's session: {plain:.2f} s, of the optimized model ({size} MiB): {cached:.2f} s")
    print(json.dumps(measured_on()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
