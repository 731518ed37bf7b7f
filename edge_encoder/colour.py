"""Colours and levels of picture files as browsers show them: sRGB of 8 bits. docs/exact_square.md has the rule."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_contract.errors import ImageError
from codec_contract.pixels import Rgb

if TYPE_CHECKING:
    from PIL import ImageCms

# Code points of H.273.
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics; all others are taken for sRGB's
_P3_PROFILE = zlib.decompress(
    base64.b85decode(
        "c-muNVC-N30u~_7%_}Jia(7aQh>TKTKmv)$#RUv_!MAG+j3D~5E(7U+y}YEL1W4ZiVv!=C<v{ukh@B2*gAEo*g0MxvYC?jXfou&RTOl37_5iVyAnX"
        "hf8{r3p+Yn;S_Zb*$_y7O@e>XzRYd-_SMso%RuAK-m4GRVaL2d?y6FUnMixR;?%s|YPmd3#FX*mM}ZzKbQ@CBfrXiDV)Qt3JB"
    )
)
"""ICC profile of Display P3."""


def to_rgb(image: Image.Image, background: tuple[int, int, int], name: str, stream: IO[bytes] | None = None) -> Rgb:
    """The colours of a loaded picture, over the background, strip by strip to save memory; ``stream`` is its file."""
    width, height = image.size
    deep = image.mode.startswith(("I", "F"))
    clear = image.has_transparency_data and not deep
    mode = "L" if deep or image.mode in ("L", "LA") else "CMYK" if image.mode == "CMYK" else "RGB"
    profile = _profile_of(image, name, stream)
    transform = _srgb_transform(profile, mode) if profile else None
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, (1 << 22) // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        strip = _levels_of_8_bits(strip, name) if deep else strip.convert("RGBA") if clear else strip
        colour = strip.convert(mode)
        colour = (transform.apply(colour) if transform else colour).convert("RGB")
        if clear:
            flat = Image.new("RGB", strip.size, background)
            flat.paste(colour, mask=strip.getchannel("A"))
            colour = flat
        rgb[top : top + rows] = np.asarray(colour)
    return rgb


def levels_to_8_bits(levels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """0...65535 to 0...255, rounded: ``floor(level / 257 + 1/2)``."""
    wide: npt.NDArray[Any] = levels.astype(np.uint32)
    return ((wide + 128) // 257).astype(np.uint8)


def _levels_of_8_bits(image: Image.Image, name: str) -> Image.Image:
    """A grey picture of 16 bits, in a mode such as ``I;16`` or ``I``, in 8 bits."""
    levels = np.asarray(image)
    if image.mode == "F" or levels.min() < 0 or levels.max() > 65535:
        problem = f"{name} holds floating-point levels, or others than 0 to 65535"
        raise ImageError(f"{problem}; convert it to 8 or 16 bits")
    return Image.fromarray(levels_to_8_bits(levels))


def _profile_of(image: Image.Image, name: str, stream: IO[bytes] | None) -> bytes | None:
    """The ICC profile that turns a picture's levels into colours; None for sRGB."""
    if profile := image.info.get("icc_profile"):
        return bytes(profile)
    primaries = transfer = None
    if nclx := image.info.get("nclx_profile"):  # of HEIF
        primaries, transfer = nclx["color_primaries"], nclx["transfer_characteristics"]
    elif image.format == "AVIF" and stream:
        stream.seek(0)
        _, _, box = stream.read(1 << 20).partition(b"colrnclx")
        if len(box) >= 4:
            primaries, transfer = struct.unpack(">HH", box[:4])
    if transfer in _HDR:
        advice = "convert it to SDR first, with the profile sRGB or Display P3"
        raise ImageError(f"{name} is an HDR picture ({_HDR[transfer]}), which 8-bit levels cannot hold; {advice}")
    return _P3_PROFILE if primaries == 12 else None  # others are taken for sRGB's


def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion of pictures of a mode; None with sRGB, or with an unusable profile."""
    try:
        return None if _is_srgb(profile, mode) else _transform(profile, mode)
    except MemoryError:
        raise
    except Exception:  # a damaged profile, one for other channels than the pixels, or Pillow without littlecms
        return None


@lru_cache(maxsize=16)  # a few milliseconds, and most pictures have the same profile
def _is_srgb(profile: bytes, mode: str) -> bool:
    """True if conversion by a profile changes colours of pictures in a mode by at most two levels, by which sRGB's
    curves and primaries are rounded. Descriptions do not tell: "sRGB" is in those of profiles with linear levels too.
    """
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    colours = Image.fromarray(cube).convert(mode)
    converted = np.asarray(_transform(profile, mode).apply(colours)).astype(int)
    return bool(np.abs(converted - np.asarray(colours.convert("RGB"))).max() <= 2)


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
