"""Decode any picture to ``uint8 [H, W, 3]`` sRGB, upright: orientation, colour and transparency are handled here.

Bytes are equal on every client from decoded RGB onward (`codec_contract.fit`, the exact encoder); JPEG decoders and
colour management differ between platforms.
"""

from __future__ import annotations

import io
import math
import operator
import os
import re
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, JpegImagePlugin
from PIL.ExifTags import Base

from codec_contract.errors import DeviceMemoryError, ImageError, first_line
from codec_contract.files import content_of, why_unreadable
from codec_contract.fit import MAX_PHOTO_PIXELS
from codec_contract.payload import MAX_ORIGINAL_PIXELS, MAX_ORIGINAL_SIDE, BytesLike
from codec_contract.pixels import Rgb, describe_array
from edge_encoder.colour import levels_to_8_bits, to_rgb

Colour = tuple[int, int, int]
PictureSource = str | os.PathLike[str] | BytesLike | IO[bytes] | Image.Image | npt.NDArray[np.uint8 | np.uint16]
"""Accepted inputs of `load_picture`."""

WHITE: Colour = (255, 255, 255)

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
"""File formats that are opened, if the installed Pillow has them. Formats that start other programs (EPS) are not."""
_SUFFIXES = "jpg jpeg jpe jfif mpo png apng webp avif heic heics heif heifs hif gif bmp tif tiff ppm pgm jp2"
PICTURE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""Suffixes of files that commands take for pictures in a folder; a file given by name may have any."""

INSTALL = "pip install 'edgegrain[heic]'"
RAISE_LIMIT = ", or if you trust it, raise the limit (max_pixels, --max-megapixels)"
"""The end of the refusal of a large picture; a service, whose clients cannot do that, leaves it out."""

MAX_DECODED_PIXELS = 54_000_000
"""Most pixels to decode, which may take 850 MB. A larger JPEG is decoded at a half or a quarter of its sides."""
MAX_SCANS = 64
"""Most scans of a JPEG; libjpeg works through the whole picture for each, and progressive ones have about 10."""
_SCAN, _END = b"\xff\xda", b"\xff\xd9"


@contextmanager
def enough_memory(name: str) -> Iterator[None]:
    """Raise `DeviceMemoryError` if the block has too little memory to read ``name``, which is no damage."""
    try:
        yield
    except MemoryError as error:
        advice = "reduce it first, or end other programs"
        raise DeviceMemoryError(f"there is too little memory to read {name}; {advice}") from error


@enough_memory("the picture")
def load_picture(
    picture: PictureSource,
    *,
    background: Colour = WHITE,
    max_pixels: int = MAX_PHOTO_PIXELS,
    formats: Collection[str] = FORMATS,
) -> Rgb:
    """Decode a picture of any common format to ``uint8 [H, W, 3]`` sRGB, upright; the array may be read-only.

    docs/exact_square.md has the rule for orientation, colour and frame, docs/faces.md the largest pictures. An array is
    uint8 or uint16 ``[H, W]`` grey, ``[H, W, 3]`` RGB or ``[H, W, 4]`` RGBA with straight alpha, and may be larger than
    ``max_pixels``. 16-bit levels become ``round(level / 257)``; of 16-bit PNGs with colour or alpha, Pillow reads the
    high byte only, which differs by a level at most. Only files of ``formats`` are read.
    """
    background, max_pixels = check_background(background), check_max_pixels(max_pixels)
    picture = content_of(picture)
    if isinstance(picture, np.ndarray):
        return _from_array(picture, background)
    if isinstance(picture, Image.Image):
        _check_size(*picture.size, max_pixels, "the PIL picture")
        return _from_pillow(picture, background, "the PIL picture")
    if isinstance(picture, (bytes, bytearray, memoryview)):
        data = bytes(picture)  # also of a memoryview with strides, which BytesIO does not take
        return _from_stream(io.BytesIO(data), background, max_pixels, f"the picture of {len(data)} bytes", formats)
    if isinstance(picture, (str, os.PathLike)):
        path = Path(picture)
        try:
            with path.open("rb") as file:
                return _from_stream(file, background, max_pixels, str(path), formats)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the name
            raise ImageError(f"cannot read the picture {picture}: {why_unreadable(picture, error)}") from error
    expected, found = "a path, bytes, an open binary file, a PIL picture or an array", type(picture).__name__
    raise ImageError(f"a picture is {expected}, got {found}")


def check_background(background: Colour) -> Colour:
    """The levels as plain integers in a tuple; `ImageError` unless they are three levels 0...255."""
    with suppress(TypeError, ValueError):
        red, green, blue = (operator.index(level) for level in background)
        if all(0 <= level <= 255 for level in (red, green, blue)):
            return red, green, blue
    raise ImageError(f"a background colour is three levels 0 to 255, got {background!r}")


def check_max_pixels(max_pixels: int) -> int:
    """The limit as a plain integer; `ImageError` unless it is a whole number of at least 1."""
    with suppress(TypeError):
        if (pixels := operator.index(max_pixels)) >= 1:
            return pixels
    raise ImageError(f"max_pixels is a whole number of at least 1, got {max_pixels!r}")


def readable_formats() -> tuple[str, ...]:
    """The formats of `FORMATS` that this installation reads: HEIF, for example, only with the extra ``heic``."""
    Image.init()
    if "HEIF" not in Image.OPEN:  # else another plug-in reads it
        with suppress(ImportError):  # also if its library does not load
            from pillow_heif import register_heif_opener

            register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _from_stream(stream: IO[bytes], background: Colour, max_pixels: int, name: str, allowed: Collection[str]) -> Rgb:
    if not stream.seekable():
        stream = io.BytesIO(stream.read())
    stream.seek(0)
    if stream.read(2) == b"\xff\xd8":  # a whole JPEG may lack its end marker, without which Pillow refuses it
        stream = io.BytesIO(b"\xff\xd8" + stream.read() + _END)
    formats = tuple(found for found in readable_formats() if found in allowed)
    try:
        image = _opened(stream, formats)
    except MemoryError:
        raise
    except Exception as error:  # a damaged header can make Pillow's readers raise any type
        raise ImageError(f"{name} cannot be read as a picture: {first_line(error)}") from error
    if image is None:
        raise ImageError(f"{name} {_refusal(stream, formats, 'HEIF' in allowed)}")
    with image:
        if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(254, 0) & 1:  # NewSubfileType
            problem = f"the first picture of {name} is a reduced one, as in raw files of cameras (DNG, NEF)"
            raise ImageError(f"{problem}; develop it to a JPEG or PNG first")
        _check_size(*image.size, max_pixels, name)
        pixels, progressive = math.prod(image.size), bool(image.info.get("progressive"))
        end = _end_of_jpeg(stream, progressive, name) if image.format == "JPEG" else None
        if image.format == "JPEG" and not progressive:
            halvings = next(halvings for halvings in range(4) if pixels >> 2 * halvings <= MAX_DECODED_PIXELS)
            image.draft(None, (image.width >> halvings, image.height >> halvings))
        elif pixels > MAX_DECODED_PIXELS:
            limit = f"only JPEG files that are not progressive may have more than {MAX_DECODED_PIXELS}"
            raise ImageError(f"{name} has {image.width} x {image.height} pixels; {limit}. Reduce it first")
        return _from_pillow(image, background, name, stream, end)


def _end_of_jpeg(stream: IO[bytes], progressive: bool, name: str) -> int:
    """The position of the end marker in a JPEG that is read up to its first scan; one was added to the file's end."""
    start, data = stream.tell(), stream.read()
    end = data.index(_END)
    if data.count(_SCAN, 0, end) >= MAX_SCANS:
        advice = "it would take too long to read. Save it again with another program"
        raise ImageError(f"{name} has more than {MAX_SCANS} scans; {advice}")
    if progressive and end == len(data) - len(_END):
        raise ImageError(f"{name} cannot be decoded, it is damaged or truncated: its last scans are missing")
    return start + end


