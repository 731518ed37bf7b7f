"""Structure of picture files: those that would take their readers very long, and those that end early, are refused.

Pillow reads headers in Python, one step for each segment, chunk or number, and libjpeg works through the whole picture
for each scan. So a few kilobytes can take minutes. Pictures from cameras and programs have tens of scans, some hundred
segments, and as many strips as rows.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Container, Iterator
from contextlib import suppress
from typing import IO

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from codec_contract.errors import ImageError

MAX_SCANS = 64
"""Most scans of a JPEG file; progressive ones have about 10."""
MAX_PARTS = 20_000
"""Most chunks of a PNG, which often have 8 KB; most stray bytes between segments of a JPEG."""
MAX_SEGMENTS = 2000
"""Most segments of a JPEG: Pillow copies all of the EXIF for each that has some."""
MAX_HEADER_BYTES = 1 << 23
"""Most bytes before the first scan of a JPEG; depth maps and extended XMP take megabytes."""
MAX_BLOCKS = 4000
"""Most blocks before the first picture of a GIF: Pillow copies all of a comment for each."""
MAX_VALUES = 1 << 17
"""Most numbers in the tags of a TIFF file: offsets and lengths of 65,536 strips."""
MAX_TAG_BYTES = 1 << 25
"""Most bytes in the tags of a TIFF file, where several may name the same bytes."""
MAX_TILE_PIXELS = 1 << 22
"""Most pixels in the tiles of a TIFF or HEIF, beside one and a half times those of the picture."""
MAX_COEFFICIENTS = 165_000_000
"""Most coefficients of a JPEG in several scans, which libjpeg keeps in memory, two bytes each."""
MAX_SCAN_COEFFICIENTS = 1_600_000_000
"""Most coefficients in all scans of a JPEG; a progressive picture of 54 megapixels has about 900 million."""
MAX_PROFILES = 8
"""Most colour profiles of a PNG, which has one; to unpack one may take 2 ms."""
MAX_TILES, MAX_LAYERS = 4096, 64
"""Most tiles and layers of a JPEG 2000 file; OpenJPEG keeps kilobytes for a tile, and reads a packet for each layer."""
MAX_WHOLE_PIXELS = 108_000_000
"""Largest picture of a format that is decoded at its full size only."""
MAX_DECODER_BYTES = 440_000_000
"""Most memory that a decoder takes for such a picture."""
_DECODER_BYTES = {"WEBP": 16, "AVIF": 16, "HEIF": 8.6, "JPEG2000": 17.6}
"""Memory for a pixel in decoders that need more than Pillow's 4 bytes; for HEIF without transparency, in 4:2:0."""
MAX_AVIF_BYTES = 540_000_000
"""Most memory for all frames of an AVIF and, 10 bytes each, its pixels; noise of 19 megapixels takes 1.9 s."""
MAX_TABLE_BYTES = 1 << 16
"""Most bytes of tables in a HEIF or AVIF, of 1,500 items; libavif's time grows with their square."""
MAX_ITEM_BYTES = 1 << 24
"""Most bytes of items of a HEIF or AVIF that is smaller, because they share bytes."""
MAX_UNPACKED_BYTES = 220_000_000
"""Most bytes of levels in a PNG; those of interlaced ones count twice. 330 million of Paeth rows take 2.9 s."""
MAX_JPEG2000_BYTES = 12_000_000
"""Largest JPEG 2000 file; 8 MB are decoded in a second."""
MAX_PYTHON_BYTES, MAX_PYTHON_PIXELS = 1 << 20, 1 << 20
"""Largest file and picture that Pillow decodes in Python (RLE of BMP, PPM as text), at a megabyte a second."""

