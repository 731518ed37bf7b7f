"""No file of 16 MB takes more than 2 s of a core or 600 MB, whatever it holds: files that try to."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SECONDS, MEGABYTES = 2.0, 600
SLACK = 2.5
"""Cores of machines that do something else too are slower."""

MEASURE = """
import json, sys, time
from codec_contract.errors import ImageError
from edge_encoder.preprocessing import load_picture, readable_formats

def memory(kind):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024

readable_formats()
for path in sys.argv[1:]:
    open("/proc/self/clear_refs", "w").write("5")
    before, start = memory("VmRSS"), time.process_time()
    try:
        outcome = str(load_picture(path).shape)
    except ImageError as error:
        outcome = str(error)
    print(json.dumps([path, time.process_time() - start, memory("VmHWM") - before, outcome]))
"""


def encoded(kind: str, mode: str, width: int, height: int, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, kind, **options)
    return stream.getvalue()


def noise(kind: str, width: int, height: int, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(
        stream, kind, **options)
    return stream.getvalue()


def png(depth: int, colour: int, row_bytes: int, rows: int = 9000) -> bytes:
    """A PNG of 12,000 x 9,000 pixels."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(b"\4" + bytes(row_bytes)) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", 12000, 9000, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def files() -> dict[str, bytes]:
    return {
        "rgb.png": png(8, 2, 36_000), "grey16.png": png(16, 0, 24_000), "rgba16.png": png(16, 6, 96_000, rows=1),
        "clear.gif": encoded("GIF", "P", 12_000, 9_000, transparency=0),
        "flat.webp": encoded("WEBP", "RGB", 5_500, 5_000, lossless=True, method=0, quality=0),
        "large.webp": encoded("WEBP", "RGB", 5_600, 5_000, lossless=True, method=0, quality=0),
        "noise.webp": noise("WEBP", 2_200, 2_000, lossless=True, method=0, quality=0),
        "noise.jpg": noise("JPEG", 2_400, 2_000, progressive=True),
        "large.jpg": encoded("JPEG", "RGB", 9_000, 6_000),
        "flat.jp2": encoded("JPEG2000", "RGB", 4_900, 5_000), "large.jp2": encoded("JPEG2000", "RGB", 5_100, 5_000),
        "cmyk.tif": encoded("TIFF", "CMYK", 11_000, 4_900, compression="tiff_deflate"),
        "rle.tga": encoded("TGA", "RGBA", 11_000, 9_000, compression="tga_rle"),
    }


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux reports it")
def test_time_and_memory(tmp_path: Path) -> None:
    for name, data in (costly := files()).items():
        assert len(data) <= 16 << 20
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in costly)]
    measured = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    for line in measured.stdout.splitlines():
        path, seconds, megabytes, outcome = json.loads(line)
        assert seconds < SLACK * SECONDS and megabytes < MEGABYTES, (Path(path).name, seconds, megabytes, outcome)
        refused = Path(path).stem in ("rgba16", "large") and not path.endswith(".jpg")
        assert ("files of its kind may have at most" in outcome) is refused, (path, outcome)
