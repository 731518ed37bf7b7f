"""Losses against values computed by hand."""

import itertools
from typing import cast

import numpy as np
import pytest
import torch

from codec_contract.pixels import dequantize
from edgegrain.metrics.identity import FaceIdentity
from edgegrain.metrics.lpips import LPIPS, PERIOD
from edgegrain.metrics.picture_metrics import mean_saturation
from edgegrain.papers.stylegan.training import path_penalty
from edgegrain.training.grain.rate import BELOW_TARGET, RateTarget
from edgegrain.training.losses import (
    GREY,
    PAPER,
    GridLoss,
    LossWeights,
    code_loss,
    lr_loss,
    picture_loss,
    random_offset,
)


def test_picture_terms_are_means_and_have_their_weights() -> None:
    target = torch.zeros(2, 3, 4, 4)
    picture = torch.full((2, 3, 4, 4), 0.5)
    total, terms = picture_loss(LossWeights(l1=2.0, l2=3.0, lpips=0.0, identity=0.0), picture, target, None, None)
    assert float(terms["l1"]) == 0.5
    assert float(terms["l2"]) == 0.25
    assert float(total) == pytest.approx(2 * 0.5 + 3 * 0.25)


def test_lr_terms_are_absolute_in_our_recipes_and_squared_in_the_papers() -> None:
    lr, box = torch.full((1, 3, 2, 2), 0.2), torch.zeros(1, 3, 2, 2)
    assert float(lr_loss(LossWeights(lr=0.5), lr, box)[0]) == pytest.approx(0.1)
    total, terms = lr_loss(PAPER, lr, box)
    assert set(terms) == {"lr_l2"}
    assert float(total) == pytest.approx(0.1 * 0.04)


def test_faded_lrs_have_a_loss_of_their_relative_saturation() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    faded = (0.5 * colours + 0.5 * colours.max(-1, keepdims=True)).astype(np.uint8)  # half of HSV's saturation
    box, lr = (torch.from_numpy(dequantize(each)).permute(0, 3, 1, 2) for each in (colours, faded))
    weights = LossWeights(lr=0.0, lr_saturation=0.2)
    total, terms = lr_loss(weights, lr, box)
    saturation = float(mean_saturation(box).mean())
    assert float(terms["lr_saturation"]) == pytest.approx(0.5 * saturation / (saturation + GREY), abs=0.01)
    assert float(total) == pytest.approx(0.2 * float(terms["lr_saturation"]))
    assert float(lr_loss(weights, box, box)[0]) == 0


def test_the_mean_code_has_a_loss_of_one() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = 3.0 * torch.randn(4096, 2, 8, generator=generator)
    total, terms = code_loss(LossWeights(codes=0.25), torch.zeros_like(truth), truth, torch.tensor(9.0))
    assert float(terms["codes"]) == pytest.approx(1.0, abs=0.02)
    assert float(total) == pytest.approx(0.25 * float(terms["codes"]))


def test_identity_is_half_the_squared_distance_of_half_the_batch() -> None:
    picture, target = torch.zeros(3, 3, 8, 8, requires_grad=True), torch.ones(3, 3, 8, 8, requires_grad=True)
    mean = cast(FaceIdentity, lambda pictures: pictures.mean((2, 3)))
    total, terms = picture_loss(LossWeights(l1=0.0, lpips=0.0, identity=2.0), picture, target, None, mean)
    assert float(terms["identity"]) == 1.5 and float(total) == 3.0
    total.backward()
    assert picture.grad is not None and target.grad is None
    assert picture.grad.flatten(1).abs().sum(1).tolist() == pytest.approx([3, 3, 0])


def test_offsets_are_random_in_a_part_of_the_steps() -> None:
    assert {random_offset(0.0) for _ in range(20)} == {None}
    assert 60 < [random_offset(0.5) for _ in range(200)].count(None) < 140
    assert {random_offset(1.0) for _ in range(2000)} == set(itertools.product(range(PERIOD), repeat=2))


