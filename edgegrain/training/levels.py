"""Pictures as integers 0...255, and their PSNR."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from codec_contract.quantization import unit_to_levels


def picture_levels(picture: np.ndarray, device: torch.device | None = None) -> Tensor:
    """A uint8 picture ``[H, W, 3]`` -> integers 0...255, float32 ``[1, 3, H, W]``, on the device or the CPU."""
    return torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1)[None].float()


def rounded_levels(picture: Tensor) -> Tensor:
    """Pictures of any shape, [-1, 1] -> integers 0...255, rounded half up and clipped."""
    return unit_to_levels(picture).add(0.5).floor().clamp(0, 255)


def levels_psnr(levels: Tensor, target: Tensor) -> float:
    """PSNR in dB over all samples of two equally shaped tensors of integers 0...255; at most 108, for equal ones."""
    return 10 * math.log10(255**2 / float((levels - target).pow(2).mean().clamp_min(1e-6)))
