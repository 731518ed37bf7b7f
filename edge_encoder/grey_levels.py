"""Grey levels of more than 8 bits, as files and arrays hold them, become levels of 8 bits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_contract.errors import ImageError

logger = logging.getLogger(__name__)

WHITE_16 = 65535

_BITS_PER_SAMPLE, _PHOTOMETRIC, _LARGEST_SAMPLE = 258, 262, 341
"""Tags of TIFF: BitsPerSample, PhotometricInterpretation, SMaxSampleValue."""
_WHITE_IS_ZERO = 0
_USUAL_BITS = (8, 10, 12)
"""Ranges that cameras store in 16 bits; pictures of one would be black if they were read as 16 bits."""


def grey_to_8_bits(image: Image.Image, name: str) -> npt.NDArray[np.uint8]:
    """The levels of a picture of mode ``I``, ``I;16`` or ``F``, uint8 ``[H, W]``.

    White is 65,535, or what a TIFF declares: SMaxSampleValue, or 12 bits per sample. For a TIFF that declares none of
    them and whose largest level is below 4,096, white is the largest level of 8, 10 or 12 bits, with a warning.

    Raises:
        ImageError: the levels are floating-point numbers, negative, or larger than 65,535 and than the declared white.
    """
    grey = np.asarray(image)
    if not np.issubdtype(grey.dtype, np.integer):
        raise ImageError(f"{name} holds floating-point levels, whose range is not known; convert it to 8 or 16 bits")
    tags = getattr(image, "tag_v2", None)
    white = WHITE_16 if tags is None else _declared_white(tags) or _likely_white(int(grey.max()), name)
    if grey.min() < 0 or grey.max() > max(white, WHITE_16):
        raise ImageError(f"{name} holds levels from {grey.min()} to {grey.max()}, expected 0 to "
                         f"{max(white, WHITE_16)}; convert it to 16 bits")
    if tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts such pictures of 8 bits only
        grey = white - np.minimum(grey, white)
    return levels_to_8_bits(grey, white)


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


def _likely_white(largest: int, name: str) -> int:
    white = next(((1 << bits) - 1 for bits in _USUAL_BITS if 0 < largest < 1 << bits), WHITE_16)
    if white < WHITE_16:
        logger.warning("%s has levels up to %d and declares no range; %d is taken for white", name, largest, white)
    return white
