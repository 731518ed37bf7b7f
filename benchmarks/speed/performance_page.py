"""Write docs/performance.md from the reports in results/performance.

    python benchmarks/speed/decoder.py --out results/performance/decoder-256-cpu.json    # `COMMANDS` names the others
    python benchmarks/speed/performance_page.py

Every figure on the page comes from one of these files; missing reports are listed as not measured. The report of an
interrupted run is shown with a list of what is missing; it does not replace one that holds more.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from decoder import in_half
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
RATIOS = {
    "ort_vs_torch_eager": "ONNX Runtime is {} times as fast as torch",
    "ort_fused_vs_torch_eager": "with the fused ops {} times",
    "ort_vs_torch_compile": "{} times as fast as torch.compile",
    "fused_vs_plain": "the fused ops make it {} times as fast",
    "half_ort_vs_torch_eager": "in float16 it is {} times as fast as torch",
    "half_ort_vs_torch_channels_last": "{} times as fast as those in channels-last form",
    "half_ort_vs_torch_compile": "{} times as fast as torch.compile in float16",
    "half_vs_float32": "float16 is {} times as fast as float32",
    "int8_vs_float32": "int8 is {} times as fast as float32",
}
RUNTIMES = {"xnnpack": "LiteRT with XNNPACK", "onnx": "ONNX Runtime"}


def decoder_section(report: Mapping[str, Any], command: str) -> list[str]:
    """A table of variants by batch size, and the conclusions."""
    batches = sorted({row["batch"] for row in report["runs"]})
    rows = {(row["variant"], row["batch"]): row for row in report["runs"]}
    first, device = batches[0], report["device"]
    lines = [
        f"`{report['decoder']}`, {report['lr']}² to {report['hr']}²: {report['parameters'] / 1e6:.2f} M weights, "
        f"{report['gmac']:,.1f} GMAC per picture.",
        "",
        "| | "
        + " | ".join(f"batch {batch}" for batch in batches)
        + f" | of the matmul rate | peak memory, batch {first} |",
        "|---|" + "---:|" * (len(batches) + 2),
    ]
    for variant in VARIANTS:
        found = [rows.get((variant, batch)) for batch in batches]
        if not any(found):
            continue
        times = " | ".join(_time(row) for row in found)
        row = rows.get((variant, first)) or {}
        share = f"{row['of_matmul']:.0%}" if "of_matmul" in row else ""
        memory = _memory(row["peak_mib"]) if "peak_mib" in row else ""
        lines.append(f"| {_label(variant, device)} | {times} | {share} | {memory} |")
    lines += _not_measured(report)
    said = [text.format(report[name]) for name, text in RATIOS.items() if name in report]
    if said:
        lines += ["", f"At batch {first}: " + "; ".join(said) + "."]
    if "matmul_tflops" not in report:
        return [*lines, "", _origin(report, command)]
    lines += [
        "",
        f"Largest products of torch reach {1e3 * report['matmul_tflops']:,.0f} GFLOP/s in "
        f"{report['matmul_type']}, copies {report['copy_gb_per_s']:,.1f} GB/s.",
    ]
    plain = rows.get(("ort-plain", 1), {})
    if "of_copy" in plain:
        lines[-1] += (
            f" ONNX Runtime's nodes read and write {report['slowest']['moved_bytes'] / 1e6:,.0f} MB per "
            f"picture, at {plain['of_copy']:.0%} of the copy rate."
        )
    differences = report.get("largest_differences", {})
    whole = [value for variant, value in differences.items() if not in_half(variant, device)]
    half = [value for variant, value in differences.items() if in_half(variant, device)]
    if whole:
        lines[-1] += (
            f" Pictures of the variants differ by at most {max(whole):.0e} in [-1, 1]"
            f"{f', in float16 by {max(half):.0e}' if half else ''}."
        )
    return [*lines, "", _origin(report, command)]


def encoder_section(report: Mapping[str, Any], command: str) -> list[str]:
    """A table that compares the two encoders."""
    lines = [
        "The exact encoder compared with the paper's RRDB encoder, both exported by the same code:",
        "",
        "| picture | runtime | threads | paper's (ms) | exact (ms) | times as fast |",
        "|---|---|---:|---:|---:|---:|",
    ]
    rows = {(row["encoder"], row["size"], row["runtime"], row["threads"]): row for row in report["runs"]}
    for (kind, size, runtime, threads), exact in rows.items():
        official = rows.get(("official", size, runtime, threads), {})
        if kind != "exact" or "ms" not in exact or "ms" not in official:
            continue
        lines.append(
            f"| {size}² | {RUNTIMES[runtime]} | {threads} | {official['ms']:.1f} | {exact['ms']:.1f} | "
            f"{official['ms'] / exact['ms']:.1f} |"
        )
    costs = [
        f"at {size}² {cost['official']['gmac']:.2f} and {cost['exact']['gmac']:.2f} GMAC"
        for size, cost in report["encoders"].items()
    ]
    return [*lines, "", f"Operations per picture: {'; '.join(costs)}.", "", _origin(report, command)]


def ops_section(report: Mapping[str, Any], command: str) -> list[str]:
    """A table of the fused ops with their share of the copy rate."""
    lines = [
        f"Results of {report['shape']}; a copy moves {report['copy_gb_per_s']:,.0f} GB/s. "
        "[cuda_ops.md](cuda_ops.md) describes the ops.",
        "",
        "| op | type | time | of the copy rate | error |",
        "|---|---|---:|---:|---:|",
        *(
            f"| {row['op']} | {row['type']} | {row['ms']} ms | {row['of_copy_rate']:.0%} | {row['error']:.0e} |"
            for row in report["ops"]
        ),
    ]
    return [*lines, "", f"`{command}` on {report['date']}, {report['machine']}, commit {report['commit']}."]


SECTIONS: tuple[tuple[str, str, Callable[[Mapping[str, Any], str], list[str]]], ...] = (
    ("decoder-256-cpu", "A bundle's decoder at 256², on a CPU", decoder_section),
    ("decoder-1024-cpu", "The paper's decoder at 1024², on a CPU", decoder_section),
    ("encoder-cpu", "The encoder, on a CPU", encoder_section),
    ("decoder-1024", "The paper's decoder at 1024², on a GPU", decoder_section),
    ("decoder-1024-batches", "The paper's decoder at 1024² in batches, on a GPU", decoder_section),
    ("decoder-256", "GRAIN at 256², on a GPU", decoder_section),
    ("cuda_ops", "The generators' fused ops, on a GPU", ops_section),
)
"""Name of the report in results/performance, heading, and the function that writes the section from the report and the
command that measured it."""
COMMANDS: Mapping[str, Sequence[str]] = {
    "decoder-256-cpu": ("decoder.py",),
    "encoder-cpu": ("encoder.py",),
    "decoder-1024-cpu": ("decoder.py", "--config", "grain-1024-lr16-paper", "--batches", "1"),
}
"""Name of the report in results/performance -> command that measures it on a CPU, with ``--out``."""
GPU_COMMAND = "benchmarks/gpu_host.sh"


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
            lines += ["", f"## {heading}", "", *show(json.loads(path.read_text()), command_of(name))]
        else:
            missing.append((name, heading))
    if missing:
        lines += ["", "## Not measured yet", "", *(f"- {heading} (`{name}.json`)" for name, heading in missing)]
        if any(not name.endswith("-cpu") for name, _ in missing):
            lines += ["", f"`{GPU_COMMAND}` measures the GPU reports on a CUDA host without network."]
    return wrapped("\n".join(lines) + "\n")


def command_of(name: str) -> str:
    """The command that measures a report; those of GPUs are all measured by one script."""
    if name not in COMMANDS:
        return GPU_COMMAND
    return f"python benchmarks/speed/{shlex.join(COMMANDS[name])}"


def _label(variant: str, device: str) -> str:
    """The precision of torch.compile depends on the device."""
    return VARIANTS[variant] + ", float16" * (variant == "torch-compile" and in_half(variant, device))


def _not_measured(report: Mapping[str, Any]) -> list[str]:
    """The reasons of variants without a time."""
    reasons = [
        f"{_label(row['variant'], report['device'])}, batch {row['batch']}: {row['error']}"
        for row in report["runs"]
        if "error" in row
    ]
    if report.get("left"):
        reasons.append(f"the run was interrupted before {', '.join(report['left'])}")
    return ["", "Not measured: " + "; ".join(reasons) + "."] if reasons else []


def _time(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if "ms" not in row:
        return "failed"
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
