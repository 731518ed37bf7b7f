"""``edgegrain doctor``: lines, JSON and exit status."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest

from codec_contract.bundle.paths import DEFAULT_BUNDLE
from edgegrain.cli.main import app
from tests.tiny_bundle import write_tiny_bundle


def doctor(capture: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as leaving:
        app(["doctor", *arguments])
    return int(leaving.value.code or 0), capture.readouterr().out


@pytest.mark.usefixtures("tiny_bundles")
def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    status, out = doctor(capsys)
    assert status == 0 and out.endswith("all is well\n") and "broken" not in out
    for bundle in (DEFAULT_BUNDLE, "random-64-lr16"):
        assert f"ok       bundle {bundle}: files: 6 files, " in out
        assert f"ok       bundle {bundle}: encoder: 12 golden vectors byte-identical" in out
        assert f"ok       bundle {bundle}: decoder on cpu: restores 64 x 64 pixels in " in out
    assert " ms with decoder.onnx, float32, plain ops, CPUExecutionProvider\n" in out


@pytest.mark.usefixtures("tiny_bundles")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out = doctor(capsys, "--json", "--bundle", "faces")
    report = json.loads(out)
    assert status == 0 and report["broken"] == 0
    names = [check["name"] for check in report["checks"]]
    assert names[:4] == ["edgegrain", "Pillow", "picture formats", "exact resize"]
    assert names[-3:] == [f"bundle {DEFAULT_BUNDLE}: {part}" for part in ("files", "encoder", "decoder on cpu")]


def test_no_bundle_is_broken(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codec_contract.bundle.paths.bundle_roots", lambda: (tmp_path,))
    status, out = doctor(capsys)
    assert status == 1 and f"broken   bundles: no bundle is installed; searched {tmp_path}\n1 of " in out


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there")
def test_device_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny_bundle(tmp_path)
    status, out = doctor(capsys, "--bundle", str(folder), "--device", "cuda")
    assert status == 1 and "broken   bundle tiny-64-lr16: decoder on cuda: device 'cuda' needs" in out
