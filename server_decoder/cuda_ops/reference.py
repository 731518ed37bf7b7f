"""The ops of ``com.edgegrain`` in numpy and float64: the definition that their kernels are tested against.

Every function takes arrays of any float type and computes in float64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TAPS = (0.125, 0.375, 0.375, 0.125)
"""StyleGAN2's [1, 3, 3, 1] / 8."""


def demod_bias_act(
    x: npt.ArrayLike, demodulation: npt.ArrayLike | None = None, noise: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None, style: npt.ArrayLike | None = None, *, slope: float = 0.2, gain: float = 1.0,
    clamp: float = 0.0,
) -> tuple[Array, Array]:
    """``DemodBiasAct``: the steps after a modulated convolution.

    Args:
        x: ``[B, C, H, W]``.
        demodulation: a factor per picture and channel, ``[B, C]``.
        noise: ``[1 or B, 1, H, W]``, already multiplied by its strength.
        bias: ``[C]``.
        style: the next layer's factor per picture and channel, ``[B, C]``.
        slope: of the leaky ReLU below zero.
        gain: factor after it.
        clamp: largest absolute value of the result; 0 for no limit.

    Returns:
        The activation, and the activation times ``style`` (the activation again if there is none).
    """
    value = _wide(x)
    if demodulation is not None:
        value = value * _wide(demodulation)[:, :, None, None]
    if noise is not None:
        value = value + _wide(noise)
    if bias is not None:
        value = value + _wide(bias)[:, None, None]
    value = np.where(value < 0, value * slope, value) * gain
    if clamp:
        value = value.clip(-clamp, clamp)
    return value, value if style is None else value * _wide(style)[:, :, None, None]


def upfirdn2d(x: npt.ArrayLike, *, taps: tuple[float, ...] = TAPS, filter_gain: float = 1.0, up: int = 1, down: int = 1,
              pad: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Array:
    """``UpFirDn2d`` ([StyleGAN2]'s name): insert zeros, pad with zeros, convolve with ``taps`` both ways, drop pixels.

    Args:
        x: ``[B, C, H, W]``.
        taps: four, in both directions; a true convolution, so the last tap meets the first pixel.
        filter_gain: factor on the result.
        up: 1, or 2 to insert a zero after every pixel.
        down: 1, or 2 to keep every second pixel.
        pad: zeros on the left, on the right, above, below.
    """
    x = _wide(x)
    batch, channels, height, width = x.shape
    spread = np.zeros((batch, channels, height * up, width * up))
    spread[:, :, ::up, ::up] = x
    left, right, above, below = pad
    spread = np.pad(spread, ((0, 0), (0, 0), (above, below), (left, right)))
    out_height, out_width = (side - len(taps) + 1 for side in spread.shape[2:])
    result = np.zeros((batch, channels, out_height, out_width))
    for i, vertical in enumerate(reversed(taps)):
        for j, horizontal in enumerate(reversed(taps)):
            result += filter_gain * vertical * horizontal * spread[:, :, i : i + out_height, j : j + out_width]
    return result[:, :, ::down, ::down]


def filtered_bias_act(
    x: npt.ArrayLike, demodulation: npt.ArrayLike | None = None, noise: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None, style: npt.ArrayLike | None = None, *, taps: tuple[float, ...] = TAPS,
    filter_gain: float = 1.0, pad: tuple[int, int, int, int] = (0, 0, 0, 0), slope: float = 0.2, gain: float = 1.0,
    clamp: float = 0.0,
) -> tuple[Array, Array]:
    """``FilteredBiasAct``: `upfirdn2d` without up and down, then `demod_bias_act`."""
    filtered = upfirdn2d(x, taps=taps, filter_gain=filter_gain, pad=pad)
    return demod_bias_act(filtered, demodulation, noise, bias, style, slope=slope, gain=gain, clamp=clamp)


def inverse_haar(bands: npt.ArrayLike, style: npt.ArrayLike | None = None, *, scale: float = 1.0) -> Array:
    """``InverseHaar``: ``server_decoder.mobile_stylegan.generator.inverse_haar`` of ``scale * style * bands``.

    Args:
        bands: ``[B, 4C, H, W]``: ll, b1 (between rows), b2 (between columns), b3 (between diagonals), C channels each.
        style: ``[B, 4C]``.
        scale: of all bands.

    Returns:
        ``[B, C, 2H, 2W]``.
    """
    bands = _wide(bands) * scale
    if style is not None:
        bands = bands * _wide(style)[:, :, None, None]
    ll, b1, b2, b3 = np.split(bands, 4, axis=1)
    batch, channels, height, width = ll.shape
    result = np.empty((batch, channels, 2 * height, 2 * width))
    result[:, :, 0::2, 0::2] = ll + b1 + b2 + b3
    result[:, :, 0::2, 1::2] = ll + b1 - b2 - b3
    result[:, :, 1::2, 0::2] = ll - b1 + b2 - b3
    result[:, :, 1::2, 1::2] = ll - b1 - b2 + b3
    return result


def _wide(values: npt.ArrayLike) -> Array:
    return np.asarray(values, np.float64)
