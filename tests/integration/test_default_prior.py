"""The default bundle is GRAIN, and its generator takes part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.quantization import dequantize
from edge_encoder.integer_network import load, run_reference
from edgegrain.metrics.lpips import LPIPS
from edgegrain.pictures.packed import list_pictures, read_square
from export.decoder.sources import ENCODER, bundle_decoder
from server_decoder.grain.grain import Grain


@pytest.fixture(scope="module")
def manifest(default_bundle: Path) -> Manifest:
    return load_manifest(default_bundle)


@pytest.fixture(scope="module")
def decoder(manifest: Manifest) -> Grain:
    decoder = bundle_decoder(manifest)
    assert isinstance(decoder, Grain)
    return decoder


def test_it_was_trained_in_all_stages(manifest: Manifest) -> None:
    stages = manifest.training["stages"]
    assert list(dict.fromkeys(stage["stage"] for stage in stages)) == ["1", "2", "3", "final"]
    assert sum(stage["pictures"] for stage in stages) == manifest.training["pictures_seen"] > 50_000


def test_its_licence_names_the_generators(manifest: Manifest) -> None:
    assert "StyleGAN2" in manifest.licence["prior"] and "random-face" in manifest.licence["prior"]


@torch.inference_mode()
def test_its_generator_takes_part(decoder: Grain, manifest: Manifest, portrait: np.ndarray) -> None:
    """A little: the fusion adds to the invertible picture, which is nearly as good (docs/training.md)."""
    lr = run_reference(load(manifest.open_file(ENCODER)), portrait[None])[0]
    x = dequantize(torch.from_numpy(lr.astype(np.float32)).permute(2, 0, 1)[None])
    whole, silent = (decoder.forward_all(x, prior_gain=gain).final for gain in (1.0, 0.0))
    assert decoder.codes is not None and decoder.prior is not None and decoder.config.prior is not None
    assert decoder.config.prior.compact
    levels = (whole - silent).abs() * 127.5
    assert levels.square().mean().sqrt() > 0.5
    assert levels.max() > 4
    offsets = decoder.codes.predict_offsets(decoder.decoder.forward_features(x)[1])
    assert sorted(offsets) == [8, 16, 32, 64]
    assert all(offset.abs().max() > 0.1 for offset in offsets.values())


@torch.inference_mode()
def test_without_its_generator_pictures_are_worse(
        decoder: Grain, manifest: Manifest, shared_weights: Path, shared_data: Path) -> None:
    lpips, network = LPIPS(shared_weights), load(manifest.open_file(ENCODER))
    assert decoder.fusion is not None
    distances = []
    for path in list_pictures(shared_data / "dev_eval" / "faces_256")[:8]:
        original = read_square(path, 256)
        lr = run_reference(network, original[None])[0]
        x, target = (dequantize(torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None])
                     for picture in (lr, original))
        output = decoder.forward_all(x)
        nothing = {size: torch.zeros_like(feature) for size, feature in output.f_gen.items()}
        without = output.invertible + decoder.fusion(output.f_inv, nothing)  # a gain of zero
        distances.append([float(lpips(picture, target)) for picture in (output.final, without)])
    whole, silent = np.mean(distances, axis=0)
    assert whole < silent
    assert whole < 0.16  # of the classical codecs that can say it in as few bytes the best has 0.49
