"""Colours and levels of picture files as browsers show them.

16-bit and grey levels become 8-bit ones. Colours follow ICC profiles, ``gAMA`` and ``cHRM`` of PNG, and code points of
H.273 in ``cICP`` of PNG and ``nclx`` of AVIF and HEIF. docs/exact_square.md has the rule.
"""

from __future__ import annotations

import io
import logging
import math
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from codec_contract.errors import ImageError
from codec_contract.pixels import Rgb

if TYPE_CHECKING:
    from PIL import ImageCms

_KEPT_PIXELS = 54_000_000
"""Larger pictures are halved, so that a photograph of a phone never takes 600 MB."""
_STRIP_PIXELS = 1 << 22
"""Pixels that are converted at once."""

_SRGB_TOLERANCE = 2
"""Levels by which a profile of sRGB may change a colour, because its curves and primaries are rounded."""
_MAX_SRGB_PROFILE = 1 << 16
"""Bytes of the largest profile that is compared with sRGB; common sRGB profiles have 3,144 or fewer."""

CodePoints = tuple[int, int]
"""Colour primaries and transfer characteristics, as H.273 numbers them."""
Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue."""

_SRGB: Chromaticities = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_SRGB_GAMMA = 0.45455
"""``gAMA`` of PNG files in sRGB."""
_PRIMARIES: dict[int, Chromaticities] = {
    5: (0.3127, 0.329, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),  # BT.601, 625 lines
    6: (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),  # BT.601, 525 lines
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),  # BT.2020
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)}  # Display P3
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
"""Transfer characteristics other than the curve of sRGB; those of video are taken for it, as browsers do."""
_HDR = {16: "PQ", 18: "HLG"}


def halvings_of(size: tuple[int, int]) -> int:
    """The number of times that a picture's sides are halved until it has at most `_KEPT_PIXELS`."""
    return next(halvings for halvings in range(8) if math.prod(size) >> 2 * halvings <= _KEPT_PIXELS)


def to_rgb(image: Image.Image, background: tuple[int, int, int], name: str, code_points: CodePoints | None = None,
           raw_mode: str = "") -> Rgb:
    """The colours of a loaded picture, halved until they are few enough; `raw_mode` is from before it was loaded.

    Strip by strip, which saves memory.
    """
    width, height = image.size
    halvings, transparent = halvings_of(image.size), _transparency_of_8_bits(image, raw_mode)
    profile = _profile_of(image.info, code_points, name)
    grey = _grey_range(image, name) if image.mode == "F" or image.mode.startswith("I") else None
    rgb = np.empty((-(-height >> halvings), -(-width >> halvings), 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width >> halvings) << halvings
    transforms: dict[str, ImageCms.ImageCmsTransform | None] = {}
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        if transparent is not None:
            strip.info["transparency"] = transparent
        colour, alpha = _colour_and_alpha(strip, grey)
        if profile and profile is not image.info.get("icc_profile") and colour.mode == "L":
            colour = colour.convert("RGB")  # profiles that are made are for RGB
        if colour.mode not in transforms:
            transforms[colour.mode] = _srgb_transform(profile, colour.mode)
        if transform := transforms[colour.mode]:
            colour = transform.apply(colour)
        colour = colour.convert("RGB")
        if alpha is not None:
            flat = Image.new("RGB", strip.size, background)
            flat.paste(colour, mask=alpha)
            colour = flat
        rgb[top >> halvings : top + rows >> halvings] = np.asarray(colour.reduce(1 << halvings))
    return rgb


def _colour_and_alpha(image: Image.Image, grey: tuple[int, bool] | None) -> tuple[Image.Image, Image.Image | None]:
    """The picture in a mode that profiles are for (L, RGB or CMYK), and its alpha channel if it has one."""
    if grey is not None:
        levels, transparent = np.asarray(image), image.info.get("transparency")
        alpha = None
        if isinstance(transparent, int):
            alpha = Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8))
        white, inverted = grey
        levels = white - np.minimum(levels, white) if inverted else levels
        return Image.fromarray(levels_to_8_bits(levels, white)), alpha
    if not image.has_transparency_data:
        return image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB"), None
    if image.mode not in ("LA", "RGBA"):
        image = image.convert("LA" if image.mode in ("L", "La") else "RGBA")
    alpha = image.getchannel("A")
    return image.getchannel("L") if image.mode == "LA" else image.convert("RGB"), alpha


