"""What classical codecs make of a byte budget: JPEG, WebP and AVIF, helped by downscaling.

At some hundred bytes a picture no codec is at its best at full size. The strong classical opponent
shrinks the picture (bicubic), encodes it at the highest quality that fits, and enlarges it again
(bicubic); how much to shrink is searched. Only numpy and Pillow are needed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, features

from edgegrain.contract.errors import EdgegrainError
from edgegrain.evaluation.metrics import Picture, psnr

CODECS = ("jpeg", "webp", "avif")
FACTORS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0, 32.0)
"""Downscaling factors that are tried."""
MAX_QUALITY = 100


@dataclass(frozen=True)
class BaselineResult:
    """A picture that went through a classical codec.

    Attributes:
        codec: ``"jpeg"``, ``"webp"`` or ``"avif"``.
        rgb: uint8 ``[H, W, 3]``, of the original's size.
        nbytes: size of the encoded file.
        factor: how much the picture was downscaled before.
        quality: the codec's own quality, 0...100.
    """

    codec: str
    rgb: Picture
    nbytes: int
    factor: float
    quality: int

    @property
    def description(self) -> str:
        """Such as ``AVIF, quality 31, downscaled 4x, 598 bytes``."""
        name = "WebP" if self.codec == "webp" else self.codec.upper()
        scaling = "full size" if self.factor == 1 else f"downscaled {self.factor:g}x"
        return f"{name}, quality {self.quality}, {scaling}, {self.nbytes} bytes"


def best_at(rgb: Picture, codec: str, max_bytes: int,
            score: Callable[[Picture], float] | None = None) -> BaselineResult | None:
    """The best that ``codec`` can do with at most ``max_bytes``, or None if nothing fits.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        codec: ``"jpeg"``, ``"webp"`` or ``"avif"``.
        max_bytes: size of the whole file, headers included.
        score: distance of a uint8 ``[H, W, 3]`` from the original, lower is better; without it, PSNR decides.

    Raises:
        EdgegrainError: unknown codec, or this Pillow was built without it.
    """
    judge = score or (lambda picture: -psnr(picture, rgb))
    return min(candidates(rgb, codec, max_bytes), key=lambda result: judge(result.rgb), default=None)


def candidates(rgb: Picture, codec: str, max_bytes: int) -> Iterator[BaselineResult]:
    """For every downscaling factor at which something fits, the highest quality that does; see `best_at`."""
    encode = _encoder(codec)
    original = Image.fromarray(rgb)
    seen = set()
    for factor in FACTORS:
        size = (max(1, round(original.width / factor)), max(1, round(original.height / factor)))
        if size in seen:
            continue
        seen.add(size)
        small = original if factor == 1 else original.resize(size, Image.Resampling.BICUBIC)
        found = _highest_quality(partial(encode, small), max_bytes)
        if found is None:
            continue
        data, quality = found
        with Image.open(io.BytesIO(data)) as decoded:
            restored = decoded.convert("RGB").resize(original.size, Image.Resampling.BICUBIC)
        yield BaselineResult(codec, np.asarray(restored), len(data), factor, quality)
        if quality == MAX_QUALITY:
            return  # even the best quality fits: shrinking further can only lose


def _highest_quality(encode: Callable[[int], bytes], max_bytes: int) -> tuple[bytes, int] | None:
    """Bisection over 0...100, sizes taken to grow with quality; every result is one that was seen to fit."""
    best: tuple[bytes, int] | None = None
    low, high = 0, MAX_QUALITY
    quality = 0  # most failures are found at once
    while low <= high:
        data = encode(quality)
        if len(data) <= max_bytes:
            best, low = (data, quality), quality + 1
        else:
            high = quality - 1
        quality = (low + high) // 2
    return best


def _encoder(codec: str) -> Callable[[Image.Image, int], bytes]:
    """``(picture, quality) -> file``, without metadata, at the codec's most thorough setting."""
    if codec == "jpeg":
        return lambda picture, quality: min(
            (_save(picture, "JPEG", quality=quality, subsampling="4:2:0", optimize=True, progressive=progressive)
             for progressive in (False, True)), key=len)
    if codec not in ("webp", "avif"):
        raise EdgegrainError(f"unknown codec {codec!r}; the classical codecs are jpeg, webp and avif")
    if not features.check(codec):
        raise EdgegrainError(f"this Pillow was built without {codec.upper()}; the wheels from 11.3 on have it")
    if codec == "webp":
        return lambda picture, quality: _save(picture, "WEBP", quality=quality, method=6)
    # Speed 4 takes five times as long for files of downscaled pictures that are 0 to 2 percent smaller.
    return lambda picture, quality: _save(picture, "AVIF", quality=quality, subsampling="4:2:0", speed=6, max_threads=1)


def _save(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()
