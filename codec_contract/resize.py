"""The exact resize: the resampling that every client must reproduce byte for byte.

It is Pillow's 8-bit bilinear (antialiased triangle) resampler, called once per axis, width first and
then height. Pillow itself picks the order of the passes by cost, which changes bytes by one level, so
each call here resizes one axis only. ``docs/exact_square.md`` specifies the arithmetic,
``resize_reference`` implements that page.
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


# The exact resize in numpy integers: a reference implementation of ``docs/exact_square.md``. Slower than `exact_resize`
# and equal to it in every byte. It proves the specification and is the text to port: no step uses floating point, and
# no number exceeds 2**53.
PRECISION_BITS = 22
"""Fraction bits of a filter weight (Pillow's ``PRECISION_BITS`` = 32 - 8 - 2)."""


def filter_weights(size_in: int, size_out: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Triangle-filter weights of one axis, in units of 2**-22.

    Returns ``first``, int64 [size_out], the input position of each output position's first weight (it may be negative),
    and ``weights``, int64 [size_out, taps]; weights of positions outside the input or the triangle are zero.
    """
    half_width = max(size_in, size_out)  # of the triangle, in units of 1 / size_out input pixels
    taps = 2 * (-(-half_width // size_out)) + 1
    centre = (2 * np.arange(size_out, dtype=np.int64) + 1) * size_in  # in units of 1 / (2 size_out) pixels
    first = (centre - 2 * half_width) // (2 * size_out)
    x = first[:, None] + np.arange(taps, dtype=np.int64)
    height = np.maximum(2 * half_width - np.abs((2 * x + 1) * size_out - centre[:, None]), 0)
    height[(x < 0) | (x >= size_in)] = 0
    total = height.sum(axis=1, keepdims=True)
    return first, ((height << (PRECISION_BITS + 1)) + total) // (2 * total)


def resize_axis(levels: npt.NDArray[np.uint8], size_out: int) -> npt.NDArray[np.uint8]:
    """Resample the second axis of uint8 [rows, size_in, channels] to ``size_out`` positions."""
    rows, size_in, channels = levels.shape
    if size_in == size_out:
        return levels.copy()
    first, weights = filter_weights(size_in, size_out)
    output = np.empty((rows, size_out, channels), dtype=np.uint8)
    for position in range(size_out):
        used = np.flatnonzero(weights[position])
        window = levels[:, first[position] + used].astype(np.int32)  # [rows, taps, channels]
        # Weights sum to 2**22 within the number of taps, so the total stays below 2**31.
        total = np.einsum("rtc,t->rc", window, weights[position, used].astype(np.int32))
        output[:, position] = np.clip((total + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS, 0, 255)
    return output


def reference_resize(rgb: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize uint8 [H, W, 3] to ``size = (width, height)`` as ``resize.exact_resize``, with the same errors."""
    check_resize(rgb, size)
    width, height = int(size[0]), int(size[1])
    narrowed = resize_axis(rgb, width)  # [H, width, 3]
    return np.ascontiguousarray(resize_axis(narrowed.transpose(1, 0, 2), height).transpose(1, 0, 2))
