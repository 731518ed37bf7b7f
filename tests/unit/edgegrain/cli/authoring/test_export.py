"""``edgegrain export``, ``device-kit`` and ``device-report``: the commands, their options and their errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import export.proof.report as device_report
from codec_contract.bundle.manifest import load_manifest
from edgegrain.cli.app import application
from edgegrain.cli.authoring import export as command
from edgegrain.papers.face_sr import bundle as face_sr_bundle
from export import mobile
from export.proof.runtimes import Runtime, onnx_runtimes
from tests.face_sr import store_gcfsr
from tests.tiny_bundle import write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell


def options(group: typer.Typer, *path: str) -> dict[str, list[str]]:
    found = typer.main.get_command(group)
    for name in path:
        found = found.commands[name]  # type: ignore[attr-defined]
    return {parameter.name: parameter.opts for parameter in found.params if parameter.name != "help"}


def test_the_encoder_command_is_export_mobile() -> None:
    assert options(application, "export", "encoder") == options(mobile.app)
    group: Any = typer.main.get_command(command.export)
    assert set(group.commands) == {"encoder", "decoder", "enlarger", "bundle"}


def test_help_names_its_own_command(shell: Shell) -> None:
    printed = shell.ok("export", "encoder", "--help")
    assert "edgegrain export encoder --out dist" in printed and "export.mobile" not in printed


def test_an_encoder_is_exported(shell: Shell, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    arguments = ("encoder", "--bundle", bundle, "--out", tmp_path / "dist", "--formats", "onnx", "--inputs", 2)
    assert "0 differing bytes" in shell.ok("export", *arguments) and (tmp_path / "dist/encoder.onnx").is_file()
    assert shell.fails("--force", "export", *arguments).startswith("error: ")


# Bundles of the zoo: tests/integration/test_face_sr_bundle.py.
def test_options_that_do_not_fit_the_zoo(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = store_gcfsr(tmp_path / "gcfsr")
    monkeypatch.setattr(face_sr_bundle, "decoder_graph", None)  # refused before the decoder is exported
    for wrong, message in (
        (("--prior", "x"), "holds a GCFSR, which takes no --prior"),
        (("--formats", "tflite"), "needs the encoder as onnx"),
        (("--formats", "onnx,tflte"), "unknown format tflte"),
    ):
        shell.fails(message, "export", "bundle", zoo / "gcfsr.safetensors", "--out", tmp_path / "other", *wrong)
    arguments = "export", "bundle", tmp_path, "--out", tmp_path / "other"
    shell.fails("holds 0 weight files, expected one of grain.safetensors", *arguments)
    assert not (tmp_path / "other").exists()


def test_a_kit_holds_the_phones_half(default_bundle: Path, tmp_path: Path, shell: Shell) -> None:
    assert "20 files" in shell.ok("device-kit", tmp_path / "kit", "--bundle", default_bundle)
    names = {path.relative_to(tmp_path / "kit").as_posix() for path in (tmp_path / "kit").rglob("*") if path.is_file()}
    coders = [rate.coder for rate in load_manifest(default_bundle).rates]
    package = ("Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin")
    files = ["manifest.json", "golden.json", "encoder.onnx", "encoder.tflite", *coders]
    files += [f"encoder.mlpackage/{name}" for name in package]
    assert names == {"README.md", *(f"bundle/{name}" for name in files)}
    for name in names - {"README.md"}:
        source = default_bundle / name.removeprefix("bundle/")
        assert (tmp_path / "kit" / name).read_bytes() == source.read_bytes()
    text = (tmp_path / "kit" / "README.md").read_text()
    manifest = load_manifest(default_bundle)
    assert manifest.id in text and manifest.lr_contract_id.hex()[:8] in text and "{" not in text


def test_a_kit_without_encoders_for_phones(tmp_path: Path, shell: Shell) -> None:
    bundle = write_tiny_bundle(tmp_path)
    status, _, warning = shell("device-kit", tmp_path / "kit", "--bundle", bundle)
    assert status == 0 and "has no encoder.mlpackage, no encoder.tflite" in warning


def test_a_kit_overwrites_nothing(default_bundle: Path, tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "README.md").write_text("mine")
    shell.fails("--force", "device-kit", tmp_path, "--bundle", default_bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    printed = shell.ok("device-kit", tmp_path, "--bundle", default_bundle, "--force", "--json")
    assert str(tmp_path / "README.md") in json.loads(printed)["files"]
    assert (tmp_path / "README.md").read_text().startswith("# Device kit of faces-256-lr16-small")


def test_this_computer_is_reported(
    default_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    runtimes = onnx_runtimes(default_bundle / "encoder.onnx", large_batch=1)[:1]
    monkeypatch.setattr(device_report, "installed_runtimes", lambda folder: runtimes)
    options = (tmp_path / "mine.json", "--bundle", default_bundle, "--device", "Mine", "--runs", "2")
    assert ", threads: 1: exact, " in shell.ok("device-report", *options)
    [report] = json.loads((tmp_path / "mine.json").read_text())
    assert (report["device"], report["bundle"], report["encode_ms"]["runs"]) == ("Mine", "faces-256-lr16-small", 2)
    shell.fails("mine.json exists", "device-report", *options)

    runtimes.append(Runtime("zeros", lambda rgb: np.zeros((1, 16, 16, 3), np.uint8)))
    status, printed, _ = shell("device-report", *options, "--force")
    assert status == 1 and "zeros: differs in black, white, " in printed
    assert len(json.loads((tmp_path / "mine.json").read_text())) == 2


def test_an_altered_encoder_is_not_run(tmp_path: Path, shell: Shell) -> None:
    bundle = write_tiny_bundle(tmp_path)
    with (bundle / "encoder.onnx").open("ab") as stream:
        stream.write(b"x")
    arguments = "device-report", tmp_path / "mine.json", "--bundle", bundle
    shell.fails("encoder.onnx of bundle tiny-64-lr16 is altered", *arguments)
    assert not (tmp_path / "mine.json").exists()
