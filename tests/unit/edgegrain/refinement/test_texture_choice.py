"""The choice of textures, with the squared error in the place of LPIPS."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.texture_map import TextureMap
from edgegrain.metrics.lpips import LPIPS
from edgegrain.refinement.texture_choice import choose_textures
from server_decoder.super_resolution.textures import textured


def metric(stub: object) -> LPIPS:
    return cast(LPIPS, cast(Any, stub))


class SquaredError:
    shift = torch.zeros(1)

    def features(self, picture: Tensor) -> list[Tensor]:
        return [picture]

    def cell_distances(self, a: list[Tensor], b: list[Tensor], side: int) -> Tensor:
        return F.adaptive_avg_pool2d((a[0] - b[0]).pow(2).mean(1), side)


def test_the_textures_of_the_original_are_found(portrait: np.ndarray) -> None:
    """An original whose cells are what the textures make of the restored picture, without a transition."""
    used = TextureMap(4, (0, 1, 2, 3, 4, 5, 6, 7) * 2)
    made = np.stack([textured(portrait, TextureMap(4, (number,))) for number in range(8)])
    numbers = np.array(used.textures).reshape(4, 4).repeat(64, 0).repeat(64, 1)
    original = np.take_along_axis(made, numbers[None, ..., None], 0)[0]
    assert choose_textures(portrait, original, 4, 4, metric(SquaredError())) == used


@pytest.mark.parametrize(("gain", "chosen"), [(0.01, 0), (0.05, 5)])
def test_a_texture_must_gain_more_than_its_price(portrait: np.ndarray, gain: float, chosen: int) -> None:
    class Sharper(SquaredError):
        distances = iter([1, 2, 2, 2, 2, 1 - gain, 2, 2])

        def cell_distances(self, a: list[Tensor], b: list[Tensor], side: int) -> Tensor:
            return torch.full((1, side, side), float(next(self.distances)))

    assert choose_textures(portrait, portrait, 2, 2, metric(Sharper())) == TextureMap(2, (chosen,) * 4)
