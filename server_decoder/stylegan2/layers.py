"""The layers of StyleGAN2 ([StyleGAN2] Section 2 and Appendix B).

Modulation works on activations: multiply the input by the style, convolve with unmodulated weights,
multiply the output by the demodulation coefficients. That equals modulated weights, because a style is a factor per
input channel and demodulation one per output channel, both of which commute with a convolution; so pictures with
different styles share one convolution.
"""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.2  # [StyleGAN2] Appendix B
EPSILON = 1e-8  # in every root and division, [StyleGAN2] Eq. 3
# Bilinear filtering in all up- and downsampling layers, [StyleGAN2] Appendix B: at a factor of two, bilinear weights
# with pixel centres aligned are 1/4, 3/4, 3/4, 1/4.
BILINEAR = (1.0, 3.0, 3.0, 1.0)
_GAIN = math.sqrt(2)  # after a leaky ReLU: keeps the second moment, [StyleGAN] Appendix C (He initialization)


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Suspend autocast on the device of ``x``. On the meta device, which has no autocast, this does nothing."""
    if x.device.type == "meta" or not torch.is_autocast_enabled(x.device.type):
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def activate(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Leaky ReLU of ``x + bias``, ``[B, C, ...]`` and ``[C]``, times sqrt(2); in the type of ``x``."""
    if bias is not None:
        x = x + per_channel(bias, x)
    return F.leaky_relu(x, NEGATIVE_SLOPE) * _GAIN


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """``[C]`` or ``[B, C]`` -> a factor or offset for ``x`` of ``[B, C, ...]``, in the type of ``x``."""
    return values.to(x.dtype).reshape(*values.shape, *(1,) * (x.ndim - 2))


