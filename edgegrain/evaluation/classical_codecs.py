"""Classical codecs at a byte budget: JPEG, WebP, AVIF and JPEG XL, each combined with downscaling.

At a few hundred bytes per picture no codec is at its best at full size. The strongest classical baseline downscales the
picture (bicubic), encodes it at the highest quality that fits, and upscales it again (bicubic); the scale is searched
for every picture. Files are cached, so further budgets for the same picture cost few encodings.
"""

from __future__ import annotations

import contextlib
import io
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
from PIL import Image

from codec_contract.errors import EdgegrainError
from codec_contract.pixels import Rgb
from edgegrain.metrics.pixel_scores import psnr

CODECS = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "jpeg-xl": "JPEG XL"}  # name -> display name
JPEG_XL_PACKAGE = "imagecodecs"  # Pillow writes the other formats; its plugin for this one is under the GPL
SIDES = (*range(8, 128, 8), *range(128, 256, 16), *range(256, 512, 64), *range(512, 1024, 128))
SIDES = (*SIDES, *range(1024, 2048, 256), *range(2048, 4097, 512))
"""Longer sides of the downscaled pictures of the search: multiples of the blocks to which a codec pads the picture."""
SMALLEST = 32  # largest downscaling factor of the search
BLOCKS = {"jpeg": 8, "webp": 16, "avif": 8, "jpeg-xl": 8}
"""Codec -> side of a block, in pixels; sides of the search are multiples of it."""
MAX_QUALITY = 100
MIN_QUALITY = {"jpeg": 0, "webp": 0, "avif": 0, "jpeg-xl": 1}
"""Codec -> lowest quality of the search. At quality 0 JPEG XL files may be larger than at 1."""
SEARCH_REVISION = 2  # version of the search; increased when it finds other results, because caches keep them

Score = Callable[["ClassicalResult"], float]  # distance of a result from the original, lower is better


@dataclass(frozen=True)
class Setting:
    """The parameters of one encoding."""

    codec: str  # a name in `CODECS`
    factor: float  # of downscaling before encoding, at least 1
    quality: int  # the codec's own, 0...100
    full_chroma: bool = False  # AVIF in 4:4:4 instead of 4:2:0

    @property
    def description(self) -> str:
        """Such as ``AVIF 4:4:4, quality 31, downscaled 2.67x``."""
        scaling = "full size" if self.factor == 1 else f"downscaled {self.factor:.3g}x"
        return f"{CODECS[self.codec]}{' 4:4:4' * self.full_chroma}, quality {self.quality}, {scaling}"


@dataclass(frozen=True, eq=False)
class ClassicalResult:
    """A picture, at the original's size, that was encoded and decoded by a classical codec in a file of ``nbytes``."""

    setting: Setting
    rgb: Rgb
    nbytes: int

    @property
    def description(self) -> str:
        """Such as ``AVIF, quality 31, downscaled 4x, 598 bytes``."""
        return f"{self.setting.description}, {self.nbytes} bytes"


