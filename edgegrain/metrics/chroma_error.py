"""Error of colours, without brightness: how far the hue and saturation of an iris or of lips are from the original's.

Both pictures are reduced to 8 x 8 cells, so that texture and small displacements do not count. A cell of a box around
an eye is about as large as the iris. The error is the mean Euclidean distance of the cells' a* and b* in CIELAB (CIE
1976, D65 white); equal brightness provided, a distance of 2.3 is just noticeable.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 8
"""Cells of a row and of a column."""
# From linear sRGB.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)  # D65


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
