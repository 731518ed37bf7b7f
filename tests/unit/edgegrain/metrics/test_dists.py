"""DISTS equals the published library on the same VGG16, and names what is missing."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from codec_contract.errors import EdgegrainError
from edgegrain.metrics import dists
from edgegrain.metrics.dists import DISTS
from edgegrain.metrics.lpips import LPIPS, VGG_TAPS
from edgegrain.metrics.picture_metrics import unit_batch


@pytest.fixture(scope="module")
def vgg(shared_weights: Path) -> LPIPS:
    return LPIPS(shared_weights, "vgg")


def torchvision_layers(vgg: LPIPS) -> nn.Sequential:
    """Our convolutions in the order of torchvision's ``vgg16().features``."""
    layers: list[nn.Module] = []
    for index in range(13):
        weight, bias = getattr(vgg, f"conv{index}_weight"), getattr(vgg, f"conv{index}_bias")
        convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        convolution.weight, convolution.bias = nn.Parameter(weight), nn.Parameter(bias)
        layers += [convolution, nn.ReLU(), *([nn.MaxPool2d(2)] if index in VGG_TAPS else [])]
    return nn.Sequential(*layers)


def test_equals_the_library_with_our_vgg(vgg: LPIPS, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchmetrics' copy of the authors' code takes its VGG16 from torchvision, which the test replaces."""
    from torchmetrics.functional.image import dists as library  # slow: not while tests are collected

    features = nn.Module()
    features.features = torchvision_layers(vgg)
    monkeypatch.setattr(library, "_TORCHVISION_AVAILABLE", True)
    monkeypatch.setattr(library, "vgg16", lambda weights: features, raising=False)
    monkeypatch.setattr(library, "VGG16_Weights", type("Weights", (), {"DEFAULT": None}), raising=False)
    small = portrait[64:160, 64:152]
    pictures = torch.cat([unit_batch(small[::-1].copy()), unit_batch(small // 2 + 30), unit_batch(small)])
    target = unit_batch(small).expand(3, -1, -1, -1)
    with torch.no_grad():
        ours = DISTS(vgg)(pictures, target)
        theirs = library.deep_image_structure_and_texture_similarity((pictures + 1) / 2, (target + 1) / 2)
    assert ours.tolist() == pytest.approx(theirs.tolist(), abs=2e-6)
    assert ours[0] > ours[1] > 0.1 and ours[2] == pytest.approx(0, abs=1e-5)


def test_the_weights_are_those_of_the_authors() -> None:
    alpha, beta = dists.learned_weights()
    assert alpha.shape == beta.shape == (sum(dists.CHANNELS),)
    assert float(alpha.sum()) == pytest.approx(0.876, abs=1e-3) and float(beta.sum()) == pytest.approx(0.124, abs=1e-3)


def test_missing_or_other_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dists, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(EdgegrainError, match="does not hold the weights of dists-pytorch"):
        dists.learned_weights()

    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(dists, "distribution", missing)
    with pytest.raises(EdgegrainError, match=r"pip install 'edgegrain\[eval\]'"):
        dists.learned_weights()
