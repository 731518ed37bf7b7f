"""Pictures as integers 0...255, and their PSNR."""

from __future__ import annotations

import math

from torch import Tensor

from codec_contract.quantization import unit_to_levels


def rounded_levels(picture: Tensor) -> Tensor:
    """Pictures of any shape, [-1, 1] -> integers 0...255, rounded half up and clipped."""
    return unit_to_levels(picture).add(0.5).floor().clamp(0, 255)


def levels_psnr(levels: Tensor, target: Tensor) -> float:
    """PSNR in dB over all samples of two equally shaped tensors of integers 0...255; at most 108, for equal ones."""
    return 10 * math.log10(255**2 / float((levels - target).pow(2).mean().clamp_min(1e-6)))
