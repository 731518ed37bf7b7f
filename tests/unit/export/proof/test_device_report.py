"""Device reports: their fields, the runtimes that they cover, and files that are none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import ExportError
from export.proof.report import installed_runtimes, measure, read_reports
from export.proof.runtimes import Runtime


def test_a_report_says_what_was_measured(default_bundle: Path, tmp_path: Path) -> None:
    runtimes = installed_runtimes(default_bundle)
    names = " ".join(runtime.name for runtime in runtimes)
    assert "ONNX Runtime" in names and "CompiledModel" in names and "reference kernels" not in names
    manifest = load_manifest(default_bundle)
    report = measure(runtimes[1], manifest, "a computer", 3)
    assert (report["device"], report["threads"], report["checked"], report["failed"]) == ("a computer", 2, 12, [])
    assert report["runtime"].startswith("ONNX Runtime") and "thread" not in report["runtime"]
    times = report["encode_ms"]
    assert times["runs"] == 3 and 0 < times["least"] <= times["median"] <= times["most"]
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_reports(tmp_path / "report.json") == [report]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_only_the_formats_of_a_bundle_are_reported(
    platform: str, default_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(default_bundle / "encoder.onnx", tmp_path)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("export.proof.report.find_spec", lambda name: True)
    names = [runtime.name for runtime in installed_runtimes(tmp_path)]
    assert len(names) == 2 and all(name.startswith("ONNX Runtime") for name in names)


def test_a_runtime_with_other_bytes_is_reported(default_bundle: Path) -> None:
    wrong = Runtime("zeros", lambda rgb: np.zeros((1, 16, 16, 3), np.uint8))
    report = measure(wrong, load_manifest(default_bundle), "a computer", 1)
    assert "noise-3" in report["failed"] and report["threads"] == 0


REPORT: dict[str, Any] = {
    "schema": 1, "platform": "web", "device": "a phone", "runtime": "wasm", "threads": 1, "bundle": "b",
    "lr_contract_id": "00", "checked": 12, "failed": [],
    "encode_ms": {"runs": 1, "median": 1, "least": 1, "most": 1}}


@pytest.mark.parametrize(("field", "change"), [
    ("schema", lambda report: report.update(schema=2)),
    ("platform", lambda report: report.update(platform="toaster")),
    ("device", lambda report: report.update(device="a | b")),
    ("device", lambda report: report.update(device="two\nlines")),
    ("runtime", lambda report: report.pop("runtime")),
    ("threads", lambda report: report.update(threads="many")),
    ("failed", lambda report: report.update(failed=[1])),
    ("encode_ms", lambda report: report["encode_ms"].pop("median")),
    ("date", lambda report: report.update(date="yesterday")),
])
def test_other_files_are_refused(field: str, change: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps([REPORT]))
    assert read_reports(path) == [REPORT]
    report = json.loads(json.dumps(REPORT))
    change(report)
    path.write_text(json.dumps(report))
    with pytest.raises(ExportError, match=f"the field {field} "):
        read_reports(path)
    path.write_text("no JSON")
    with pytest.raises(ExportError, match="is no device report"):
        read_reports(path)