def _opened(stream: IO[bytes], formats: tuple[str, ...]) -> ImageFile.ImageFile | None:
    """`Image.open` without Pillow's limit of pixels, which is one for all threads; None if no format is the file's."""
    stream.seek(0)
    start = stream.read(16)
    for name in formats:
        factory, accepts = Image.OPEN[name]
        if name == "JPEG":
            factory = JpegImagePlugin.JpegImageFile  # the other pictures of an MPO are not read
        accepted = accepts is None or accepts(start)
        if accepted and not isinstance(accepted, str):  # a str says what is missing
            stream.seek(0)
            try:
                return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error):  # not this format
                continue
    return None


def _refusal(stream: IO[bytes], formats: tuple[str, ...], heif: bool) -> str:
    """The reason why none of the formats is that of the file."""
    stream.seek(0)
    header = stream.read(12)
    if not header:
        return "is empty"
    if heif and header[4:8] == b"ftyp" and header[8:12].startswith((b"hei", b"hev", b"mif1", b"msf1")):
        if "HEIF" in formats:
            return "is a damaged HEIC picture"
        return f"is a HEIC picture, which this installation does not read; install: {INSTALL}"
    return f"is not a picture, or has an unsupported format; readable here: {', '.join(formats)}"


def _from_pillow(
    image: Image.Image, background: Colour, name: str, stream: IO[bytes] | None = None, end: int | None = None
) -> Rgb:
    """``stream`` is the file that was opened here, ``end`` the position of a JPEG's end marker in it."""
    try:
        turned = _orientation(image)
        image.load()
        if stream and end and _is_cut_off(image, stream, end):
            raise ImageError(f"{name} cannot be decoded, it is damaged or truncated: its last pixels are missing")
        rgb = to_rgb(image, background, name, stream)
        if stream:
            image.close()  # frees its pixels
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise various types for damaged files
        raise ImageError(f"{name} cannot be decoded, it is damaged or truncated: {first_line(error)}") from error
    if turned in (5, 6, 7, 8):
        rgb = rgb.transpose(1, 0, 2)
    rgb = rgb[:: -1 if turned in (3, 4, 7, 8) else 1, :: -1 if turned in (2, 3, 6, 7) else 1]
    return np.ascontiguousarray(rgb)


