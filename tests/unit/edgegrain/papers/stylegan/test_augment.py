"""Augmentation: exact pixel moves, the probability p, gradients, and the adaptation of p to overfitting."""

from __future__ import annotations

import math

import pytest
import torch

from edgegrain.papers.stylegan.training import (
    AdaptationConfig,
    AdaptiveProbability,
    augment,
    colours,
    geometry,
    recolour,
    warp,
)


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _map(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor([rows], dtype=torch.float32).expand(4, 2, 3)


def test_without_probability_nothing_happens(pictures: torch.Tensor) -> None:
    assert augment(pictures, 0.0) is pictures
    torch.testing.assert_close(augment(pictures, 1e-9), pictures, atol=2e-5, rtol=0)


def test_flips_turns_and_whole_pixel_shifts_move_pixels_exactly(pictures: torch.Tensor) -> None:
    close = {"atol": 2e-5, "rtol": 0}
    torch.testing.assert_close(warp(pictures, _map([[-1, 0, 0], [0, 1, 0]])), pictures.flip(3), **close)
    torch.testing.assert_close(warp(pictures, _map([[0, -1, 0], [1, 0, 0]])), pictures.rot90(1, (2, 3)), **close)
    shifted = warp(pictures, _map([[1, 0, 2 * 3 / 16], [0, 1, 0]]))  # three pixels of sixteen, to the left
    torch.testing.assert_close(shifted[..., :13], pictures[..., 3:], **close)
    torch.testing.assert_close(shifted[..., 13:], pictures[..., 13:].flip(3), **close)  # mirrored at the border


def test_transformations_happen_as_often_as_p_says(pictures: torch.Tensor) -> None:
    torch.manual_seed(0)
    many = pictures.new_empty(4000, 3, 16, 16)
    p = 0.3
    same = (colours(many, p) - torch.eye(4)).abs().amax((1, 2)) < 1e-6
    # Four transformations and one that, when it happens, does nothing half of the time.
    assert float(same.float().mean()) == pytest.approx((1 - p) ** 4 * (1 - p / 2), abs=0.025)
    same = (geometry(many, p) - torch.eye(3)[:2]).abs().amax((1, 2)) < 1e-6
    # Flip (half), turn (three quarters), shift, scale, two rotations that together have p, stretch, shift; a shift by
    # whole pixels of 16 is none in one of eight or so.
    shift = 1 - p * (1 - 1 / 16)
    assert float(same.float().mean()) == pytest.approx(
        (1 - p / 2) * (1 - 0.75 * p) * shift * (1 - p) ** 4, abs=0.025)


def test_colour_keeps_what_it_should(pictures: torch.Tensor) -> None:
    """Every colour map takes greys to greys: hue and saturation turn around them."""
    torch.manual_seed(0)
    matrix = colours(pictures, 1.0)
    grey = recolour(pictures.mean(1, keepdim=True).expand_as(pictures), matrix)
    torch.testing.assert_close(grey, grey.mean(1, keepdim=True).expand_as(grey), atol=1e-5, rtol=0)
    assert not torch.allclose(recolour(pictures, matrix), pictures, atol=0.05)


def test_gradients_pass_to_the_pictures(pictures: torch.Tensor) -> None:
    torch.manual_seed(0)
    pictures.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        result = augment(pictures, 0.8)
    assert result.dtype == torch.float32
    (gradient,) = torch.autograd.grad(result.square().sum(), pictures)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum((1, 2, 3)) > 1).all()


def test_p_rises_while_the_discriminator_overfits_and_falls_when_it_does_not() -> None:
    controller = AdaptiveProbability(AdaptationConfig(target=0.6, every=4, pictures=1000, limit=0.8))
    for _ in range(3):
        controller.observe(torch.tensor(0.7), 10)
    assert controller.p == 0
    controller.observe(torch.tensor(0.7), 10)
    assert controller.p == pytest.approx(4 * 10 / 1000)
    assert controller.overfitting == pytest.approx(0.7)
    for _ in range(400):
        controller.observe(torch.tensor(1.0), 10)
    assert controller.p == 0.8
    for _ in range(4):
        controller.observe(torch.tensor(0.5), 10)
    assert controller.p == pytest.approx(0.8 - 0.04)
    for _ in range(400):
        controller.observe(torch.tensor(0.0), 10)
    assert controller.p == 0
    assert math.isclose(controller.overfitting, 0.0)
