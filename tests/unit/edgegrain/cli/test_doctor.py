"""``edgegrain doctor``: lines, JSON, exit status; the checks find what is broken, and only that."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import onnxruntime
import pytest
from PIL import Image

from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.bundle.manifest import load_manifest
from codec_contract.resize import exact_resize
from edge_encoder.faces import detection
from edgegrain.cli.doctor import INSTALLATION, check_bundle, run_check
from sdk.faces import finder
from server_decoder import providers
from server_decoder.cuda_ops import library
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell


def checked(name: str) -> tuple[str, str]:
    """State and detail of a check of the installation."""
    check = run_check(name, INSTALLATION[name])
    return check.state, check.detail


@pytest.mark.usefixtures("tiny_bundles")
def test_all_is_well(shell: Shell) -> None:
    status, out, _ = shell("doctor")
    assert status == 0 and out.endswith("all is well\n") and "broken" not in out
    for bundle in (DEFAULT_BUNDLE, "random-64-lr16"):
        assert f"ok       bundle {bundle}: files: 6 files, " in out
        assert f"ok       bundle {bundle}: encoder: 12 golden vectors byte-identical" in out
        assert f"ok       bundle {bundle}: decoder on cpu: restores 64 x 64 pixels in " in out
    assert " ms with decoder.onnx, float32, plain ops, CPUExecutionProvider\n" in out


@pytest.mark.usefixtures("tiny_bundles")
def test_json(shell: Shell) -> None:
    status, out, _ = shell("doctor", "--json", "--bundle", "faces")
    report = json.loads(out)
    assert status == 0 and report["broken"] == 0
    names = [check["name"] for check in report["checks"]]
    assert names[:4] == ["edgegrain", "Pillow", "picture formats", "exact resize"]
    assert names[-3:] == [f"bundle {DEFAULT_BUNDLE}: {part}" for part in ("files", "encoder", "decoder on cpu")]


def test_no_bundle_is_broken(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (tmp_path,))
    status, out, _ = shell("doctor")
    assert status == 1 and f"broken   bundles: no bundle is installed; searched {tmp_path}\n1 of " in out


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there")
def test_device_that_is_not_there(tmp_path: Path, shell: Shell) -> None:
    folder = write_tiny_bundle(tmp_path)
    status, out, _ = shell("doctor", "--bundle", str(folder), "--device", "cuda")
    assert status == 1 and "broken   bundle tiny-64-lr16: decoder on cuda: device 'cuda' needs" in out


def test_networks_that_find_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked("faces") == ("ok", "both networks that find faces can be loaded")
    finder.cache_clear()
    monkeypatch.setattr(detection, "__file__", str(tmp_path / "detection.py"))
    state, detail = checked("faces")
    assert state == "broken" and "face_detector.onnx cannot be loaded" in detail


def test_picture_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    detail = checked("picture formats")[1]
    assert detail.startswith("JPEG, ") and detail.endswith("; for HEIF (HEIC): pip install 'edgegrain[heic]'")
    monkeypatch.setitem(Image.OPEN, "HEIF", (type("PlugIn", (), {}), None))
    detail = checked("picture formats")[1]
    assert ", HEIF, " in detail and "pip" not in detail


def test_altered_file(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "README.md").write_text("altered")
    files, encoder, decoder = check_bundle(folder)
    assert files.state == "broken" and "README.md of bundle tiny-64-lr16 is altered" in files.detail
    assert encoder.state == decoder.state == "ok"


def test_contract_id_of_another_encoder(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    files, *_ = check_bundle(folder)
    assert files.state == "ok" and "every SHA-256 and the LR contract id as in the manifest" in files.detail
    other = load_manifest(write_tiny_bundle(tmp_path, "other", random=True)).lr_contract_id.hex()
    refresh_manifest(folder, lr_contract_id=other)
    files, *_ = check_bundle(folder)
    assert files.state == "broken" and f"states LR contract {other}, but" in files.detail


def test_encoder_of_other_bytes(tmp_path: Path) -> None:
    folder, other = write_tiny_bundle(tmp_path), write_tiny_bundle(tmp_path, "other", random=True)
    (folder / "encoder.onnx").write_bytes((other / "encoder.onnx").read_bytes())
    refresh_manifest(folder)
    files, encoder, decoder = check_bundle(folder)
    assert files.state == decoder.state == "ok"
    assert encoder.state == "broken" and "of 12 golden vectors differ" in encoder.detail
    assert "noise-0" in encoder.detail


def test_missing_parts(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "golden.json").unlink()
    (folder / "decoder.onnx").unlink()
    refresh_manifest(folder)
    files, encoder, decoder = check_bundle(folder)
    assert files.state == "ok"
    assert encoder.state == "broken" and "lists no file 'golden.json'" in encoder.detail
    assert decoder.state == "broken" and "lists no file 'decoder.onnx'" in decoder.detail


def test_float_encoder(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "golden.json").unlink()
    refresh_manifest(folder, encoder={"architecture": "rrdb", "exact": False})
    files, encoder, decoder = check_bundle(folder)
    assert files.state == decoder.state == "ok"
    assert encoder.state == "ok" and encoder.detail.endswith(" ms a picture")
    assert encoder.detail.startswith("a float network, which promises no exact bytes and has no golden vectors, ")


@pytest.mark.parametrize("golden", ["not JSON", "{}"])
def test_malformed_golden_vectors(tmp_path: Path, golden: str) -> None:
    folder = write_tiny_bundle(tmp_path)
    (folder / "golden.json").write_text(golden)
    refresh_manifest(folder)
    assert list(check_bundle(folder))[1].state == "broken"


def test_slow_decoder_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgegrain.cli.doctor.RESTORE_LIMIT_SECONDS", 0.0)
    decoder = list(check_bundle(write_tiny_bundle(tmp_path)))[2]
    assert decoder.state == "warning" and "slower than 0 s" in decoder.detail


def test_pillow_that_resizes_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codec_contract.resize.exact_resize", lambda rgb, size: exact_resize(rgb, size) ^ 1)
    state, detail = checked("exact resize")
    assert state == "broken" and "another version of Pillow" in detail


def test_both_builds_of_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.23.0")
    state, detail = checked("builds")
    assert state == "warning" and "onnxruntime and onnxruntime-gpu are both installed" in detail


def test_untried_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.19.2")
    assert checked("ONNX Runtime") == ("warning", "1.19.2; versions 1.21 to 1.31 are supported")


def test_missing_onnx_runtime(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (tmp_path,))
    status, out, _ = shell("doctor")
    assert status == 1 and "broken   ONNX Runtime: cannot be imported" in out and "pip install onnxruntime\n" in out


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for driver, state, said in ((False, "ok", "on the CPU"), (True, "warning", "install edgegrain[gpu]")):
        monkeypatch.setattr(providers, "has_nvidia_driver", lambda driver=driver: driver)
        found, detail = checked("CUDA")
        assert found == state and said in detail


def test_cuda_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(providers, "preload_cuda", lambda: None)
    monkeypatch.setattr(providers, "has_nvidia_driver", lambda: False)
    state, detail = checked("CUDA")
    assert state == "warning" and "cannot start: NVIDIA's driver is missing" in detail
    monkeypatch.setattr(providers, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    detail = checked("CUDA")[1]
    assert "onnxruntime_providers_shared" in detail and "pip install" in detail
    loaded = []
    monkeypatch.setattr(providers, "driver_version", lambda: 12080)
    monkeypatch.setattr(providers.ctypes, "CDLL", lambda name, mode: loaded.append(Path(name).name))
    assert checked("CUDA") == ("ok", "driver and libraries load")
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    assert "built with CUDA 13.0, and the driver runs CUDA up to 12.8" in checked("CUDA")[1]
    assert [name.split(".")[0] for name in loaded[:2]] == [
        "libonnxruntime_providers_shared", "libonnxruntime_providers_cuda"]


def test_extras_say_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=1.26", "typer>=0.15; extra == 'cli'", "no-such-thing<2,>=1; extra == 'hub'",
              'pytest>=8; extra == "hub"', "onnxruntime-gpu; extra == 'gpu'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    assert checked("extras")[1] == "complete: cli; hub lacks no-such-thing; install one: pip install 'edgegrain[NAME]'"

    def absent(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    state, detail = checked("extras")
    assert state == "ok" and "not installed" in detail


def test_fused_ops_are_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "BUILT", tmp_path)
    state, detail = checked("fused ops")
    assert state == "ok" and "make ops" in detail
    (tmp_path / "libedgegrain_ops.so").write_bytes(b"not a library")
    state, detail = checked("fused ops")
    assert state == "broken" and "cannot be used" in detail

    monkeypatch.setattr(library, "has_cuda_kernels", lambda path: True)
    monkeypatch.setattr(library, "cuda_version", lambda path: 13000)
    monkeypatch.setattr(library, "cuda_architectures", lambda path: "90")
    for driver, state, said in ((13020, "ok", "CPU and CUDA kernels (CUDA 13.0)"), (12040, "warning", "up to 12.4")):
        monkeypatch.setattr(library, "driver_version", lambda driver=driver: driver)
        found, detail = checked("fused ops")
        assert found == state and said in detail
