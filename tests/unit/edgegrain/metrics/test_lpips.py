"""LPIPS and DISTS equal their publications, and name what is missing."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError
from edgegrain.metrics import lpips as perceptual
from edgegrain.metrics.lpips import DISTS, LPIPS, VGG_TAPS
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.metrics.weights import LPIPS_FILES

NETS = ["alex", "vgg"]


@pytest.fixture(scope="module", params=NETS)
def lpips(request: pytest.FixtureRequest, shared_weights: Path) -> LPIPS:
    return LPIPS(shared_weights, request.param)


def tensors(path: Path) -> dict[str, Tensor]:
    """The weights in float32, int8 ones multiplied by the scale of their output channel."""
    stored = load_file(path)
    return {name: stored[name].float() * stored.get(name + ".scale", torch.ones(1))
            for name in stored if not name.endswith(".scale")}


def alexnet(w: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """The five feature maps of torchvision's AlexNet."""
    a = F.relu(F.conv2d(x, w["conv0.weight"], w["conv0.bias"], stride=4, padding=2))
    b = F.relu(F.conv2d(F.max_pool2d(a, 3, 2), w["conv1.weight"], w["conv1.bias"], padding=2))
    c = F.relu(F.conv2d(F.max_pool2d(b, 3, 2), w["conv2.weight"], w["conv2.bias"], padding=1))
    d = F.relu(F.conv2d(c, w["conv3.weight"], w["conv3.bias"], padding=1))
    e = F.relu(F.conv2d(d, w["conv4.weight"], w["conv4.bias"], padding=1))
    return [a, b, c, d, e]


def vgg16(w: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 of torchvision's VGG16."""
    maps, index = [], 0
    for depth in (2, 2, 3, 3, 3):
        x = F.max_pool2d(x, 2, 2) if maps else x
        for _ in range(depth):
            x = F.relu(F.conv2d(x, w[f"conv{index}.weight"], w[f"conv{index}.bias"], padding=1))
            index += 1
        maps.append(x)
    return maps


@torch.no_grad()
def test_equals_the_published_formula(lpips: LPIPS, shared_weights: Path, portrait: np.ndarray) -> None:
    """The mean over places of head-weighted squared differences of unit feature vectors, summed over five layers."""
    w = tensors(shared_weights / LPIPS_FILES[lpips.net])
    network = alexnet if lpips.net == "alex" else vgg16
    a, b = unit_batch(portrait[40:140, 60:160]), unit_batch(portrait[60:160, 40:140])
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    expected = 0.0
    # In LPIPS's own constants ImageNet's mean and deviation, for [0, 1], are rounded to three digits for [-1, 1].
    features = [network(w, ((x + 1) / 2 - mean) / deviation) for x in (a, b)]
    for index, (x, y) in enumerate(zip(*features, strict=True)):
        difference = F.normalize(x, dim=1) - F.normalize(y, dim=1)
        expected += float(F.conv2d(difference.square(), w[f"lin{index}.weight"]).mean())
    assert expected > 0.1
    assert float(lpips(a, b)) == pytest.approx(expected, rel=5e-3)


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
    crops = [(picture[..., i:i + 64, i:i + 64], target[..., i:i + 64, i:i + 64]) for i in range(1, 8)]
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


def test_missing_or_other_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "DISTS_SHA256", "0" * 64)
    with pytest.raises(EdgegrainError, match="does not hold the weights of dists-pytorch"):
        perceptual.learned_weights()
    monkeypatch.setattr(perceptual, "distribution", Mock(side_effect=PackageNotFoundError))
    with pytest.raises(EdgegrainError, match=r"pip install 'edgegrain\[eval\]'"):
        perceptual.learned_weights()
