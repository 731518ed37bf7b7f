"""Scores of uint8 RGB pictures without a network: PSNR, SSIM, and periodic peaks of the spectrum.

Peaks at periods of 2, 4, 8 and 16 pixels are the grids that upsampling decoders leave. A photograph's power at the
frequencies n/k is like that of their neighbours; a pattern that repeats every k pixels concentrates its power there.
The score is the mean ratio, in dB, over the frequencies of period k that no smaller period has; 1.6 for noise, whose
mean power is 1.6 dB above its median.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ImageError
from codec_contract.pixels import Rgb

# Wang et al., IEEE TIP 13(4), 2004: an 11-tap Gaussian window of sigma 1.5, K1 and K2 of section III.B.
WINDOW_RADIUS, SIGMA = 5, 1.5
K1, K2 = 0.01, 0.03


def psnr(picture: Rgb, target: Rgb) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels of two uint8 ``[H, W, 3]``; inf if equal."""
    error = np.mean((picture.astype(np.float64) - target) ** 2)
    return float("inf") if error == 0 else 10 * math.log10(255**2 / error)


def ssim(picture: npt.NDArray[Any], target: npt.NDArray[Any]) -> float:
    """Structural similarity of two ``[H, W, C]`` of levels 0...255, at most 1: the mean over pixels, then channels.

    The settings of Wang et al.; scikit-image gives the same number with ``gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=255``.
    """
    x, y = picture.astype(np.float64), target.astype(np.float64)
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


PERIODS = (2, 4, 8, 16)  # in pixels
NEAR, FAR = 2, 4  # distance of the neighbours in bins: a Hann window spreads a peak by one bin to each side
LUMA = (0.299, 0.587, 0.114)  # BT.601

Spectrum = npt.NDArray[np.float64]


def periodic_peaks(picture: Rgb) -> dict[int, float]:
    """Period -> height of its peaks in dB above their neighbours, of a uint8 ``[H, W, 3]`` for which `has_peaks`."""
    height, width = picture.shape[:2]
    luma = picture @ np.array(LUMA)
    window = np.outer(np.hanning(height + 1)[:-1], np.hanning(width + 1)[:-1])
    power = (np.abs(np.fft.fft2((luma - luma.mean()) * window)) / window.sum()) ** 2 + 1e-18  # of one colour: no peaks
    peaks = {}
    for period in PERIODS:
        places = [(row * height // period, column * width // period) for row, column in _frequencies(period)]
        peaks[period] = float(10 * np.log10(np.mean([_height(power, *place) for place in places])))
    return peaks


def added_peaks(picture: Rgb, original: Mapping[int, float]) -> dict[int, float]:
    """Period -> by how many dB the peaks of a uint8 ``[H, W, 3]`` are higher than its original's; 0 if they are not."""
    return {period: max(0.0, height - original[period]) for period, height in periodic_peaks(picture).items()}


def has_peaks(picture: Rgb) -> bool:
    """True if `periodic_peaks` can measure pictures of this size."""
    return all(side % max(PERIODS) == 0 and side >= 8 * max(PERIODS) for side in picture.shape[:2])


def _frequencies(period: int) -> list[tuple[int, int]]:
    """Multiples of 1/period that are no multiples of 2/period in both directions, up to the symmetry of a spectrum."""
    half = period // 2
    return [
        (row, column)
        for row in range(period)
        for column in range(half + 1)
        if (row % 2 or column % 2) and (column not in (0, half) or row <= half)
    ]


def _height(power: Spectrum, row: int, column: int) -> float:
    """Power at a frequency over the median of its neighbours'; on an axis, of those along the axis."""
    rows, columns = (range(-FAR, FAR + 1) if place else (0,) for place in (row, column))
    offsets = [(i, j) for i in rows for j in columns if max(abs(i), abs(j)) >= NEAR]
    neighbours = [power[(row + i) % power.shape[0], (column + j) % power.shape[1]] for i, j in offsets]
    return float(power[row, column] / np.median(neighbours))