class ClassicalCodec:
    """A codec of `CODECS` applied to one picture, uint8 ``[H, W, 3]``; encodings and results are cached."""

    def __init__(self, rgb: Rgb, codec: str) -> None:
        self._codec, self._rgb, self._original = codec, rgb, Image.fromarray(rgb)
        if codec == "jpeg-xl":
            _jpeg_xl()
        self._small: dict[float, Image.Image] = {1.0: self._original}
        self._files: dict[Setting, bytes] = {}
        self._results: dict[Setting, ClassicalResult] = {}
        self._factors = _factors(max(self._original.size), BLOCKS[codec])
        self._chroma = (False, True) if codec == "avif" else (False,)

    def at_full_size(self, max_bytes: int) -> ClassicalResult | None:
        """The highest quality that fits without downscaling, in 4:2:0; or None if none does."""
        return self._highest_quality(1.0, False, max_bytes)

    def best(self, max_bytes: int, score: Score | None = None) -> ClassicalResult | None:
        """The best that fits into ``max_bytes``, headers included, by default by PSNR; None if nothing fits."""
        score = score or (lambda result: -psnr(result.rgb, self._rgb))
        scores: dict[ClassicalResult, float] = {}
        for full_chroma in self._chroma:
            scores |= self._coarse_to_fine(full_chroma, max_bytes, score)
        return min(scores, key=scores.__getitem__, default=None)

    def result(self, setting: Setting) -> ClassicalResult:
        """The picture after encoding and decoding."""
        if setting not in self._results:
            data = self._file(setting)
            restored = _decode(self._codec, data).resize(self._original.size, Image.Resampling.BICUBIC)
            self._results[setting] = ClassicalResult(setting, np.asarray(restored), len(data))
        return self._results[setting]

    def _coarse_to_fine(self, full_chroma: bool, max_bytes: int, score: Score) -> dict[ClassicalResult, float]:
        """Scores of every fourth useful factor, then of those at distances 2 and 1 from the best two.

        Around the best one alone, single codecs would have an LPIPS-Alex that is up to 3 % higher; around two, that of
        the best of all factors (six faces at 350, 750 and 2200 bytes).
        """
        factors = self._useful_factors(full_chroma, max_bytes)
        scores, results = dict[int, float](), dict[ClassicalResult, float]()

        def look(indices: Iterable[int]) -> None:
            for index in indices:
                if 0 <= index < len(factors) and index not in scores:
                    result = self._highest_quality(factors[index], full_chroma, max_bytes)
                    scores[index] = math.inf if result is None else score(result)
                    if result is not None:
                        results[result] = scores[index]

        look(range(0, len(factors), 4))
        for distance in (2, 1):
            for index in sorted(scores, key=scores.__getitem__)[:2]:
                look((index - distance, index + distance))
        return results

    def _useful_factors(self, full_chroma: bool, max_bytes: int) -> list[float]:
        """By bisection the factors at which something fits, up to the first at which even the best quality does."""

        def fits(quality: int, factor: float) -> bool:
            return len(self._file(Setting(self._codec, factor, quality, full_chroma))) <= max_bytes

        first = bisect_left(self._factors, True, key=partial(fits, MIN_QUALITY[self._codec]))
        last = bisect_left(self._factors, True, first, key=partial(fits, MAX_QUALITY))
        return self._factors[first : last + 1]

    def _highest_quality(self, factor: float, full_chroma: bool, max_bytes: int) -> ClassicalResult | None:
        """Bisection, assuming that size grows with quality; every result was checked to fit."""
        best, low, high = None, MIN_QUALITY[self._codec], MAX_QUALITY
        quality = low  # finds most failures immediately
        while low <= high:
            setting = Setting(self._codec, factor, quality, full_chroma)
            if len(self._file(setting)) <= max_bytes:
                best, low = setting, quality + 1
            else:
                high = quality - 1
            quality = (low + high) // 2
        return None if best is None else self.result(best)

    def _file(self, setting: Setting) -> bytes:
        if setting not in self._files:
            if setting.factor not in self._small:
                width, height = (max(1, round(side / setting.factor)) for side in self._original.size)
                self._small[setting.factor] = self._original.resize((width, height), Image.Resampling.BICUBIC)
            self._files[setting] = _encode(self._small[setting.factor], setting)
        return self._files[setting]


def encode_lossless(rgb: Rgb, codec: Literal["png", "webp", "jpeg-xl"]) -> bytes:
    """Encode ``rgb``, uint8 ``[H, W, 3]``, losslessly and without metadata, at the format's slowest setting."""
    picture = Image.fromarray(rgb)
    if codec == "png":
        return _save(picture, "PNG", optimize=True)
    if codec == "webp":
        return _save(picture, "WEBP", lossless=True, quality=100, method=6, exact=True)
    return _save_jpeg_xl(picture, lossless=True, effort=9)


def library_versions() -> dict[str, str]:
    """Package -> version of the libraries that write the files."""
    versions = {"pillow": version("pillow")}
    with contextlib.suppress(PackageNotFoundError):
        versions[JPEG_XL_PACKAGE] = version(JPEG_XL_PACKAGE)
    return versions


def _factors(longest: int, block: int) -> list[float]:
    """Factors of the search for a picture whose longer side is ``longest``, from 1 upwards."""
    sides = [side for side in reversed(SIDES) if longest / SMALLEST <= side < longest and side % block == 0]
    return [longest / side for side in (longest, *sides)]


def _encode(picture: Image.Image, setting: Setting) -> bytes:
    """The file of a downscaled picture, without metadata."""
    quality, subsampling = setting.quality, "4:4:4" if setting.full_chroma else "4:2:0"
    if setting.codec == "jpeg":
        options = {"quality": quality, "subsampling": subsampling, "optimize": True}
        return min((_save(picture, "JPEG", progressive=each, **options) for each in (False, True)), key=len)
    if setting.codec == "jpeg-xl":
        return _save_jpeg_xl(picture, level=quality, effort=7)
    if setting.codec == "webp":
        return _save(picture, "WEBP", quality=quality, method=6)
    # Speed 4 takes five times as long as 6 for files of downscaled pictures that are 0 to 2 percent smaller.
    return _save(picture, "AVIF", quality=quality, subsampling=subsampling, speed=6, max_threads=1)


def _decode(codec: str, data: bytes) -> Image.Image:
    """Decode a file to RGB."""
    if codec == "jpeg-xl":
        return Image.fromarray(_jpeg_xl().jpegxl_decode(data))
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _jpeg_xl() -> Any:
    try:
        import imagecodecs
    except ModuleNotFoundError as error:
        raise EdgegrainError(f"JPEG XL needs {JPEG_XL_PACKAGE}; install: pip install 'edgegrain[eval]'") from error
    return imagecodecs


def _save_jpeg_xl(picture: Image.Image, **options: object) -> bytes:
    """A bare codestream, without the container."""
    return _jpeg_xl().jpegxl_encode(np.asarray(picture), usecontainer=False, numthreads=1, **options)


def _save(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()
