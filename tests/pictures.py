"""Pictures for tests, and their files."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from codec_contract.errors import ImageError
from edge_encoder.preprocessing import load_picture


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A picture of random levels, uint8 ``[height, width, 3]``."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def exif(orientation: int) -> bytes:
    """The EXIF data of a picture that is turned."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def refused(data: bytes, times: int, rng: np.random.Generator) -> int:
    """How often ``load_picture`` refuses a file, each time with three other bytes; else it reads a picture."""
    count = 0
    for _ in range(times):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            damaged[position] = rng.integers(0, 256)
        try:
            assert load_picture(bytes(damaged)).dtype == np.uint8
        except ImageError:
            count += 1
    return count


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these rows, with chunks before them, which Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def encoded(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """The file of a picture."""
    stream = io.BytesIO()
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image.save(stream, kind, **options)
    return stream.getvalue()
