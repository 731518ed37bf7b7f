"""Eyes and mouth of aligned faces: boxes that are the same in every picture, and the error of colours in them.

The error of colours, without brightness, tells how far the hue and saturation of an iris or of lips are from the
original's. Both pictures are reduced to 8 x 8 cells, so that texture and small displacements do not count. A cell of a
box around an eye is about as large as the iris. The error is the mean Euclidean distance of the cells' a* and b* in
CIELAB (CIE 1976, D65 white); equal brightness provided, a distance of 2.3 is just noticeable.
"""

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
CELLS = 8
"""Cells of a row and of a column."""
# From linear sRGB.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)  # D65


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


def chroma_error(picture: Tensor, target: Tensor) -> Tensor:
    """Errors ``[B]`` between pictures ``[B, 3, H, W]`` in [-1, 1]."""
    return chroma_difference(picture.double(), target.double(), CELLS).pow(2).sum(1).sqrt().mean((1, 2))


def chroma_difference(picture: Tensor, target: Tensor, cells: int) -> Tensor:
    """Differences of a* and b* in ``cells`` × ``cells`` areas, ``[B, 2, cells, cells]``; pictures as `chroma_error`."""
    return _cell_chroma(picture, cells) - _cell_chroma(target, cells)


def _cell_chroma(picture: Tensor, cells: int) -> Tensor:
    """a* and b* of the cells, ``[B, 2, cells, cells]``."""
    value = (picture + 1) / 2
    # No negative number under a power: its gradient would be no number, although `where` takes the other branch.
    linear = torch.where(value <= 0.04045, value / 12.92, ((value.clamp_min(0.04) + 0.055) / 1.055) ** 2.4)
    linear = F.adaptive_avg_pool2d(linear, cells)
    # Products instead of a matrix product, which autocast would compute in bfloat16.
    xyz = (linear[:, None] * linear.new_tensor(_XYZ)[..., None, None]).sum(2) / linear.new_tensor(_WHITE)[:, None, None]
    f = torch.where(xyz > (6 / 29) ** 3, xyz.clamp_min(1e-9) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([500 * (x - y), 200 * (y - z)], 1)
