"""``edgegrain export decoder --into``: a bundle gets a form of its own decoder, and nothing else of it changes."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest

import sdk
from benchmarks.speed.random_decoder import random_decoder
from codec_contract.bundle.manifest import BundledForm, decoder_forms, load_manifest, verify_bundle
from codec_contract.errors import BundleError, ExportError
from export.bundle.writer import replace_decoder, require_target, write_form
from export.decoder import DecoderOptions, Ops, Precision, WeightStorage
from export.decoder.export import Comparison, ExportedDecoder, export_decoder, find_decoder
from sdk import open_bundle
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from server_decoder.providers import can_run_int8
from tests.tiny_bundle import HR, LR, files_of, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell
from tests.unit.edgegrain.conftest import shaken


def invertible_decoder() -> RRDBDecoder:
    """GRAIN without its generator, which takes three times as long to export."""
    return random_decoder("grain-smoke").decoder.decoder


@pytest.fixture(scope="module")
def model() -> bytes:
    return export_decoder(invertible_decoder(), LR, DecoderOptions(WeightStorage.float16))


@pytest.fixture
def folder(tmp_path: Path, model: bytes) -> Path:
    """A bundle of a decoder with random weights."""
    return write_tiny_bundle(tmp_path, decoder=model, architecture=asdict(invertible_decoder().config))


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], folder: Path) -> Shell:
    return Shell(capsys, "export", "decoder", "--bundle", str(folder), "--compared", "1")


def test_a_bundle_gets_a_form_and_keeps_its_contract(folder: Path, shell: Shell) -> None:
    before, contract = files_of(folder), load_manifest(folder).lr_contract_id
    printed = shell.ok("--into", folder)
    manifest = verify_bundle(folder)
    form = decoder_forms(manifest)["fused"]
    assert (form.precision, form.ops, form.current, manifest.lr_contract_id) == ("float32", "plain", True, contract)
    assert printed.startswith(f"{folder / form.file}: ") and manifest.decoder["forms"]["cuda"]["psnr"] >= 50
    after = files_of(folder)
    assert set(after) - set(before) == {form.file}
    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}

    lr = np.random.default_rng(0).integers(0, 256, (LR, LR, 3), dtype=np.uint8)
    codecs = sdk.Codec(folder, threads=1, form="fused"), sdk.Codec(folder, threads=1)
    found, expected = (np.asarray(codec.restore(lr)).astype(int) for codec in codecs)
    assert codecs[0].running_decoder.file == form.file and np.abs(found - expected).max() <= 1

    assert "--force" in shell.fails(f"{form.file} exists", "--into", folder)


def written(folder: Path, model: bytes) -> BundledForm:
    """The form of an export that was compared elsewhere."""
    options = DecoderOptions(precision=Precision.float16, ops=Ops.fused)
    exported = ExportedDecoder(find_decoder(folder), options, model, Comparison(1, 0.0, 60.0, 0.0))
    return write_form(exported, require_target(exported.source, exported.options, str(folder), force=True))


def test_a_form_is_replaced(folder: Path, model: bytes) -> None:
    first = written(folder, model)
    assert (first.precision, first.ops) == ("float16", "fused")
    assert written(folder, model) == first and (folder / first.file).is_file()
    renewed = written(folder, model + b"\x62\x00")
    assert decoder_forms(verify_bundle(folder))["fused"] == renewed != first
    assert not (folder / first.file).exists()


def test_a_form_is_its_bundle_s_own(
    folder: Path, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_tiny_bundle(tmp_path, "other-64-lr16")
    shell.fails("is not the one of bundle other-64-lr16", "--into", other)
    assert shell("--into", folder, "--out", tmp_path / "dist")[0] == 2
    with pytest.raises(ExportError, match="copy its folder"):
        require_target(find_decoder(folder), DecoderOptions(), "hf://owner/name")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ExportError, match="cannot be written; copy the bundle"):
        require_target(find_decoder(folder), DecoderOptions(), str(folder))


def test_another_decoder_leaves_the_old_form_behind(folder: Path, tmp_path: Path, model: bytes) -> None:
    form = written(folder, model).file
    source = load_manifest(folder)
    decoder = {"file": "decoder.onnx", "controls": [], "architecture": source.decoder["architecture"]}
    newer = replace_decoder(source, tmp_path / "newer", model + b"\x62\x00", {"decoder": decoder}, "A card.\n")
    assert form not in newer.files and list(decoder_forms(newer)) == ["default"]
    assert newer.lr_contract_id == source.lr_contract_id


def test_a_form_in_int8_shares_its_weights_and_runs_where_the_cpu_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = Scale(LR, 24, residual=2), Scale(2 * LR, 16, residual=1), Scale(HR, 8)
    decoder = shaken(RRDBDecoder, DecoderConfig(scales, "bilinear", ()), 0.01)
    model = export_decoder(decoder, LR, DecoderOptions(WeightStorage.float16))
    folder = write_tiny_bundle(tmp_path, decoder=model, architecture=asdict(decoder.config))
    shell = Shell(capsys, "export", "decoder", "--bundle", str(folder), "--compared", "1")
    printed = shell.ok("--precision", "int8", "--into", folder)
    form = decoder_forms(verify_bundle(folder))["int8"]
    assert printed.startswith(f"{folder / form.file}: ") and (form.precision, form.current) == ("int8", True)
    held = onnx.load(folder / form.file, load_external_data=False).graph.initializer
    entries = [entry for tensor in held for entry in tensor.external_data if entry.key == "location"]
    assert {entry.value for entry in entries} == {"decoder.onnx"}
    before = (folder / "decoder.onnx").read_bytes()
    shell.ok("--precision", "int8", "--into", folder, "--force")  # a second time, all weights stay
    form = decoder_forms(verify_bundle(folder))["int8"]
    assert (folder / "decoder.onnx").read_bytes() == before

    lr = np.random.default_rng(0).integers(60, 200, (LR, LR, 3), dtype=np.uint8)
    plain = sdk.Codec(folder, threads=1, form="default")
    exact = np.asarray(plain.restore(lr)).astype(int)
    assert plain.running_decoder.file == "decoder.onnx"
    if can_run_int8():
        codec = sdk.Codec(folder, threads=1, form="int8")
        assert 0 < np.abs(np.asarray(codec.restore(lr)) - exact).mean() < 4
        assert (codec.running_decoder.file, codec.running_decoder.precision) == (form.file, "int8")
    monkeypatch.setattr(open_bundle, "can_run_int8", lambda: False)
    with pytest.raises(BundleError, match="int8 needs a CPU and ONNX Runtime 1.24"):
        sdk.Codec(folder, form="int8").restore(lr)
