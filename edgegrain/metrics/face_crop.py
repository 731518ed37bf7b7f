"""The part of an aligned face's frame that a recognition network sees."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def face_crop(picture: Tensor, left: float, top: float, side: float, size: int) -> Tensor:
    """A square of aligned frames ``[B, 3, S, S]``, resized bilinearly with antialiasing to ``[B, 3, size, size]``.

    Args:
        picture: the frames.
        left, top, side: of the square, as fractions of S.
        size: of the network's input, in pixels.
    """
    whole = picture.shape[-1]
    x, y, width = round(left * whole), round(top * whole), round(side * whole)
    return F.interpolate(picture[:, :, y : y + width, x : x + width], (size, size), mode="bilinear", antialias=True,
                         align_corners=False)