_FILLER = bytes(range(1, 255))  # entropy-coded data of a JPEG
# A marker of a JPEG: not a stuffed zero, a restart, or a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_SOS, _EOI = 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_PROGRESSIVE_FRAME = re.compile(rb"\xff[\xc2\xc9-\xcb]\0[\x0b\x0e\x11\x14]\x08")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes of an interlaced PNG: the first column and row, and the steps between columns and rows."""
_CODESTREAM = re.compile(rb"(?:\A|jp2c(?:.{8})?)\xff\x4f\xff\x51", re.DOTALL)  # of JPEG 2000
_CODING_STYLE = re.compile(  # its markers COD and COC: flags, layers; flags; levels; width and height of blocks
    rb"\xff(?=(?:\x52\0[\x0c-\x2d]([\0-\7]).(..)[\0\1]|\x53\0[\x09-\x2a][\0-\3]([\0\1]))([\0-\x20])([\0-\x08]{2}))",
    re.DOTALL)
_BITS_PER_SAMPLE, _COMPRESSION, _JPEG_COMPRESSIONS = 258, 259, (6, 7)  # of TIFF
_TIFF_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # bytes of a value by its type
_TIFF_SIDES = (256, 257, 322, 323)  # of the picture, of its tiles
_BYTE_TYPES = (1, 2, 6, 7)
_CONTAINERS = frozenset((b"meta", b"iprp", b"moov", b"trak", b"mdia", b"minf", b"stbl"))  # boxes of HEIF and AVIF
_TABLES = frozenset((b"iloc", b"iinf", b"iref", b"ipma", b"stco", b"co64", b"stsc", b"stsz", b"stts", b"stss"))


def check_structure(stream: IO[bytes], name: str) -> IO[bytes]:
    """The file to read, from its start: ``stream``, or a JPEG with the end marker that it lacks.

    Raises `ImageError` for a file that takes long to read, and for a JPEG without its last scans.
    """
    stream.seek(0)
    start = stream.read(8)
    stream.seek(0)
    try:
        if start.startswith(b"\xff\xd8"):
            data = stream.read()
            if _jpeg_end(data) is None:
                stream = io.BytesIO(data + b"\xff\xd9")
        elif start == _PNG:
            _check_png(stream)
        elif start.startswith(b"GIF8"):
            _check_gif(stream)
        elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            _check_tiff(stream)
        elif start[:1] == b"P":
            _check_ppm(stream)
        elif start[4:] == b"jP  " or start[:4] == b"\xff\x4f\xff\x51":
            _check_jpeg2000(stream.read())
        elif start[4:] == b"ftyp":
            _media_streams(stream.read())
    except _Costly as costly:
        raise ImageError(f"{name} has {costly}; it would take too long to read. Save it again with another "
                         "program") from None
    except _Incomplete as incomplete:
        raise ImageError(f"{name} cannot be decoded, it is damaged or truncated: its {incomplete}") from None
    except (struct.error, IndexError):  # it ends early; its reader says so
        pass
    stream.seek(0)
    return stream


def check_decoder(image: ImageFile.ImageFile, stream: IO[bytes], name: str) -> None:
    """Raise `ImageError` for a picture whose decoder would take too much time or memory."""
    size, pixels = stream.seek(0, os.SEEK_END), image.width * image.height
    if any(tile[0] in Image.DECODERS for tile in image.tile):
        if size > MAX_PYTHON_BYTES or pixels > MAX_PYTHON_PIXELS:
            raise ImageError(f"{name} is a {image.format} file of a kind that is decoded slowly, of {size} bytes and "
                             f"{image.width} x {image.height} pixels; at most {MAX_PYTHON_BYTES} and "
                             f"{MAX_PYTHON_PIXELS} are read. Save it as PNG")
    elif image.format not in ("JPEG", "MPO") and pixels > (most := _most_pixels(image, stream)):
        raise ImageError(f"{name} has {image.width} x {image.height} pixels; only JPEG files may have more than {most} "
                         f"({image.format} files of this kind), because their decoder reduces them. Reduce it first")
    stream.seek(0)
    if image.format == "AVIF" and (
            memory := _av1_bytes(_media_streams(stream.read()), image.size) + 10 * pixels) > MAX_AVIF_BYTES:
        raise ImageError(f"{name} has {image.width} x {image.height} pixels and frames that could take {memory} bytes "
                         f"to decode; at most {MAX_AVIF_BYTES} are allowed. Reduce it, or save it with another program")
    if image.format == "JPEG2000" and size > MAX_JPEG2000_BYTES:
        raise ImageError(f"{name} is a JPEG 2000 file of {size} bytes; at most {MAX_JPEG2000_BYTES} are read, because "
                         "they are decoded slowly. Save it as PNG or JPEG")


