"""Generators in float16 without overflow: factors are divided out before a convolution and multiplied back afterwards.

Plain float16 overflows in style² (demodulation) and in activation times style. Here styles are divided by their largest
magnitude and every output filter by its norm; both come back in the factor after the convolution, where the fused op
computes in float32. With activations clamped to ±256, styles in [-1, 1] and filters of norm one, a convolution of n
products gives at most 256 sqrt(n): 17,400 for 512 channels and 3x3 taps, a quarter of float16's range, for any code.
(Separable convolutions after the inverse Haar transform reach the same: 2 * 256 * sqrt(9) * sqrt(128).)
"""

from __future__ import annotations

import torch
from torch import Tensor

CLAMP = 256.0
"""Largest magnitude of an activation, as in NVIDIA's networks in half precision."""


def normalized_style(style: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, C]`` -> the style with a largest magnitude of one, and the divisor ``[B, 1]``."""
    peak = style.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return style / peak, peak


def normalized_filters(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``[out, in, k, k]`` -> filters of norm one, and the divisors ``[out]``."""
    norm = weight.square().sum((1, 2, 3)).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    return weight / norm[:, None, None, None], norm
