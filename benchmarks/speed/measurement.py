"""Timing, memory, peak rates and report headers of the encoder and decoder benchmarks."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from machine import ROOT, measured_on

sys.path.insert(0, str(ROOT))

from codec_contract.files import write_atomically

RESULTS = ROOT / "results" / "performance"
"""Folder of the reports that `performance_page.py` shows."""
_COUNTED = ("variant", "batch", "encoder", "size", "runtime", "decoder", "ops", "type")
"""Entries of a row that say what it measures. Threads are not among them: their number is the machine's."""
_COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}
_MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}


def circumstances(device: str, threads: int) -> dict[str, Any]:
    """Date, machine, commit and versions: the header of every report."""
    facts = measured_on()
    if device == "cuda":
        import torch

        facts["machine"] = torch.cuda.get_device_name()
    versions = {}
    for package in ("torch", "onnxruntime", "onnxruntime-gpu", "ai-edge-litert"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**facts, "system": platform.system(), "threads": threads or facts["cores"], "device": device,
            "versions": versions}


def median_seconds(run: Callable[[], object], seconds: float, least: int = 3, most: int = 100, warm_ups: int = 2
                   ) -> float:
    """Median time of a run, after warm-up runs; takes about ``seconds``."""
    durations: list[float] = []
    end = time.perf_counter() + seconds
    for index in range(most + warm_ups):
        start = time.perf_counter()
        run()
        if index >= warm_ups:
            durations.append(time.perf_counter() - start)
        if len(durations) >= least and time.perf_counter() > end:
            break
    return statistics.median(durations)


def matmul_rate(device: str, threads: int = 0, kind: str = "float32", seconds: float = 2) -> float:
    """Operations per second (two per product) of torch's product of large square matrices.

    Args:
        device: of the matrices.
        threads: of torch on the CPU; 0 for its own choice.
        kind: type of the matrices.
        seconds: of the measurement.
    """
    import torch

    side = _MATMUL_SIDE[device]
    a, b = (torch.randn(side, side, device=device).to(getattr(torch, kind)) for _ in range(2))
    with _torch_threads(threads):
        return 2 * side**3 / median_seconds(lambda: (a @ b, _wait(device)), seconds)


def copy_rate(device: str, threads: int = 0, seconds: float = 2) -> float:
    """Bytes per second that a copy reads and writes; arguments as of `matmul_rate`."""
    import torch

    source = torch.ones(_COPY_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    with _torch_threads(threads):
        return 2 * source.numel() / median_seconds(lambda: (target.copy_(source), _wait(device)), seconds)


def peak_mebibytes() -> float:
    """Peak resident memory of this process."""
    try:  # getrusage starts from the memory of the parent process
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    except (OSError, StopIteration):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / (2**20 if sys.platform == "darwin" else 2**10))  # macOS counts bytes


def in_own_process(script: str, arguments: Sequence[str], timeout: float) -> dict[str, Any]:
    """Run a part of a benchmark in a fresh interpreter, and return the JSON object on its last line of output.

    So the peak memory is that of the part alone. A failure is returned as the entry ``error``.
    """
    command = [sys.executable, script, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {timeout:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reasons = [line for line in done.stderr.strip().splitlines() if line.strip()]
        return {"error": reasons[-1][:300] if reasons else f"exited with status {done.returncode}"}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def save(report: dict[str, Any], out: Path | None) -> None:
    """Write a report to ``out``, if given, atomically.

    A report that lacks measurements of the one in ``out`` leaves it and goes next to it, as ``NAME.partial.json``.
    """
    if not out:
        return
    partial = out.with_suffix(".partial.json")
    lacking = (_measurements_in(out) - _measurements(report)).total()
    if lacking:
        print(f"{out} holds {lacking} measurements that this report lacks, and stays; this report is {partial}",
              file=sys.stderr, flush=True)
    write_atomically(partial if lacking else out, (json.dumps(report, indent=1) + "\n").encode(), force=True)
    if not lacking:
        partial.unlink(missing_ok=True)


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a measurement with four significant digits; the text of an error stays."""
    return {key: value if key == "error" else float(f"{value:.4g}") for key, value in row.items()}


def node_events(model: Path, x: np.ndarray, threads: int, runs: int) -> list[dict[str, Any]]:
    """The events of all nodes of an ONNX model in some runs on the CPU, from ONNX Runtime's profiler."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.log_severity_level = 3
    options.profile_file_prefix = str(model.parent / "profile")
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    for _ in range(runs):
        session.run(None, {session.get_inputs()[0].name: x})
    events = json.loads(Path(session.end_profiling()).read_text())
    return [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]


def largest_shares(times: Mapping[str, float], most: int | None = None) -> list[list[Any]]:
    """Name and share of the total of each part, the largest first."""
    total = sum(times.values()) or 1.0
    return [[name, round(time / total, 3)] for name, time in sorted(times.items(), key=lambda item: -item[1])[:most]]


def _measurements_in(path: Path) -> Counter[frozenset[tuple[str, Any]]]:
    """Those of the report in a file; none if there is no report."""
    try:
        return _measurements(json.loads(path.read_text()))
    except (OSError, ValueError):
        return Counter()


def _measurements(report: Mapping[str, Any]) -> Counter[frozenset[tuple[str, Any]]]:
    """What the rows of a report measure, without those that failed."""
    rows = report.get("runs") or report.get("graphs") or ()
    return Counter(frozenset((name, row[name]) for name in _COUNTED if name in row)
                   for row in rows if "error" not in row)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """This number of threads for torch's kernels on the CPU; 0 leaves it."""
    import torch

    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