def _profile_of(info: Mapping[Any, Any], code_points: CodePoints | None, name: str) -> bytes | None:
    """The ICC profile that turns a picture's levels into colours; None for sRGB. ``info`` is Pillow's."""
    if code_points is not None:
        primaries, transfer = code_points
        if transfer in _HDR:
            raise ImageError(f"{name} is an HDR picture ({_HDR[transfer]}), which 8-bit levels cannot hold; convert it "
                             "to SDR first, with the profile sRGB or Display P3")
        if primaries in _PRIMARIES or transfer in _GAMMAS:
            return _matrix_profile(_PRIMARIES.get(primaries, _SRGB), _GAMMAS.get(transfer))
        return None
    gamma, chromaticities = info.get("gamma"), info.get("chromaticity", _SRGB)
    if (profile := info.get("icc_profile")) or "srgb" in info or not gamma:
        return profile or None
    if abs(gamma - _SRGB_GAMMA) < 0.001 and np.allclose(chromaticities, _SRGB, atol=0.001):
        return None
    return _matrix_profile(chromaticities, 1 / gamma)


def _srgb_transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion of pictures of a mode; None without a profile, with sRGB, or with an unusable one."""
    if not profile:
        return None
    try:
        if len(profile) <= _MAX_SRGB_PROFILE and _is_srgb(bytes(profile), mode):
            return None
        return _transform(profile, mode)
    except MemoryError:
        raise
    except Exception:  # a damaged profile, one for other channels than the pixels, or Pillow without littlecms
        return None


@lru_cache(maxsize=16)  # a few milliseconds, and most pictures have the same profile
def _is_srgb(profile: bytes, mode: str) -> bool:
    """True if conversion by a profile changes colours of pictures in a mode by at most `_SRGB_TOLERANCE` levels.

    Descriptions do not tell: "sRGB" is in those of profiles with linear levels too.
    """
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    colours = Image.fromarray(cube).convert(mode)
    converted = np.asarray(_transform(profile, mode).apply(colours)).astype(int)
    return bool(np.abs(converted - np.asarray(colours.convert("RGB"))).max() <= _SRGB_TOLERANCE)


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def _matrix_profile(chromaticities: Chromaticities, gamma: float | None) -> bytes | None:
    """A profile of RGB with these primaries and a gamma, or the curve of sRGB; None if they span no colours."""
    try:
        white, *primaries = (np.array([x / y, 1, (1 - x - y) / y])
                             for x, y in np.reshape(np.array(chromaticities), (4, 2)).tolist())
        columns = np.stack(primaries, axis=1)
        columns = columns * np.linalg.solve(columns, white)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1, 0.8249])
    columns = np.linalg.inv(bradford) @ (bradford @ columns * ((bradford @ d50) / (bradford @ white))[:, None])
    shape, *parameters = (0, gamma) if gamma else (3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curve = b"para" + struct.pack(">IHH", 0, shape, 0) + _fixed(parameters)
    tags = {tag: b"XYZ " + bytes(4) + _fixed(xyz)
            for tag, xyz in zip((b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ"), (d50, *columns.T), strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, data = b"", b""
    for tag, content in tags.items():
        table += struct.pack(">4sII", tag, 132 + 12 * len(tags) + len(data), len(content))
        data += content
    size = 132 + len(table) + len(data)
    header = struct.pack(">I4xI4s4s4s12x4s28x", size, 0x04000000, b"mntr", b"RGB ", b"XYZ ", b"acsp") + _fixed(d50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _fixed(values: Any) -> bytes:
    """Numbers of an ICC profile: signed, with 16 bits after the point."""
    return bytes(np.clip(np.round(65536 * np.asarray(values)), -(1 << 31), (1 << 31) - 1).astype(">i4").tobytes())


logger = logging.getLogger(__name__)

WHITE_16 = 65535

_BITS_PER_SAMPLE, _PHOTOMETRIC, _LARGEST_SAMPLE = 258, 262, 341
"""Tags of TIFF: BitsPerSample, PhotometricInterpretation, SMaxSampleValue."""
_WHITE_IS_ZERO = 0
_USUAL_BITS = (8, 10, 12)
"""Ranges that cameras store in 16 bits; pictures of one would be black if they were read as 16 bits."""


def _grey_range(image: Image.Image, name: str) -> tuple[int, bool]:
    """The highest level of a picture of mode ``I``, ``I;16`` or ``F``, usually white, and True if it is black.

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
    return white, tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


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


def _transparency_of_8_bits(image: Image.Image, raw_mode: str) -> Any:
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
