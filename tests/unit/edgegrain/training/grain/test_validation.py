"""The evaluation of final pictures includes the figures of the pictures that they are fused from."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from codec_contract.quantization import dequantize
from edgegrain.training.data import rounded_levels
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.start import stand_in_prior, start_run
from edgegrain.training.grain.validation import evaluate
from edgegrain.training.losses import MetricNetworks


class MeanDifference:
    """Replaces LPIPS: the mean absolute difference, off the grid twice that."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean((1, 2, 3))

    def off_grid(self, a: Tensor, b: Tensor) -> Tensor:
        return 2 * self(a, b)


@torch.no_grad()
def test_a_final_picture_is_compared_with_its_parts() -> None:
    recipe = GRAIN_RECIPES["smoke-final"]
    model = start_run(recipe, None, stand_in_prior(recipe)).average.eval()
    pictures = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3), np.uint8)
    networks = SimpleNamespace(lpips=MeanDifference(), identity=None)
    found = evaluate(model, pictures, networks)  # type: ignore[arg-type]
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    expected = {}
    for name in ("invertible", "style"):
        restored = dequantize(rounded_levels(model(x, output=name).picture))
        expected[name] = float((restored - dequantize(x)).abs().mean())
    assert found["lpips_alex_style"] == pytest.approx(expected["style"], abs=2e-4)
    # A new fusion adds nothing to the invertible picture.
    for name in ("lpips_alex", "lpips_alex_without_prior", "lpips_alex_invertible"):
        assert found[name] == pytest.approx(expected["invertible"], abs=2e-4), name
    assert found["lpips_alex_off_grid"] == pytest.approx(2 * found["lpips_alex"], abs=2e-4)
    assert abs(expected["style"] - expected["invertible"]) > 0.01
    alone = start_run(GRAIN_RECIPES["smoke-stage1"], None).average.eval()
    assert set(evaluate(alone, pictures, MetricNetworks())) == {"psnr"}


@pytest.mark.parametrize(("channels", "has_saturation"), [(1, False), (3, True)])
@torch.no_grad()
def test_grey_pictures_have_no_saturation_to_compare(channels: int, has_saturation: bool) -> None:
    recipe = GRAIN_RECIPES["smoke-stage1"]
    recipe = replace(recipe, loss=replace(recipe.loss, rate=0.1))
    model = start_run(recipe, None).average.eval()
    pictures = np.random.default_rng(3).integers(0, 256, (2, 64, 64, channels), np.uint8)
    found = evaluate(model, np.broadcast_to(pictures, (2, 64, 64, 3)).copy(), MetricNetworks())
    assert "lr_bytes" in found and ("lr_saturation" in found) == has_saturation
