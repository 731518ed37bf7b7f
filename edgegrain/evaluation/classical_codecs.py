"""Classical codecs at a byte budget: JPEG, WebP, AVIF and JPEG XL, each combined with downscaling.

At a few hundred bytes per picture no codec is at its best at full size. The strongest classical baseline downscales the
picture (bicubic), encodes it at the highest quality that fits, and upscales it again (bicubic); the scale is searched
for every picture. File sizes are cached, so further budgets for the same picture cost few encodings.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Literal

import numpy as np
from PIL import Image, features

from codec_contract.errors import EdgegrainError
from codec_contract.rgb import Rgb
from edgegrain.metrics.psnr_ssim import psnr

CODECS = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "jpeg-xl": "JPEG XL"}
"""Name -> display name."""
JPEG_XL_PACKAGE = "imagecodecs"
"""Pillow writes the other formats; its plugin for this one is under the GPL."""
FACTORS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0, 32.0)
"""Downscaling factors of the search."""
MAX_QUALITY = 100

Thoroughness = Literal["fast", "full"]
"""``fast`` scores every second factor and the best one's neighbours; ``full`` all of them, with slower encoders."""
Score = Callable[["ClassicalResult"], float]
"""Distance of a result from the original, lower is better."""


@dataclass(frozen=True)
class Setting:
    """The parameters of one encoding.

    Attributes:
        codec: a name in `CODECS`.
        factor: downscaling factor before encoding, one of `FACTORS`.
        quality: the codec's own quality, 0...100.
    """

    codec: str
    factor: float
    quality: int

    @property
    def description(self) -> str:
        """Such as ``AVIF, quality 31, downscaled 4x``."""
        scaling = "full size" if self.factor == 1 else f"downscaled {self.factor:g}x"
        return f"{CODECS[self.codec]}, quality {self.quality}, {scaling}"


@dataclass(frozen=True, eq=False)
class ClassicalResult:
    """A picture that was encoded and decoded by a classical codec.

    Attributes:
        setting: parameters of the encoding.
        rgb: uint8 ``[H, W, 3]``, at the original's size.
        nbytes: size of the encoded file.
    """

    setting: Setting
    rgb: Rgb
    nbytes: int

    @property
    def description(self) -> str:
        """Such as ``AVIF, quality 31, downscaled 4x, 598 bytes``."""
        return f"{self.setting.description}, {self.nbytes} bytes"


class ClassicalCodec:
    """A classical codec applied to one picture; encodings and results are cached.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        codec: a name in `CODECS`.
        thoroughness: ``full`` also selects slower AVIF (speed 4 instead of 6) and JPEG XL (effort 9 instead of 7).

    Raises:
        EdgegrainError: unknown codec, or the library that writes it is not installed.
    """

    def __init__(self, rgb: Rgb, codec: str, thoroughness: Thoroughness = "fast") -> None:
        self._codec = codec
        self._rgb = rgb
        self._encode = _encoder(codec, thoroughness)
        self._thorough = thoroughness == "full"
        self._original = Image.fromarray(rgb)
        self._small: dict[int, Image.Image] = {}
        self._files: dict[tuple[int, int], bytes] = {}
        self._results: dict[tuple[int, int], ClassicalResult] = {}
        sizes = [self._size(factor) for factor in FACTORS]
        self._steps = [step for step, size in enumerate(sizes) if size not in sizes[:step]]

    def at_full_size(self, max_bytes: int) -> ClassicalResult | None:
        """The highest quality that fits without downscaling, or None if none does."""
        return self._highest_quality(0, max_bytes)

    def candidates(self, max_bytes: int) -> list[ClassicalResult]:
        """For every factor at which something fits, the highest quality that does, from full size downwards."""
        found = []
        for step in self._steps[self._first_that_fits(max_bytes):]:
            result = self._highest_quality(step, max_bytes)
            if result is not None:
                found.append(result)
                if result.setting.quality == MAX_QUALITY:
                    break  # even the best quality fits: further downscaling can only lose
        return found

    def best(self, max_bytes: int, score: Score | None = None) -> ClassicalResult | None:
        """The best that fits into ``max_bytes``, headers included, or None if nothing fits.

        Args:
            max_bytes: the budget.
            score: minus the PSNR by default, computed for every candidate. Another score may be expensive: unless the
                search is ``full``, it is computed for every second candidate and then for the neighbours of the best.
        """
        found = self.candidates(max_bytes)
        if score is None or self._thorough or len(found) < 4:
            return min(found, key=score or self.minus_psnr, default=None)
        scores = {index: score(found[index]) for index in range(0, len(found), 2)}
        middle = min(scores, key=scores.__getitem__)
        for index in (middle - 1, middle + 1):
            if 0 <= index < len(found):
                scores[index] = score(found[index])
        return found[min(scores, key=scores.__getitem__)]

    def minus_psnr(self, result: ClassicalResult) -> float:
        """The score of `best` for the highest PSNR."""
        return -psnr(result.rgb, self._rgb)

    def result(self, step: int, quality: int) -> ClassicalResult:
        """The picture after encoding at ``quality``, downscaled by ``FACTORS[step]``."""
        if (step, quality) not in self._results:
            data = self._file(step, quality)
            restored = _decode(self._codec, data).resize(self._original.size, Image.Resampling.BICUBIC)
            setting = Setting(self._codec, FACTORS[step], quality)
            self._results[step, quality] = ClassicalResult(setting, np.asarray(restored), len(data))
        return self._results[step, quality]

    def _first_that_fits(self, max_bytes: int) -> int:
        """Bisection over the factors at quality 0; assumes that files shrink with the picture."""
        low, high = 0, len(self._steps)
        while low < high:
            middle = (low + high) // 2
            if self._nbytes(self._steps[middle], 0) <= max_bytes:
                high = middle
            else:
                low = middle + 1
        return low

    def _highest_quality(self, step: int, max_bytes: int) -> ClassicalResult | None:
        """Bisection over 0...100, assuming that size grows with quality; every result was checked to fit."""
        best, low, high = None, 0, MAX_QUALITY
        quality = 0  # finds most failures immediately
        while low <= high:
            if self._nbytes(step, quality) <= max_bytes:
                best, low = quality, quality + 1
            else:
                high = quality - 1
            quality = (low + high) // 2
        return None if best is None else self.result(step, best)

    def _nbytes(self, step: int, quality: int) -> int:
        return len(self._file(step, quality))

    def _file(self, step: int, quality: int) -> bytes:
        if (step, quality) not in self._files:
            if step not in self._small:
                size = self._size(FACTORS[step])
                same = size == self._original.size
                self._small[step] = self._original if same else self._original.resize(size, Image.Resampling.BICUBIC)
            self._files[step, quality] = self._encode(self._small[step], quality)
        return self._files[step, quality]

    def _size(self, factor: float) -> tuple[int, int]:
        return max(1, round(self._original.width / factor)), max(1, round(self._original.height / factor))


