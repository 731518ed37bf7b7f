"""Textures: sharpness, blur and grain where the map says so, and nothing elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve1d, gaussian_filter

from codec_contract.texture_map import TextureMap
from server_decoder.super_resolution.textures import TEXTURES, Texture, blurred, textured

SIDE = 64
UNTOUCHED, BLURRED, SHARP = (TEXTURES.index(Texture(detail)) for detail in (0.0, -1.0, 1.0))
GRAINY = TEXTURES.index(Texture(1.0, grain=1.5))
SOFT = TEXTURES.index(Texture(1.0, soft_grain=3.0))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Levels far enough from 0 and 255 to be sharpened, uint8 ``[SIDE, SIDE, 3]``."""
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((SIDE, SIDE, 3)), (1, 1, 0))
    return np.asarray(128 + 60 * noise, dtype=np.uint8)


def grey(side: int = 256) -> np.ndarray:
    return np.full((side, side, 3), 128, np.uint8)


def test_the_table_is_that_of_the_format() -> None:
    """Payloads name textures by their number: docs/payload.md lists them."""
    assert [(each.detail, each.grain, each.soft_grain) for each in TEXTURES] == [
        (0, 0, 0), (-1, 0, 0), (-0.4, 0, 0), (-0.4, 1.5, 0), (0.5, 1.5, 0), (1, 0, 0), (1, 1.5, 0), (1, 0, 3)]


def test_the_blur_is_a_binomial_filter(picture: np.ndarray) -> None:
    kernel = np.array([1, 8, 28, 56, 70, 56, 28, 8, 1]) / 256
    wanted = picture.astype(np.float64)
    for axis in (0, 1):
        wanted = convolve1d(wanted, kernel, axis=axis, mode="mirror")
    np.testing.assert_allclose(blurred(picture.astype(np.float32), 8), wanted, atol=1e-3)


def test_the_first_texture_changes_nothing(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(textured(picture, TextureMap(4, (UNTOUCHED,) * 16)), picture)


def test_detail(picture: np.ndarray) -> None:
    smooth = blurred(picture.astype(np.float32), 8)
    np.testing.assert_allclose(textured(picture, TextureMap(4, (BLURRED,))), smooth, atol=0.51)
    sharp = (2.0 * picture - smooth).clip(0, 255)
    np.testing.assert_allclose(textured(picture, TextureMap(4, (SHARP,))), sharp, atol=0.51)


def test_grain() -> None:
    """It is grey, has the deviation of the table (and that of the rounding), and is soft where the table says so."""
    for number, deviation, likeness in (GRAINY, 1.5, 0), (SOFT, 3, 0.78):
        noise = textured(grey(), TextureMap(2, (number,))).astype(np.float64) - 128
        assert (noise == noise[..., :1]).all()
        assert abs(noise.mean()) < 0.05 and abs(noise.std() - np.hypot(deviation, 12**-0.5)) < 0.05
        beside = np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]
        assert abs(beside - likeness) < 0.05
    np.testing.assert_array_equal(*(textured(grey(), TextureMap(4, (GRAINY,))) for _ in range(2)))


def test_each_cell_has_its_texture_and_they_blend() -> None:
    found = textured(grey(), TextureMap(4, (UNTOUCHED, GRAINY, UNTOUCHED, UNTOUCHED))).astype(float)
    spread = found[..., 0].std(axis=0)
    assert spread[:64].max() == 0 and (found[192:] == 128).all()
    corner = found[:64, :, 0].std(axis=0)
    # From the centre of the left cells, at 63.5, to that of the right ones, at 191.5, the grain grows.
    assert corner[64:96].mean() < corner[96:128].mean() < corner[128:160].mean() < corner[160:192].mean()
    assert abs(found[:64, 192:, 0].std() - np.hypot(1.5, 12**-0.5)) < 0.05


def test_levels_stay_in_range() -> None:
    stripes = np.zeros((SIDE, SIDE, 3), np.uint8)
    stripes[:, ::2] = 255
    np.testing.assert_array_equal(textured(stripes, TextureMap(2, (SHARP,))), stripes)
