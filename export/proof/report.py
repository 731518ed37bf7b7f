"""The report of an export: files, comparisons, versions of libraries, commit."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from codec_contract.errors import ExportError
from codec_contract.files import write_atomically
from edge_encoder.bounds import ACCUMULATOR_LIMIT, BoundReport
from export.encoder.graph import EncoderGraph

REPORTS = ("report.json", "report.md")
ProofReport = dict[str, Any]


def new_report(graph: EncoderGraph, artefacts: Mapping[str, Path], *, source: str) -> ProofReport:
    """The part of every report: encoder, files, versions, machine, commit, date."""
    return {
        "schema": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": clone_commit(),
        "source": source,
        "encoder": {
            "architecture": graph.name, "hr": graph.hr, "lr": graph.lr, "exact": graph.exact,
            "parameters": graph.parameters(), "flops": graph.flops(), "operations": graph.kinds()},
        "files": {path.name: {"format": kind, **_fingerprint(path), "operations": dict(operations(kind, path))}
                  for kind, path in artefacts.items()},
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"system": platform.system(), "architecture": platform.machine(), "processor": processor_name()},
    }


def bound_section(bounds: BoundReport) -> dict[str, Any]:
    """The bound proof: logarithm of the largest accumulator that a layer can reach."""
    return {"limit_log2": ACCUMULATOR_LIMIT.bit_length() - 1, "worst_log2": round(bounds.worst_log2, 3),
            "layers": {layer.layer: round(layer.worst_log2, 3) for layer in bounds.layers}}


def require_exact(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise unless every runtime computed the reference's bytes; ``rows`` are those of `prove.compare`."""
    wrong = [row for row in rows if row["differing_bytes"] or not row["bytes_compared"]]
    if wrong or not rows:
        found = [f"{row['name']}: {row['differing_bytes']} of {row['bytes_compared']} LR bytes differ"
                 + (f", first on {row['first_difference']}" if "first_difference" in row else "") for row in wrong]
        raise ExportError("the exported encoder does not compute the integer network's bytes; do not ship it: "
                          + ("; ".join(found) or "nothing was compared"))


def write_report(report: ProofReport, folder: Path, *, force: bool = False) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.md``."""
    as_json, as_markdown = (folder / name for name in REPORTS)
    return (write_atomically(as_json, (json.dumps(report, indent=2) + "\n").encode(), force=force),
            write_atomically(as_markdown, markdown(report).encode(), force=force))


def markdown(report: ProofReport) -> str:
    """The report as Markdown."""
    encoder, lines = report["encoder"], []
    lines += [f"# Encoder {encoder['architecture']}", "",
              f"{encoder['hr']} x {encoder['hr']} to {encoder['lr']} x {encoder['lr']}, from {report['source']}: "
              f"{encoder['parameters']:,} parameters, {encoder['flops'] / 1e9:.2f} GFLOP a picture.", ""]
    lines += _table(["file", "bytes", "SHA-256", "operations"],
                    [[name, f"{entry['bytes']:,}", entry["sha256"][:16], _counts(entry["operations"])]
                     for name, entry in report["files"].items()])
    if "bound" in report:
        bound = report["bound"]
        lines += ["## Proof", "",
                  f"No accumulator can exceed 2^{bound['worst_log2']:.2f} (limit 2^{bound['limit_log2']}), so every "
                  "partial sum is an exact float32 number in any order.", ""]
    if "runtimes" in report:
        quick = " Quick: without --quick, more inputs are compared." if report.get("quick") else ""
        lines += ["## Compared with the int64 reference", "", f"Inputs: {_counts(report['inputs'])}.{quick}", ""]
        lines += _table(["runtime", "inputs", "LR bytes", "differing", "ms a picture"],
                        [[row["name"], row["inputs"], f"{row['bytes_compared']:,}", row["differing_bytes"],
                          row.get("milliseconds", "")] for row in report["runtimes"]])
    for key, title in (("float_contrast", "An ordinary float encoder of the same shape, for contrast"),
                       ("flips", "Differences between runtimes")):
        if key in report:
            lines += [f"## {title}", "", flip_sentence(report[key]), ""]
    lines += ["## Made by", "", f"{report['date']}, commit {report['commit'] or 'unknown'}, "
              f"{report['machine']['processor']} ({report['machine']['system']} {report['machine']['architecture']}); "
              + ", ".join(f"{name} {version}" for name, version in report["versions"].items()) + ".", ""]
    return "\n".join(lines)


def flip_sentence(section: Mapping[str, Any]) -> str:
    """One sentence on a flip section."""
    flips = section["flips_per_million"]
    compared = f"(over {section['inputs']} inputs, {section['bytes_compared']:,} bytes)."
    if not flips["worst"]:
        return f"No LR byte happened to differ between two runtimes {compared}"
    return (f"{flips['median']:g} of a million LR bytes flip between two runtimes (median of all pairs), "
            f"{flips['worst']:g} between {flips['worst_pair'][0]} and {flips['worst_pair'][1]}, by at most "
            f"{section['largest_step']} {compared}")


def operations(kind: str, path: Path) -> Counter[str]:
    """Operation kinds of a file in a format; constants of Core ML are not counted."""
    if kind == "onnx":
        import onnx

        return Counter(node.op_type for node in onnx.load(str(path)).graph.node)
    if kind == "coreml":
        from export.proof.mil_interpreter import MilProgram

        return Counter({name: count for name, count in MilProgram(path).operations.items() if name != "const"})
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    # Old readers use the deprecated 8-bit code; new operations have only the other one.
    kinds = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    return Counter(kinds[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators)


def _fingerprint(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file; of a folder, over its files' paths and hashes in sorted order."""
    if path.is_file():
        return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(path).as_posix()}\n".encode())
    return {"bytes": sum(file.stat().st_size for file in files), "sha256": whole.hexdigest()}


def clone_commit(file: str = __file__) -> str | None:
    """The commit of the clone that a file belongs to, marked when files differ from it; None outside a clone.

    An installed package may lie in another project's clone.
    """
    path, answers = Path(file), []
    try:
        for command in (["ls-files", "--error-unmatch", path.name], ["rev-parse", "HEAD"],
                        ["status", "--porcelain", "--untracked-files=no"]):
            result = subprocess.run(["git", *command], cwd=path.parent, capture_output=True, text=True, check=True)
            answers.append(result.stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        return None
    return answers[1] + (" with changes" if answers[2] else "")


def _versions() -> dict[str, str]:
    found = {}
    for package in ("numpy", "onnx", "onnxruntime", "ai-edge-litert", "coremltools", "torch", "Pillow", "onnx2tf",
                    "tensorflow"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows), ""]


def processor_name() -> str:
    """The model's name on Linux, elsewhere the one that Python reports, else the architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine() or "unknown processor"
