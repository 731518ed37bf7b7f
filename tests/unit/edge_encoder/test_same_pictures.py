"""Orientation, colour, frame and completeness of picture files: the table of docs/exact_square.md.

`FILES` are also what the clients in other languages are tested with (tests/golden/regenerate_clients.py). The levels
are those of Chromium 150.
"""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import ImageError
from edge_encoder.preprocessing import load_picture
from tests import pictures
from tests.pictures import chunk, exif

UPPER, LOWER = (200, 100, 50), (60, 120, 180)
PICTURE = Image.fromarray(np.repeat(np.array([[UPPER], [LOWER]], np.uint8), 48, axis=1).repeat(32, axis=0))
XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'


def encoded(kind: str, picture: Image.Image = PICTURE, **options: Any) -> bytes:
    return pictures.encoded(picture, kind, **options)


def avif(primaries: int, transfer: int) -> bytes:
    data = encoded("AVIF", quality=100, subsampling="4:4:4")
    place = data.index(b"colrnclx") + 8
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


def files() -> dict[str, tuple[bytes, int | str, tuple[int, int, int]]]:
    """Name -> a file, its orientation or why it is refused, and its upper level before it is turned."""
    noise = Image.fromarray(pictures.noise(96, 64))
    jpeg, progressive = (encoded("JPEG", noise, quality=90, progressive=kind) for kind in (False, True))
    restarts = encoded("JPEG", noise, quality=90, restart_marker_blocks=7)
    other = Image.new("RGB", PICTURE.size, "blue")
    animated = {"save_all": True, "append_images": [other]}
    png = encoded("PNG")
    turned, later = (png[:at] + chunk(b"eXIf", exif(tag)[6:]) + png[at:] for at, tag in ((33, 8), (-12, 6)))
    first = tuple(np.asarray(load_picture(jpeg))[0, 0].tolist())
    return {
        "JPEG, EXIF": (encoded("JPEG", quality=95, subsampling=0, exif=exif(6)), 6, UPPER),
        "JPEG, XMP": (encoded("JPEG", quality=95, subsampling=0, xmp=XMP), 1, UPPER),
        "PNG, EXIF": (turned, 8, UPPER),
        "PNG, EXIF after the pixels": (later, 1, UPPER),
        "WebP, EXIF": (encoded("WEBP", lossless=True, exif=exif(5)), 5, UPPER),
        "AVIF, irot": (encoded("AVIF", quality=100, subsampling="4:4:4", exif=exif(6)), 6, UPPER),
        "nclx, P3": (avif(12, 13), 1, (215, 93, 31)),
        "nclx, HLG": (avif(9, 18), "HDR picture", UPPER),
        "APNG, its default": (encoded("PNG", default_image=True, **animated), 1, UPPER),
        "animated WebP": (encoded("WEBP", lossless=True, **animated), 1, UPPER),
        "animated GIF": (encoded("GIF", PICTURE.quantize(4), save_all=True, append_images=[other]), 1, UPPER),
        "MPO": (encoded("MPO", quality=95, subsampling=0, **animated), 1, UPPER),
        "JPEG without end marker": (jpeg[:-2], 1, first),
        "half a JPEG": (jpeg[: len(jpeg) // 2], "truncated", first),
        "half a JPEG, end marker": (jpeg[: len(jpeg) // 2] + jpeg[-2:], "truncated", first),
        "half a progressive JPEG": (progressive[: len(progressive) // 2], "truncated", first),
        "half a JPEG with restart markers": (restarts[: restarts.rindex(b"\xff\xd2")] + jpeg[-2:], "truncated", first),
        "grey JPEG": (encoded("JPEG", Image.new("RGB", (99, 70), (128,) * 3)), 1, (128, 128, 128)),
    }


FILES = files()


@pytest.mark.parametrize(("data", "expected", "upper"), FILES.values(), ids=FILES)
def test_files(data: bytes, expected: int | str, upper: tuple[int, int, int]) -> None:
    if isinstance(expected, str):
        with pytest.raises(ImageError, match=expected):
            load_picture(data)
        return
    loaded = load_picture(data)
    corner = {5: loaded[0, 0], 6: loaded[0, -1], 8: loaded[-1, 0]}.get(expected, loaded[0, 0])
    assert np.abs(corner.astype(int) - upper).max() <= 2
    with Image.open(io.BytesIO(data)) as image:
        stored = image.size if image.format != "AVIF" else PICTURE.size
    assert loaded.shape[:2] == (stored[::-1] if expected < 5 else stored)
