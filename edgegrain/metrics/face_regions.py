"""Eyes and mouth of aligned faces: boxes that are the same in every picture, because alignment puts them there."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Squares in faces aligned as in FFHQ, as fractions of the side: left, top, side. Measured on FFHQ and CelebA-HQ: the
# eyes' centres are at (.379, .477) and (.621, .477), the mouth's at (.5, .734).
LEFT_EYE, RIGHT_EYE = (0.2578, 0.375, 0.25), (0.4922, 0.375, 0.25)
MOUTH = (0.375, 0.6094, 0.25)
# Centre and standard deviations of the weight of each, as fractions of the side.
_PEAKS = ((0.379, 0.477, 0.078, 0.051), (0.621, 0.477, 0.078, 0.051), (0.5, 0.734, 0.102, 0.055))


def region(picture: Tensor, box: tuple[float, float, float]) -> Tensor:
    """The square of a box in pictures ``[B, 3, S, S]``: ``[B, 3, side * S, side * S]``."""
    left, top, side = (round(fraction * picture.shape[-1]) for fraction in box)
    return picture[..., top:top + side, left:left + side]


def enlarged_regions(picture: Tensor, factor: int = 2) -> Tensor:
    """Both eyes and the mouth of pictures ``[B, 3, S, S]``, enlarged bilinearly: ``[3 B, 3, factor * S / 4, ...]``."""
    squares = torch.cat([region(picture, box) for box in (LEFT_EYE, RIGHT_EYE, MOUTH)])
    return F.interpolate(squares, scale_factor=factor, mode="bilinear", align_corners=False)


def region_weights(size: int, gain: float) -> Tensor:
    """Weights ``[1, 1, size, size]`` with mean 1: ``1 + gain`` at eyes and mouth relative to 1 far from them."""
    rows, columns = (np.mgrid[0:size, 0:size] + 0.5) / size
    weights = np.ones((size, size))
    for x, y, width, height in _PEAKS:
        weights += gain * np.exp(-((columns - x) / width) ** 2 - ((rows - y) / height) ** 2)
    return torch.from_numpy(weights / weights.mean()).float()[None, None]