def best_at(rgb: Rgb, codec: str, max_bytes: int,
            score: Callable[[Rgb], float] | None = None) -> ClassicalResult | None:
    """The best result of ``codec`` in at most ``max_bytes`` over all factors, or None if nothing fits.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        codec: a name in `CODECS`.
        max_bytes: size of the whole file, headers included.
        score: distance of a uint8 ``[H, W, 3]`` from the original, lower is better; default: minus the PSNR.

    Raises:
        EdgegrainError: unknown codec, or the library that writes it is not installed.
    """
    classical = ClassicalCodec(rgb, codec)
    key = classical.minus_psnr if score is None else lambda result: score(result.rgb)
    return min(classical.candidates(max_bytes), key=key, default=None)


def rebuild(rgb: Rgb, setting: Setting, thoroughness: Thoroughness) -> ClassicalResult:
    """The result of a known setting, encoded again.

    Raises:
        EdgegrainError: as `ClassicalCodec`.
    """
    return ClassicalCodec(rgb, setting.codec, thoroughness).result(FACTORS.index(setting.factor), setting.quality)


def encode_lossless(rgb: Rgb, codec: Literal["png", "webp", "jpeg-xl"]) -> bytes:
    """Encode ``rgb``, uint8 ``[H, W, 3]``, losslessly and without metadata, at the format's slowest setting.

    Raises:
        EdgegrainError: the library that writes the format is not installed.
    """
    picture = Image.fromarray(rgb)
    if codec == "png":
        return _save(picture, "PNG", optimize=True)
    if codec == "webp":
        return _save(picture, "WEBP", lossless=True, quality=100, method=6, exact=True)
    return _save_jpeg_xl(picture, lossless=True, effort=9)


def library_versions() -> dict[str, str]:
    """Package -> version of the libraries that write the files."""
    versions = {"pillow": version("pillow")}
    try:
        versions[JPEG_XL_PACKAGE] = version(JPEG_XL_PACKAGE)
    except PackageNotFoundError:
        pass
    return versions


def _encoder(codec: str, thoroughness: Thoroughness) -> Callable[[Image.Image, int], bytes]:
    """A function ``(picture, quality) -> file`` without metadata."""
    full = thoroughness == "full"
    if codec == "jpeg":
        return lambda picture, quality: min(
            (_save(picture, "JPEG", quality=quality, subsampling="4:2:0", optimize=True, progressive=progressive)
             for progressive in (False, True)), key=len)
    if codec not in CODECS:
        raise EdgegrainError(f"unknown codec {codec!r}; the classical codecs are {', '.join(CODECS)}")
    if codec == "jpeg-xl":
        _jpeg_xl()
        return lambda picture, quality: _save_jpeg_xl(picture, level=quality, effort=9 if full else 7)
    if not features.check(codec):
        raise EdgegrainError(f"this Pillow was built without {CODECS[codec]}; the wheels from 11.3 on have it")
    if codec == "webp":
        return lambda picture, quality: _save(picture, "WEBP", quality=quality, method=6)
    # Speed 4 takes five times as long for files of downscaled pictures that are 0 to 2 percent smaller.
    return lambda picture, quality: _save(
        picture, "AVIF", quality=quality, subsampling="4:2:0", speed=4 if full else 6, max_threads=1)


def _decode(codec: str, data: bytes) -> Image.Image:
    """Decode a file to RGB."""
    if codec == "jpeg-xl":
        return Image.fromarray(_jpeg_xl().jpegxl_decode(data))
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _jpeg_xl() -> ModuleType:
    try:
        import imagecodecs
    except ModuleNotFoundError as error:
        raise EdgegrainError(f"JPEG XL needs {JPEG_XL_PACKAGE}; install: pip install 'edgegrain[eval]'") from error
    module: ModuleType = imagecodecs
    return module


def _save_jpeg_xl(picture: Image.Image, **options: object) -> bytes:
    """A bare codestream, without the container."""
    data: bytes = _jpeg_xl().jpegxl_encode(np.asarray(picture), usecontainer=False, numthreads=1, **options)
    return data


def _save(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()
