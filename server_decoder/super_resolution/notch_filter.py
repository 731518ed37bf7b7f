"""A fixed filter that removes waves with a period of 2 or 4 pixels: the grid that doubling a picture twice leaves.

A network that doubles a picture treats even and odd pixels differently, so its errors repeat every 2 or 4 pixels. Their
waves have some hundredths of a level, but enlarged pictures have nearly nothing else at these frequencies. The filter
changes the values of an enlarged face by less than a tenth of a level on average.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PERIOD = 4
"""In pixels; periods that divide it are removed too."""
# Sums to 1 and is exact in float16. The longer it is, the narrower the removed bands, 1/32 of a cycle per pixel here,
# and the fainter the echoes of an edge.
_COMB = tuple((8 - abs(k)) / 64 for k in range(-7, 8))
_REACH = PERIOD * (len(_COMB) // 2)


def notch_filter(picture: Tensor) -> Tensor:
    """Remove what repeats every `PERIOD` pixels in each neighbourhood of ±28 pixels; ``[B, 3, H, W]`` of any values.

    The local mean of the pixels at the same place of a period, less the local mean of all, is subtracted. Areas of one
    colour, and colours that change linearly, stay as they are, except near the picture's edges, whose pixels are
    repeated beyond them.
    """
    channels, half = picture.shape[1], PERIOD // 2
    x = F.pad(picture, (_REACH + half,) * 4, mode="replicate")
    column = torch.tensor([[[[weight] for weight in _COMB]]] * channels, dtype=x.dtype, device=x.device)
    row = torch.tensor([[[_COMB]]] * channels, dtype=x.dtype, device=x.device)
    x = F.conv2d(x, column, dilation=(PERIOD, 1), groups=channels)
    same_place = F.conv2d(x, row, dilation=(1, PERIOD), groups=channels)
    # The mean over a period around a pixel, with weights 1, 2, 2, 2, 1: two means of even sides.
    around = F.avg_pool2d(F.avg_pool2d(same_place, PERIOD, 1), 2, 1)
    return picture - (same_place[..., half:-half, half:-half] - around)
