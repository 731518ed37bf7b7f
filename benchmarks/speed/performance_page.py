"""Write docs/performance.md from the reports in results/performance.

    python benchmarks/speed/decoder.py --out results/performance/decoder-256-cpu.json    # `COMMANDS` names the others
    python benchmarks/speed/performance_page.py

Every figure on the page comes from one of these files; missing reports are listed as not measured. The report of an
interrupted run is shown with a list of what is missing; it does not replace one that holds more.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from decoder import RATIOS, in_half
from measurement import RESULTS, ROOT, wrapped

from codec_contract.files import write_atomically

PAGE = ROOT / "docs" / "performance.md"
VARIANTS = {
    "torch-eager": "torch",
    "torch-eager-half": "torch, float16",
    "torch-half": "torch, float16, channels-last",
    "torch-compile": "torch.compile",
    "ort-plain": "ONNX Runtime",
    "ort-fused": "ONNX Runtime, fused ops",
    "ort-fused-half": "ONNX Runtime, fused ops, float16",
    "session": "LR to picture, uint8 (`DecoderSession`)",
    "session-int8": "LR to picture, uint8, int8",
}
RUNTIMES = {"xnnpack": "LiteRT with XNNPACK", "onnx": "ONNX Runtime"}


def decoder_section(report: Mapping[str, Any], command: str) -> list[str]:
    """A table of variants by batch size, and the conclusions."""
    batches = sorted({row["batch"] for row in report["runs"]})
    rows = {(row["variant"], row["batch"]): row for row in report["runs"]}
    first, device = batches[0], report["device"]
    columns = [*(f"batch {batch}" for batch in batches), "of the matmul rate", f"peak memory, batch {first}"]
    lines = [
        f"`{report['decoder']}`, {report['lr']}² to {report['hr']}²: {report['parameters'] / 1e6:.2f} M weights, "
        f"{report['gmac']:,.1f} GMAC per picture.",
        "",
        f"| | {' | '.join(columns)} |",
        "|---|" + "---:|" * len(columns),
    ]
    for variant in VARIANTS:
        found = [rows.get((variant, batch)) for batch in batches]
        if not any(found):
            continue
        row = found[0] or {}
        share = f"{row['of_matmul']:.0%}" if "of_matmul" in row else ""
        memory = _memory(row["peak_mib"]) if "peak_mib" in row else ""
        lines.append(f"| {' | '.join([_label(variant, device), *map(_time, found), share, memory])} |")
    lines += _not_measured(report)
    said = [text.format(report[name]) for name, (_, _, text) in RATIOS.items() if name in report]
    if said:
        lines += ["", f"At batch {first}: " + "; ".join(said) + "."]
    lines += [
        "",
        f"Largest products of torch reach {1e3 * report['matmul_tflops']:,.0f} GFLOP/s in "
        f"{report['matmul_type']}, copies {report['copy_gb_per_s']:,.1f} GB/s.",
    ]
    plain = rows.get(("ort-plain", 1), {})
    if "of_copy" in plain:
        moved = f"{report['slowest']['moved_bytes'] / 1e6:,.0f} MB per picture"
        lines[-1] += f" ONNX Runtime's nodes read and write {moved}, at {plain['of_copy']:.0%} of the copy rate."
    differences = report.get("largest_differences", {})
    whole = [value for variant, value in differences.items() if not in_half(variant, device)]
    half = [value for variant, value in differences.items() if in_half(variant, device)]
    if whole:
        of_half = f", in float16 by {max(half):.0e}" if half else ""
        lines[-1] += f" Pictures of the variants differ by at most {max(whole):.0e} in [-1, 1]{of_half}."
    return [*lines, "", _origin(report, command)]


def encoder_section(report: Mapping[str, Any], command: str) -> list[str]:
    """A table that compares the two encoders."""
    lines = [
        "The exact encoder compared with the paper's RRDB encoder, both exported by the same code:",
        "",
        "| picture | runtime | threads | paper's (ms) | exact (ms) | times as fast |",
        "|---|---|---:|---:|---:|---:|",
    ]
    measured = [row for row in report["runs"] if "ms" in row]
    times = {(row["encoder"], row["size"], row["runtime"], row["threads"]): row["ms"] for row in measured}
    for (kind, size, runtime, threads), exact in times.items():
        if kind == "exact" and (official := times.get(("official", size, runtime, threads))):
            figures = f"{official:.1f} | {exact:.1f} | {official / exact:.1f}"
            lines.append(f"| {size}² | {RUNTIMES[runtime]} | {threads} | {figures} |")
    gmacs = {size: [cost[kind]["gmac"] for kind in ("official", "exact")] for size, cost in report["encoders"].items()}
    costs = [f"at {size}² {official:.2f} and {exact:.2f} GMAC" for size, (official, exact) in gmacs.items()]
    return [*lines, "", f"Operations per picture: {'; '.join(costs)}.", "", _origin(report, command)]


def ops_section(report: Mapping[str, Any], command: str) -> list[str]:
    """A table of the fused ops with their share of the copy rate."""
    lines = [
        f"Results of {report['shape']}; a copy moves {report['copy_gb_per_s']:,.0f} GB/s. "
        "[cuda_ops.md](cuda_ops.md) describes the ops.",
        "",
        "| op | type | time | of the copy rate | error |",
        "|---|---|---:|---:|---:|",
    ]
    for row in report["ops"]:
        share, error = f"{row['of_copy_rate']:.0%}", f"{row['error']:.0e}"
        lines.append(f"| {row['op']} | {row['type']} | {row['ms']} ms | {share} | {error} |")
    return [*lines, "", f"`{command}` on {report['date']}, {report['machine']}, commit {report['commit']}."]


SECTIONS = (
    ("decoder-256-cpu", "A bundle's decoder at 256², on a CPU", decoder_section),
    ("decoder-1024-cpu", "The paper's decoder at 1024², on a CPU", decoder_section),
    ("encoder-cpu", "The encoder, on a CPU", encoder_section),
    ("decoder-1024", "The paper's decoder at 1024², on a GPU", decoder_section),
    ("decoder-1024-batches", "The paper's decoder at 1024² in batches, on a GPU", decoder_section),
    ("decoder-256", "GRAIN at 256², on a GPU", decoder_section),
    ("cuda_ops", "The generators' fused ops, on a GPU", ops_section),
)
"""Name of the report in results/performance, heading, and the function that writes the section."""
GPU_COMMAND = "benchmarks/gpu_host.sh"
COMMANDS = {
    "decoder-256-cpu": "python benchmarks/speed/decoder.py",
    "encoder-cpu": "python benchmarks/speed/encoder.py",
    "decoder-1024-cpu": "python benchmarks/speed/decoder.py --config grain-1024-lr16-paper --batches 1",
}
"""Name of the report in results/performance -> command that measures it, with ``--out``; others: `GPU_COMMAND`."""


def page(folder: Path = RESULTS) -> str:
    """docs/performance.md, Markdown."""
    lines = [
        "# Performance",
        "",
        "Written by `python benchmarks/speed/performance_page.py` from the reports in `results/performance`; each "
        'table names its command. Times are medians of runs after warm-up. "Of the matmul rate" is torch\'s '
        "number of operations per second as a share of its fastest matrix product; it exceeds 100 % where a "
        "runtime computes fewer operations. Compare times within a table only: machines and days differ.",
    ]
    missing = []
    for name, heading, show in SECTIONS:
        path = folder / f"{name}.json"
        if path.is_file():
            lines += ["", f"## {heading}", "", *show(json.loads(path.read_text()), COMMANDS.get(name, GPU_COMMAND))]
        else:
            missing.append((name, heading))
    if missing:
        lines += ["", "## Not measured yet", "", *(f"- {heading} (`{name}.json`)" for name, heading in missing)]
        if any(not name.endswith("-cpu") for name, _ in missing):
            lines += ["", f"`{GPU_COMMAND}` measures the GPU reports on a CUDA host without network."]
    return wrapped("\n".join(lines) + "\n")


def _label(variant: str, device: str) -> str:
    """The precision of torch.compile depends on the device."""
    return VARIANTS[variant] + ", float16" * (variant == "torch-compile" and in_half(variant, device))


def _not_measured(report: Mapping[str, Any]) -> list[str]:
    """The reasons of variants without a time."""
    failed = [row for row in report["runs"] if "error" in row]
    reasons = [f"{_label(row['variant'], report['device'])}, batch {row['batch']}: {row['error']}" for row in failed]
    if report.get("left"):
        reasons.append(f"the run was interrupted before {', '.join(report['left'])}")
    return ["", "Not measured: " + "; ".join(reasons) + "."] if reasons else []


def _time(row: Mapping[str, Any] | None) -> str:
    if row is None or "ms" not in row:
        return "" if row is None else "failed"
    return f"{row['ms']:.1f} ms" if row["ms"] < 1e3 else f"{row['ms'] / 1e3:.2f} s"


def _memory(mebibytes: float) -> str:
    return f"{mebibytes:.0f} MiB" if mebibytes < 2048 else f"{mebibytes / 1024:.1f} GiB"


def _origin(report: Mapping[str, Any], command: str) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return (
        f"`{command}` on {report['date']}, {report['machine']}, {report['cores']} cores, "
        f"{report['threads']} threads, {versions}, commit {report['commit']}."
    )


if __name__ == "__main__":
    write_atomically(PAGE, page().encode(), force=True)
