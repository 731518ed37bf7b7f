"""Eyes and mouth of aligned faces: boxes that are the same in every picture, because alignment puts them there."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CENTRES = {"left eye": (0.377, 0.469), "right eye": (0.623, 0.469), "mouth": (0.502, 0.725)}
"""Name -> mean position (x, y) in faces aligned as in FFHQ, as fractions of the side (facexlib's mean points)."""
REGIONS = {"eyes": ("left eye", "right eye"), "mouth": ("mouth",)}
"""Name -> boxes whose scores are averaged."""
SIDE = 0.25
"""Side of a box, as a fraction of the picture's: 64 pixels of 256."""
# Standard deviations (x, y) of the weight around each centre, as fractions of the side.
_SPREADS = {"left eye": (0.078, 0.051), "right eye": (0.078, 0.051), "mouth": (0.102, 0.055)}


def boxes(side: int) -> dict[str, tuple[int, int, int]]:
    """Name -> (left, top, size) of the boxes in a square picture of that side, in pixels."""
    size = round(SIDE * side)
    return {name: (round(x * side - size / 2), round(y * side - size / 2), size) for name, (x, y) in CENTRES.items()}


def squares(picture: Tensor) -> Tensor:
    """The boxes of pictures ``[B, 3, S, S]``, ``[3 B, 3, S / 4, S / 4]``: all left eyes, all right eyes, all mouths."""
    return torch.cat([picture[..., top:top + size, left:left + size]
                      for left, top, size in boxes(picture.shape[-1]).values()])


def enlarged_regions(picture: Tensor, factor: int = 2) -> Tensor:
    """Both eyes and the mouth of pictures ``[B, 3, S, S]``, enlarged bilinearly: ``[3 B, 3, factor * S / 4, ...]``."""
    return F.interpolate(squares(picture), scale_factor=factor, mode="bilinear", align_corners=False)


def region_weights(size: int, gain: float) -> Tensor:
    """Weights ``[1, 1, size, size]`` with mean 1: ``1 + gain`` at eyes and mouth relative to 1 far from them."""
    rows, columns = (np.mgrid[0:size, 0:size] + 0.5) / size
    weights = np.ones((size, size))
    for name, (x, y) in CENTRES.items():
        width, height = _SPREADS[name]
        weights += gain * np.exp(-((columns - x) / width) ** 2 - ((rows - y) / height) ** 2)
    return torch.from_numpy(weights / weights.mean()).float()[None, None]
