"""The exact square, cut out of a picture at any angle, and the exact resize: the same bytes on every client.

`docs/exact_square.md` specifies the arithmetic; that of the square is all integers, so this file is also the reference.
The resize is Pillow's 8-bit bilinear (antialiased triangle) resampler, called once per axis, width first and then
height. Pillow itself picks the order of the passes by cost, which changes bytes by one level, so each call here resizes
one axis only.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from codec_contract.oriented_square import OrientedSquare
from codec_contract.pixels import Rgb

OVERSAMPLING = 2  # samples along a side of the square, per pixel of the result
GREY = 128

Positions = npt.NDArray[np.int64]

_ROWS = 64  # rows of samples at once, so that their temporary arrays stay in the cache
_STRIP_PIXELS = 1 << 17


def cut_square(rgb: Rgb, square: OrientedSquare, side: int) -> Rgb:
    """The pixels of a checked square of a picture as the encoder takes them, uint8 ``[side, side, 3]``; pixels outside
    of the picture repeat its edge."""
    return exact_resize(sample_square(rgb, square, OVERSAMPLING * side), (side, side))


def sample_square(rgb: Rgb, square: OrientedSquare, samples: int, outside: Literal["edge", "grey"] = "edge") -> Rgb:
    """Sample a square, uint8 ``[samples, samples, 3]``, after box reduction by a whole factor; pixels outside of the
    picture repeat its edge or, for networks that find faces, are grey."""
    factor = max(1, math.isqrt(square.across_x**2 + square.across_y**2) // (4 * samples))
    size = width, height = -(-rgb.shape[1] // factor), -(-rgb.shape[0] // factor)
    across = 2 * np.arange(samples, dtype=np.int64) + 1 - samples  # of a sample's middle, in 1/(2 samples) of the side

    def positions(columns: Positions, rows: Positions) -> tuple[Positions, Positions]:
        """x and y in 1/65536 pixel of the reduced picture, from its first pixel's middle."""
        x = 2 * samples * square.x + columns * square.across_x - rows * square.across_y
        y = 2 * samples * square.y + columns * square.across_y + rows * square.across_x
        return 8192 * x // (samples * factor) - 32768, 8192 * y // (samples * factor) - 32768

    # Positions of the corners' samples bound those of all others.
    corners = positions(across[[0, -1]], across[[0, -1], None])
    (left, right), (top, bottom) = (
        np.clip([axis.min() >> 16, (axis.max() >> 16) + 1], 0, length - 1) + (0, 1)
        for axis, length in zip(corners, size, strict=True)
    )
    pixels = reduce_picture(rgb[top * factor : bottom * factor, left * factor : right * factor], factor)
    output = np.empty((samples, samples, 3), np.uint8)
    for first in range(0, samples, _ROWS):
        x, y = positions(across, across[first : first + _ROWS, None])
        block = output[first : first + _ROWS]
        block[:] = _bilinear(pixels, x, y, (left, top), size)
        if outside == "grey":
            beyond = (x < -32768) | (y < -32768) | (x >= (width << 16) - 32768) | (y >= (height << 16) - 32768)
            block[beyond] = GREY
    return output


def reduce_picture(rgb: Rgb, factor: int) -> Rgb:
    """Box reduction: each pixel is the mean of a block of factor x factor pixels, smaller at the right and lower edge.

    The mean of n levels is ``(sum + n // 2) * (2**24 // n) >> 24``, which is Pillow's arithmetic.
    """
    if factor == 1:
        return rgb
    from PIL import Image  # decoders use `cubic` on hosts without Pillow

    height, width = rgb.shape[:2]
    reduced = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // (width * factor))  # of the result, at once: three times faster than the whole
    for first in range(0, len(reduced), rows):
        strip = np.ascontiguousarray(rgb[first * factor : (first + rows) * factor])
        reduced[first : first + rows] = Image.fromarray(strip).reduce(factor)
    return reduced


def _bilinear(pixels: Rgb, x: Positions, y: Positions, low: tuple[int, int], size: tuple[int, int]) -> Rgb:
    """Interpolate with weights of 8 bits; ``pixels`` begins at ``low`` in a picture of ``size``."""
    height, width = pixels.shape[:2]
    flat = pixels.reshape(-1, 3)
    p, q = ((position >> 8 & 255).astype(np.int32)[..., None] for position in (x, y))
    left, right = (np.clip(np.clip((x >> 16) + step, 0, size[0] - 1) - low[0], 0, width - 1) for step in (0, 1))
    rows = [np.clip(np.clip((y >> 16) + step, 0, size[1] - 1) - low[1], 0, height - 1) * width for step in (0, 1)]
    upper, lower = (flat.take(row + left, axis=0) * (256 - p) + flat.take(row + right, axis=0) * p for row in rows)
    return ((upper * (256 - q) + lower * q + 32768) >> 16).astype(np.uint8)


def cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel (1981) at distances ``x``, float64 of any shape, in samples; 0 from 2 on.

    As in Matlab's imresize and Pillow; torch's own bicubic kernel has a = -0.75.
    """
    a, x = -0.5, np.abs(x)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))


def exact_resize(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    """Resize a picture, uint8 [H, W, 3], to ``size = (width, height)``; returns a new uint8 [h, w, 3]."""
    from PIL import Image

    width, height = size
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    picture = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(picture, dtype=np.uint8)
