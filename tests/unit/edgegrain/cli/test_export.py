"""``edgegrain export``: the commands, their options and their errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from edgegrain.cli import export as command
from edgegrain.cli.app import application
from edgegrain.cli.main import app
from edgegrain.papers.face_sr import bundle as face_sr_bundle
from export import mobile
from tests.face_sr import store_gcfsr
from tests.tiny_bundle import write_tiny_bundle


def run(capture: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        app(["export", *map(str, arguments)])
    output = capture.readouterr()
    return int(leaving.value.code or 0), output.out, output.err


def options(group: typer.Typer, *path: str) -> dict[str, list[str]]:
    found = typer.main.get_command(group)
    for name in path:
        found = found.commands[name]  # type: ignore[attr-defined]
    return {parameter.name: parameter.opts for parameter in found.params if parameter.name != "help"}


def test_the_encoder_command_is_export_mobile() -> None:
    assert options(application, "export", "encoder") == options(mobile.app)
    assert set(typer.main.get_command(command.export).commands) == {  # type: ignore[attr-defined]
        "encoder", "decoder", "enlarger", "bundle"}


def test_help_names_its_own_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, _ = run(capsys, "encoder", "--help")
    assert status == 0 and "edgegrain export encoder --out dist" in printed and "export.mobile" not in printed


def test_an_encoder_is_exported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    arguments = ("encoder", "--bundle", bundle, "--out", tmp_path / "dist", "--formats", "onnx", "--inputs", 2,
                 "--no-contrast")
    status, printed, error = run(capsys, *arguments)
    assert status == 0, error
    assert "0 differing bytes" in printed and (tmp_path / "dist/encoder.onnx").is_file()
    status, _, error = run(capsys, *arguments)
    assert status == 1 and error.startswith("error: ") and "--force" in error
    status, _, error = run(capsys, "encoder", "--bundle", "no-such-bundle", "--out", tmp_path / "none")
    assert status == 1 and "no bundle 'no-such-bundle'" in error


@pytest.mark.parametrize("arguments", [("encoder",), ("decoder",), ("bundle", "{zoo}", "--out", "b")])
def test_missing_libraries(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                           arguments: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("export.proof.proven_export", "export.decoder.command", "export.bundle.grain_bundle"):
        monkeypatch.setitem(sys.modules, module, None)
    status, _, error = run(capsys, *(item.format(zoo=tmp_path) for item in arguments))
    assert status == 1 and "pip install 'edgegrain[export]'" in error


# Bundles of the zoo: tests/integration/test_face_sr_bundle.py.
def test_options_that_do_not_fit_the_zoo(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = store_gcfsr(tmp_path / "gcfsr")
    monkeypatch.setattr(face_sr_bundle, "decoder_graph", None)  # refused before the decoder is exported
    for wrong, message in ((("--prior", "x"), "holds a GCFSR, which takes no --prior"),
                           (("--formats", "tflite"), "needs the encoder as onnx"),
                           (("--formats", "onnx,tflte"), "unknown format tflte")):
        status, _, error = run(capsys, "bundle", zoo / "gcfsr.safetensors", "--out", tmp_path / "other", *wrong)
        assert status == 1 and message in error
    status, _, error = run(capsys, "bundle", tmp_path, "--out", tmp_path / "other")
    assert status == 1 and "holds 0 weight files, expected one of grain.safetensors" in error
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("arguments", [
    ("--out", "b"), (".", "--invertible-of", "faces", "--out", "b"), (".",),
    ("--invertible-of", "faces", "--version", "2.0.0", "--out", "b")])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert run(capsys, "bundle", *arguments)[0] == 2


def test_a_configuration_has_no_trained_weights(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("--config", "grain-smoke"), ("--random-weights",)):
        status, _, error = run(capsys, "decoder", *arguments)
        assert status == 1 and "belong together" in error
