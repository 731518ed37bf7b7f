"""The report of a device: its golden checks and encoding times on every runtime, as in docs/devices.md."""

from __future__ import annotations

import datetime
import json
import os
import re
import statistics
import sys
import timeit
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.bundle.manifest import ENCODER_COREML, ENCODER_ONNX, ENCODER_TFLITE, GOLDEN, Manifest
from codec_contract.errors import ExportError
from edge_encoder.golden_inputs import check_golden
from export.proof.report import processor_name
from export.proof.runtimes import Runtime, compiled_model_runtimes, coreml_runtimes, onnx_runtimes, tflite_runtimes

DeviceReport = dict[str, Any]

SCHEMA = 1
IN_USE = ("all optimizations", "XNNPACK", "Core ML, CPU only")
"""Parts of the names of runtimes that applications use; the others only check the encoder."""


def installed_runtimes(folder: Path) -> list[Runtime]:
    """The runtimes of this machine for the encoders in a folder, a verified bundle, with one thread and with two."""
    runtimes = onnx_runtimes(folder / ENCODER_ONNX, large_batch=1)
    if (folder / ENCODER_TFLITE).exists() and find_spec("ai_edge_litert"):
        runtimes += tflite_runtimes(folder / ENCODER_TFLITE) + compiled_model_runtimes(folder / ENCODER_TFLITE)
    if (folder / ENCODER_COREML).exists() and sys.platform == "darwin" and find_spec("coremltools"):
        runtimes += coreml_runtimes(folder / ENCODER_COREML)
    return [runtime for runtime in runtimes if any(part in runtime.name for part in IN_USE)]


def measure(runtime: Runtime, manifest: Manifest, device: str, runs: int) -> DeviceReport:
    """Run a bundle's golden vectors on a runtime of its encoder, and time ``runs`` runs of one picture."""
    golden = check_golden(json.loads(manifest.open_file(GOLDEN)), runtime.encode)
    picture = np.random.default_rng(0).integers(0, 256, (1, manifest.hr, manifest.hr, 3), np.uint8)
    times = [1e3 * seconds for seconds in timeit.repeat(partial(runtime.encode, picture), number=1, repeat=runs)]
    threads = re.search(r"(\d+) thread", runtime.name)
    return {
        "schema": SCHEMA, "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "platform": {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux"),
        "device": device, "runtime": re.sub(r", (\d+ threads?|batch 1)\b", "", runtime.name),
        "threads": int(threads[1]) if threads else 0,
        "bundle": manifest.id, "lr_contract_id": manifest.lr_contract_id.hex(),
        "checked": golden.checked, "failed": list(golden.failed),
        "encode_ms": {"runs": runs, "median": round(statistics.median(times), 2), "least": round(min(times), 2),
                      "most": round(max(times), 2)}}


def read_reports(path: Path) -> list[DeviceReport]:
    """The reports of a file: one, as the clients write it, or a list."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} is no device report: {error}") from error
    reports = content if isinstance(content, list) else [content]
    for report in reports:
        fields = report if isinstance(report, Mapping) else {}
        if wrong := next((name for name, right in _FIELDS.items() if not right(fields.get(name))), None):
            raise ExportError(f"{path} is no device report: the field {wrong} is missing or has another form than "
                              "docs/devices.md defines")
    return reports


def this_device() -> str:
    """The processor's name and the number of its cores."""
    return f"{processor_name()}, {os.cpu_count()} cores"


def _is_text(value: Any) -> bool:
    """True for one short line that does not break a table."""
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable() and "|" not in value


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "schema": lambda value: bool(value == SCHEMA),
    "platform": lambda value: value in ("web", "android", "ios", "linux", "macos", "windows"),
    **dict.fromkeys(("device", "runtime", "bundle", "lr_contract_id"), _is_text),
    **dict.fromkeys(("threads", "checked"), lambda value: isinstance(value, int)),
    "failed": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "encode_ms": lambda value: isinstance(value, Mapping) and all(
        isinstance(value.get(name), int | float) for name in ("runs", "median", "least", "most")),
    "date": lambda value: value is None or bool(re.fullmatch(r"\d{4}-\d\d-\d\d", str(value))),
}
"""Field of a report -> test of its value, as docs/devices.md defines it."""
