"""The default bundle is GRAIN, and its generator does the drawing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_encoder.integer_network import load, run_reference
from edgegrain.contract.manifest import Manifest, load_manifest
from edgegrain.contract.quantization import dequantize
from export.decoder_sources import ENCODER, bundle_decoder
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
def test_without_its_generator_the_picture_is_worse(decoder: Grain, manifest: Manifest, portrait: np.ndarray) -> None:
    lr = run_reference(load(manifest.open_file(ENCODER)), portrait[None])[0]
    x = dequantize(torch.from_numpy(lr.astype(np.float32)).permute(2, 0, 1)[None])
    original = dequantize(torch.from_numpy(portrait.astype(np.float32)).permute(2, 0, 1)[None])
    whole, silent = (decoder.forward_all(x, prior_gain=gain).final for gain in (1.0, 0.0))
    assert decoder.codes is not None and decoder.prior is not None and decoder.config.prior is not None
    assert decoder.config.prior.compact
    assert (silent - original).square().mean() > 1.3 * (whole - original).square().mean()
    offsets = decoder.codes.predict_offsets(decoder.decoder.forward_features(x)[1])
    assert sorted(offsets) == [8, 16, 32, 64]
    assert all(offset.abs().max() > 0.1 for offset in offsets.values())
