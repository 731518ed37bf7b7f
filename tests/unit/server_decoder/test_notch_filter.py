"""The notch filter: waves of 2 and 4 pixels go, what a picture holds stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgegrain.metrics.pixel_scores import periodic_peaks
from server_decoder.super_resolution import notch_filter

SIDE, EDGE = 128, 32
"""Of the pictures, and the width of the edge that is not compared, in pixels."""


def wave(rows: float, columns: float) -> Tensor:
    """``[1, 3, SIDE, SIDE]`` of amplitude 1 with this many cycles per pixel."""
    line = torch.arange(SIDE, dtype=torch.float64)
    phase = 2 * torch.pi * (rows * line[:, None] + columns * line)
    return torch.stack([torch.cos(phase + shift) for shift in (0.3, 1.1, 2.0)])[None].float()


def inside(picture: Tensor) -> Tensor:
    return picture[..., EDGE:-EDGE, EDGE:-EDGE]


@pytest.mark.parametrize(("rows", "columns", "least", "most"), [
    (1 / 2, 0, 0, 0), (0, 1 / 4, 0, 0), (1 / 4, 1 / 4, 0, 0), (1 / 4, 1 / 2, 0, 0), (3 / 4, 1 / 4, 0, 0),
    (1 / 8, 0, 1, 1), (3 / 8, 1 / 8, 1, 1), (1 / 64, 0, 0.99, 1.01), (1 / 3, 1 / 5, 0.99, 1.01),
    (1 / 5, 0, 0.95, 1.05)])
def test_waves_of_2_and_4_pixels_are_removed_and_others_stay(
        rows: float, columns: float, least: float, most: float) -> None:
    picture = inside(wave(rows, columns))
    found = inside(notch_filter(wave(rows, columns)))
    kept = (found * picture).sum() / picture.pow(2).sum()
    assert picture.abs().max() > 0.5 and least - 1e-4 < kept < most + 1e-4
    assert most or found.abs().max() < 1e-5


def test_colours_that_change_linearly_stay() -> None:
    line = torch.linspace(-1, 1, SIDE)
    picture = (0.5 * line[:, None] - 0.3 * line).expand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(inside(notch_filter(picture)), inside(picture), atol=1e-5, rtol=0)
    constant = torch.full((1, 3, 16, 16), 0.7)  # also at its edges, and smaller than the filter
    torch.testing.assert_close(notch_filter(constant), constant, atol=1e-6, rtol=0)


def test_a_grid_is_a_peak_until_it_is_filtered() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(128, 4, (1, 3, 256, 256))).float()
    grid = noise.clone()
    grid[..., ::4, ::4] += 2.0

    def peak(picture: Tensor) -> float:
        return periodic_peaks(picture[0].permute(1, 2, 0).round().byte().numpy())[4]

    assert peak(grid) > 10 and peak(notch_filter(grid)) < 0 < peak(noise)