def _most_pixels(image: ImageFile.ImageFile, stream: IO[bytes]) -> int:
    """The most pixels of a picture of this kind that is decoded at its full size."""
    most, memory = float(MAX_WHOLE_PIXELS), _DECODER_BYTES.get(image.format or "", 4)
    if image.format == "PNG":
        most = min(most, MAX_UNPACKED_BYTES * image.width * image.height / _png_levels(stream))
    elif image.format == "TIFF":  # one strip may hold all of it
        memory = 4 + sum(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) / 8  # type: ignore[attr-defined]
    elif image.format == "HEIF" and (image.mode, image.info.get("bit_depth"), image.info.get("chroma")) != (
            "RGB", 8, 420):
        memory *= 2
    return int(min(most, MAX_DECODER_BYTES / memory))


def is_cut_off(image: Image.Image, stream: IO[bytes]) -> bool:
    """True for a decoded JPEG or PNG whose last pixels are missing in the file.

    libjpeg fills the rest with the middle grey of all components, Pillow's reader of PNG with zeros. Pictures that end
    so are read once more: a small copy of the JPEG with more data, also after each restart marker, the data
    of the PNG.
    """
    last = np.asarray(image.crop((image.width - 1, image.height - 1, image.width, image.height))).astype(int)
    if image.format == "PNG":
        return (not last.any() or bool(image.info.get("interlace"))) and _png_data_ends_early(stream)
    if image.format not in ("JPEG", "MPO") or np.abs(last - 255 / 2).max() > 1:
        return False
    stream.seek(0)
    data = stream.read()
    end = _jpeg_end(data) or len(data)
    pixels = []
    restarts = re.findall(rb"\xff[\xd0-\xd7]", data[:end])
    following = restarts[-1][1] + 1 if restarts else 0
    more = b"".join(_FILLER + bytes([0xFF, 0xD0 | following + index & 7]) for index in range(8))
    for variant in (data, data[:end] + more + data[end:]):
        with JpegImagePlugin.JpegImageFile(io.BytesIO(variant)) as small:
            small.draft(None, (1, 1))
            pixels.append(small.tobytes())
    return pixels[0] != pixels[1]


def _png_data_ends_early(stream: IO[bytes]) -> bool:
    missing, inflater = _png_levels(stream, weighted=False), zlib.decompressobj()
    for kind, length in _png_chunks(stream):
        data = stream.read(length) if kind == b"IDAT" else b""
        while data and missing > 0:
            missing -= len(inflater.decompress(data, 1 << 20))
            data = inflater.unconsumed_tail
    return missing > 0


def code_points_of(image: ImageFile.ImageFile, stream: IO[bytes]) -> tuple[int, int] | None:
    """Colour primaries and transfer characteristics of a PNG, in the chunk cICP, and of an AVIF without ICC profile, in
    the first box ``colr`` that has any."""
    if image.format == "PNG":
        for kind, _ in _png_chunks(stream):
            if kind == b"cICP":
                primaries, transfer = stream.read(2)
                return primaries, transfer
            if kind == b"IDAT":
                break
    elif image.format == "AVIF" and "icc_profile" not in image.info:
        stream.seek(0)
        _, _, box = stream.read(MAX_HEADER_BYTES).partition(b"colrnclx")
        return struct.unpack(">HH", box[:4]) if len(box) >= 4 else None
    return None


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


class _Incomplete(Exception):
    """The parts of a file that are missing."""


