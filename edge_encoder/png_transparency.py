"""The transparent level or colour of PNG files of other depths than 8 bits.

Pillow passes the value of the chunk tRNS as it is in the file, and compares it with pixels scaled to 8 bits.
"""

from __future__ import annotations

from PIL import Image

_HIGHEST_LEVELS = {"1": 1, "L;2": 3, "L;4": 15}
"""Raw mode of grey pixels with fewer than 8 bits -> their highest level."""


def raw_mode(image: Image.Image) -> str:
    """Pillow's name for the pixels of a PNG file, such as ``L;4``; empty for other formats, and after ``load()``."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if image.format == "PNG" and tiles else ""


def with_8_bit_transparency(image: Image.Image, raw_mode: str) -> Image.Image:
    """The picture, or a copy of it, with ``info["transparency"]`` on the scale of its pixels.

    Of 16-bit colours only the high byte counts, as Pillow reads no more of the pixels. The level of 16-bit grey stays:
    Pillow reads both bytes of those.

    Args:
        image: loaded.
        raw_mode: of its file, from `raw_mode` before it was loaded.
    """
    transparent = image.info.get("transparency")
    highest = _HIGHEST_LEVELS.get(raw_mode)
    if highest and isinstance(transparent, int) and transparent <= highest:  # Pillow 13 itself scales 1-bit ones
        transparent = transparent * 255 // highest
    elif isinstance(transparent, tuple) and raw_mode == "RGB;16B":
        transparent = tuple(level >> 8 for level in transparent)
    else:
        return image
    image = image.copy()  # which keeps the caller's as it is
    image.info["transparency"] = transparent
    return image