def _is_cut_off(image: Image.Image, stream: IO[bytes], end: int) -> bool:
    """True for a decoded JPEG whose last pixels are missing: libjpeg fills the rest with the middle grey.

    A picture that ends so is decoded once more, small, with more data before its end marker, also after further restart
    markers: the same pixels, unless some are missing.
    """
    last = np.asarray(image.crop((image.width - 1, image.height - 1, image.width, image.height))).astype(int)
    if np.abs(last - 255 / 2).max() > 1:
        return False
    stream.seek(0)
    data, pixels = stream.read(), []
    restarts = re.findall(rb"\xff[\xd0-\xd7]", data[:end])
    following = restarts[-1][1] + 1 if restarts else 0
    filler = bytes(range(1, 255))  # entropy-coded data of a JPEG
    more = b"".join(filler + bytes([0xFF, 0xD0 | following + index & 7]) for index in range(8))
    for variant in (data, data[:end] + more + data[end:]):
        with JpegImagePlugin.JpegImageFile(io.BytesIO(variant)) as small:
            small.draft(None, (1, 1))
            pixels.append(small.tobytes())
    return pixels[0] != pixels[1]


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation of JPEG, WebP and, before the pixels, of PNG; XMP is not read.

    Pillow turns TIFF itself, and HEIF and AVIF are turned by their own boxes, of which Pillow makes EXIF for AVIF.
    """
    exif = Image.Exif()
    with suppress(Exception):  # a damaged EXIF block does not make the pixels unreadable
        exif.load(image.info.get("exif", b"") if image.format not in ("HEIF", "TIFF") else b"")
        return int(exif.get(Base.Orientation, 1))
    return 1


def _from_array(array: npt.NDArray[np.uint8 | np.uint16], background: Colour) -> Rgb:
    shape = describe_array(array)
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        expected = "uint8 or uint16 [H, W], [H, W, 3] or [H, W, 4] with values from 0 to the type's largest"
        raise ImageError(f"a picture array is {expected}, got {shape}")
    _check_size(array.shape[1], array.shape[0], MAX_ORIGINAL_PIXELS, f"the array {shape}")
    levels = levels_to_8_bits(array) if array.dtype == np.uint16 else array
    if levels.ndim == 2:
        return np.repeat(levels[:, :, None], 3, axis=2)
    if levels.shape[2] == 4:
        return to_rgb(Image.fromarray(np.ascontiguousarray(levels)), background, "the array")
    return np.ascontiguousarray(levels)


def _check_size(width: int, height: int, max_pixels: int, name: str) -> None:
    size = f"{width} x {height} pixels"
    if width < 1 or height < 1:
        raise ImageError(f"{name} is empty: {size}")
    if max(width, height) > MAX_ORIGINAL_SIDE:
        raise ImageError(f"{name} has {size}; sides may have at most {MAX_ORIGINAL_SIDE}")
    if width * height > MAX_ORIGINAL_PIXELS:
        raise ImageError(f"{name} has {size}; a payload describes at most {MAX_ORIGINAL_PIXELS}. Reduce it first")
    if width * height > max_pixels:
        raise ImageError(f"{name} claims {size}, more than {max_pixels}; reduce it first{RAISE_LIMIT}")
