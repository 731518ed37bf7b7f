"""``edgegrain device-kit``: verified files of the bundle, a procedure, nothing overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codec_contract.bundle.manifest import load_manifest
from edgegrain.cli.main import app


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        app(["device-kit", *arguments])
    return int(leaving.value.code or 0)


def test_a_kit_holds_the_phones_half(default_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tmp_path / "kit"), "--bundle", str(default_bundle)) == 0
    names = {path.relative_to(tmp_path / "kit").as_posix() for path in (tmp_path / "kit").rglob("*") if path.is_file()}
    package = "bundle/encoder.mlpackage"
    assert names == {
        "README.md", "bundle/manifest.json", "bundle/coder.json", "bundle/golden.json", "bundle/encoder.onnx",
        "bundle/encoder.tflite", f"{package}/Manifest.json", f"{package}/Data/com.apple.CoreML/model.mlmodel",
        f"{package}/Data/com.apple.CoreML/weights/weight.bin"}
    for name in names - {"README.md"}:
        source = default_bundle / name.removeprefix("bundle/")
        assert (tmp_path / "kit" / name).read_bytes() == source.read_bytes()
    text = (tmp_path / "kit" / "README.md").read_text()
    manifest = load_manifest(default_bundle)
    assert manifest.id in text and manifest.lr_contract_id.hex()[:8] in text and "{" not in text
    assert "9 files" in capsys.readouterr().out


def test_nothing_is_overwritten(default_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert run(str(tmp_path), "--bundle", str(default_bundle)) == 1
    assert "--force" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert run(str(tmp_path), "--bundle", str(default_bundle), "--force", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["bundle"] == "faces-256-lr16-small" and str(tmp_path / "README.md") in printed["files"]
    assert (tmp_path / "README.md").read_text().startswith("# Device kit of faces-256-lr16-small")
