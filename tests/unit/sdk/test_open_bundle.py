"""Open bundles: the form of a decoder that a device runs, else the default one with a reason; levels, controls."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import sdk
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError, DeviceError
from codec_contract.lr_coder.coder_tables import CoderTables
from sdk import open_bundle
from sdk.open_bundle import OpenBundle, choose_form
from tests.pictures import noise
from tests.pretended_cuda import PretendedCuda
from tests.tiny_bundle import (
    HR,
    LR,
    add_cuda_form,
    nearest_enlarger,
    quantizing_decoder,
    refresh_manifest,
    write_steered_bundle,
    write_tiny_bundle,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle with a form for CUDA, whose graph quantizes."""
    folder = write_tiny_bundle(tmp_path)
    add_cuda_form(folder, quantizing_decoder(), ops="fused")
    return folder


@pytest.fixture
def library_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(open_bundle, "find_library", lambda: tmp_path / "libedgegrain_ops.so")
    monkeypatch.setattr(open_bundle, "require_cuda_kernels", lambda path: None)


def chosen(folder: Path, device: str, **options: str) -> str:
    form, reason = choose_form(load_manifest(folder), device, **options)  # type: ignore[arg-type]
    return f"{form.file}: {reason}" if reason else form.file


def test_each_device_gets_its_form(folder: Path, library_there: None) -> None:
    assert chosen(folder, "cpu") == "decoder.onnx" and chosen(folder, "cuda") == "decoder_cuda.onnx"
    assert chosen(folder, "cuda", choice="default") == "decoder.onnx"
    assert chosen(folder, "cpu", choice="fused") == "decoder_cuda.onnx"


def test_a_cpu_gets_int8_where_it_can_but_not_to_enlarge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_tiny_bundle(tmp_path)
    add_cuda_form(folder, quantizing_decoder(), precision="int8", name="int8")
    monkeypatch.setattr(open_bundle, "can_run_int8", lambda: False)
    assert chosen(folder, "cpu") == "decoder.onnx"
    monkeypatch.setattr(open_bundle, "can_run_int8", lambda: True)
    assert chosen(folder, "cpu") == "decoder_int8.onnx" and chosen(folder, "cpu", choice="default") == "decoder.onnx"
    bundle = OpenBundle(load_manifest(folder))
    lrs = np.zeros((1, LR, LR, 3), np.uint8)
    with caplog.at_level(logging.INFO):
        bundle.decode(lrs)
        assert "with decoder_int8.onnx, int8" in caplog.text and "decoder.onnx" not in caplog.text
        bundle.decode(lrs, to_enlarge=True)
    assert "with decoder.onnx, float32" in caplog.text and bundle.running_decoder.precision == "int8"


def test_an_enlarger_in_int8_takes_what_int8_restores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny_bundle(tmp_path, doublings=1)
    add_cuda_form(folder, quantizing_decoder(), precision="int8", name="int8")
    (folder / "inverted.onnx").write_bytes(inverting_enlarger())
    enlarger = {"files": ["enlarger_x2.onnx"], "forms": {"int8": {"files": ["inverted.onnx"]}}}
    refresh_manifest(folder, enlarger=enlarger)
    squares = np.full((1, HR, HR, 3), 55, np.uint8)
    for able, form, level in ((True, "auto", 200), (True, "default", 55), (True, "int8", 200), (False, "auto", 55)):
        monkeypatch.setattr(open_bundle, "can_run_int8", lambda able=able: able)
        bundle = OpenBundle(load_manifest(folder), form=form)  # type: ignore[arg-type]
        assert (bundle.enlarge(squares, 2) == level).all()
        bundle.decode(np.zeros((1, LR, LR, 3), np.uint8), to_enlarge=True)
        assert [key[1] for key in bundle._parts if isinstance(key, tuple)] == [form]


def inverting_enlarger() -> bytes:
    """`nearest_enlarger` with 255 minus its levels."""
    model = onnx.load_model_from_string(nearest_enlarger(1)[0])
    model.graph.node[-1].output[0] = "plain"
    model.graph.node.append(onnx.helper.make_node("BitwiseNot", ["plain"], ["enlarged"]))
    return bytes(model.SerializeToString())


