"""Random shifts and colour changes of training pictures, against overfitting to a small set.

The pictures are restored, unlike those of `edgegrain.papers.stylegan.augment`, which only a discriminator sees.
Therefore nothing is resampled (shifts are whole pixels, edges mirrored), and brightness and colour stay natural. A
shift of less than one LR pixel changes all of the LR.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 0.04  # of the side, at most
# Deviations, the last two as powers of two.
BRIGHTNESS = 12.0  # levels
CONTRAST = 0.15
SATURATION = 0.25


def jitter(pictures: Tensor) -> Tensor:
    """Integers 0...255 as float ``[B, 3, S, S]`` -> the same type, each picture shifted and recoloured at random."""
    return recoloured(shifted(pictures))


def shifted(pictures: Tensor) -> Tensor:
    """Every picture ``[B, 3, S, S]`` shifted by whole pixels, edges mirrored."""
    batch, _, side, _ = pictures.shape
    most = int(SHIFT * side)
    padded = F.pad(pictures, (most, most, most, most), mode="reflect")
    corners = torch.randint(2 * most + 1, (batch, 2)).tolist()
    return torch.stack([picture[:, y : y + side, x : x + side]
                        for picture, (y, x) in zip(padded, corners, strict=True)])


def recoloured(pictures: Tensor) -> Tensor:
    """Integers 0...255 as float ``[B, 3, S, S]`` with brightness, contrast and saturation changed, each in half of the
    pictures; rounded and clipped."""

    def draw(deviation: float) -> Tensor:
        chosen = torch.rand(len(pictures), 1, 1, 1, device=pictures.device) < 0.5
        return deviation * torch.randn(chosen.shape, device=pictures.device) * chosen

    grey = pictures.mean(1, keepdim=True)
    coloured = grey + (pictures - grey) * torch.exp2(draw(SATURATION))
    middle = pictures.mean((1, 2, 3), keepdim=True)
    return (middle + (coloured - middle) * torch.exp2(draw(CONTRAST)) + draw(BRIGHTNESS)).round().clamp(0, 255)
