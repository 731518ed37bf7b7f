"""Fit a picture to the encoder's square, and undo the fit on the restored square.

Integer arithmetic only, so every client computes the same square from the same RGB.
"""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import Literal, cast, get_args

import numpy as np
from PIL import Image

from codec_contract.errors import ImageError
from codec_contract.payload import FIT_CROP, FIT_PAD, FIT_STRETCH, FITS, MAX_ORIGINAL_SIDE, Header
from codec_contract.pixels import Rgb, describe_array, is_rgb
from codec_contract.resize import exact_resize

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
    """(width, height) of an original scaled so that its longest side is ``hr`` pixels, the other rounded, at least 1.
    """
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
    _check_rgb(rgb, "fit_picture takes")
    height, width = rgb.shape[:2]
    if fit == FIT_STRETCH:
        return _resize(rgb, (hr, hr))
    if fit == FIT_CROP:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return _resize(rgb[top : top + side, left : left + side], (hr, hr))
    content_width, content_height = content_size((width, height), hr)
    content = _resize(rgb, (content_width, content_height))
    left, top = (hr - content_width) // 2, (hr - content_height) // 2
    around = ((top, hr - content_height - top), (left, hr - content_width - left), (0, 0))
    return np.pad(content, around, mode="edge")


def unfit_picture(
    restored: Rgb, original_size: tuple[int, int], fit: str = FIT_PAD, size: Size = "original", *,
    enlargement: int = 1, max_pixels: int = MAX_PIXELS,
) -> Rgb:
    """Undo `fit_picture` on the decoder's square: remove the padding, restore the aspect; a crop stays square.

    ``restored`` is uint8 ``[side, side, 3]`` with ``side = enlargement * hr``. ``"original"`` resizes (Lanczos) to the
    original's size, ``"native"`` stays at the decoder's resolution, a number of pixels makes the longest side that
    long. A payload of some bytes may claim 268 million pixels: more than ``max_pixels`` are refused.
    """
    check_fit(fit)
    _check_rgb(restored, "unfit_picture takes")
    size = check_size(size)
    width, height = original_size
    if min(width, height) < 1 or (size == "original" and max(width, height) > MAX_ORIGINAL_SIDE):
        raise ImageError(f"the original size {width} x {height} is out of range: sides of 1 to {MAX_ORIGINAL_SIDE} "
                         "pixels")
    side = restored.shape[0]
    if restored.shape[1] != side:
        raise ImageError(f"the restored picture must be square, got {restored.shape[1]} x {side}")
    hr, rest = divmod(side, enlargement)
    if rest:
        raise ImageError(f"a square of {side} pixels is not {enlargement} times as large as another")

    native = (hr, hr) if fit == FIT_CROP else content_size(original_size, hr)
    wanted = native
    if size == "original":
        wanted = (min(original_size),) * 2 if fit == FIT_CROP else (width, height)
    elif isinstance(size, int):
        wanted = (size, size) if fit == FIT_CROP else content_size(original_size, size)
    if size != "native" and wanted[0] * wanted[1] > max_pixels:
        raise ImageError(
            f"the picture would have {wanted[0]} x {wanted[1]} pixels, more than {max_pixels}; "
            "ask for size='native' (--size native) or raise max_pixels (--max-megapixels)"
        )
    content = restored
    if fit == FIT_PAD:
        left, top = (enlargement * ((hr - length) // 2) for length in native)
        content = restored[top : top + enlargement * native[1], left : left + enlargement * native[0]]
    content = np.ascontiguousarray(content)
    if content.shape[1::-1] == wanted:
        return content
    return np.array(Image.fromarray(content).resize(wanted, Image.Resampling.LANCZOS))


def unfit_restored(
    restored: Rgb, header: Header, size: Size = "original", *, enlargement: int = 1, max_pixels: int = MAX_PIXELS
) -> Rgb:
    """Apply `unfit_picture` with a payload's header; a cropped or aligned picture gives its square."""
    original, fit = header.original_size, header.fit
    if header.cut is not None:
        original, fit = (header.cut.side,) * 2, FIT_CROP
    return unfit_picture(restored, original, fit, size, enlargement=enlargement, max_pixels=max_pixels)


def parse_size(text: str) -> Size:
    """The size that a text names: ``original``, ``native``, or a number of pixels in digits."""
    if text in get_args(NamedSize):
        return cast(NamedSize, text)
    if not text.isascii() or not text.isdecimal() or text.startswith("0") or len(text) > len(str(MAX_ORIGINAL_SIDE)):
        raise ImageError(f"unknown size {text[:80]!r}, expected original, native or 1 to {MAX_ORIGINAL_SIDE} pixels")
    return check_size(int(text))


def check_size(size: Size) -> Size:
    """The size, with a number of pixels, for instance numpy's, as an ``int``; `ImageError` for what is no size."""
    if isinstance(size, str) and size in get_args(NamedSize):
        return size
    pixels = None
    if not isinstance(size, (str, bool)):
        with suppress(TypeError):
            pixels = operator.index(size)
    if pixels is None:
        raise ImageError(f"unknown size {size!r}, expected 'original', 'native' or a number of pixels")
    if not 1 <= pixels <= MAX_ORIGINAL_SIDE:
        raise ImageError(f"a size is 1 to {MAX_ORIGINAL_SIDE} pixels, got {pixels}")
    return pixels


def check_fit(fit: str) -> None:
    """Raise `ImageError` unless ``fit`` is ``"pad"``, ``"stretch"`` or ``"crop"``."""
    if not isinstance(fit, str) or fit not in FITS:
        raise ImageError(f"unknown fit {fit!r}, expected one of {', '.join(FITS)}")


def _resize(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    """`exact_resize` with little memory: rows are independent in its first pass, so it runs strip by strip."""
    height, width = rgb.shape[:2]
    rows = max(1, _STRIP_PIXELS // width)
    if height > rows:
        strips = (rgb[first : first + rows] for first in range(0, height, rows))
        rgb = np.concatenate([exact_resize(strip, (size[0], len(strip))) for strip in strips])
    return exact_resize(rgb, size)


def _check_rgb(rgb: Rgb, who: str) -> None:
    if not is_rgb(rgb):
        raise ImageError(f"{who} uint8 [H, W, 3], got {describe_array(rgb)}")
    if rgb.size == 0:
        raise ImageError(f"{who} a picture of at least one pixel, got {rgb.shape[1]} x {rgb.shape[0]}")