def normalize(x: Tensor) -> Tensor:
    """Divide every row of ``[B, C]`` by its root mean square: z onto the sphere."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPSILON)


def demodulation(style: Tensor, weight: Tensor) -> Tensor:
    """The factors ``[B, out]``, at least in float32, that give every output channel unit variance again ([StyleGAN2]
    Eq. 3), for styles ``[B, in]`` and a weight ``[out, in, k, k]``.

    ``rsqrt(sum over i, k of (style_i * weight_oik)^2)``, where the sum over the taps k does not depend on the style:
    only a matrix product per picture remains.
    """
    wide = torch.promote_types(style.dtype, torch.float32)
    power = weight.to(wide).square().sum((2, 3))  # [out, in]
    return torch.rsqrt(F.linear(style.to(wide).square(), power) + EPSILON)


class BilinearFilter(nn.Module):
    """The low-pass filter [1, 3, 3, 1] x [1, 3, 3, 1] on every channel."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor(BILINEAR) / sum(BILINEAR)
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, x: Tensor, padding: int, gain: float = 1.0, stride: int = 1) -> Tensor:
        """Filter ``[B, C, H, W]`` with zeros around it; every ``stride``-th value only."""
        kernel = (self.kernel * gain).expand(x.shape[1], -1, -1, -1)
        return F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])

    def upsample(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, C, 2H, 2W]``: zeros between the pixels, then the filter at four times its gain."""
        kernel = (self.kernel * 4).expand(x.shape[1], -1, -1, -1)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


class EqualizedLinear(nn.Module):
    """A linear layer at equalized learning rate: weights from N(0, 1), scaled when used ([StyleGAN2] Appendix B).

    ``rate`` is its learning rate relative to the other layers'; parameters are stored divided by it.
    """

    def __init__(self, features: int, out_features: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.scale = rate / math.sqrt(features)
        self.rate = rate
        self.weight = nn.Parameter(torch.randn(out_features, features) / rate)
        self.bias = nn.Parameter(torch.full((out_features,), bias / rate))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.scale, self.weight, self.bias * self.rate)


class EqualizedConv(nn.Module):
    """A convolution at equalized learning rate that keeps the size of its input or halves it.

    Halving is a low-pass filter and a convolution of stride 2. No activation; a bias where ``bias`` is set.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, *, down: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.kernel = kernel
        self.scale = 1 / math.sqrt(channels * kernel**2)
        self.weight = nn.Parameter(torch.randn(out_channels, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.filter = BilinearFilter() if down else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if self.filter is None:
            return F.conv2d(x, weight, self.bias, padding=self.kernel // 2)
        if self.kernel == 1:  # filter only the values that are kept
            return F.conv2d(self.filter(x, padding=1, stride=2), weight, self.bias)
        return F.conv2d(self.filter(x, padding=2), weight, self.bias, stride=2)


class ModulatedConv(nn.Module):
    """A convolution whose input channels a code scales.

    Args:
        demodulate: normalize output channels to unit variance, as in all layers but toRGB.
        up: double the resolution: a transposed convolution of stride 2, then the low-pass filter.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int,
        code_width: int,
        *,
        demodulate: bool = True,
        up: bool = False,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.scale = 1 / math.sqrt(channels * kernel**2)
        self.demodulate = demodulate
        self.modulation = EqualizedLinear(code_width, channels, bias=1.0)  # "A" in [StyleGAN2] Fig. 2
        self.weight = nn.Parameter(torch.randn(out_channels, channels, kernel, kernel))
        self.filter = BilinearFilter() if up else None

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """``[B, in, H, W]`` and codes ``[B, code_width]`` -> ``[B, out, H, W]``; with ``up`` twice as high and wide."""
        with full_precision(x):  # styles are few numbers that scale all others
            # The equalized learning rate's scale is applied to the style: one number per channel instead of per weight.
            style = self.modulation(code.to(self.weight.dtype)) * self.scale  # [B, in]
            gains = demodulation(style, self.weight) if self.demodulate else None  # [B, out]
        x = x * per_channel(style, x)
        if self.filter is None:
            x = F.conv2d(x, self.weight, padding=self.kernel // 2)
        else:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)  # [B, out, 2H + 1, 2W + 1]
            x = self.filter(x, padding=1, gain=4.0)  # 4: only every fourth pixel was not zero
        return x if gains is None else x * per_channel(gains, x)


class StyledLayer(nn.Module):
    """One style block of [StyleGAN2] Fig. 2: modulated convolution, noise, bias, leaky ReLU.

    Attributes:
        noise: ``[1, 1, r, r]``, the constant noise, used if none is given.
        noise_strength: its factor, one for all channels ([StyleGAN2] Appendix B).
    """

    noise: Tensor

    def __init__(self, channels: int, out_channels: int, resolution: int, code_width: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(channels, out_channels, 3, code_width, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, code: Tensor, noise: Tensor | None = None) -> Tensor:
        """``noise``: ``[1 or B, 1, r, r]`` from N(0, 1), or None for the constant noise."""
        x = self.conv(x, code)
        noise = (self.noise if noise is None else noise) * self.noise_strength
        return activate(x + noise.to(x.dtype), self.bias)


class ToRGB(nn.Module):
    """Features to the three channels of a picture: a modulated 1x1 convolution without demodulation."""

    def __init__(self, channels: int, code_width: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(channels, 3, 1, code_width, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, 3, H, W]``, in the type of the parameters: pictures are summed in it."""
        x = self.conv(x, code).to(self.bias.dtype)
        return x + per_channel(self.bias, x)


# "We thus reduce the learning rate by two orders of magnitude for the mapping network", [StyleGAN] Appendix C.
MAPPING_RATE = 0.01


class MappingNetwork(nn.Module):
    """Fully connected layers with leaky ReLU on the normalized latent, at StyleGAN2's learning rate or ``plain``."""

    def __init__(self, width: int = 512, layers: int = 8, *, plain: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(width, width) if plain else EqualizedLinear(width, width, rate=MAPPING_RATE)
            for _ in range(layers)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``[B, width]`` -> codes in W, ``[B, width]``."""
        with full_precision(z):
            x = normalize(z)
            for layer in self.layers:
                x = activate(layer(x))
        return x


@torch.no_grad()
def mean_code(mapping: nn.Module, width: int, count: int = 10_000, seed: int = 0) -> Tensor:
    """The mean ``[width]`` of ``count`` mapped latents: the centre of mass of W ([StyleGAN] Appendix B).

    The latents are drawn on the CPU, so a seed gives the same ones everywhere.
    """
    z = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return mapping(z.to(next(mapping.parameters()))).mean(0)
