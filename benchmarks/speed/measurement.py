"""Timing, memory, peak rates, report headers and sections of pages, for all benchmarks of speed."""

from __future__ import annotations

import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from codec_contract.errors import EdgegrainError
from codec_contract.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
"""Root folder of the checkout."""
PORTRAIT = ROOT / "edgegrain" / "demo" / "portrait.jpg"
WIDTH = 120
RESULTS = ROOT / "results" / "performance"
"""Folder of the reports that `performance_page.py` shows."""
_COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}
_MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}


def measured_on() -> dict[str, Any]:
    """Date, processor, number of its cores, and commit."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": processor(),
        "cores": os.cpu_count(),
        "commit": commit(),
    }


def processor() -> str:
    """The processor's name if Linux reports it, otherwise its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str:
    """The checked-out commit, with ``-dirty`` if files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed
        return "unknown"
    return result.stdout.strip() or "unknown"


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
    return {
        **facts,
        "system": platform.system(),
        "threads": threads or facts["cores"],
        "device": device,
        "versions": versions,
    }


def median_seconds(
    run: Callable[[], object], seconds: float, least: int = 3, most: int = 100, warm_ups: int = 2
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
    """Operations per second (two per product) of torch's product of large matrices; with 0 threads, torch chooses."""
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
    """The JSON object that a part of a benchmark prints last in its own interpreter, whose peak memory is the part's
    alone; after a failure the entry ``error``."""
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
    """Write a report to ``out``, if given, atomically."""
    if out:
        write_atomically(out, (json.dumps(report, indent=1) + "\n").encode(), force=True)


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


def wrapped(text: str) -> str:
    """Wrap paragraphs and list items at `WIDTH` characters; tables, headings and code blocks stay as they are."""
    lines, code = [], False
    for line in text.split("\n"):
        code ^= line.startswith("```")
        if code or len(line) <= WIDTH or line.startswith(("|", "#", "```")):
            lines.append(line)
        else:
            lines += textwrap.wrap(
                line,
                WIDTH,
                subsequent_indent="  " if line.startswith("- ") else "",
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def page_section(page: Path, name: str = "figures") -> tuple[str, str]:
    """The page before and after the section between ``<!-- name -->`` and ``<!-- /name -->``, markers included."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    try:
        before, rest = page.read_text().split(begin)
        _, after = rest.split(end)
    except (OSError, ValueError):
        raise EdgegrainError(f"{page} has no section {name!r}; add the lines {begin.strip()} and {end}") from None
    return before + begin, end + after


def write_section(page: Path, lines: Sequence[str], name: str = "figures") -> None:
    """Replace a section's content, with an empty line before and after."""
    before, after = page_section(page, name)
    write_atomically(page, "\n".join([before, *lines, "", after]).encode(), force=True)


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
