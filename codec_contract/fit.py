"""Fit a picture to the encoder's square, and undo the fit on the restored square.

Integer arithmetic only, so every client computes the same square from the same RGB.
"""

from __future__ import annotations

import operator
from typing import Literal, cast, get_args

import numpy as np
from PIL import Image

from codec_contract.errors import ImageError
from codec_contract.exact_square import exact_resize
from codec_contract.payload import FIT_CROP, FIT_PAD, FITS, MAX_ORIGINAL_SIDE, Header
from codec_contract.pixels import Rgb

Fit = Literal["pad", "stretch", "crop"]
NamedSize = Literal["original", "native"]
Size = NamedSize | int
"""Size of a restored picture: the original's, the decoder's own, or the longest side in pixels."""

PREPROCESSING = {"resize": "pillow-bilinear-22bit-width-first", "fit_default": FIT_PAD, "pad": "edge"}
"""The preprocessing that this file implements, in the terms of a bundle's manifest."""

MAX_PIXELS = (1 << 30) // 12
"""Most pixels of a restored picture by default, 89,478,485: a quarter of a GiB of RGB."""
MAX_PHOTO_PIXELS = 200_000_000
"""Most pixels that a picture file may claim by default: 16320 x 12240, the largest that phones make, has fewer."""

_STRIP_PIXELS = 1 << 22  # a resize works on strips of about this many pixels, so that its copies stay small


def content_size(original_size: tuple[int, int], hr: int) -> tuple[int, int]:
    """(width, height) of an original scaled so the longest side is ``hr`` pixels, the other rounded, at least 1."""
    width, height = original_size
    longest = max(width, height)
    scaled = [max(1, (2 * side * hr + longest) // (2 * longest)) for side in (width, height)]
    return scaled[0], scaled[1]


def fit_picture(rgb: Rgb, hr: int, fit: str = FIT_PAD) -> Rgb:
    """Bring a picture, uint8 ``[H, W, 3]``, to the encoder's square, uint8 ``[hr, hr, 3]``; integer arithmetic only.

    ``"pad"`` scales to `content_size` and repeats the edge pixels around the result: ``(hr - side) // 2`` pixels
    before it, the rest after it. ``"stretch"`` scales both sides to ``hr``. ``"crop"`` takes the largest centred
    square, from ``(side - square) // 2`` on, and scales it to ``hr``.
    """
    check_fit(fit)
    height, width = rgb.shape[:2]
    if fit == FIT_CROP:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        rgb = rgb[top : top + side, left : left + side]
    if fit != FIT_PAD:
        return _resize(rgb, (hr, hr))
    content_width, content_height = content_size((width, height), hr)
    content = _resize(rgb, (content_width, content_height))
    left, top = (hr - content_width) // 2, (hr - content_height) // 2
    around = ((top, hr - content_height - top), (left, hr - content_width - left), (0, 0))
    return np.pad(content, around, mode="edge")


def restored_size(header: Header, hr: int, size: Size) -> tuple[int, int]:
    """(width, height) of the picture that a payload is restored to with a decoder of ``hr`` pixels: its original's
    aspect, or the square that was cut out of it."""
    if header.cut is not None:
        side = header.cut.side if size == "original" else hr if size == "native" else size
        return side, side
    if size == "original":
        return header.original_size
    return content_size(header.original_size, hr if size == "native" else size)


def unfit_picture(restored: Rgb, header: Header, size: tuple[int, int], enlargement: int = 1) -> Rgb:
    """Undo `fit_picture` on the decoder's square, uint8 ``[side, side, 3]``, which is ``enlargement`` times as large as
    the encoder's: cut the padding off, and resize (Lanczos) to (width, height), those of `restored_size`."""
    if header.fit == FIT_PAD:
        hr = len(restored) // enlargement
        content = content_size(header.original_size, hr)
        left, top = (enlargement * ((hr - length) // 2) for length in content)
        restored = restored[top : top + enlargement * content[1], left : left + enlargement * content[0]]
    restored = np.ascontiguousarray(restored)
    if restored.shape[1::-1] == size:
        return restored
    return np.array(Image.fromarray(restored).resize(size, Image.Resampling.LANCZOS))


def parse_size(text: str) -> Size:
    """The size that a text names: ``original``, ``native``, or a number of pixels in digits."""
    if text in get_args(NamedSize):
        return cast(NamedSize, text)
    if not text.isascii() or not text.isdecimal() or text.startswith("0") or len(text) > len(str(MAX_ORIGINAL_SIDE)):
        raise ImageError(f"unknown size {text[:80]!r}, expected original, native or 1 to {MAX_ORIGINAL_SIDE} pixels")
    return check_size(int(text))


def check_size(size: Size) -> Size:
    """The size, with a number of pixels, for instance numpy's, as an ``int``; `ImageError` for what is no size."""
    if size in get_args(NamedSize):
        return size
    try:
        pixels = operator.index(size)  # type: ignore[arg-type]
    except TypeError:
        raise ImageError(f"unknown size {size!r}, expected 'original', 'native' or a number of pixels") from None
    if not 1 <= pixels <= MAX_ORIGINAL_SIDE:
        raise ImageError(f"a size is 1 to {MAX_ORIGINAL_SIDE} pixels, got {pixels}")
    return pixels


def check_fit(fit: str) -> None:
    """Raise `ImageError` unless ``fit`` is ``"pad"``, ``"stretch"`` or ``"crop"``."""
    if fit not in FITS:
        raise ImageError(f"unknown fit {fit!r}, expected one of {', '.join(FITS)}")


def _resize(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    """`exact_resize` with little memory: rows are independent in its first pass, so it runs strip by strip."""
    height, width = rgb.shape[:2]
    rows = max(1, _STRIP_PIXELS // width)
    if height > rows:
        strips = (rgb[first : first + rows] for first in range(0, height, rows))
        rgb = np.concatenate([exact_resize(strip, (size[0], len(strip))) for strip in strips])
    return exact_resize(rgb, size)
