"""PSNR and SSIM of uint8 RGB pictures."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ImageError
from codec_contract.pixels import Rgb, describe_array, is_rgb

# Wang et al., IEEE TIP 13(4), 2004: an 11-tap Gaussian window of sigma 1.5, K1 and K2 of section III.B.
WINDOW_RADIUS = 5
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def psnr(picture: Rgb, target: Rgb) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels of two uint8 ``[H, W, 3]``; inf if equal.
    """
    _check(picture, target)
    error = np.mean((picture.astype(np.float64) - target) ** 2)
    return float("inf") if error == 0 else 10 * math.log10(255**2 / error)


def ssim(picture: Rgb, target: Rgb) -> float:
    """Structural similarity of two uint8 ``[H, W, 3]``, at most 1: the mean over pixels, then over R, G and B.

    The settings of Wang et al.; scikit-image gives the same number with ``gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=255``.
    """
    _check(picture, target)
    return similarity(picture.astype(np.float64), target.astype(np.float64))


def similarity(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """SSIM of two ``[H, W, C]`` with levels 0...255, averaged over channels."""
    if min(x.shape[:2]) <= 2 * WINDOW_RADIUS:
        raise ImageError(f"SSIM needs sides of at least {2 * WINDOW_RADIUS + 1} pixels, got {x.shape[1]}×{x.shape[0]}")
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    index = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    index /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float(index.mean())


def _blur(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Gaussian mean over every full window: ``[H, W, C]`` -> ``[H - 10, W - 10, C]``."""
    taps = np.exp(-0.5 * (np.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1) / SIGMA) ** 2)
    taps /= taps.sum()
    rows, columns = x.shape[0] - 2 * WINDOW_RADIUS, x.shape[1] - 2 * WINDOW_RADIUS
    down: npt.NDArray[np.float64] = sum(tap * x[i : i + rows] for i, tap in enumerate(taps))
    across: npt.NDArray[np.float64] = sum(tap * down[:, i : i + columns] for i, tap in enumerate(taps))
    return across


def _check(picture: Rgb, target: Rgb) -> None:
    for array in (picture, target):
        if not is_rgb(array) or not array.size:
            raise ImageError(f"expected a uint8 picture [H, W, 3], got {describe_array(array)}")
    if picture.shape != target.shape:
        raise ImageError(f"cannot compare pictures of {_size(picture)} and {_size(target)} pixels; expected one size "
                         "for both: resize one of them")


def _size(picture: Rgb) -> str:
    return f"{picture.shape[1]}×{picture.shape[0]}"
