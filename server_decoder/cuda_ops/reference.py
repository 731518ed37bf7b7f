"""The ops of ``com.edgegrain`` in numpy and float64: the definition that their kernels are tested against.

Every function takes arrays of any float type and computes in float64. ``channels_last`` says that maps are
``[B, H, W, C]`` and noise ``[1 or B, H, W, 1]``; the newer ops know no other layout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from codec_contract.pixels import dequantize, quantize

Array = npt.NDArray[np.float64]

TAPS = (0.125, 0.375, 0.375, 0.125)
"""StyleGAN2's [1, 3, 3, 1] / 8."""


def demod_bias_act(
    x: npt.ArrayLike, demodulation: npt.ArrayLike | None = None, noise: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None, style: npt.ArrayLike | None = None, *, slope: float = 0.2, gain: float = 1.0,
    clamp: float = 0.0, channels_last: bool = False,
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
        channels_last: layout of x, noise and results.

    Returns:
        The activation, and the activation times ``style`` (the activation again if there is none).
    """
    if channels_last:
        noise = None if noise is None else to_nchw(noise)
        plain, modulated = demod_bias_act(to_nchw(x), demodulation, noise, bias, style, slope=slope, gain=gain,
                                          clamp=clamp)
        return to_nhwc(plain), to_nhwc(modulated)
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
              pad: tuple[int, int, int, int] = (0, 0, 0, 0), channels_last: bool = False) -> Array:
    """``UpFirDn2d`` ([StyleGAN2]'s name): insert zeros, pad with zeros, convolve with ``taps`` both ways, drop pixels.

    Args:
        x: ``[B, C, H, W]``.
        taps: four, in both directions; a true convolution, so the last tap meets the first pixel.
        filter_gain: factor on the result.
        up: 1, or 2 to insert a zero after every pixel.
        down: 1, or 2 to keep every second pixel.
        pad: zeros on the left, on the right, above, below.
        channels_last: layout of x and the result.
    """
    if channels_last:
        return to_nhwc(upfirdn2d(to_nchw(x), taps=taps, filter_gain=filter_gain, up=up, down=down, pad=pad))
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
    clamp: float = 0.0, channels_last: bool = False,
) -> tuple[Array, Array]:
    """``FilteredBiasAct``: `upfirdn2d` without up and down, then `demod_bias_act`."""
    filtered = upfirdn2d(x, taps=taps, filter_gain=filter_gain, pad=pad, channels_last=channels_last)
    return demod_bias_act(filtered, demodulation, noise, bias, style, slope=slope, gain=gain, clamp=clamp,
                          channels_last=channels_last)


def inverse_haar(bands: npt.ArrayLike, style: npt.ArrayLike | None = None, *, scale: float = 1.0,
                 channels_last: bool = False) -> Array:
    """``InverseHaar``: ``server_decoder.mobile_stylegan.inverse_haar`` of ``scale * style * bands``.

    Args:
        bands: ``[B, 4C, H, W]``: ll, b1 (between rows), b2 (between columns), b3 (between diagonals), C channels each.
        style: ``[B, 4C]``.
        scale: of all bands.
        channels_last: layout of the bands and the result.

    Returns:
        ``[B, C, 2H, 2W]``.
    """
    if channels_last:
        return to_nhwc(inverse_haar(to_nchw(bands), style, scale=scale))
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


def fused_conv(
    x: npt.ArrayLike, weight: npt.ArrayLike, demodulation: npt.ArrayLike | None = None,
    noise: npt.ArrayLike | None = None, bias: npt.ArrayLike | None = None, style: npt.ArrayLike | None = None,
    residual: npt.ArrayLike | None = None, outer: npt.ArrayLike | None = None, more: npt.ArrayLike | None = None, *,
    pads: Sequence[int] = (0, 0, 0, 0), stride: int = 1, depthwise: bool = False, slope: float = 1.0, gain: float = 1.0,
    clamp: float = 0.0, scale: float = 1.0, outer_scale: float = 1.0, shuffle: int = 1, shift: int = 0, crop: int = 0,
    residual_first: bool = False,
) -> tuple[Array, Array]:
    """``FusedConv``: a convolution and the steps after it.

    Args:
        x: ``[B, H, W, C]``.
        weight: ``[shuffle * shuffle * O, kh, kw, C]``; of a depthwise convolution ``[C, kh, kw, 1]``. Of rank five:
            filters of every picture, ``[B, shuffle * shuffle * O, kh, kw, C]``.
        demodulation: a factor per picture and channel, ``[B or 1, O]``.
        noise: ``[1 or B, OH, OW, 1]``, already multiplied by its strength.
        bias: ``[O]``.
        style: the next layer's factor per picture and channel, ``[B, O]``.
        residual: ``[B, OH, OW, O]``; ``scale`` times the activation is added to it.
        outer: ``[B, OH, OW, O]``; ``outer_scale`` times that sum is added to it.
        more: ``[B, H, W, C2]``, further channels of x, after its own.
        pads: zeros above, on the left, below, on the right.
        stride: from one window to the next.
        depthwise: channel c of the result sees channel c of x alone.
        slope: of the leaky ReLU below zero; 1 for none.
        gain: factor after it.
        clamp: largest absolute value of the activation; 0 for no limit.
        scale: see ``residual``.
        outer_scale: see ``outer``.
        shuffle: 2 for a transposed convolution of stride 2 in phases: phase (a, b) of the filters gives the pixels
            (2y + a, 2x + b).
        shift: 1 if the windows of phase (a, b) begin a rows lower and b columns further right.
        crop: 1 to drop the last row and column.
        residual_first: add the residual before the activation, without ``scale``.

    Returns:
        The result, and the result times ``style`` (the result again if there is no style).
    """
    x, weight = _wide(x), _wide(weight)
    if more is not None:
        x = np.concatenate([x, _wide(more)], 3)
    if weight.ndim == 4:
        weight = weight[None]
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    _, filters, kernel_height, kernel_width, _ = weight.shape
    rows = (padded.shape[1] - kernel_height) // stride + 1 - shift
    columns = (padded.shape[2] - kernel_width) // stride + 1 - shift
    channels = filters // shuffle**2
    value = np.zeros((x.shape[0], shuffle * rows, shuffle * columns, channels))
    for a, b in np.ndindex(shuffle, shuffle):
        phase = weight[:, (shuffle * a + b) * channels :][:, :channels]
        for i, j in np.ndindex(kernel_height, kernel_width):
            seen = padded[:, a * shift + i :, b * shift + j :][:, ::stride, ::stride][:, :rows, :columns]
            tap = phase[:, None, None, :, i, j]
            value[:, a::shuffle, b::shuffle] += seen * tap[..., 0] if depthwise else seen @ tap[:, 0].swapaxes(2, 3)
    value = value[:, : value.shape[1] - crop, : value.shape[2] - crop]
    if demodulation is not None:
        value = value * _wide(demodulation)[:, None, None]
    if residual is not None and residual_first:
        value = value + _wide(residual)
    value, _ = demod_bias_act(value, None, noise, bias, slope=slope, gain=gain, clamp=clamp, channels_last=True)
    if residual is not None and not residual_first:
        value = _wide(residual) + scale * value
    if outer is not None:
        value = _wide(outer) + outer_scale * value
    return value, value if style is None else value * _wide(style)[:, None, None]


def dense_block(
    x: npt.ArrayLike, outer: npt.ArrayLike | None, weights: Sequence[npt.ArrayLike], biases: Sequence[npt.ArrayLike], *,
    slope: float = 0.2, scale: float = 0.2, outer_scale: float = 0.2,
) -> Array:
    """``DenseBlock``: the residual dense block of ESRGAN, 3x3 convolutions that see x and all results before them.

    Args:
        x: ``[B, H, W, C]``.
        outer: ``[B, H, W, C]``, input of the group of blocks; ``outer_scale`` times the block is added to it.
        weights: ``[growth, 3, 3, C + k * growth]`` for k = 0, 1, ...; the last one ``[C, 3, 3, C + k * growth]``.
        biases: of the convolutions.
        slope: of the leaky ReLU after all convolutions but the last.
        scale: of the last convolution, which is added to x.
        outer_scale: see ``outer``.
    """
    features = _wide(x)
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        grown, _ = fused_conv(features, weight, bias=bias, pads=(1, 1, 1, 1), slope=slope)
        features = np.concatenate([features, grown], axis=3)
    return fused_conv(features, weights[-1], bias=biases[-1], residual=x, outer=outer, pads=(1, 1, 1, 1), scale=scale,
                      outer_scale=outer_scale)[0]


def upsample(x: npt.ArrayLike, *, mode: str) -> Array:
    """``Upsample``: ``[B, H, W, C]`` -> ``[B, 2H, 2W, C]``.

    Args:
        x: ``[B, H, W, C]``.
        mode: ``"nearest"``, or ``"bilinear"``: pixels are areas (half-pixel centres), which repeat outside.
    """
    x = _wide(x)
    if mode == "nearest":
        return x.repeat(2, 1).repeat(2, 2)
    for axis in (1, 2):
        x = np.moveaxis(x, axis, 0)
        before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
        pairs = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], 1)
        x = np.moveaxis(pairs.reshape(-1, *x.shape[1:]), 0, axis)
    return x


def modulation_factors(
    style: npt.ArrayLike, squares: npt.ArrayLike = 0.0, norm: npt.ArrayLike = 1.0, *, demodulate: bool = True,
    normalize: bool = False, epsilon: float = 1e-8,
) -> tuple[Array, Array]:
    """``ModulationFactors``: the factors of a modulated convolution's input and of its output.

    Args:
        style: ``[B, C]``.
        squares: ``[C, O]``, the sum of the weight's squares over its taps; with ``demodulate`` only.
        norm: ``[1, O]``, the divisors of ``export.decoder.served.normalized_filters``.
        demodulate: give every output channel unit variance ([StyleGAN2] Eq. 3).
        normalize: divide the style by its largest magnitude, as a generator in float16 needs it, and
            multiply the output's factors by it and by ``norm``.
        epsilon: added to the variance.

    Returns:
        The style ``[B, C]`` and the factors ``[B, O]``.
    """
    wide = _wide(style)
    gain: Array = np.ones((len(wide), 1))
    if demodulate:
        gain = 1 / np.sqrt(wide**2 @ _wide(squares) + epsilon)
    if normalize:
        peak = np.abs(wide).max(1, keepdims=True, initial=np.finfo(np.float32).tiny)
        wide = wide / peak
        gain = gain * peak * _wide(norm)
    return wide, gain


def dequantize_lr(lr: npt.ArrayLike) -> Array:
    """``DequantizeLR``: levels ``[B, h, w, 3]`` to values in [-1, 1], by `codec_contract.pixels.dequantize`."""
    return dequantize(_wide(lr))


def quantize_picture(x: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """``QuantizePicture``: values ``[B, H, W, 3]`` to levels, by `codec_contract.pixels.quantize`."""
    return quantize(x)


def to_nchw(values: npt.ArrayLike) -> Array:
    """``[B, H, W, C]`` -> ``[B, C, H, W]``."""
    return _wide(values).transpose(0, 3, 1, 2)


def to_nhwc(values: npt.ArrayLike) -> Array:
    """``[B, C, H, W]`` -> ``[B, H, W, C]``."""
    return _wide(values).transpose(0, 2, 3, 1)


def _wide(values: npt.ArrayLike) -> Array:
    return np.asarray(values, np.float64)
