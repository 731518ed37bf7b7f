"""The ops of ``com.edgegrain`` in numpy and float64: the definition that their kernels are tested against.

Every function takes arrays of any float type and computes in float64; maps are ``[B, H, W, C]``. ``DequantizeLR`` and
``QuantizePicture`` are `codec_contract.pixels.dequantize` and ``quantize``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Input = npt.ArrayLike
Inputs = Sequence[npt.ArrayLike]

TAPS = (0.125, 0.375, 0.375, 0.125)
"""StyleGAN2's [1, 3, 3, 1] / 8."""


def upfirdn2d(
    x: Input, *, taps: Sequence[float] = TAPS, filter_gain: float = 1.0, up: int = 2, pad: Sequence[int] = (0, 0, 0, 0)
) -> Array:
    """``UpFirDn2d`` ([StyleGAN2]'s name): insert ``up - 1`` zeros after every pixel, pad with zeros (left, right,
    above, below), convolve with ``taps`` both ways, truly: the last tap meets the first pixel."""
    x = _wide(x)
    batch, height, width, channels = x.shape
    spread = np.zeros((batch, height * up, width * up, channels))
    spread[:, ::up, ::up] = x
    left, right, above, below = pad
    spread = np.pad(spread, ((0, 0), (above, below), (left, right), (0, 0)))
    out_height, out_width = (side - len(taps) + 1 for side in spread.shape[1:3])
    result = np.zeros((batch, out_height, out_width, channels))
    for i, vertical in enumerate(reversed(taps)):
        for j, horizontal in enumerate(reversed(taps)):
            result += filter_gain * vertical * horizontal * spread[:, i : i + out_height, j : j + out_width]
    return result


def filtered_bias_act(
    x: Input,
    demodulation: Input,
    noise: Input,
    bias: Input,
    style: Input,
    *,
    slope: float = 0.2,
    gain: float = 1.0,
    clamp: float = 0.0,
    **filter: Any,
) -> Array:
    """``FilteredBiasAct``: `upfirdn2d` without zeros between pixels, then the steps after a modulated convolution.

    ``demodulation`` and ``style`` are ``[B, C]``, ``noise`` ``[1, H, W, 1]`` times its strength, ``bias`` ``[C]``; a
    ``clamp`` of 0 is no limit.
    """
    value = upfirdn2d(x, up=1, **filter) * _wide(demodulation)[:, None, None] + _wide(noise) + _wide(bias)
    return _activation(value, slope, gain, clamp) * _wide(style)[:, None, None]


def inverse_haar(bands: Input, style: Input | None = None, *, scale: float = 1.0) -> Array:
    """``InverseHaar``: ``server_decoder.mobile_stylegan.inverse_haar`` of ``scale * style * bands``.

    ``[B, H, W, 4C]``: ll, b1 (between rows), b2 (between columns), b3 (between diagonals), C channels each; style
    ``[B, 4C]`` -> ``[B, 2H, 2W, C]``.
    """
    bands = _wide(bands) * scale
    if style is not None:
        bands = bands * _wide(style)[:, None, None]
    ll, b1, b2, b3 = np.split(bands, 4, axis=3)
    batch, height, width, channels = ll.shape
    result = np.empty((batch, 2 * height, 2 * width, channels))
    result[:, 0::2, 0::2] = ll + b1 + b2 + b3
    result[:, 0::2, 1::2] = ll + b1 - b2 - b3
    result[:, 1::2, 0::2] = ll - b1 + b2 - b3
    result[:, 1::2, 1::2] = ll - b1 - b2 + b3
    return result


