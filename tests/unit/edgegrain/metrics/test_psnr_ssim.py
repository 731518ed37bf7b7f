"""PSNR and SSIM against closed forms and against scikit-image."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from codec_contract.errors import ImageError
from edgegrain.metrics.psnr_ssim import psnr, ssim


def noisy(picture: np.ndarray, amplitude: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-amplitude, amplitude + 1, picture.shape)
    return np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((8, 5, 3), np.uint8)
    assert psnr(black, black + 1) == pytest.approx(20 * math.log10(255))
    assert psnr(black, black + 255) == 0
    assert psnr(black, black) == math.inf


def test_a_byte_difference_does_not_wrap_around() -> None:
    dark, bright = np.full((4, 4, 3), 1, np.uint8), np.full((4, 4, 3), 254, np.uint8)
    assert psnr(dark, bright) == psnr(bright, dark) == pytest.approx(20 * math.log10(255 / 253))


@pytest.mark.parametrize("amplitude", [2, 20, 90])
def test_equal_to_scikit_image(portrait: np.ndarray, amplitude: int) -> None:
    picture, target = noisy(portrait, amplitude)[:, :201], portrait[:, :201]
    assert psnr(picture, target) == pytest.approx(peak_signal_noise_ratio(target, picture), rel=1e-12)
    theirs = structural_similarity(picture, target, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
                                   use_sample_covariance=False)
    assert ssim(picture, target) == pytest.approx(theirs, abs=1e-9)


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise(portrait: np.ndarray) -> None:
    values = [ssim(noisy(portrait, amplitude), portrait) for amplitude in (0, 5, 30, 100)]
    assert values[0] == pytest.approx(1)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.5


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(("wrong", "message"), [
    (np.zeros((16, 16, 3)), "expected a uint8 picture"), (np.zeros((16, 16), np.uint8), "expected a uint8 picture"),
    (np.zeros((16, 16, 4), np.uint8), "expected a uint8 picture"),
    (np.zeros((16, 17, 3), np.uint8), "17×16 and 16×16 pixels; expected one size"),
])
def test_other_arrays_are_refused(metric: object, wrong: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        metric(wrong, np.zeros((16, 16, 3), np.uint8))  # type: ignore[operator]


def test_ssim_refuses_pictures_smaller_than_its_window() -> None:
    small = np.zeros((10, 40, 3), np.uint8)
    with pytest.raises(ImageError, match="at least 11"):
        ssim(small, small)