def _jpeg_end(data: bytes) -> int | None:
    """The position of the end marker; None without one."""
    at, scans, coefficients, decoded, stray, sequential = 2, 0, 0.0, 0.0, 0, True
    areas: dict[int, int] = {}
    missing: dict[int, set[int]] = {}  # component -> coefficients whose last bits have not come
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        stray += found.start() - at if found and not scans else 0
        marker, at = (data[found.end() - 1], found.end()) if found else (_EOI, len(data))
        if stray > MAX_PARTS or (not scans and at > MAX_HEADER_BYTES):
            raise _Costly(f"{at} bytes before its first scan")
        if marker == _EOI and found and not scans:
            continue  # of tables alone: libjpeg reads the picture after them
        if marker == _EOI:
            if scans and any(missing.values()):
                raise _Incomplete("last scans are missing")
            return found.start() if found else None
        length, = struct.unpack_from(">H", data, at)
        if marker == _SOS:
            scans += 1
            components = data[at + 3 : at + 3 + 2 * data[at + 2] : 2]
            first, last, bits = data[at + 3 + 2 * data[at + 2] : at + 6 + 2 * data[at + 2]]
            decoded += coefficients * sum(areas.get(component, 0) for component in components)
            if sequential or not bits & 15:
                for component in components:
                    missing.get(component, set()).difference_update(range(64) if sequential else range(first, last + 1))
            if scans > MAX_SCANS:
                raise _Costly(f"more than {MAX_SCANS} scans")
            total = coefficients * sum(areas.values())
            if total > MAX_COEFFICIENTS and (scans > 1 or not sequential):
                raise _Costly(f"more than {MAX_COEFFICIENTS} coefficients in several scans")
            if scans > 1 and decoded > MAX_SCAN_COEFFICIENTS:
                raise _Costly(f"more than {MAX_SCAN_COEFFICIENTS} coefficients in all scans")
        elif marker in _FRAMES:
            if marker > _PROGRESSIVE:
                raise _Costly("lossless or arithmetic coding")
            height, width, count = struct.unpack_from(">HHB", data, at + 3)
            names, samplings = (data[at + field : at + 8 + 3 * count : 3] for field in (8, 9))
            areas = {name: (sampling >> 4) * (sampling & 15) for name, sampling in zip(names, samplings, strict=True)}
            coefficients = width * height / max(1, *areas.values())
            missing = {name: set(range(64)) for name in names}
            sequential = marker in _SEQUENTIAL
        at += max(2, length)
    raise _Costly(f"more than {MAX_SEGMENTS} segments")


def _png_chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """The kind and length of each chunk; the stream is at its data."""
    at = len(_PNG)
    while len(head := stream.read(8) if stream.seek(at) == at else b"") == 8 and head[4:] != b"IEND":
        length, kind = struct.unpack(">I4s", head)
        yield kind, length
        at += 12 + length


def _check_png(stream: IO[bytes]) -> None:
    profiles = 0
    for index, (kind, _) in enumerate(_png_chunks(stream)):
        profiles += kind == b"iCCP"
        if index >= MAX_PARTS:
            raise _Costly(f"more than {MAX_PARTS} chunks")
        if profiles > MAX_PROFILES:
            raise _Costly(f"more than {MAX_PROFILES} colour profiles")


def _png_levels(stream: IO[bytes], *, weighted: bool = True) -> int:
    """Bytes of a PNG's levels, unpacked; with ``weighted`` those of an interlaced one count twice."""
    stream.seek(len(_PNG) + 8)
    width, height, depth, kind, *_, interlaced = struct.unpack(">IIBBBBB", stream.read(13))
    bits = depth * _PNG_CHANNELS.get(kind, 4)
    passes = [((width - left + right - 1) // right, (height - top + down - 1) // down)
              for left, top, right, down in (_ADAM7 if interlaced else ((0, 0, 1, 1),))]
    size = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in passes if columns > 0)
    return size * (2 if weighted and interlaced else 1)


def _check_ppm(stream: IO[bytes]) -> None:
    """Pillow reads the header a byte at a time: its kind, width, height and, but for bits, highest level."""
    head = stream.read(MAX_PARTS)
    words = 3 if head[1:2] in b"14" else 4
    if len(head) == MAX_PARTS and len(re.sub(rb"#[^\r\n]*", b"", head).split(None, words - 1)) < words:
        raise _Costly(f"a header of more than {MAX_PARTS} bytes")


