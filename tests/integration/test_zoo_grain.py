"""GRAIN in the zoo: codes and fusion around the decoder of the default bundle, for the same payloads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from codec_contract.bundle.paths import DEFAULT_BUNDLE
from codec_contract.errors import ModelError
from edge_encoder.integer_network import run_reference
from edge_encoder.preprocessing import load_picture
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.picture_metrics import unit_batch
from export.decoder.sources import TRAINED, DecoderSource, kept_bundle, zoo_decoder
from server_decoder.grain.grain import Grain
from server_decoder.grain.weights import read_history


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    path = repository / "zoo" / "faces-256-lr16-small-grain"
    if not path.is_dir():
        pytest.skip("needs zoo/faces-256-lr16-small-grain of the checkout")
    return path


@pytest.fixture(scope="module")
def source(folder: Path) -> DecoderSource:
    try:
        return zoo_decoder(folder)
    except ModelError as error:
        pytest.skip(str(error))  # edgegrain prior fetch


def test_it_needs_the_decoder_of_the_default_bundle(folder: Path) -> None:
    bundle = kept_bundle(folder)
    assert bundle is not None and bundle.id == DEFAULT_BUNDLE
    assert sum(file.stat().st_size for file in folder.iterdir()) < 6_000_000
    assert [stage["stage"] for stage in read_history(folder / TRAINED)][-2:] == ["2", "3"]


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
        assert lpips(unit_batch(levels), original).item() < 0.25
