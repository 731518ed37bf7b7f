"""GLEAN and GCFSR from weights of a zoo to `sdk.Codec`, with tiny random networks."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import sdk
from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import BundleError, ExportError, ModelError
from codec_contract.pixels import dequantize, quantize
from edge_encoder.integer_network import run_reference
from edge_encoder.twin import box_network
from edgegrain.cli.app import application
from edgegrain.papers.face_sr.bundle import load_face_sr, store, write_face_sr_bundle
from edgegrain.papers.gcfsr.network import GCFSRUpscaler
from edgegrain.service.engine import Engine, RestoreOptions
from export.bundle.writer import OWN_FACES, UNSTATED
from export.decoder.export import bundle_decoder, find_decoder
from export.decoder.graph import round_weights
from server_decoder.prior_store import load_prior
from tests.face_sr import store_gcfsr, store_glean

HR = 32
LR = {"gcfsr": 2, "glean": 8}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("zoo")
    store_gcfsr(root / "gcfsr")
    store_glean(root / "glean")
    return root


@pytest.fixture(scope="module")
def bundles(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Written by the command."""
    out = tmp_path_factory.mktemp("bundles")
    bank = ("--prior", str(zoo / "glean/bank.safetensors"), "--data-licence", "Nobody's.")
    for name, more in (("gcfsr", ("--version", "2.0.0")), ("glean", bank)):
        command = ["export", "bundle", str(zoo / name), "--out", str(out / f"{name}-32"), "--formats", "onnx", *more]
        result = CliRunner().invoke(application, command)
        assert result.exit_code == 0, result.output
        assert f"{out / f'{name}-32'}: " in result.output and "differs from torch by at most" in result.output
    return {name: out / f"{name}-32" for name in ("gcfsr", "glean")}


def portrait(seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((4, 4, 1), np.uint8))


