"""The report of an export: files, comparisons, versions of libraries, commit; and the reports of devices."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import timeit
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.bundle.manifest import ENCODER_COREML, ENCODER_ONNX, ENCODER_TFLITE, GOLDEN, Manifest
from codec_contract.errors import ExportError
from edge_encoder.golden_inputs import check_golden
from export.encoder.graph import Conv, EncoderGraph
from export.proof.mil_interpreter import MilProgram
from export.proof.runtimes import Runtime, compiled_model_runtimes, coreml_runtimes, onnx_runtimes, tflite_runtimes

REPORT = "report.json"
ProofReport = dict[str, Any]


def new_report(graph: EncoderGraph, artefacts: Mapping[str, Path], *, source: str) -> ProofReport:
    """The part of every report: encoder, files, versions, machine, commit, date.

    Raises an `ExportError` if a file of an exact encoder has other weights than the encoder.
    """
    layers = {node.name: _key(node.weight, node.bias) for node in graph.nodes if isinstance(node, Conv)}
    for kind, path in artefacts.items() if graph.exact else ():
        held = Counter(_key(*layer) for layer in _READERS[kind](path))
        held.subtract(layers.values())
        if wrong := [name for name, key in layers.items() if held[key] < 0]:
            raise ExportError(
                f"{path.name} has other weights or biases than the encoder in {', '.join(wrong)}; do not "
                "ship it, export it again"
            )
    return {
        "schema": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": clone_commit(),
        "source": source,
        "encoder": {
            "architecture": graph.name,
            "hr": graph.hr,
            "lr": graph.lr,
            "exact": graph.exact,
            "parameters": graph.parameters(),
            "flops": graph.flops(),
        },
        "files": {path.name: {"format": kind, **_fingerprint(path)} for kind, path in artefacts.items()},
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"system": platform.system(), "architecture": platform.machine(), "processor": processor_name()},
    }


def require_exact(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise unless every runtime computed the reference's bytes; ``rows`` are those of `prove.compare`."""
    wrong = [row for row in rows if row["differing_bytes"] or not row["bytes_compared"]]
    if wrong or not rows:
        found = [
            f"{row['name']}: {row['differing_bytes']} of {row['bytes_compared']} LR bytes differ"
            + (f", first on {row['first_difference']}" if "first_difference" in row else "")
            for row in wrong
        ]
        raise ExportError(
            "the exported encoder does not compute the integer network's bytes; do not ship it: "
            + ("; ".join(found) or "nothing was compared")
        )


Layer = tuple[np.ndarray, np.ndarray]
"""Weight float32 ``[O, I / groups, kh, kw]`` and bias float32 ``[O]`` of a convolution."""


def _key(weight: np.ndarray, bias: np.ndarray) -> tuple[tuple[int, ...], bytes, bytes]:
    return weight.shape, weight.tobytes(), bias.tobytes()


def _read_onnx(path: Path) -> Iterator[Layer]:
    import onnx

    graph = onnx.load(str(path)).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Cast", "Mul") and all(name in values for name in node.input):  # int8 times its scale
            first, *rest = (values[name].astype(np.float32) for name in node.input)
            values[node.output[0]] = math.prod(rest, start=first)
    return ((values[node.input[1]], values[node.input[2]]) for node in graph.node if node.op_type == "Conv")


def _read_tflite(path: Path) -> Iterator[Layer]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    # Old readers use the deprecated 8-bit code; new operations have only the other one.
    kinds = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    (graph,) = model.subgraphs
    found = [(kinds[operator.opcodeIndex], operator) for operator in graph.operators]
    int8 = {operator.outputs[0]: graph.tensors[operator.inputs[0]] for kind, operator in found if kind == "DEQUANTIZE"}

    def value(index: int) -> np.ndarray:
        tensor = int8.get(index, graph.tensors[index])
        data = model.buffers[tensor.buffer].data.view(np.int8 if index in int8 else np.float32).reshape(tensor.shape)
        if index not in int8:
            return data
        sides = np.where(np.arange(4) == tensor.quantization.quantizedDimension, -1, 1)
        return data * tensor.quantization.scale.reshape(sides)

    axes = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2)}
    return (
        (value(operator.inputs[1]).transpose(axes[kind]), value(operator.inputs[2]))
        for kind, operator in found
        if kind in axes
    )


_READERS: dict[str, Callable[[Path], Iterator[Layer]]] = {
    "onnx": _read_onnx,
    "tflite": _read_tflite,
    "coreml": lambda path: MilProgram(path).layers(),
}
"""Format -> the convolutions of a file."""


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
    path = Path(file)

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", *arguments], cwd=path.parent, capture_output=True, text=True, check=True)
        return result.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", path.name)
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + (" with changes" if changes else "")


def _versions() -> dict[str, str]:
    found = {}
    for package in "numpy onnx onnxruntime ai-edge-litert coremltools torch Pillow onnx2tf tensorflow".split():
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def processor_name() -> str:
    """The model's name on Linux, elsewhere the one that Python reports, else the architecture."""
    with suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or "unknown processor"


def installed_runtimes(folder: Path) -> list[Runtime]:
    """The runtimes of this machine for the encoders in a folder, a verified bundle, with one thread and with two."""
    runtimes = onnx_runtimes(folder / ENCODER_ONNX, large_batch=1)
    if (folder / ENCODER_TFLITE).exists() and find_spec("ai_edge_litert"):
        runtimes += tflite_runtimes(folder / ENCODER_TFLITE) + compiled_model_runtimes(folder / ENCODER_TFLITE)
    if (folder / ENCODER_COREML).exists() and sys.platform == "darwin" and find_spec("coremltools"):
        runtimes += coreml_runtimes(folder / ENCODER_COREML)
    in_use = ("all optimizations", "XNNPACK", "Core ML, CPU only")  # by applications; the others check the encoder
    return [runtime for runtime in runtimes if any(part in runtime.name for part in in_use)]


def measure(runtime: Runtime, manifest: Manifest, device: str, runs: int) -> dict[str, Any]:
    """The report of a ``device``, by default this one (docs/devices.md): a bundle's golden vectors on a runtime of its
    encoder, and the time of ``runs`` runs of one picture."""
    golden = check_golden(manifest.open_file(GOLDEN), runtime.encode)
    picture = np.random.default_rng(0).integers(0, 256, (1, manifest.hr, manifest.hr, 3), np.uint8)
    times = [1e3 * seconds for seconds in timeit.repeat(partial(runtime.encode, picture), number=1, repeat=runs)]
    median, least, most = (round(time, 2) for time in (statistics.median(times), min(times), max(times)))
    threads = re.search(r"(\d+) thread", runtime.name)
    return {
        "schema": 1,
        "date": datetime.now(UTC).date().isoformat(),
        "platform": {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux"),
        "device": device or f"{processor_name()}, {os.cpu_count()} cores",
        "runtime": re.sub(r", (\d+ threads?|batch 1)\b", "", runtime.name),
        "threads": int(threads[1]) if threads else 0,
        "bundle": manifest.id,
        "lr_contract_id": manifest.lr_contract_id.hex(),
        "checked": len(golden),
        "failed": [name for name, same in golden.items() if not same],
        "encode_ms": {"runs": runs, "median": median, "least": least, "most": most},
    }