def fused_conv(
    x: Input,
    weight: Input,
    demodulation: Input | None = None,
    noise: Input | None = None,
    bias: Input | None = None,
    style: Input | None = None,
    residual: Input | None = None,
    outer: Input | None = None,
    more: Input | None = None,
    *,
    pads: Sequence[int] = (0, 0, 0, 0),
    stride: int = 1,
    depthwise: bool = False,
    slope: float = 1.0,
    gain: float = 1.0,
    clamp: float = 0.0,
    scale: float = 1.0,
    outer_scale: float = 1.0,
    shuffle: int = 1,
    shift: int = 0,
    crop: int = 0,
    residual_first: bool = False,
) -> tuple[Array, Array]:
    """``FusedConv``: a convolution and the steps after it; the result, and the result times ``style``.

    x is ``[B, H, W, C]``, ``more`` further channels of it; ``weight`` ``[shuffle * shuffle * O, kh, kw, C]``, of a
    depthwise convolution ``[C, kh, kw, 1]``, of rank five one per picture. ``demodulation`` and ``style`` are
    ``[B, O]``, ``noise`` ``[1, OH, OW, 1]``, ``bias`` ``[O]``, ``residual`` and ``outer`` ``[B, OH, OW, O]``. The
    attributes are described in docs/cuda_ops.md.
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
    if noise is not None:
        value = value + _wide(noise)
    if bias is not None:
        value = value + _wide(bias)
    value = _activation(value, slope, gain, clamp)
    if residual is not None and not residual_first:
        value = _wide(residual) + scale * value
    if outer is not None:
        value = _wide(outer) + outer_scale * value
    return value, value if style is None else value * _wide(style)[:, None, None]


def dense_block(x: Input, outer: Input | None, weights: Inputs, biases: Inputs, **steps: float) -> Array:
    """``DenseBlock``: the residual dense block of ESRGAN, 3x3 convolutions that see x and all results before them.

    x and ``outer``, the group's input, are ``[B, H, W, C]``; ``weights`` ``[growth, 3, 3, C + k * growth]``
    for k = 0, 1, ..., the last one with C filters.
    """
    steps = {"slope": 0.2, "scale": 0.2, "outer_scale": 0.2, **steps}
    features, slope = _wide(x), steps.pop("slope")
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        grown, _ = fused_conv(features, weight, bias=bias, pads=(1, 1, 1, 1), slope=slope)
        features = np.concatenate([features, grown], axis=3)
    added = {"residual": x, "outer": outer, **steps}
    return fused_conv(features, weights[-1], bias=biases[-1], pads=(1, 1, 1, 1), **added)[0]


def upsample(x: Input, *, mode: str) -> Array:
    """``Upsample``: ``[B, H, W, C]`` -> ``[B, 2H, 2W, C]``; in mode ``"bilinear"`` pixels are areas (half-pixel
    centres), which repeat outside."""
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
    style: Input,
    squares: Input | None = None,
    norm: Input | None = None,
    *,
    demodulate: bool = True,
    normalize: bool = False,
    epsilon: float = 1e-8,
) -> tuple[Array, Array]:
    """``ModulationFactors``: the factors of a modulated convolution's input ``[B, C]`` and of its output ``[B, O]``.

    ``demodulate`` gives every output channel unit variance ([StyleGAN2] Eq. 3), with ``squares`` ``[C, O]``, the sum of
    the weight's squares over its taps. ``normalize`` divides the style by its largest magnitude, as a generator in
    float16 needs it, and multiplies the output's factors by it and by ``norm`` ``[1, O]``
    (`export.decoder.fused_decoder.normalized_filters`).
    """
    wide = _wide(style)
    gain: Array = np.ones((len(wide), 1))
    if demodulate:
        gain = 1 / np.sqrt(wide**2 @ _wide(squares) + epsilon)
    if normalize:
        peak = np.abs(wide).max(1, keepdims=True, initial=np.finfo(np.float32).tiny)
        wide, gain = wide / peak, gain * peak * _wide(norm)
    return wide, gain


def _activation(value: Array, slope: float, gain: float, clamp: float) -> Array:
    value = np.where(value < 0, value * slope, value) * gain
    return value.clip(-clamp, clamp) if clamp else value


def _wide(values: Input) -> Array:
    return np.asarray(values, np.float64)
