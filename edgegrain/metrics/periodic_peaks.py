"""Peaks of a picture's spectrum at periods of 2, 4, 8 and 16 pixels: the grids that upsampling decoders leave.

A photograph's power at the frequencies n/k is like that of their neighbours. A pattern that repeats every k pixels
concentrates its power there. The score is the mean ratio, in dB, over the frequencies of period k that no smaller
period has; 1.6 for noise, whose mean power is 1.6 dB above its median.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ImageError
from codec_contract.pixels import Rgb

PERIODS = (2, 4, 8, 16)
"""In pixels."""
NEAR, FAR = 2, 4
"""Distance of the neighbours in bins: a Hann window spreads a peak by one bin to each side."""
LUMA = (0.299, 0.587, 0.114)  # BT.601

Spectrum = npt.NDArray[np.float64]


def periodic_peaks(picture: Rgb) -> dict[int, float]:
    """Period -> height of its peaks in dB above their neighbours, of a uint8 ``[H, W, 3]``."""
    height, width = picture.shape[:2]
    _check_size(picture)
    power = _amplitudes(picture) ** 2 + 1e-18  # of one colour: no peaks
    return {period: float(10 * np.log10(np.mean([_height(power, row * height // period, column * width // period)
                                                 for row, column in _frequencies(period)]))) for period in PERIODS}


def peak_amplitudes(picture: Rgb) -> dict[int, float]:
    """Period -> amplitude of its strongest wave, in levels of luma (0 to 255), of a uint8 ``[H, W, 3]``.

    `periodic_peaks` is relative to the neighbouring frequencies. Enlarged pictures have little power at fine scales, so
    a pattern far below one level can have a high peak there; its amplitude is absolute.
    """
    height, width = picture.shape[:2]
    _check_size(picture)
    amplitudes = _amplitudes(picture)

    def amplitude(row: int, column: int, period: int) -> float:
        # A wave is in two bins of the spectrum, which are the same bin if both frequencies are 0 or 1/2.
        bins = 1 if 2 * row % period == 0 and 2 * column % period == 0 else 2
        return bins * float(amplitudes[row * height // period, column * width // period])

    return {period: max(amplitude(row, column, period) for row, column in _frequencies(period)) for period in PERIODS}


def added_peaks(picture: Rgb, original: Mapping[int, float]) -> dict[int, float]:
    """Period -> by how many dB a picture's peaks are higher than its original's; 0 if they are not.

    Args:
        picture: uint8 ``[H, W, 3]``.
        original: result of `periodic_peaks`.
    """
    return {period: max(0.0, height - original[period]) for period, height in periodic_peaks(picture).items()}


def has_peaks(picture: Rgb) -> bool:
    """True if `periodic_peaks` can measure pictures of this size."""
    return all(side % max(PERIODS) == 0 and side >= 8 * max(PERIODS) for side in picture.shape[:2])


def _check_size(picture: Rgb) -> None:
    if not has_peaks(picture):
        raise ImageError(f"peaks need sides of at least {8 * max(PERIODS)} pixels, multiples of {max(PERIODS)}; got "
                         f"{picture.shape[1]}×{picture.shape[0]}")


def _amplitudes(picture: Rgb) -> Spectrum:
    """Amplitude of the luma, without its mean, at every frequency under a Hann window; in levels."""
    height, width = picture.shape[:2]
    luma = picture @ np.array(LUMA)
    window = np.outer(np.hanning(height + 1)[:-1], np.hanning(width + 1)[:-1])
    return np.abs(np.fft.fft2((luma - luma.mean()) * window)) / window.sum()


def _frequencies(period: int) -> list[tuple[int, int]]:
    """Multiples of 1/period that are no multiples of 2/period in both directions, up to the symmetry of a spectrum."""
    half = period // 2
    return [(row, column) for row in range(period) for column in range(half + 1) if (row % 2 or column % 2)
            and (column not in (0, half) or row <= half)]


def _height(power: Spectrum, row: int, column: int) -> float:
    """Power at a frequency over the median of its neighbours'; on an axis, of those along the axis."""
    steps = range(-FAR, FAR + 1)
    offsets = [(i, j) for i in steps for j in steps if max(abs(i), abs(j)) >= NEAR
               and not (row == 0 and i) and not (column == 0 and j)]
    neighbours = [power[(row + i) % power.shape[0], (column + j) % power.shape[1]] for i, j in offsets]
    return float(power[row, column] / np.median(neighbours))
