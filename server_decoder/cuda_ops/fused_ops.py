"""The ops of ``com.edgegrain`` as torch functions: custom nodes while a graph is exported, plain torch otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.onnx import is_in_onnx_export
from torch.onnx.ops import symbolic, symbolic_multi_out

from server_decoder.cuda_ops.library import DOMAIN

Attribute = int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]

VERSION = 1
"""Version of the domain's ops."""
_SLOPE = 0.2
_TAPS = (0.125, 0.375, 0.375, 0.125)


def demod_bias_act(
    x: Tensor, demodulation: Tensor | None = None, noise: Tensor | None = None, bias: Tensor | None = None,
    style: Tensor | None = None, *, gain: float = 1.0, clamp: float = 0.0, fused: bool = True,
) -> tuple[Tensor, Tensor]:
    """``DemodBiasAct``, in the type of ``x``; see `server_decoder.cuda_ops.reference.demod_bias_act`.

    Args:
        x: float32 or float16 ``[B, C, H, W]``.
        demodulation: float32 ``[B, C]``.
        noise: ``[1 or B, 1, H, W]`` in the type of ``x``, already multiplied by its strength.
        bias: float32 ``[C]``.
        style: float32 ``[B, C]``, of the next layer.
        gain: factor after the leaky ReLU.
        clamp: largest absolute value of the result; 0 for no limit.
        fused: export the custom node; false for equivalent ops of ONNX.

    Returns:
        The activation, and the activation times ``style``: the same tensor if there is no style.
    """
    if fused and is_in_onnx_export():
        attributes = {"slope": _SLOPE, "gain": gain, "clamp": clamp}
        return _tail_node("DemodBiasAct", x, (demodulation, noise, bias, style), attributes, list(x.shape))
    return _tail(x, demodulation, noise, bias, style, gain, clamp)


def filtered_bias_act(
    x: Tensor, demodulation: Tensor | None = None, noise: Tensor | None = None, bias: Tensor | None = None,
    style: Tensor | None = None, *, gain: float = 1.0, clamp: float = 0.0, fused: bool = True,
) -> tuple[Tensor, Tensor]:
    """``FilteredBiasAct``: the low-pass filter that follows a transposed convolution, then `demod_bias_act`.

    The filter is StyleGAN2's [1, 3, 3, 1] with four times its gain (three of four pixels were zero before the
    convolution) and one pixel of zeros on every side: ``[B, C, 2H + 1, 2W + 1]`` -> ``[B, C, 2H, 2W]``.
    """
    if fused and is_in_onnx_export():
        attributes: dict[str, Attribute] = {
            "slope": _SLOPE, "gain": gain, "clamp": clamp, "taps": list(_TAPS), "filter_gain": 4.0,
            "pad": [1, 1, 1, 1]}
        shape = [x.shape[0], x.shape[1], x.shape[2] - 1, x.shape[3] - 1]
        return _tail_node("FilteredBiasAct", x, (demodulation, noise, bias, style), attributes, shape)
    kernel = _kernel(x)
    filtered = F.conv2d(x, kernel, padding=1, groups=x.shape[1])
    return _tail(filtered, demodulation, noise, bias, style, gain, clamp)


def upsample(x: Tensor, *, fused: bool = True) -> Tensor:
    """``UpFirDn2d`` as `server_decoder.stylegan2.layers.BilinearFilter.upsample` has it.

    ``[B, C, H, W]`` -> ``[B, C, 2H, 2W]``.
    """
    if fused and is_in_onnx_export():
        return symbolic(
            f"{DOMAIN}::UpFirDn2d", (x,), {"taps": list(_TAPS), "filter_gain": 4.0, "up": 2, "pad": [2, 1, 2, 1]},
            dtype=x.dtype, shape=[x.shape[0], x.shape[1], 2 * x.shape[2], 2 * x.shape[3]], version=VERSION)
    return F.conv_transpose2d(x, _kernel(x), stride=2, padding=1, groups=x.shape[1])


def inverse_haar(bands: Tensor, style: Tensor | None = None, *, scale: float = 1.0, fused: bool = True) -> Tensor:
    """``InverseHaar``: `server_decoder.mobile_stylegan.generator.inverse_haar` of ``scale * style * bands``.

    Args:
        bands: float32 or float16 ``[B, 4C, H, W]``.
        style: float32 ``[B, 4C]``.
        scale: of all bands.
        fused: as for `demod_bias_act`.

    Returns:
        ``[B, C, 2H, 2W]``, in the type of ``bands``.
    """
    if fused and is_in_onnx_export():
        shape = [bands.shape[0], bands.shape[1] // 4, 2 * bands.shape[2], 2 * bands.shape[3]]
        return symbolic(f"{DOMAIN}::InverseHaar", (bands, style), {"scale": scale}, dtype=bands.dtype, shape=shape,
                        version=VERSION)
    wide = bands.float() * scale if bands.dtype == torch.float16 else bands * scale
    ll, b1, b2, b3 = (wide if style is None else wide * style[:, :, None, None]).chunk(4, dim=1)
    cells = torch.stack([ll + b1 + b2 + b3, ll + b1 - b2 - b3, ll - b1 + b2 - b3, ll - b1 - b2 + b3], dim=2)
    return F.pixel_shuffle(cells.flatten(1, 2), 2).to(bands.dtype)


def _tail_node(name: str, x: Tensor, tail: Sequence[Tensor | None], attributes: Mapping[str, Attribute],
               shape: Sequence[int | torch.SymInt]) -> tuple[Tensor, Tensor]:
    style = tail[-1]
    # The node's last output is the modulated one; the exporter drops the first if nothing reads it.
    count = 1 if style is None else 2
    results = symbolic_multi_out(f"{DOMAIN}::{name}", (x, *tail), dict(attributes), dtypes=[x.dtype] * count,
                                 shapes=[shape] * count, version=VERSION)
    return results[0], results[-1]


def _tail(x: Tensor, demodulation: Tensor | None, noise: Tensor | None, bias: Tensor | None, style: Tensor | None,
          gain: float, clamp: float) -> tuple[Tensor, Tensor]:
    value = x.to(torch.promote_types(x.dtype, torch.float32))
    if demodulation is not None:
        value = value * demodulation[:, :, None, None]
    if noise is not None:
        value = value + noise
    if bias is not None:
        value = value + bias[:, None, None]
    value = F.leaky_relu(value, _SLOPE) * gain
    if clamp:
        value = value.clamp(-clamp, clamp)
    plain = value.to(x.dtype)
    return plain, plain if style is None else (value * style[:, :, None, None]).to(x.dtype)


def _kernel(x: Tensor) -> Tensor:
    """[1, 3, 3, 1] x [1, 3, 3, 1] for every channel, with a sum of four."""
    taps = torch.tensor(_TAPS, dtype=x.dtype, device=x.device)
    return (4 * torch.outer(taps, taps)).expand(x.shape[1], 1, -1, -1)
