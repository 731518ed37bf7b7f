"""The colour error: skimage's conversion, no reaction to brightness or texture, a reaction to another iris."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from edgegrain.metrics.face_regions import CELLS, chroma_error
from edgegrain.metrics.picture_metrics import unit_batch


def error(picture: np.ndarray, target: np.ndarray) -> float:
    return chroma_error(unit_batch(picture), unit_batch(target)).item()


def test_equals_skimage_on_pictures_of_one_pixel_a_cell() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, CELLS, CELLS, 3), dtype=np.uint8)
    pictures[:, 0] //= 20  # dark colours, where CIELAB is linear
    one, other = (rgb2lab(picture)[..., 1:] for picture in pictures)
    assert error(*pictures) == pytest.approx(np.linalg.norm(one - other, axis=-1).mean(), rel=1e-4)


def test_texture_within_a_cell_does_not_count() -> None:
    rng = np.random.default_rng(1)
    cell = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    shuffled = rng.permutation(cell.reshape(-1, 3)).reshape(cell.shape)
    assert error(np.tile(cell, (CELLS, CELLS, 1)), np.tile(shuffled, (CELLS, CELLS, 1))) == pytest.approx(0, abs=1e-6)


def test_brightness_does_not_count_and_an_iris_does() -> None:
    grey = np.full((64, 64, 3), 90, np.uint8)
    assert error(grey, np.full_like(grey, 140)) < 0.01
    brown, blue = grey.copy(), grey.copy()
    brown[24:40, 24:40], blue[24:40, 24:40] = (110, 75, 45), (70, 95, 130)
    assert error(brown, blue) == pytest.approx(4 / 64 * error(np.full_like(grey, (110, 75, 45)),
                                                             np.full_like(grey, (70, 95, 130))), rel=1e-4)
    assert error(brown, blue) > 2


def test_a_batch_has_an_error_for_each_picture() -> None:
    batch = torch.zeros(3, 3, 16, 16)
    other = batch.clone()
    other[1, 0] = 0.5
    errors = chroma_error(batch, other)
    assert errors.shape == (3,) and errors[0] == errors[2] == 0 and errors[1] > 1
