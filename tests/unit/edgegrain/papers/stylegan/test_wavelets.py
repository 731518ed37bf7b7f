"""Haar bands: the inverse of the generator's transform, and the loss of a difference."""

from __future__ import annotations

import pytest
import torch

from edgegrain.papers.stylegan.distillation import band_loss, haar
from server_decoder.mobile_stylegan.generator import inverse_haar


def test_it_undoes_the_generators_transform() -> None:
    picture = torch.randn(2, 3, 8, 8)
    bands = haar(picture)
    assert bands.shape == (2, 12, 4, 4)
    torch.testing.assert_close(inverse_haar(0.5 * bands), picture)
    torch.testing.assert_close(bands.square().sum(), picture.square().sum())  # orthonormal


def test_a_constant_difference_lies_in_the_average_band() -> None:
    picture = torch.randn(2, 3, 8, 8)
    # 0.25 in every pixel is 0.5 in ll and nothing in the other three quarters of the bands.
    assert float(band_loss(picture + 0.25, picture)) == pytest.approx((0.5 + 0.25) / 4, abs=1e-5)


def test_a_larger_target_is_averaged() -> None:
    target = torch.randn(1, 3, 16, 16)
    small = torch.nn.functional.avg_pool2d(target, 4)
    assert float(band_loss(small, target)) == pytest.approx(0, abs=1e-6)
