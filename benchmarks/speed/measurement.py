"""Timing, memory, peak rates, report headers and sections of pages, for all benchmarks of speed."""

import argparse
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
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from codec_contract.errors import EdgegrainError
from codec_contract.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
PORTRAIT = ROOT / "edgegrain" / "demo" / "portrait.jpg"
RESULTS = ROOT / "results" / "performance"  # the reports that `performance_page.py` shows
_COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}
_MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}


def option_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of a program with a description in lines, and ``--json``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser


def measuring_parser(description: str | None, *, seconds: float, limit: float) -> argparse.ArgumentParser:
    """A parser of a program that measures in processes of their own."""
    parser = option_parser(description)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for all cores")
    parser.add_argument("--seconds", type=float, default=seconds, help="seconds of each measurement")
    parser.add_argument("--limit", type=float, default=limit, help="seconds after which a measurement is aborted")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    return parser


def show(row: Mapping[str, Any], between: str = "  ") -> None:
    """Print names and values in a line."""
    print(between.join(f"{name} {value}" for name, value in row.items()), flush=True)


def measured_on() -> dict[str, Any]:
    """Date, processor, number of its cores, and commit."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": date, "machine": processor(), "cores": os.cpu_count(), "commit": commit()}


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
    facts |= {"system": platform.system(), "threads": threads or facts["cores"], "device": device}
    return {**facts, "versions": versions}


def median_seconds(run: Callable[[], object], seconds: float, least: int = 3, warm_ups: int = 2) -> float:
    """Median time of a run, after warm-up runs; takes about ``seconds``."""
    durations: list[float] = []
    end = time.perf_counter() + seconds
    for index in range(100 + warm_ups):
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
    return 2 * side**3 / _torch_seconds(lambda: a @ b, device, threads, seconds)


def copy_rate(device: str, threads: int = 0, seconds: float = 2) -> float:
    """Bytes per second that a copy reads and writes; arguments as of `matmul_rate`."""
    import torch

    source = torch.ones(_COPY_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _torch_seconds(lambda: target.copy_(source), device, threads, seconds)


def _torch_seconds(run: Callable[[], object], device: str, threads: int, seconds: float) -> float:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    median = median_seconds(lambda: (run(), wait()), seconds)
    torch.set_num_threads(before)
    return median


def peak_mebibytes() -> float:
    """Peak resident memory of this process."""
    if (status := Path("/proc/self/status")).exists():  # getrusage starts from the memory of the parent process
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
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
    return json.loads(lines[-1])


def save(report: dict[str, Any], out: Path | None) -> None:
    """Write a report to ``out``, if given, atomically."""
    if out:
        write_atomically(out, (json.dumps(report, indent=1) + "\n").encode(), force=True)


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a measurement with four significant digits; the text of an error stays."""
    return {key: value if key == "error" else float(f"{value:.4g}") for key, value in row.items()}


def largest_shares(times: Mapping[str, float], most: int | None = None) -> list[list[Any]]:
    """Name and share of the total of each part, the largest first."""
    total = sum(times.values()) or 1.0
    return [[name, round(time / total, 3)] for name, time in sorted(times.items(), key=lambda item: -item[1])[:most]]


def wrapped(text: str) -> str:
    """Wrap paragraphs and list items at 120 characters; tables, headings and code blocks stay as they are."""
    lines, code = [], False
    for line in text.split("\n"):
        code ^= line.startswith("```")
        if code or len(line) <= 120 or line.startswith(("|", "#", "```")):
            lines.append(line)
        else:
            wrapper = textwrap.TextWrapper(120, break_long_words=False, break_on_hyphens=False)
            wrapper.subsequent_indent = "  " if line.startswith("- ") else ""
            lines += wrapper.wrap(line)
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
