"""The exact resize: the resampling that every client must reproduce byte for byte.

It is Pillow's 8-bit bilinear (antialiased triangle) resampler, called once per axis, width first and
then height. Pillow itself picks the order of the passes by cost, which changes bytes by one level, so
each call here resizes one axis only. ``docs/exact_square.md`` specifies the arithmetic,
``resize_reference`` implements that page.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from codec_contract.errors import ImageError
from codec_contract.rgb import Rgb, describe_array, is_rgb

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
    """Resize a picture, uint8 [H, W, 3], to ``size = (width, height)``; returns a new uint8 [h, w, 3].

    Raises:
        ImageError: the array is of another type or shape, or a side is out of range.
    """
    check_resize(rgb, size)
    width, height = int(size[0]), int(size[1])
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    picture = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(picture, dtype=np.uint8)
