"""Colours of picture files as browsers show them: ICC profiles, ``gAMA`` and ``cHRM`` of PNG, code points of H.273 in
``cICP`` of PNG and ``nclx`` of AVIF and HEIF. docs/exact_square.md has the rule."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from codec_contract.errors import ImageError

if TYPE_CHECKING:
    from PIL import ImageCms

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


def profile_of(info: Mapping[Any, Any], code_points: CodePoints | None, name: str) -> bytes | None:
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


def srgb_transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
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
