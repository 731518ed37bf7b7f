"""``edgegrain doctor``: lines, JSON, exit status; the checks find what is broken, and only that."""

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest
from PIL import Image

from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.exact_square import exact_resize
from edgegrain.cli.doctor import INSTALLATION, check_bundle, run_check
from server_decoder import providers
from server_decoder.cuda_ops import library
from tests.tiny_bundle import add_cuda_form, quantizing_decoder, refresh_manifest, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell


def check(name: str, state: str, said: str) -> None:
    """Assert the state of a check of the installation, and that its detail says this."""
    found = run_check(name, INSTALLATION[name])
    assert found.state == state and said in found.detail, found


@pytest.mark.usefixtures("tiny_bundles")
def test_all_is_well(shell: Shell) -> None:
    out = shell.ok("doctor")
    assert out.endswith("all is well\n") and "broken" not in out
    for bundle in (DEFAULT_BUNDLE, "random-64-lr16"):
        assert f"ok       bundle {bundle}: files: 6 files, " in out
        assert f"ok       bundle {bundle}: encoder: 12 golden vectors byte-identical" in out
        assert f"ok       bundle {bundle}: decoder on cpu: restores 64 x 64 pixels, " in out
    assert " ms a picture, with decoder.onnx, float32, plain ops, CPUExecutionProvider\n" in out


@pytest.mark.usefixtures("tiny_bundles")
def test_json(shell: Shell) -> None:
    report = shell.json("doctor", "--bundle", "faces")
    assert report["broken"] == 0
    of_bundle = [f"bundle {DEFAULT_BUNDLE}: {part}" for part in ("files", "encoder", "decoder on cpu")]
    assert [check["name"] for check in report["checks"]] == [*INSTALLATION, *of_bundle]


def test_no_bundle_and_no_onnx_runtime(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (tmp_path,))
    monkeypatch.setattr("edgegrain.cli.doctor.bundle_roots", lambda: (tmp_path,))
    status, out, _ = shell("doctor")
    assert status == 1 and f"broken   bundles: no bundle is installed; searched {tmp_path}\n1 of " in out
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, out, _ = shell("doctor")
    assert status == 1 and "broken   ONNX Runtime: import of onnxruntime halted" in out


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there")
def test_device_that_is_not_there(tmp_path: Path, shell: Shell) -> None:
    status, out, _ = shell("doctor", "--bundle", write_tiny_bundle(tmp_path), "--device", "cuda")
    assert status == 1 and "broken   bundle tiny-64-lr16: decoder on cuda: device 'cuda' needs" in out


def test_picture_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    check("Pillow", "ok", "; for HEIF (HEIC): pip install 'edgegrain[heic]'")
    monkeypatch.setitem(Image.OPEN, "HEIF", (type("PlugIn", (), {}), None))
    check("Pillow", "ok", ", HEIF, GIF, ")


def with_fields(**fields: object) -> Callable[[Path], None]:
    return lambda folder: refresh_manifest(folder, **fields)


def with_file(name: str, data: bytes | None, **fields: object) -> Callable[[Path], None]:
    """Replace a file, or remove it, and list it so in the manifest."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        if data is not None:
            (folder / name).write_bytes(data)
        refresh_manifest(folder, **fields)

    return change


def other_encoder(folder: Path) -> None:
    other = write_tiny_bundle(folder.parent, "other", random=True)
    with_file("encoder.onnx", (other / "encoder.onnx").read_bytes())(folder)


@pytest.mark.parametrize(
    ("change", "broken", "said"),
    [
        (lambda folder: None, "", "every SHA-256 and the LR contract id as in the manifest"),
        (
            lambda folder: (folder / "README.md").write_text("altered"),
            "files",
            "README.md of bundle tiny-64-lr16 is altered",
        ),
        (with_fields(lr_contract_id="0" * 64), "files", f"states LR contract {'0' * 64}, but"),
        (other_encoder, "encoder", "noise-0"),
        (with_file("golden.json", None), "encoder", "lists no file 'golden.json'"),
        (with_file("decoder.onnx", None), "decoder", "lists no file 'decoder.onnx'"),
        (
            with_file("golden.json", None, encoder={"exact": False}),
            "",
            "a float network, which promises no exact bytes and has no golden vectors, ",
        ),
        (with_file("golden.json", b"not JSON"), "encoder", "the golden vectors are malformed"),
        (with_file("golden.json", b"{}"), "encoder", ""),
    ],
)
def test_bundles(tmp_path: Path, change: Callable[[Path], None], broken: str, said: str) -> None:
    folder = write_tiny_bundle(tmp_path)
    change(folder)
    checks = dict(zip(("files", "encoder", "decoder"), check_bundle(folder), strict=True))
    assert [part for part, found in checks.items() if found.state != "ok"] == broken.split()
    assert any(said in found.detail for part, found in checks.items() if not broken or part == broken)


@pytest.mark.parametrize(("able", "file"), [(True, "decoder_int8.onnx, int8"), (False, "decoder.onnx, float32")])
def test_the_form_in_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool, file: str) -> None:
    folder = write_tiny_bundle(tmp_path)
    add_cuda_form(folder, quantizing_decoder(), precision="int8", name="int8")
    monkeypatch.setattr("sdk.open_bundle.can_run_int8", lambda: able)
    decoder = list(check_bundle(folder))[2]
    assert decoder.state == "ok" and f"ms a picture, with {file}" in decoder.detail


def test_libraries_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codec_contract.exact_square.exact_resize", lambda rgb, size: exact_resize(rgb, size) ^ 1)
    check("exact resize", "broken", "another version of Pillow")
    both = [SimpleNamespace(metadata={"Name": name}) for name in ("onnxruntime", "onnxruntime-gpu")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: both)
    check("ONNX Runtime", "warning", "onnxruntime and onnxruntime-gpu are both installed")


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for driver, state, said in ((0, "ok", "on the CPU"), (13000, "warning", "install edgegrain[gpu]")):
        monkeypatch.setattr(providers, "driver_version", lambda driver=driver: driver)
        check("CUDA", state, said)


def test_cuda_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(providers, "preload_cuda", lambda: None)
    monkeypatch.setattr(providers, "driver_version", lambda: 0)
    check("CUDA", "warning", "cannot start: NVIDIA's driver is missing")
    monkeypatch.setattr(providers, "driver_version", lambda: 12080)
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    check("CUDA", "warning", "onnxruntime_providers_shared")
    check("CUDA", "warning", "pip install")
    loaded = []
    monkeypatch.setattr(providers.ctypes, "CDLL", lambda name, mode: loaded.append(Path(name).name))
    check("CUDA", "ok", "driver and libraries load")
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    check("CUDA", "warning", "built with CUDA 13.0, and the driver runs CUDA up to 12.8")
    parts = [f"libonnxruntime_providers_{part}" for part in ("shared", "cuda")]
    assert [name.split(".")[0] for name in loaded[:2]] == parts


def test_fused_ops_are_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "BUILT", tmp_path)
    check("fused ops", "ok", "make ops")
    (tmp_path / "libedgegrain_ops.so").write_bytes(b"not a library")
    check("fused ops", "broken", "cannot be used")
    monkeypatch.setattr(library, "cuda_version", lambda path: 13000)
    for driver, state, said in ((13020, "ok", "CPU and CUDA kernels"), (12040, "warning", "up to 12.4")):
        monkeypatch.setattr(providers, "driver_version", lambda driver=driver: driver)
        check("fused ops", state, said)
