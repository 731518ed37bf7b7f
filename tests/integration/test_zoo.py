"""The networks of the zoo restore unseen pictures: GLEAN, GRAIN around the default bundle's decoder, and IRN."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality.rescaling import bicubic_pair, luma_psnr
from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.errors import ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.pixels import dequantize
from edge_encoder.integer_network import run_reference
from edge_encoder.preprocessing import load_picture
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.papers.face_sr.bundle import load_face_sr, read_config
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.papers.irn.bundle import load_irn, read_training
from edgegrain.papers.irn.network import IRN, PRESETS, round_to_levels
from export.decoder.export import TRAINED, DecoderSource, described_prior, kept_bundle, zoo_decoder
from server_decoder.grain.grain import Grain, read_history
from server_decoder.prior_store import DEFAULT_PRIOR, find_prior


@pytest.fixture(scope="module")
def glean(repository: Path) -> GLEAN:
    path = repository / "zoo" / "glean-faces-256-lr16" / "glean.safetensors"
    if not path.is_file():
        pytest.skip("needs zoo/glean-faces-256-lr16 of the checkout")
    config = read_config(path)
    assert isinstance(config, GLEANConfig)
    try:
        prior = described_prior(config.prior)
    except ModelError as error:
        pytest.skip(str(error))  # edgegrain prior fetch
    return load_face_sr(path, prior)


@torch.inference_mode()
def test_glean_restores_a_face(glean: GLEAN, shared_data: Path, shared_weights: Path) -> None:
    rgb = load_picture(sorted((shared_data / "dev_eval" / "faces_256").iterdir())[0])
    hr = torch.tensor(rgb[None]).permute(0, 3, 1, 2).float()
    lr = torch.nn.functional.avg_pool2d(hr, rgb.shape[0] // glean.config.lr).round()
    restored = glean(dequantize(lr)).clamp(-1, 1)
    score = LPIPS(shared_weights)(restored, dequantize(hr)).item()
    assert score < 0.22  # bicubic enlargement: .6


@pytest.fixture(scope="module")
def grain(repository: Path) -> Path:
    path = repository / "zoo" / "faces-256-lr16-small-grain"
    if not path.is_dir():
        pytest.skip("needs zoo/faces-256-lr16-small-grain of the checkout")
    return path


@pytest.fixture(scope="module")
def source(grain: Path) -> DecoderSource:
    try:
        find_prior(DEFAULT_PRIOR)
    except ModelError as error:
        pytest.skip(str(error))  # edgegrain prior fetch
    return zoo_decoder(grain)


def test_grain_needs_the_decoder_of_the_default_bundle(grain: Path) -> None:
    bundle = kept_bundle(grain)
    assert bundle is not None and bundle.id == DEFAULT_BUNDLE
    assert sum(file.stat().st_size for file in grain.iterdir()) < 6_000_000
    assert [stage["stage"] for stage in read_history(grain / TRAINED)][-2:] == ["2", "3"]


@torch.inference_mode()
def test_the_generator_draws_the_face_of_the_lr(source: DecoderSource, shared_data: Path, shared_weights: Path) -> None:
    assert isinstance(source.decoder, Grain)
    path = sorted((shared_data / "dev_eval" / "faces_256").iterdir())[0]
    rgb = load_picture(path)
    lr = run_reference(source.network, rgb[None])
    output = source.decoder.forward_all(torch.tensor(lr).permute(0, 3, 1, 2) / 127.5 - 1)
    lpips, original = LPIPS(shared_weights), unit_batch(rgb)
    for picture in (output.style, output.final):
        assert picture is not None
        levels = ((picture[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().numpy().astype(np.uint8)
        assert lpips(unit_batch(levels), original).item() < 0.16


SHAPES = {"photos-x2": "x2-light", "photos-x4": "x4-light", "photos-x4-wide": "x4-wide", "photos-x4-plus": "x4-light"}


@pytest.fixture(scope="module", params=SHAPES)
def folder(request: pytest.FixtureRequest, repository: Path) -> Path:
    path = repository / "zoo" / request.param
    if not path.is_dir():
        pytest.skip(f"needs zoo/{request.param} of the checkout")
    return path


@pytest.fixture(scope="module")
def irn(folder: Path) -> IRN:
    return load_irn(folder / "irn.safetensors")


def test_irn_is_the_named_network_with_its_coder(folder: Path, irn: IRN) -> None:
    assert irn.config == PRESETS[f"irn-{SHAPES[folder.name]}"]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 5_000_000
    assert read_training(folder / "irn.safetensors")["crops_seen"] > 10_000
    assert CoderTables.from_json((folder / "coder.json").read_bytes()) != CoderTables.default()


@torch.inference_mode()
def test_irn_beats_bicubic_rescaling(irn: IRN, shared_data: Path, shared_weights: Path) -> None:
    factor = irn.config.factor
    rgb = load_picture(shared_data / "dev_eval" / "set5" / "butterfly.png")
    rgb = rgb[: rgb.shape[0] // factor * factor, : rgb.shape[1] // factor * factor]
    x = torch.tensor(rgb).permute(2, 0, 1)[None].float() / 255
    y, z = irn(x)
    assert (irn.inverse(y, z) - x).abs().max() < 1e-4
    values = irn.inverse(round_to_levels(y), torch.zeros_like(z)).clamp(0, 1)
    restored = (255 * values[0].permute(1, 2, 0)).round().numpy().astype(np.uint8)
    lr, bicubic = bicubic_pair(rgb, factor)
    small = (255 * y.clamp(0, 1)[0].permute(1, 2, 0)).round().numpy()
    assert np.abs(small - lr).mean() < 4.5  # levels: y looks like the bicubic reduction
    assert luma_psnr(restored, rgb, factor) > luma_psnr(bicubic, rgb, factor) + 5
    lpips = LPIPS(shared_weights)
    distance = [lpips(unit_batch(picture), unit_batch(rgb)).item() for picture in (restored, bicubic)]
    assert distance[0] < 0.5 * distance[1]
