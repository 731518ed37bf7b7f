"""Grey levels of more than 8 bits, as files and arrays hold them, become levels of 8 bits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from codec_contract.errors import ImageError

logger = logging.getLogger(__name__)

WHITE_16 = 65535

_BITS_PER_SAMPLE, _PHOTOMETRIC, _LARGEST_SAMPLE = 258, 262, 341
"""Tags of TIFF: BitsPerSample, PhotometricInterpretation, SMaxSampleValue."""
_WHITE_IS_ZERO = 0
_USUAL_BITS = (8, 10, 12)
"""Ranges that cameras store in 16 bits; pictures of one would be black if they were read as 16 bits."""


class GreyRange(NamedTuple):
    """The level of white, and True if that is 0 and black the highest level."""

    white: int
    inverted: bool


def grey_range(image: Image.Image, name: str) -> GreyRange:
    """The range of a picture of mode ``I``, ``I;16`` or ``F``.

    White is 65,535, or what a TIFF declares: SMaxSampleValue, or 12 bits per sample. For a TIFF that declares none of
    them and whose largest level is below 4,096, white is the largest level of 8, 10 or 12 bits, with a warning; for a
    picture that a program has made of 8 bits (``convert("I")``), it is that of 8.
    """
    if image.mode.startswith("F"):
        raise ImageError(f"{name} holds floating-point levels, whose range is not known; convert it to 8 or 16 bits")
    least, largest = _extrema(image)
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        white = _declared_white(tags) or _likely_white(largest, name, _USUAL_BITS)
    elif image.mode == "I" and image.format is None:
        white = _likely_white(largest, name, _USUAL_BITS[:1])
    else:
        white = WHITE_16
    if least < 0 or largest > max(white, WHITE_16):
        raise ImageError(f"{name} holds levels from {least} to {largest}, expected 0 to "
                         f"{max(white, WHITE_16)}; convert it to 16 bits")
    # Pillow inverts such TIFFs of 8 bits only.
    return GreyRange(white, tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def grey_to_8_bits(levels: npt.NDArray[Any], levels_range: GreyRange) -> npt.NDArray[np.uint8]:
    """Grey levels of a range as 8 bits."""
    white, inverted = levels_range
    return levels_to_8_bits(white - np.minimum(levels, white) if inverted else levels, white)


def _extrema(image: Image.Image) -> tuple[int, int]:
    if image.mode in ("I", "I;16"):
        least, largest = image.getextrema()  # without a copy
        return int(least), int(largest)  # type: ignore[arg-type]
    levels = np.asarray(image)
    return int(levels.min()), int(levels.max())


def levels_to_8_bits(levels: npt.NDArray[np.generic], white: int = WHITE_16) -> npt.NDArray[np.uint8]:
    """0...white to 0...255, rounded: ``floor(255 * level / white + 1/2)``; larger levels become 255."""
    clipped: npt.NDArray[Any] = np.minimum(levels, white) if white < WHITE_16 else levels
    wide: npt.NDArray[Any] = clipped.astype(np.uint32 if white <= WHITE_16 else np.uint64)
    return ((510 * wide + white) // (2 * white)).astype(np.uint8)


def _declared_white(tags: Mapping[int, object]) -> int | None:
    largest = tags.get(_LARGEST_SAMPLE)
    value = largest[0] if isinstance(largest, tuple) and largest else largest
    if isinstance(value, (int, float)) and 0 < value < 1 << 32:
        return max(1, round(value))
    return (1 << 12) - 1 if tags.get(_BITS_PER_SAMPLE) == (12,) else None


def _likely_white(largest: int, name: str, usual_bits: tuple[int, ...]) -> int:
    white = next(((1 << bits) - 1 for bits in usual_bits if 0 < largest < 1 << bits), WHITE_16)
    if white < WHITE_16:
        logger.warning("%s has levels up to %d and declares no range; %d is taken for white", name, largest, white)
    return white


# Pictures of more than 8 bits per channel that Pillow misreads without an error: they are refused. Its reader of JPEG
# 2000 lets white overflow to black in colour and transparent pictures, but not in grey ones. Its own reader of
# uncompressed TIFFs takes each plane of samples for 8 bits.
_COMPRESSION, _PLANAR_CONFIGURATION = 259, 284
"""Tags of TIFF."""
_UNCOMPRESSED, _SEPARATE_PLANES = 1, 2
_CODESTREAM = b"\xff\x4f\xff\x51"
"""Start of a codestream of JPEG 2000: the marker SOC, then the segment SIZ."""
_COMPONENTS, _FIRST_DEPTH = 40, 42
"""Positions in a codestream: the number of components, and the depth of the first; a component has three bytes."""


def refuse_misread_depth(image: Image.Image, name: str) -> None:
    """Raise `ImageError` for a picture whose levels Pillow would misread; call it before ``load()``."""
    if not isinstance(image, ImageFile.ImageFile) or image.mode.startswith(("I", "F")):  # grey
        return
    if (image.format == "JPEG2000" and image.tile and image.fp is not None
            and (bits := _jpeg2000_bits(image.fp)) > 8):
        raise ImageError(f"{name} is a JPEG 2000 picture of mode {image.mode} with {bits} bits per channel, which "
                         "cannot be read; convert it to 8 bits")
    tags = getattr(image, "tag_v2", {})
    if (tags.get(_PLANAR_CONFIGURATION) == _SEPARATE_PLANES and tags.get(_COMPRESSION, 1) == _UNCOMPRESSED
            and (bits := max(tags.get(_BITS_PER_SAMPLE, (1,)))) > 8):
        raise ImageError(f"{name} is an uncompressed TIFF with planes of {bits} bits per channel, which cannot be "
                         "read; convert it to 8 bits")


def _jpeg2000_bits(file: IO[bytes]) -> int:
    """The most bits of a component, 0 if the file is damaged; the file's position stays."""
    position = file.tell()
    file.seek(0)
    _, _, header = file.read().partition(_CODESTREAM)
    file.seek(position)
    header = _CODESTREAM + header
    components = int.from_bytes(header[_COMPONENTS : _COMPONENTS + 2], "big")
    return max(((depth & 0x7F) + 1 for depth in header[_FIRST_DEPTH::3][:components]), default=0)


# The transparent level or colour of PNG files of other depths than 8 bits. Pillow passes the value of the chunk tRNS as
# it is in the file, and compares it with pixels scaled to 8 bits.
_HIGHEST_LEVELS = {"1": 1, "L;2": 3, "L;4": 15}
"""Raw mode of grey pixels with fewer than 8 bits -> their highest level."""


def raw_mode(image: Image.Image) -> str:
    """Pillow's name for the pixels of a PNG file, such as ``L;4``; empty for other formats, and after ``load()``."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if image.format == "PNG" and tiles else ""


def transparency_of_8_bits(image: Image.Image, raw_mode: str) -> Any:
    """``info["transparency"]`` of a loaded picture, on the scale of its pixels; `raw_mode` is from before.

    Of 16-bit colours only the high byte counts, as Pillow reads no more of the pixels. The level of 16-bit grey stays:
    Pillow reads both bytes of those.
    """
    transparent = image.info.get("transparency")
    highest = _HIGHEST_LEVELS.get(raw_mode)
    if highest and isinstance(transparent, int) and transparent <= highest:  # Pillow 13 itself scales 1-bit ones
        return transparent * 255 // highest
    if isinstance(transparent, tuple) and raw_mode == "RGB;16B":
        return tuple(level >> 8 for level in transparent)
    return transparent
