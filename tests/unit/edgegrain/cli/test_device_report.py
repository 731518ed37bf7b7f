"""``edgegrain device-report``: a file of reports, nothing overwritten, exit code 1 if a runtime is not exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import export.proof.device_report as device_report
from edgegrain.cli.main import app
from export.proof.runtimes import Runtime, onnx_runtimes
from tests.tiny_bundle import write_tiny_bundle


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        app(["device-report", *arguments])
    return int(leaving.value.code or 0)


def test_this_computer_is_reported(
    default_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runtimes = onnx_runtimes(default_bundle / "encoder.onnx", large_batch=1)[:1]
    monkeypatch.setattr(device_report, "installed_runtimes", lambda folder: runtimes)
    options = (str(tmp_path / "mine.json"), "--bundle", str(default_bundle), "--device", "Mine", "--runs", "2")
    assert run(*options) == 0
    assert ", threads: 1: exact, " in capsys.readouterr().out
    [report] = device_report.read_reports(tmp_path / "mine.json")
    assert (report["device"], report["bundle"], report["encode_ms"]["runs"]) == ("Mine", "faces-256-lr16-small", 2)
    assert run(*options) == 1 and "mine.json exists" in capsys.readouterr().err

    runtimes.append(Runtime("zeros", lambda rgb: np.zeros((1, 16, 16, 3), np.uint8)))
    assert run(*options, "--force") == 1
    assert "zeros: differs in black, white, " in capsys.readouterr().out
    assert len(device_report.read_reports(tmp_path / "mine.json")) == 2


def test_an_altered_encoder_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_tiny_bundle(tmp_path)
    with (bundle / "encoder.onnx").open("ab") as stream:
        stream.write(b"x")
    assert run(str(tmp_path / "mine.json"), "--bundle", str(bundle)) == 1
    assert "encoder.onnx of bundle tiny-64-lr16 is altered" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "mine.json").exists()