@torch.no_grad()
def expected(network: torch.nn.Module, lr: np.ndarray, *more: torch.Tensor) -> np.ndarray:
    """The picture that torch restores from an LR with the weights that a bundle stores."""
    round_weights(network, compact=False)
    values = torch.from_numpy(np.ascontiguousarray(dequantize(lr.astype(np.float32)).transpose(2, 0, 1)))
    return quantize(network(values[None], *more)[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", ["gcfsr", "glean"])
def test_there_and_back(bundles: dict[str, Path], zoo: Path, name: str) -> None:
    codec = sdk.Codec(bundle=bundles[name])
    payload = codec.compress(portrait(), align=False)
    np.testing.assert_array_equal(payload.lr, run_reference(box_network(HR, LR[name]), portrait()[None])[0])
    restored = np.asarray(codec.restore(payload)).astype(np.int16)
    prior = load_prior(zoo / "glean/bank.safetensors") if name == "glean" else None
    network = load_face_sr(zoo / f"{name}/{name}.safetensors", prior)
    network = GCFSRUpscaler(network, LR[name]) if name == "gcfsr" else network
    assert np.abs(restored - expected(network, payload.lr)).max() <= 1 and restored.std() > 1


def test_strength_steers_the_network(bundles: dict[str, Path], zoo: Path) -> None:
    codec = sdk.Codec(bundle=bundles["gcfsr"])
    payload = codec.compress(portrait(), align=False)
    network = GCFSRUpscaler(load_face_sr(zoo / "gcfsr/gcfsr.safetensors"), LR["gcfsr"])
    strengths = [4.0, 64.0, None, 24.0]
    found = [np.asarray(codec.restore(payload, strength=strength)).astype(np.int16) for strength in strengths]
    for strength, picture in zip(strengths, found, strict=True):
        wanted = torch.tensor([HR / LR["gcfsr"] if strength is None else strength])
        assert np.abs(picture - expected(network, payload.lr, wanted)).max() <= 1
    assert np.abs(found[0] - found[1]).max() > 3
    with pytest.raises(sdk.ImageError, match="no control 'strength'"):
        glean = sdk.Codec(bundle=bundles["glean"])
        glean.restore(glean.compress(portrait(), align=False), strength=16)


def test_the_service_restores_what_the_sdk_restores(bundles: dict[str, Path]) -> None:
    engine = Engine([*bundles.values()], threads=1, batch_sizes=(1, 4))
    engine.warm_up()
    for name, strengths in (("gcfsr", (4.0, 60.0, None)), ("glean", (None, None, None))):
        codec = sdk.Codec(bundle=bundles[name], threads=1)
        payloads = codec.compress_batch([portrait(seed) for seed in range(len(strengths))], align=False)
        options = [RestoreOptions(strength=strength) for strength in strengths]
        outcomes = engine.restore(f"{name}-32", payloads, options)
        for outcome, payload, strength in zip(outcomes, payloads, strengths, strict=True):
            assert isinstance(outcome, bytes), outcome
            alone = np.asarray(codec.restore(payload, strength=strength)).astype(np.int16)
            assert np.abs(np.asarray(Image.open(io.BytesIO(outcome))) - alone).max() <= 1


def test_what_a_bundle_says(bundles: dict[str, Path]) -> None:
    gcfsr, glean = (verify_bundle(bundles[name]) for name in ("gcfsr", "glean"))
    assert (gcfsr.codec, gcfsr.hr, gcfsr.lr, gcfsr.domain) == ("gcfsr", 32, 2, "faces")
    assert gcfsr.version == "2.0.0" and "encoder.tflite" not in gcfsr.files
    assert gcfsr.decoder["controls"] == ["strength"]
    assert gcfsr.decoder["strength"] == {"range": [4, 64], "default": 16}
    assert gcfsr.training["pictures_seen"] == 1234 and gcfsr.encoder["architecture"] == "box-32-2"
    assert (glean.codec, glean.lr, glean.decoder["controls"]) == ("glean", 8, [])
    assert gcfsr.licence == OWN_FACES
    assert glean.licence == {**UNSTATED, "data": "Nobody's.", "prior": "random numbers: none needed"}
    card = glean.open_file("README.md").decode()
    assert "GLEAN, 32 x 32 from an exact area reduction to 8 x 8." in card and "Generator inside: random" in card
    assert "`strength`, 4 to 64" in gcfsr.open_file("README.md").decode()


def test_the_general_export_redirects(bundles: dict[str, Path], zoo: Path) -> None:
    for name in ("gcfsr", "glean"):
        with pytest.raises(BundleError, match=r"edgegrain export bundle writes its bundle"):
            find_decoder(zoo / name)
        with pytest.raises(BundleError, match=f"it is a {name}; the decoder.onnx in its folder is ready to serve"):
            bundle_decoder(load_manifest(bundles[name]))


def test_refusals(bundles: dict[str, Path], zoo: Path, tmp_path: Path) -> None:
    gcfsr, glean, out = zoo / "gcfsr/gcfsr.safetensors", zoo / "glean/glean.safetensors", tmp_path / "out"
    with pytest.raises(FileExistsError, match="force=True"):
        write_face_sr_bundle(gcfsr, bundles["gcfsr"], formats=("onnx",))
    bank = zoo / "glean/bank.safetensors"
    for weights, options, message in (
        (glean, {"lr": 16, "prior": bank}, "this GLEAN takes LRs of 8"),
        (gcfsr, {"reduction": "lanczos"}, "unknown reduction 'lanczos'"),
        (gcfsr, {"formats": ("tflite",)}, "needs the encoder as onnx"),
        (gcfsr, {"prior": bank}, "takes no --prior"),
    ):
        with pytest.raises(ExportError, match=message):
            write_face_sr_bundle(weights, out, **options)
    _, other = store_glean(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="trained with the bank"):
        write_face_sr_bundle(glean, out, prior=other)
    with pytest.raises(ModelError, match=r"holds 0 weight files, expected one of .*glean\.safetensors"):
        store(tmp_path, out)
    assert not out.exists()
