"""Saturation of LRs."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from edgegrain.metrics.lr_saturation import lr_saturation, mean_saturation


def test_it_is_that_of_hsv() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    picture[0, 0] = 0
    expected = np.mean([colorsys.rgb_to_hsv(*(pixel / 255))[1] for pixel in picture.reshape(-1, 3)])
    assert mean_saturation(picture) == pytest.approx(expected)


def test_a_faded_lr_has_less_than_the_area_mean() -> None:
    original = np.zeros((8, 8, 3), np.uint8)
    original[:, ::2], original[:, 1::2] = (200, 100, 100), (100, 50, 50)
    lr = np.full((2, 2, 3), (150, 110, 110), np.uint8)
    assert lr_saturation(lr, original) == pytest.approx((40 / 150, 75 / 150))