def _check_jpeg2000(data: bytes) -> None:
    """Coding styles, wherever they may be, and the size of every codestream."""
    for style in _CODING_STYLE.finditer(data):
        flags, layers, end = style[1] or style[3], style[2] or b"", style.end(5) + 2
        precincts = data[end : end + style[4][0] + 1] if flags[0] & 1 else b""
        small = any(min(size >> 4, size & 15) + halvings < 5 for halvings, size in enumerate(reversed(precincts)))
        if layers > bytes([0, MAX_LAYERS]) or min(style[5]) < 2 or small:
            raise _Costly(f"more than {MAX_LAYERS} layers, or parts of fewer than 16 x 16 pixels")
    for start in _CODESTREAM.finditer(data):
        right, lower, _, _, width, height, left, upper, components = struct.unpack_from(">4x8IH", data, start.end())
        tiles = -((left - right) // max(1, width)) * -((upper - lower) // max(1, height))
        if tiles > MAX_TILES or components > 4:
            raise _Costly(f"{tiles} tiles of {components} components")


def _check_gif(stream: IO[bytes]) -> None:
    """Blocks before the first picture's, which is decoded in C."""
    flags = stream.read(13)[10]
    stream.seek(3 << (flags & 7) + 1 if flags & 128 else 0, os.SEEK_CUR)
    parts = 0
    while (start := stream.read(1)) not in (b",", b";", b""):  # Pillow skips bytes that start nothing
        parts += 1
        stream.seek(start == b"!", os.SEEK_CUR)
        while start == b"!" and parts <= MAX_BLOCKS and (block := stream.read(1)) not in (b"", b"\0"):
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
    sides: dict[int, int] = {}
    for tag, kind, number, value in struct.iter_unpack(order + entry, entries[: len(entries) // unit * unit]):
        if tag == _COMPRESSION and struct.unpack(order + "H", value[:2])[0] in _JPEG_COMPRESSIONS:
            stream.seek(0)
            if _PROGRESSIVE_FRAME.search(stream.read()):
                raise _Costly("progressive JPEG in a TIFF")
        if tag in _TIFF_SIDES:
            side, = struct.unpack_from(order + ("H" if kind == 3 else "I"), value)
            sides[tag] = max(sides.get(tag, 1), side if kind in (3, 4) else 1 << 32)
        values += 0 if kind in _BYTE_TYPES else number
        size += number * (_TIFF_SIZES[kind] if kind < len(_TIFF_SIZES) else 1)
    if values > MAX_VALUES or size > MAX_TAG_BYTES:
        raise _Costly(f"{values} numbers and {size} bytes in its tags")
    width, height, tile_width, tile_height = (sides.get(tag, 1) for tag in _TIFF_SIDES)
    decoded = -(-width // tile_width) * tile_width * -(-height // tile_height) * tile_height
    if decoded > 1.5 * width * height + MAX_TILE_PIXELS:
        raise _Costly(f"{decoded} pixels in its tiles")


# HEIF and AVIF: boxes, items, and the frames of AV1. A file may claim a small picture and hold large frames, many of
# them, or tables that take libavif minutes. Numbers after a table's end raise IndexError.


class _Bits:
    """Numbers of so many bits, one after another."""

    def __init__(self, data: bytes | memoryview, start: int = 0) -> None:
        self.data, self.at = data, 8 * start

    def __call__(self, bits: int) -> int:
        first, self.at = self.at, self.at + bits
        if self.at > 8 * len(self.data):
            raise IndexError
        return int.from_bytes(self.data[first >> 3 : self.at + 7 >> 3], "big") >> (-self.at & 7) & (1 << bits) - 1


def _boxes(data: memoryview, containers: Container[bytes] = ()) -> Iterator[tuple[bytes, memoryview]]:
    """The kind and content of each box, also of those in ``containers``."""
    spans, parts = [(0, len(data))], 0
    while spans:
        at, end = spans.pop()
        if end - at < 8:
            continue
        if (parts := parts + 1) > MAX_PARTS:
            raise _Costly(f"more than {MAX_PARTS} boxes")
        length, kind, start = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8]), at + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        stop = max(start, min(at + length, end) if length else end)
        spans.append((stop, end))
        if kind in containers:
            spans.append((start + 4 * (kind == b"meta"), stop))
        yield kind, data[start:stop]


def _media_streams(data: bytes) -> list[memoryview | bytes]:
    """The data of all items, and of the first sample of each track."""
    view = memoryview(data)
    boxes = list(_boxes(view, _CONTAINERS))
    if sum(len(box) for kind, box in boxes if kind in _TABLES) > MAX_TABLE_BYTES:
        raise _Costly(f"more than {MAX_TABLE_BYTES} bytes of tables")
    try:
        _check_items(boxes)
        return [*_items(view, boxes), *_samples(view, boxes)]
    except IndexError:
        raise _Incomplete("tables end early") from None


def _items(data: memoryview, boxes: list[tuple[bytes, memoryview]]) -> Iterator[memoryview | bytes]:
    stored, inner = 0, [box for kind, box in boxes if kind == b"idat"]
    for take in (_Bits(box) for kind, box in boxes if kind == b"iloc"):
        version, _, offset, length, base, index = take(8), take(24), *(8 * take(4) for _ in range(4))
        wide = 32 if version == 2 else 16
        for _ in range(take(wide)):
            take(wide)
            sources = inner if version and take(16) & 15 else [data]
            take(16)
            start, count, extents = take(base), take(16), []
            if len(sources) > 1 or (count and not length):  # libavif would keep 16 bytes for each of its 65,535 parts
                raise _Costly("items in several boxes or without lengths")
            for _ in range(count):
                take(index if version else 0)
                at, size = start + take(offset), take(length)
                extents.append(slice(at, at + size))
                stored += size
            if stored > max(len(data), MAX_ITEM_BYTES):
                raise _Costly(f"{stored} bytes of items, more than the file")
            for source in sources:
                yield source[extents[0]] if count == 1 else b"".join(source[extent] for extent in extents)


def _samples(data: memoryview, boxes: list[tuple[bytes, memoryview]]) -> Iterator[memoryview]:
    start = size = 0
    for kind, box in boxes:
        take = _Bits(box, 4)
        if kind == b"stbl":
            start = size = 0
        elif kind in (b"stco", b"co64"):
            start = start or (take(64 if kind == b"co64" else 32) if take(32) else 0)
        elif kind == b"stsz":
            every, count = take(32), take(32)
            size = max(size, every or (take(32) if count else 0))
            if every and len(data) > MAX_PARTS * every:
                raise _Costly(f"samples of {every} bytes")
        else:
            continue
        yield data[start : start + size]


def _check_items(boxes: list[tuple[bytes, memoryview]]) -> None:
    """The parts that pictures are put together from, and properties, of which libavif has a copy for each item."""
    kinds: dict[bytes, set[int]] = {}
    parts: list[tuple[bytes, int, list[int]]] = []
    properties: dict[int, tuple[int, int]] = {}  # place -> its bytes, the pixels of ``ispe``
    pixels: dict[int, int] = {}
    copied = 0
    for kind, box in boxes:
        if kind == b"iinf":
            for _, entry in _boxes(box[8 if box[0] else 6 :]):
                end = 8 if entry[0] == 3 else 6
                kinds.setdefault(bytes(entry[end + 2 : end + 6]), set()).add(int.from_bytes(entry[4:end], "big"))
        elif kind == b"iref":
            wide = 32 if box[0] else 16
            for name, value in _boxes(box[4:]):
                take = _Bits(value)
                parts.append((name, take(wide), [take(wide) for _ in range(take(16))]))
                if take.at != 8 * len(value):  # readers go on where the numbers end, not where the box does
                    raise IndexError
        elif kind == b"ipco":
            for place, (name, value) in enumerate(_boxes(box), 1):
                area = int.from_bytes(value[4:8], "big") * int.from_bytes(value[8:12], "big") if name == b"ispe" else 0
                properties[place] = len(value), max(area, properties.get(place, (0, 0))[1])
    for take in (_Bits(box) for kind, box in boxes if kind == b"ipma"):
        version, flags = take(8), take(24)
        for _ in range(take(32)):
            item = take(32 if version else 16)
            for _ in range(take(8)):
                take(1)
                size, area = properties.get(take(15 if flags & 1 else 7), (0, 0))
                copied += size
                if area and pixels.setdefault(item, area) != area:
                    raise _Costly("a picture of two sizes")
    if copied > MAX_TAG_BYTES:
        raise _Costly(f"{copied} bytes of properties")
    if kinds.keys() & {b"iovl", b"iden"}:
        raise _Costly("pictures that are drawn over or derived from others")
    grids, areas = kinds.get(b"grid", set()), []
    for name, item, others in parts:
        if name == b"auxl":
            areas += [(other, pixels.get(item, MAX_WHOLE_PIXELS)) for other in others]  # without a size it may have any
        elif name == b"dimg" and item in grids:
            areas.append((item, sum(pixels.get(other, 0) for other in others)))
            if grids.intersection(others):
                raise _Costly("tiles that have tiles")
    for item, area in areas:
        if area > 1.5 * pixels.get(item, 0) + MAX_TILE_PIXELS:
            raise _Costly(f"{area} pixels in a part of a picture of {pixels.get(item, 0)}")


def _av1_bytes(streams: list[memoryview | bytes], size: tuple[int, int]) -> int:
    """Memory for frames of AV1: two bytes a level, as much for film grain, and both again for a copy of ``size``."""
    total = 0
    for stream in streams:
        at, frames, sequence = 0, 0, None
        with suppress(IndexError):  # it ends early, which decoders notice too
            while at < len(stream) and total <= MAX_AVIF_BYTES:
                take = _Bits(stream, at)
                kind, extended, more = take(5) & 15, take(1), take(2) >> 1
                take(8 * extended)
                length, shift, at = 0, 0, take.at // 8 if more else len(stream)
                while more and shift < 56:
                    more, bits = take(1), take(7)
                    length, shift, at = length | bits << shift, shift + 7, at + 1
                at += length
                total += 1 << 14
                if kind == 1:
                    sequence = _sequence(take)
                elif kind in (3, 6, 7) and sequence:
                    weight, frame, largest, header = sequence
                    if header:
                        tools, vectors, number = header
                        usual = not frames and take(4) == 1  # a key frame that is shown
                        take(1)
                        take((take(1) if tools == 2 else tools) and vectors == 2)
                        take(number)
                        frame = frame if usual and not take(1) else largest
                    frames += 1
                    area = (frame[0] + 127 & -128) * (frame[1] + 127 & -128)
                    total += weight * area * (1 if frame == size else 2)
    return total


def _sequence(take: _Bits) -> tuple[int, tuple[int, int], tuple[int, int], tuple[int, int, int] | None]:
    """Bytes of a pixel, usual and largest size of a frame, what its header depends on, or None if it has the usual."""
    profile, still = take(3), take(2) & 1
    if still:
        take(5)
    else:
        if take(1):
            take(64)
            if take(1) and not take(1) or take(1):  # the timing of a film, which pictures lack: refused
                return MAX_AVIF_BYTES, (1, 1), (1, 1), None
        delays = take(1)
        for _ in range(take(5) + 1):
            take(12)
            take(take(5) > 7)
            take(4 * (delays and take(1)))
    bits = take(4) + 1, take(4) + 1
    weight, size, largest = 12 if profile else 6, (take(bits[0]) + 1, take(bits[1]) + 1), (1 << bits[0], 1 << bits[1])
    if still:
        return weight, size, largest, None
    number = take(4) + take(3) + 3 if take(1) else 0
    take(7)
    take(2 * take(1))
    tools = 2 if take(1) else take(1)
    vectors = 2 if not tools or take(1) else take(1)
    return weight, size, largest, (tools, vectors, number)
