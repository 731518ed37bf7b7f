"""Structure of picture files that would take their readers very long, checked before they are read.

Pillow reads headers in Python, one step for each segment, chunk or number, and libjpeg works through the whole picture
for each scan. So a few kilobytes can take minutes. Pictures from cameras and programs have tens of scans, some hundred
segments, and as many strips as rows.
"""

from __future__ import annotations

import os
import re
import struct
from typing import IO

from PIL import Image

from codec_contract.errors import ImageError

MAX_SCANS = 64
"""Most scans of a JPEG file; progressive ones have about 10."""
MAX_PARTS = 20_000
"""Most chunks of a PNG, which often have 8 KB; most segments of a JPEG and stray bytes between them."""
MAX_HEADER_BYTES = 1 << 23
"""Most bytes before the first scan of a JPEG; depth maps and extended XMP take megabytes."""
MAX_BLOCKS = 4000
"""Most blocks before the first picture of a GIF: Pillow copies all of a comment for each."""
MAX_VALUES = 1 << 17
"""Most numbers in the tags of a TIFF file: offsets and lengths of 65,536 strips."""
MAX_TAG_BYTES = 1 << 25
"""Most bytes in the tags of a TIFF file, where several may name the same bytes."""
MAX_COEFFICIENTS = 165_000_000
"""Most coefficients of a JPEG in several scans, which libjpeg keeps in memory, two bytes each."""
MAX_ICON_BYTES = 1 << 21
"""Largest ICO file; its pictures may be PNG files, whose chunks are not counted."""
MAX_PYTHON_BYTES, MAX_PYTHON_PIXELS = 1 << 20, 1 << 20
"""Largest file and picture that Pillow decodes in Python (QOI, RLE of BMP, PPM as text), at a megabyte a second."""

# A marker of a JPEG: not a stuffed zero, a restart, or a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_SOS, _EOI = 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1)
_TIFF_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # bytes of a value by its type
_BYTE_TYPES = (1, 2, 6, 7)


def check_structure(stream: IO[bytes], name: str) -> None:
    """Raise `ImageError` for a JPEG, PNG, GIF or TIFF file that takes long to read; the position is 0 afterwards."""
    stream.seek(0)
    start = stream.read(8)
    stream.seek(0)
    try:
        if start.startswith(b"\xff\xd8"):
            _check_jpeg(stream.read())
        elif start == b"\x89PNG\r\n\x1a\n":
            _check_png(stream)
        elif start.startswith(b"GIF8"):
            _check_gif(stream)
        elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            _check_tiff(stream)
        elif start[:4] == b"\0\0\1\0" and stream.seek(0, os.SEEK_END) > MAX_ICON_BYTES:
            raise _Costly(f"more than {MAX_ICON_BYTES} bytes of icons")
    except _Costly as costly:
        raise ImageError(f"{name} has {costly}; it would take too long to read. Save it again with another "
                         "program") from None
    except (struct.error, IndexError):  # it ends early; its reader says so
        pass
    stream.seek(0)


def check_decoder(image: Image.Image, stream: IO[bytes], name: str) -> None:
    """Raise `ImageError` for a large picture that Pillow decodes in Python."""
    if any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ())):
        size = stream.seek(0, os.SEEK_END)
        if size > MAX_PYTHON_BYTES or image.width * image.height > MAX_PYTHON_PIXELS:
            raise ImageError(f"{name} is a {image.format} file of a kind that is decoded slowly, of {size} bytes and "
                             f"{image.width} x {image.height} pixels; at most {MAX_PYTHON_BYTES} and "
                             f"{MAX_PYTHON_PIXELS} are read. Save it as PNG")


def exif_orientation(exif: bytes) -> int | None:
    """The orientation, 1 to 8, that an EXIF block gives in its first directory; None without a valid one."""
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return None
    try:
        at, = struct.unpack_from(order + "I", data, 4)
        count, = struct.unpack_from(order + "H", data, at)
        for entry in range(at + 2, at + 2 + 12 * min(count, 1000), 12):
            tag, kind, _ = struct.unpack_from(order + "HHI", data, entry)
            if tag == 0x0112:
                value, = struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}.get(kind, "H"), data, entry + 8)
                return value if 1 <= value <= 8 else None
    except struct.error:
        pass
    return None


class _Costly(Exception):
    """What a file has too many of."""


def _check_jpeg(data: bytes) -> None:
    at, scans, coefficients, stray, sequential = 2, 0, 0.0, 0, True
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            return
        stray += 0 if scans else found.start() - at
        marker, at = data[found.end() - 1], found.end()
        if stray > MAX_PARTS or (not scans and at > MAX_HEADER_BYTES):
            raise _Costly(f"{at} bytes before its first scan")
        if marker == _EOI:
            return
        length, = struct.unpack_from(">H", data, at)
        if marker == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise _Costly(f"more than {MAX_SCANS} scans")
            if coefficients > MAX_COEFFICIENTS and (scans > 1 or not sequential):
                raise _Costly(f"more than {MAX_COEFFICIENTS} coefficients in several scans")
        elif marker in _FRAMES:
            height, width, components = struct.unpack_from(">HHB", data, at + 3)
            samplings = [(data[at + 9 + 3 * part] >> 4) * (data[at + 9 + 3 * part] & 15) for part in range(components)]
            coefficients = width * height * sum(samplings) / max(1, *samplings)
            sequential = marker in _SEQUENTIAL
        at += max(2, length)
    raise _Costly(f"more than {MAX_PARTS} segments")


def _check_png(stream: IO[bytes]) -> None:
    stream.seek(8)
    for _ in range(MAX_PARTS):
        head = stream.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        stream.seek(struct.unpack(">I", head[:4])[0] + 4, os.SEEK_CUR)
    raise _Costly(f"more than {MAX_PARTS} chunks")


def _check_gif(stream: IO[bytes]) -> None:
    """Blocks before the first picture's, which is decoded in C."""
    flags = stream.read(13)[10]
    stream.seek(3 << (flags & 7) + 1 if flags & 128 else 0, os.SEEK_CUR)
    parts = 0
    while stream.read(1) == b"!":
        stream.seek(1, os.SEEK_CUR)
        while (block := stream.read(1)) not in (b"", b"\0"):
            stream.seek(block[0], os.SEEK_CUR)
            parts += 1
            if parts > MAX_BLOCKS:
                raise _Costly(f"more than {MAX_BLOCKS} blocks")


def _check_tiff(stream: IO[bytes]) -> None:
    """The first directory, and its offsets: Pillow reads all its values when it opens the file."""
    start = stream.read(16)
    order, big = "<" if start[:2] == b"II" else ">", b"+" in start[2:4]
    offset, entry, counter = ("Q", "HHQ8s", "Q") if big else ("I", "HHI4s", "H")
    at, = struct.unpack_from(order + offset, start, 8 if big else 4)
    stream.seek(at)
    count, = struct.unpack(order + counter, stream.read(struct.calcsize(order + counter)))
    if count > MAX_PARTS:
        raise _Costly(f"{count} tags")
    unit = struct.calcsize(order + entry)
    entries = stream.read(count * unit)
    values = size = 0
    for _, kind, number, _ in struct.iter_unpack(order + entry, entries[: len(entries) // unit * unit]):
        values += 0 if kind in _BYTE_TYPES else number
        size += number * (_TIFF_SIZES[kind] if kind < len(_TIFF_SIZES) else 1)
    if values > MAX_VALUES or size > MAX_TAG_BYTES:
        raise _Costly(f"{values} numbers and {size} bytes in its tags")
