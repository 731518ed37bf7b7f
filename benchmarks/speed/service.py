"""Measure the service under load: throughput and latency against offered load, gain of batches, overhead, memory.

    python benchmarks/speed/service.py                         the small test bundle; 10,000 requests for the memory
    python benchmarks/speed/service.py --quick --json          in under three minutes; the last line is one JSON object
    python benchmarks/speed/service.py --bundle faces          another bundle
    python benchmarks/speed/service.py --bundle faces --device cuda --workers 4
    python benchmarks/speed/service.py --write                 also write docs/service.md

Starts `edgegrain serve` as a separate process, by default with one worker of one thread, and sends requests from this
process.
The small bundle has a real decoder (64 x 64, 44 million multiplications per picture); the stub is a worker that sleeps
10 ms per batch and 1 ms per picture. The exit code is 1 if the small bundle misses a limit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measurement import (
    PORTRAIT,
    ROOT,
    measured_on,
    replace_figures,
    wrapped,
)
from open_loop import Load, offer, saturate
from PIL import Image

from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.bundle.paths import find_bundle
from edgegrain.service.engine import Engine, Stages
from edgegrain.service.engine_options import RestoreOptions
from edgegrain.service.settings import Settings
from sdk import Codec
from server_decoder.providers import Device
from tests.service_harness import raw_payloads, stub_worker
from tests.service_process import SERVE, Process, running, serve_with
from tests.tiny_bundle import convolutional_decoder, write_tiny_bundle

PAGE = ROOT / "docs" / "service.md"
LOADS = (0.25, 0.5, 0.75, 1.0, 1.5, 3.0)
"""Offered loads, as shares of the throughput of closed-loop clients."""
USUAL, OVERLOAD = 0.75, 3.0
CLIENTS = 32
STUB = {"fixed": 0.010, "item": 0.001}
BARS = {"overhead_ms": ("at most", 5.0), "goodput_at_3x_overload": ("at least", 0.9),
        "batched_over_unbatched": ("at least", 3.0)}
UNBATCHED = {"batch_sizes": "1", "batch_wait": 0}
PATIENT = {"deadline": 300}
"""For closed-loop clients, which measure throughput: no request is refused for having waited."""


@dataclass(frozen=True)
class Plan:
    """Lengths of the measurements: seconds per load, requests of the memory test and of a comparison."""

    seconds: float
    soak: int
    compared: int


FULL, QUICK = Plan(8, 10_000, 400), Plan(5, 2000, 200)


def portrait_payloads(manifest: Manifest, count: int = 64) -> list[bytes]:
    """Payloads of ``count`` crops of one face, range coded as phones send them."""
    with Image.open(PORTRAIT) as image:
        face = image.convert("RGB").resize((manifest.hr + count, manifest.hr + count))
    crops = [face.crop((left, left, left + manifest.hr, left + manifest.hr)) for left in range(count)]
    return [bytes(payload) for payload in Codec(manifest.folder, threads=1).compress_batch(crops)]


def throughput(process: Process, payloads: Sequence[bytes], count: int) -> float:
    """Pictures per second of closed-loop clients, after warm-up requests."""
    saturate(process.url, payloads, CLIENTS, CLIENTS)
    return saturate(process.url, payloads, CLIENTS, count)[0]


def overhead(process: Process, engine: Engine, bundle: str, payloads: Sequence[bytes], count: int
             ) -> tuple[float, float]:
    """Median milliseconds of a single client's request, and of the same work in this process, measured alternately."""
    served: list[float] = []
    bare: list[float] = []
    for turn in range(11):
        milliseconds = saturate(process.url, payloads, 1, count // 10)[1]
        times = []
        for payload in payloads[: count // 10]:
            start = time.perf_counter()
            engine.restore(bundle, [payload], [RestoreOptions()], Stages())
            times.append(1e3 * (time.perf_counter() - start))
        if turn:  # the first turn warms up
            served, bare = served + milliseconds, bare + times
    return statistics.median(served), statistics.median(bare)


def memory(pid: int) -> float:
    """Resident memory of a process in MiB, shared pages included; Linux only."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(process: Process, payloads: Sequence[bytes], count: int) -> dict[str, Any]:
    """Send many requests; returns the memory of both processes after each tenth of them."""
    service, worker = [], []
    for _ in range(10):
        saturate(process.url, payloads, CLIENTS, count // 10)
        service.append(round(memory(process.popen.pid), 1))
        worker.append(round(memory(process.workers[-1]), 1))
    return {"requests": 10 * (count // 10), "service_mib": service, "worker_mib": worker}


def stub_throughputs(bundle: Path, count: int) -> tuple[float, float]:
    """Pictures per second of a service with the stub, in batches and one by one."""
    payloads, rates = raw_payloads(bundle, 16), []
    for settings in ({}, UNBATCHED):
        with running(serve_with(stub_worker(**STUB)), bundles=bundle, **PATIENT, **settings) as process:
            rates.append(throughput(process, payloads, count))
    return rates[0], rates[1]


def measure(bundle: Path, plan: Plan, device: Device = "cpu", workers: int = 1, threads: int = 1) -> dict[str, Any]:
    """Measure everything; returns the report."""
    manifest = load_manifest(bundle)
    payloads, serve = portrait_payloads(manifest), [*SERVE, "--bundle", str(bundle)]
    shape: dict[str, Any] = {"device": device, "workers": workers, "threads": threads}
    note(f"bundle {manifest.id}, {shape}")
    with running(serve, **shape, **PATIENT, **UNBATCHED) as process:
        unbatched = throughput(process, payloads, plan.compared)
    with running(serve, **shape, **PATIENT) as process:
        engine = Engine([bundle], device=device, threads=threads,
                        batch_sizes=Settings.model_fields["batch_sizes"].default)
        engine.warm_up()
        served, bare = overhead(process, engine, manifest.id, payloads, 200)
        note(f"one client: {served:.1f} ms, bare decoding {bare:.1f} ms")
        batched = throughput(process, payloads, plan.compared)
        note(f"{CLIENTS} clients: {batched:.0f}/s in batches, {unbatched:.0f}/s one by one")
        soaked = soak(process, payloads, plan.soak)
        note(f"memory over {soaked['requests']} requests: {soaked}")
    loads: dict[float, Load] = {}
    with running(serve, **shape) as process:
        offer(process.url, payloads, USUAL * batched, plan.seconds)  # warms up
        for share in LOADS:
            loads[share] = offer(process.url, payloads, share * batched, plan.seconds, seed=int(100 * share))
            note(f"{share:4.2f} of that offered: {loads[share].rounded()}")
    stub_batched, stub_unbatched = stub_throughputs(bundle, plan.compared)
    note(f"stub: {stub_batched:.0f}/s in batches, {stub_unbatched:.0f}/s one by one")
    peak = max(batched, *(load.goodput for load in loads.values()))
    usual = loads[USUAL]
    return {
        "bundle": manifest.id, **shape, "throughput": round(peak, 1),
        "p50_ms": round(usual.p50, 1), "p95_ms": round(usual.p95, 1), "p99_ms": round(usual.p99, 1),
        "at_load": USUAL, "goodput_at_3x_overload": round(loads[OVERLOAD].goodput / peak, 3),
        "batched_over_unbatched": round(stub_batched / stub_unbatched, 2),
        "bundle_batched_over_unbatched": round(batched / unbatched, 2),
        "overhead_ms": round(served - bare, 2), "bare_ms": round(bare, 2),
        "loads": {str(share): load.rounded() for share, load in loads.items()}, "soak": soaked,
        **measured_on(),
    }


def missed(result: dict[str, Any]) -> list[str]:
    """Messages about missed limits."""
    return [f"{name} is {result[name]}, should be {sense} {limit:g}" for name, (sense, limit) in BARS.items()
            if (result[name] > limit if sense == "at most" else result[name] < limit)]


def section(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    soaked = result["soak"]
    memories = [f"{name} process {soaked[f'{name}_mib'][0]:.0f} and {soaked[f'{name}_mib'][-1]:.0f} MiB"
                for name in ("service", "worker")]
    lines = [
        f"Bundle `{result['bundle']}` on device `{result['device']}`, {counted(result['workers'], 'worker')} of "
        f"{counted(result['threads'], 'thread')}; requests are sent at random times, and latency counts from the "
        "scheduled time.", "",
        "| offered | of the peak | pictures/s | p50 | p95 | p99 | refused |", "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for load in result["loads"].values():
        refused = sum(count for status, count in load["statuses"].items() if int(status) != 200)
        cells = [f"{load['offered']:.0f}/s", f"{load['offered'] / result['throughput']:.0%}", f"{load['goodput']:.0f}",
                 *(f"{load[name]:.0f} ms" for name in ("p50", "p95", "p99")),
                 f"{refused / sum(load['statuses'].values()):.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"- Bare decoding of a payload (coder, network, PNG) takes {result['bare_ms']} ms; the service adds "
        f"{result['overhead_ms']} ms to a single client's request.",
        f"- Under threefold overload the service still delivers {result['goodput_at_3x_overload']:.0%} of the peak.",
        f"- Batches give {result['batched_over_unbatched']} times the throughput with a stub that takes "
        f"{1e3 * STUB['fixed']:.0f} ms per batch and {1e3 * STUB['item']:.0f} ms per picture, and "
        f"{result['bundle_batched_over_unbatched']} times with this bundle on this processor.",
        f"- Memory after the first tenth of {soaked['requests']:,} requests and after the last: {', '.join(memories)}.",
        "", f"Measured {result['date']} by `python benchmarks/speed/service.py --write` on {result['machine']}, "
        f"{result['cores']} cores shared with the load generator, commit {result['commit']}."]
    return wrapped("\n".join(lines))


def counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number} {noun}{'s' * (number != 1)}"


def note(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", help="id, alias or folder [default: the small test bundle]")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device of the decoders")
    parser.add_argument("--workers", type=int, default=1, help="worker processes [default: 1]")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each worker [default: 1]")
    parser.add_argument("--quick", action="store_true", help="shorter: in under three minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of Markdown")
    parser.add_argument("--write", action="store_true", help=f"replace the figures in docs/{PAGE.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = find_bundle(options.bundle) if options.bundle else write_tiny_bundle(
            Path(folder), decoder=convolutional_decoder())
        result = measure(bundle, QUICK if options.quick else FULL, options.device, options.workers, options.threads)
    if options.write:
        replace_figures(PAGE, section(result))
    shortfalls = [] if options.bundle else missed(result)
    for shortfall in shortfalls:
        note(f"missed: {shortfall}")
    print(json.dumps(result) if options.json else section(result))
    return int(bool(shortfalls))


if __name__ == "__main__":
    sys.exit(main())
