"""PSNR, SSIM, and periodic peaks of the spectrum."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import sdk
from codec_contract.errors import ImageError
from edgegrain.metrics.picture_metrics import CELLS, chroma_error, unit_batch
from edgegrain.metrics.pixel_scores import PERIODS, added_peaks, has_peaks, periodic_peaks, psnr, ssim


def noisy(picture: np.ndarray, amplitude: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-amplitude, amplitude + 1, picture.shape)
    return np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((8, 5, 3), np.uint8)
    assert psnr(black, black + 1) == pytest.approx(20 * math.log10(255))
    assert psnr(black, black + 255) == 0
    assert psnr(black, black) == math.inf


@pytest.mark.parametrize("amplitude", [2, 90])
def test_equal_to_scikit_image(portrait: np.ndarray, amplitude: int) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # seconds in processes that only collect

    picture, target = noisy(portrait, amplitude)[:, :201], portrait[:, :201]
    assert psnr(picture, target) == pytest.approx(peak_signal_noise_ratio(target, picture), rel=1e-12)
    theirs = structural_similarity(
        picture, target, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(picture, target) == pytest.approx(theirs, abs=1e-9)


def test_ssim_refuses_pictures_smaller_than_its_window() -> None:
    small = np.zeros((10, 40, 3), np.uint8)
    with pytest.raises(ImageError, match="at least 11"):
        ssim(small, small)


SIDE = 128


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(128, 12, (SIDE, SIDE, 1)).clip(0, 255).repeat(3, 2).astype(np.uint8)


def test_noise_has_no_peaks_and_other_sizes_are_not_measured() -> None:
    peaks = [periodic_peaks(noise(seed)) for seed in range(8)]
    for period in (4, 8, 16):  # 2 has three frequencies, too few for a mean
        assert np.mean([found[period] for found in peaks]) == pytest.approx(1.6, abs=1)
    assert has_peaks(noise()) and not has_peaks(noise()[:, :120]) and not has_peaks(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("period", PERIODS)
def test_a_pattern_raises_the_peak_of_its_period_alone(period: int) -> None:
    """One step of a level every ``period`` pixels also has harmonics, which belong to smaller periods."""
    plain = noise()
    tile = np.random.default_rng(1).normal(0, 6, (period, period, 1))
    patterned = (plain + np.tile(tile, (SIDE // period, SIDE // period, 1))).clip(0, 255).astype(np.uint8)
    before, after = periodic_peaks(plain), periodic_peaks(patterned)
    assert after[period] > before[period] + 6
    larger = [other for other in PERIODS if other > period]
    assert [after[other] for other in larger] == pytest.approx([before[other] for other in larger], abs=2)


def test_added_peaks_are_those_above_the_original_s() -> None:
    plain = noise()
    gridded = plain.copy()
    gridded[::8] += 6
    added = added_peaks(gridded, periodic_peaks(plain))
    assert added[8] == pytest.approx(periodic_peaks(gridded)[8] - periodic_peaks(plain)[8]) and added[8] > 4
    assert added[16] < 2
    assert added_peaks(plain, periodic_peaks(gridded))[8] == 0


def test_the_shipped_bundle_leaves_no_stronger_grid_than_now(default_bundle: Path, portrait: np.ndarray) -> None:
    """Upper bounds, to be lowered with a better decoder."""
    codec = sdk.Codec(default_bundle)
    restored = periodic_peaks(np.asarray(codec.restore(codec.compress(portrait))))
    original = periodic_peaks(portrait)
    assert all(original[period] < 4 for period in (4, 8, 16))
    assert restored[4] < 15 and restored[8] < 18 and restored[16] < 12.5


def error(picture: np.ndarray, target: np.ndarray) -> float:
    return chroma_error(unit_batch(picture), unit_batch(target)).item()


def test_equals_skimage_on_pictures_of_one_pixel_a_cell() -> None:
    from skimage.color import rgb2lab

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
    assert error(brown, blue) == pytest.approx(
        4 / 64 * error(np.full_like(grey, (110, 75, 45)), np.full_like(grey, (70, 95, 130))), rel=1e-4
    )
    assert error(brown, blue) > 2


def test_a_batch_has_an_error_for_each_picture() -> None:
    batch = torch.zeros(3, 3, 16, 16)
    other = batch.clone()
    other[1, 0] = 0.5
    errors = chroma_error(batch, other)
    assert errors.shape == (3,) and errors[0] == errors[2] == 0 and errors[1] > 1
