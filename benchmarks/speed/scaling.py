"""Measure the capacity of one machine: cost per picture by stage and batch, workers and threads, memory, traffic.

    python benchmarks/speed/scaling.py [--bundle faces] [--json] [--write]

`--write` replaces the figures in docs/scaling.md; the extrapolated figures there are computed from the measured ones.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from machine import ROOT, measured_on
from open_loop import saturate
from page_text import replace_figures, wrapped
from service import CLIENTS, memory, note, portrait_payloads

sys.path.insert(0, str(ROOT))

from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import DEFAULT_BUNDLE, find_bundle
from edgegrain.service.engine import Engine, Stages
from edgegrain.service.engine_options import RestoreOptions
from tests.service_harness import raw_payloads, stub_worker
from tests.service_process import SERVE, running, serve_with

PAGE = ROOT / "docs" / "scaling.md"
SIZES = (1, 2, 4, 8)
STAGES = ("unpack", "decode", "write")
SHAPES = ((1, 1), (1, 2), (2, 1))
"""(workers, threads of each) to compare."""
UTILISATION = 0.7
"""Utilisation of a core in the extrapolation: queues grow without bound towards 1."""
DEMANDS = (1, 10, 100, 1000)
"""Pictures per second of the extrapolation."""


def stage_costs(bundle: Path, name: str, payloads: list[bytes], repeats: int) -> dict[int, dict[str, float]]:
    """Batch size -> stage -> milliseconds per picture, medians in this process on one thread."""
    engine = Engine([bundle], threads=1, batch_sizes=SIZES)
    engine.warm_up()
    costs: dict[int, dict[str, float]] = {}
    for size in SIZES:
        runs = []
        for _ in range(repeats + 1):
            stages = Stages()
            engine.restore(name, payloads[:size], [RestoreOptions()] * size, stages)
            runs.append(stages.seconds)
        costs[size] = {stage: round(1e3 * statistics.median(run[stage] for run in runs[1:]) / size, 2)
                       for stage in STAGES}
        note(f"batch of {size}: {costs[size]}")
    return costs


def shapes(bundle: Path, payloads: list[bytes], count: int) -> list[dict[str, Any]]:
    """Pictures per second and memory of the service with different workers and threads."""
    rows = []
    for workers, threads in SHAPES:
        # Measures throughput, so no request is refused for having waited.
        with running([*SERVE, "--bundle", str(bundle)], workers=workers, threads=threads, deadline=300) as process:
            saturate(process.url, payloads, CLIENTS, CLIENTS)
            rate, _ = saturate(process.url, payloads, CLIENTS, count)
            started = max(event["seconds"] for event in process.events("worker ready"))
            rows.append({"workers": workers, "threads": threads, "pictures_per_second": round(rate, 1),
                         "service_mib": round(memory(process.popen.pid)),
                         "worker_mib": round(max(memory(pid) for pid in process.workers)), "start_s": started})
        note(f"{rows[-1]}")
    return rows


def http_cost(bundle: Path, count: int) -> float:
    """Milliseconds of CPU time of the HTTP process per request; the worker is a stub."""
    payloads = raw_payloads(bundle, 16)
    with running(serve_with(stub_worker()), bundles=bundle) as process:
        saturate(process.url, payloads, CLIENTS, CLIENTS)
        before = cpu_seconds(process.popen.pid)
        saturate(process.url, payloads, CLIENTS, count)
        return 1e3 * (cpu_seconds(process.popen.pid) - before) / count


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def traffic(bundle: Path, name: str, payloads: list[bytes]) -> dict[str, int]:
    """Mean bytes of a payload, and of its picture in each format."""
    engine = Engine([bundle], threads=1, batch_sizes=SIZES)
    sizes = {"payload": round(statistics.mean(map(len, payloads)))}
    for file_format in ("png", "webp", "jpeg"):
        options = [RestoreOptions(format=file_format)] * len(payloads)
        outcomes = engine.restore(name, payloads, options, Stages())
        sizes[file_format] = round(statistics.mean(len(item) for item in outcomes if isinstance(item, bytes)))
    return sizes


def measure(bundle: Path, repeats: int, count: int) -> dict[str, Any]:
    """Measure everything; returns the report."""
    manifest = load_manifest(bundle)
    payloads = portrait_payloads(manifest, 16)
    return {
        "bundle": manifest.id, "side": manifest.hr, "stages_ms": stage_costs(bundle, manifest.id, payloads, repeats),
        "shapes": shapes(bundle, payloads, count), "http_ms": round(http_cost(bundle, 20 * count), 2),
        "bytes": traffic(bundle, manifest.id, payloads[:8]),
        **measured_on(),
    }


def cores_needed(result: dict[str, Any], demand: float) -> float:
    """Cores for a number of pictures per second: workers and HTTP processes at `UTILISATION`."""
    picture = min(sum(stages.values()) for stages in result["stages_ms"].values())
    return demand * (picture + result["http_ms"]) / 1e3 / UTILISATION


def section(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    sizes, best = result["bytes"], max(result["shapes"], key=lambda row: row["pictures_per_second"])
    lines = [
        f"**Measured**: bundle `{result['bundle']}`, pictures of {result['side']}×{result['side']}, on "
        f"{result['machine']}, {result['cores']} cores. Milliseconds per picture on one thread, by stage:", "",
        "| batch of | coder | network | PNG | total |", "|---:|---:|---:|---:|---:|"]
    for size, stages in result["stages_ms"].items():
        cells = [*(f"{stages[stage]:.1f}" for stage in STAGES), f"{sum(stages.values()):.1f}"]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    lines += [
        "", "The service on all cores, which it shares with the load generator:", "",
        "| workers | threads of each | pictures/s | memory of a worker | HTTP process | start |",
        "|---:|---:|---:|---:|---:|---:|"]
    for row in result["shapes"]:
        cells = [str(row["workers"]), str(row["threads"]), f"{row['pictures_per_second']:.1f}",
                 f"{row['worker_mib']} MiB", f"{row['service_mib']} MiB", f"{row['start_s']:.1f} s"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "", f"Best here: {best['workers']} worker{'s' * (best['workers'] > 1)} with {best['threads']} "
        f"thread{'s' * (best['threads'] > 1)} each. The HTTP process spends {result['http_ms']:.2f} ms of CPU time "
        f"per request, so one service handles at most about {1e3 / result['http_ms']:.0f} requests per second, "
        f"regardless of the workers. A payload has {sizes['payload']} bytes, its picture {sizes['png'] / 1e3:.0f} kB "
        f"as PNG, {sizes['webp'] / 1e3:.1f} as WebP and {sizes['jpeg'] / 1e3:.1f} as JPEG at quality 90.", "",
        f"**Extrapolated** from these figures, for the same cores at {UTILISATION:.0%} utilisation:", "",
        "| pictures/s | per day | cores | services | outgoing traffic, WebP |", "|---:|---:|---:|---:|---:|"]
    for demand in DEMANDS:
        services = math.ceil(demand * result["http_ms"] / 1e3 / UTILISATION)
        cells = [f"{demand:,}", f"{demand * 0.0864:.3g} million", f"{cores_needed(result, demand):,.1f}", f"{services}",
                 f"{demand * sizes['webp'] * 8e-6:,.3g} Mbit/s"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Measured {result['date']} by `python benchmarks/speed/scaling.py --write`, commit "
              f"{result['commit']}."]
    return wrapped("\n".join(lines))


def main() -> None:
    """Measure and print; with ``--write`` also write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, help=f"id, alias or folder [default: {DEFAULT_BUNDLE}]")
    parser.add_argument("--repeats", type=int, default=15, help="batches of each size [default: 15]")
    parser.add_argument("--count", type=int, default=200, help="requests to each service [default: 200]")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of Markdown")
    parser.add_argument("--write", action="store_true", help=f"replace the figures in docs/{PAGE.name}")
    options = parser.parse_args()
    result = measure(find_bundle(options.bundle), options.repeats, options.count)
    if options.write:
        replace_figures(PAGE, section(result))
    print(json.dumps(result) if options.json else section(result))


if __name__ == "__main__":
    main()
