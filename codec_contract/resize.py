"""The exact resize: the resampling that every client must reproduce byte for byte.

It is Pillow's 8-bit bilinear (antialiased triangle) resampler, called once per axis, width first and
then height. Pillow itself picks the order of the passes by cost, which changes bytes by one level, so
each call here resizes one axis only. ``docs/exact_square.md`` specifies the arithmetic.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ImageError
from codec_contract.pixels import Rgb, describe_array, is_rgb

# The kernel of bicubic resampling in Matlab's imresize and Pillow.
A = -0.5
"""Keys 1981; torch's own bicubic kernel has -0.75."""


def cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel at distances ``x``, float64 of any shape, in samples; 0 from 2 on."""
    x = np.abs(x)
    inner = ((A + 2) * x - (A + 3)) * x * x + 1
    outer = ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))


MAX_SIDE = 65535
"""Longest side accepted, in pixels, before and after."""


def check_resize(rgb: Rgb, size: tuple[int, int]) -> None:
    """Raise ``ImageError`` unless ``rgb`` is uint8 [H, W, 3] and all sides lie in 1...MAX_SIDE."""
    if not is_rgb(rgb):
        raise ImageError(f"the exact resize takes uint8 [H, W, 3], got {describe_array(rgb)}")
    height, width = rgb.shape[:2]
    for name, side in (("width", width), ("height", height), ("new width", size[0]), ("new height", size[1])):
        if not 1 <= side <= MAX_SIDE:
            raise ImageError(f"the exact resize takes sides of 1 to {MAX_SIDE} pixels, {name} is {side}")


def exact_resize(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    """Resize a picture, uint8 [H, W, 3], to ``size = (width, height)``; returns a new uint8 [h, w, 3]."""
    from PIL import Image  # decoders use `cubic` on hosts without Pillow

    check_resize(rgb, size)
    width, height = int(size[0]), int(size[1])
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    picture = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(picture, dtype=np.uint8)