def spied(seen: list[torch.Tensor]) -> LPIPS:
    """A distance that lists the pictures that it gets."""

    def distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        seen.extend((one, other))
        return (one - other).abs().mean((1, 2, 3))

    return cast(LPIPS, distance)


def test_lpips_sees_both_pictures_from_an_offset_on() -> None:
    """Without the rows and columns before it, and without as many at the far edges as make a whole period."""
    seen: list[torch.Tensor] = []
    picture, target = torch.arange(2 * 3 * 24 * 24.0).reshape(2, 3, 24, 24), torch.zeros(2, 3, 24, 24)
    weights = LossWeights(l1=1.0, lpips=1.0, identity=0.0)
    for offset in (None, (0, 0), (7, 2)):
        _, terms = picture_loss(weights, picture, target, spied(seen), None, offset=offset)
        assert float(terms["l1"]) == pytest.approx(float(picture.mean()))  # the rest of the loss sees the whole picture
    whole, _, first, _, later, other = seen
    assert torch.equal(whole, picture)
    assert torch.equal(first, picture[..., :16, :16])
    assert torch.equal(later, picture[..., 7:23, 2:18])
    assert later.shape == other.shape


def test_eyes_and_mouth_weigh_more_in_the_absolute_error() -> None:
    """An error at an eye counts more than the same error at the border; their mean weight is one."""
    weights, target = LossWeights(region_gain=3.0, lpips=0.0, identity=0.0), torch.zeros(1, 3, 64, 64)

    def error(row: int, column: int) -> float:
        picture = target.clone()
        picture[..., row, column] = 1.0
        return float(picture_loss(weights, picture, target, None, None)[0]) * 64 * 64

    assert 3 < error(30, 24) / error(2, 2) < 4.1
    assert error(30, 24) == pytest.approx(error(30, 39), rel=0.05)  # the other eye
    everywhere, _ = picture_loss(weights, torch.ones(1, 3, 64, 64), target, None, None)
    assert float(everywhere) == pytest.approx(1.0)


def test_lpips_sees_eyes_and_mouth_enlarged() -> None:
    seen: list[torch.Tensor] = []
    weights = LossWeights(lpips=0.0, regions=0.5, identity=0.0)
    picture, target = torch.zeros(2, 3, 256, 256), torch.zeros(2, 3, 256, 256)
    picture[:, :, 188, 128] = 1.0  # the middle of the mouth
    total, terms = picture_loss(weights, picture, target, spied(seen), None)
    assert [each.shape for each in seen] == [(6, 3, 128, 128)] * 2
    assert float(terms["regions"]) > 0
    assert float(total) == pytest.approx(float(terms["l1"]) + 0.5 * float(terms["regions"]))


def test_a_pattern_that_repeats_in_every_picture_has_a_loss() -> None:
    target, pattern = torch.rand(4, 3, 64, 64), torch.tensor([0.1, -0.1, 0.3, -0.3]).repeat(16)
    weights, grid = LossWeights(lpips=0.0, identity=0.0, grid=2.0), GridLoss()
    total, terms = picture_loss(weights, target + pattern, target, None, None, grid=grid)
    assert float(terms["grid"]) == pytest.approx(0.2, abs=1e-5) and float(terms["l1"]) == pytest.approx(0.2, abs=1e-5)
    assert float(total) == pytest.approx(0.2 + 2 * 0.2, abs=1e-5)
    for difference, memory in ((0.2, GridLoss()), (pattern, None)):  # a grid only, and with the run's memory
        loss, _ = picture_loss(weights, target + difference, target, None, None, grid=memory)
        assert float(loss) == pytest.approx(0.2, abs=1e-5)


NAN = torch.tensor(float("nan"))


def test_a_skipped_step_leaves_targets_and_path_lengths_as_they_were() -> None:
    target = RateTarget(100.0)
    assert [float(target.factor(size)) for size in (torch.tensor(200.0), NAN, torch.tensor(200.0))] == [1, 1, 1]
    assert float(RateTarget(300.0).factor(torch.tensor(200.0))) == BELOW_TARGET
    assert float(path_penalty(NAN.repeat(2), torch.tensor(2.0))[1]) == 2.0