def test_without_the_library_cuda_gets_the_default_form(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Path:
        raise DeviceError("the library is not built")

    monkeypatch.setattr(open_bundle, "find_library", absent)
    assert chosen(folder, "cuda") == "decoder.onnx: the library is not built"
    add_cuda_form(folder, quantizing_decoder(), ops="plain")  # needs no library
    assert chosen(folder, "cuda") == "decoder_cuda.onnx"


def test_a_form_of_an_earlier_decoder_is_not_used(folder: Path, library_there: None) -> None:
    before = load_manifest(folder).lr_contract_id
    (folder / "decoder.onnx").write_bytes((folder / "decoder.onnx").read_bytes() + b"\x62\x00")
    refresh_manifest(folder)
    assert load_manifest(folder).lr_contract_id == before
    assert chosen(folder, "cuda").startswith("decoder.onnx: decoder_cuda.onnx was made from another decoder")
    assert chosen(folder, "cuda").endswith(f"--into {folder}'")
    with pytest.raises(BundleError, match="was made from another decoder"):
        chosen(folder, "cuda", choice="fused")


def test_a_bundle_without_a_form_says_how_to_make_one(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    assert chosen(folder, "cuda").startswith("decoder.onnx: the bundle has none; make it with 'edgegrain export dec")
    with pytest.raises(BundleError, match="has no form 'fused' of its decoder, only: default; make it with"):
        chosen(folder, "cpu", choice="fused")
    refresh_manifest(folder, codec="irn")  # there are no forms of this family
    assert chosen(folder, "cuda") == "decoder.onnx"


def test_the_form_restores_the_same_pictures(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    lr = noise(LR, LR)
    default, cuda = sdk.Codec(folder, threads=1), sdk.Codec(folder, threads=1, form="fused")
    with caplog.at_level(logging.INFO):
        np.testing.assert_array_equal(np.asarray(cuda.restore(lr)), np.asarray(default.restore(lr)))
    for codec, file, precision in ((cuda, "decoder_cuda.onnx", "float16"), (default, "decoder.onnx", "float32")):
        expected = sdk.RunningDecoder(file, precision, "plain", "cpu", "CPUExecutionProvider", graphs=False)
        assert codec.running_decoder == expected
    assert "decodes with decoder_cuda.onnx, float16, plain ops, CPUExecutionProvider" in caplog.text


def test_a_session_on_cuda_takes_the_form_and_the_log_says_so(
    folder: Path, library_there: None, pretended_cuda: PretendedCuda, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        bundle = OpenBundle(load_manifest(folder), "cuda")
        running = bundle.running_decoder
    assert (running.file, running.device, running.graphs, running.reason) == ("decoder_cuda.onnx", "cuda", True, "")
    bundle.decoder.graphs = False  # as after a warm-up whose capture failed
    assert not bundle.running_decoder.graphs
    assert "decodes with decoder_cuda.onnx, float16, plain ops, CUDAExecutionProvider, CUDA graphs" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    refresh_manifest(folder, decoder={"file": "decoder.onnx"})
    running = OpenBundle(load_manifest(folder), "cuda").running_decoder
    assert running.file == "decoder.onnx" and "the bundle has none" in running.reason
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1 and "runs decoder.onnx in float32 on CUDA" in warnings[0]


def test_a_decoder_by_name(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "decoder_dark.onnx").write_bytes(quantizing_decoder())
    refresh_manifest(folder, decoders={"dark": {"file": "decoder_dark.onnx", "controls": []}})
    named: Manifest = load_manifest(folder)
    assert list(named.decoders) == ["dark"]
    codec = sdk.Codec(folder, threads=1, decoder="dark")
    assert codec.running_decoder.file == "decoder_dark.onnx"
    assert codec.restore(codec.compress(np.zeros((HR, HR, 3), np.uint8))).size == (HR, HR)
    with pytest.raises(BundleError, match="has no decoder 'bright', only: default, dark"):
        sdk.Codec(folder, decoder="bright")


def test_lrs_have_the_levels_that_payloads_store(tmp_path: Path) -> None:
    folder, grey = write_tiny_bundle(tmp_path), np.full((HR, HR, 3), 128, np.uint8)
    (folder / "coder.json").write_bytes(replace(CoderTables.default(), step=7).to_json())
    refresh_manifest(folder)
    np.testing.assert_array_equal(sdk.compress(grey, folder, "stretch").lr, np.full((LR, LR, 3), 126, np.uint8))
    restored = sdk.restore(np.full((LR, LR, 3), 128, np.uint8), bundle=folder)
    np.testing.assert_array_equal(restored, np.full((HR, HR, 3), 126, np.uint8))


def test_parts_are_opened_once_for_all_threads(folder: Path) -> None:
    bundle = OpenBundle(load_manifest(folder), threads=1)
    with ThreadPoolExecutor(4) as threads:
        assert len(set(map(id, threads.map(lambda _: bundle.encoder, range(4))))) == 1


def test_what_is_wrong_is_noticed_when_a_bundle_is_opened(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "decoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"decoder\.onnx .* is missing: .*, and no .*shared"):
        OpenBundle(load_manifest(folder)).open()
    with pytest.raises(BundleError, match="one of auto, default, fused, int8, got 'bogus'"):
        OpenBundle(load_manifest(folder), form="bogus")  # type: ignore[arg-type]
    folder = write_steered_bundle(tmp_path)
    refresh_manifest(folder, decoder={"file": "decoder.onnx", "controls": ["strength"], "strength": 3})
    with pytest.raises(BundleError, match="controls wrongly"):
        OpenBundle(load_manifest(folder))
