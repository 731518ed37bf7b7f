"""Files that would take long to read are refused; others of their formats are read."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from PIL import Image, TiffImagePlugin

from codec_contract.errors import ImageError
from edge_encoder.picture_structure import MAX_BLOCKS, MAX_PARTS, MAX_SEGMENTS, exif_orientation
from edge_encoder.preprocessing import load_picture
from tests.unit.edge_encoder.test_same_pictures import chunk, encoded


def segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def tiff(*entries: tuple[int, int, int, int], order: str = "<", header: bytes = b"II*\0") -> bytes:
    """A directory of (tag, type, count, value)."""
    rows = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return header + struct.pack(order + "IH", 8, len(entries)) + rows + bytes(4)


def jpeg2000(marker: bytes, offset: int, change: bytes) -> bytes:
    data = encoded("JPEG2000")
    place = data.index(marker) + offset
    return data[:place] + change + data[place + len(change) :]


JPEG = encoded("JPEG")
FRAME = segment(0xC2, struct.pack(">BHHB", 8, 16, 16, 1) + b"\1\x11\0")
SCAN = segment(0xDA, b"\1\1\0\1\x3f\0") + b"\x7f"
GIF_HEAD = encoded("GIF", Image.effect_noise((60, 40), 90))[:13 + 768]
COSTLY = {
    "scans": (b"\xff\xd8" + FRAME + 65 * SCAN + b"\xff\xd9", "more than 64 scans"),
    "scans after tables": (b"\xff\xd8\xff\xd9\xff\xd8" + FRAME + 65 * SCAN + b"\xff\xd9", "more than 64 scans"),
    "segments": (b"\xff\xd8" + MAX_SEGMENTS * segment(0xFE, b"") + JPEG[2:], "more than 2000 segments"),
    "fill bytes": (b"\xff\xd8" + b"\xff" * 30000 + JPEG[2:], "bytes before its first scan"),
    "fill bytes in many places": (
        b"\xff\xd8" + 9 * (b"\xff" * 3000 + segment(0xFE, b"")) + JPEG[2:], "bytes before its first scan"),
    "a long header": (b"\xff\xd8" + 130 * segment(0xED, bytes(65000)) + JPEG[2:], "bytes before its first scan"),
    "coefficients": (
        b"\xff\xd8" + segment(0xC2, struct.pack(">BHHB", 8, 12000, 16000, 1) + b"\1\x11\0") + SCAN,
        "more than 165000000 coefficients in several scans"),
    "coefficients of two sequential scans": (
        b"\xff\xd8" + segment(0xC0, struct.pack(">BHHB", 8, 12000, 16000, 1) + b"\1\x11\0") + 2 * SCAN,
        "more than 165000000 coefficients in several scans"),
    "chunks": (encoded("PNG")[:33] + (MAX_PARTS + 1) * chunk(b"tEXt") + encoded("PNG")[33:], "more than 20000 chunks"),
    "coefficients of all scans": (
        b"\xff\xd8" + segment(0xC2, struct.pack(">BHHB", 8, 6000, 9000, 1) + b"\1\x11\0") + 30 * SCAN,
        "more than 1600000000 coefficients in all scans"),
    "arithmetic coding": (JPEG.replace(b"\xff\xc0", b"\xff\xc9", 1), "lossless or arithmetic coding"),
    "colour profiles": (encoded("PNG")[:33] + 9 * chunk(b"iCCP", b""), "more than 8 colour profiles"),
    "colour profiles in an icon": (
        b"\0\0\1\0\1\0" + bytes(16) + encoded("PNG")[:33] + 9 * chunk(b"iCCP", b""), "more than 8 colour profiles"),
    "a progressive JPEG in a TIFF": (
        tiff((259, 3, 1, 7)) + encoded("JPEG", progressive=True), "progressive JPEG in a TIFF"),
    "comments": (GIF_HEAD + (MAX_BLOCKS + 1) * b"!\xfe\1a\0" + b",", "more than 4000 blocks"),
    "blocks of a comment": (GIF_HEAD + b"!\xfe" + (MAX_BLOCKS + 1) * b"\1a" + b"\0,", "more than 4000 blocks"),
    "blocks after a stray byte": (GIF_HEAD + b"\0!\xfe" + MAX_BLOCKS * b"\1a" + b"\0,", "more than 4000 blocks"),
    "stray bytes": (GIF_HEAD + (MAX_BLOCKS + 1) * b"\0" + b",", "more than 4000 blocks"),
    "empty blocks": (GIF_HEAD + (MAX_BLOCKS + 1) * b"!\xfe\0" + b",", "more than 4000 blocks"),
    "strips": (tiff((273, 4, 200_000, 8)), "200000 numbers"),
    "strips, big-endian": (tiff((279, 3, 200_000, 8), order=">", header=b"MM\0*"), "200000 numbers"),
    "tags of the same bytes": (tiff(*(60 * [(700, 1, 1 << 20, 8)])), "62914560 bytes in its tags"),
    "QOI": (b"qoif" + struct.pack(">IIBB", 1100, 1000, 3, 0), "a kind that is decoded slowly"),
    "icons": (b"\0\0\1\0\1\0" + bytes(1 << 21), "more than 2097152 bytes of icons"),
    "a large picture in an icon": (
        b"\0\0\1\0\1\0" + bytes(16) + encoded("PNG")[:16] + struct.pack(">II", 5000, 4000) + encoded("PNG")[24:],
        "an icon of 5000 x 4000 pixels"),
    "tiles": (tiff((256, 4, 1, 60000), (257, 4, 1, 1), (322, 4, 1, 16), (323, 4, 1, 16384)), "983040000 pixels in"),
    "a tile": (tiff((322, 4, 1, 8000), (323, 3, 1, 8000 << 16), order=">", header=b"MM\0*"), "64000000 pixels in"),
    "a comment of a PPM": (b"P6\n#" + bytes(MAX_PARTS) + b"\n1 1 255\nabc", "a header of more than 20000 bytes"),
    "layers": (jpeg2000(b"\xff\x52", 6, b"\1\0"), "more than 64 layers"),
    "blocks": (jpeg2000(b"\xff\x52", 10, b"\1"), "or parts of fewer"),
    "precincts": (encoded("JPEG2000", precinct_size=(16, 16)), "or parts of fewer"),
    "small tiles": (jpeg2000(b"\xff\x51", 6, struct.pack(">8I", 90, 50, 0, 0, 1, 1, 0, 0)), "4500 tiles"),
    "PPM as text": (b"P3 600 600 255 " + b"0 " * 600_000, "a kind that is decoded slowly"),
}


@pytest.mark.parametrize(("data", "message"), COSTLY.values(), ids=COSTLY)
def test_costly_files(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_picture(data)


@pytest.mark.parametrize(("kind", "options"), [
    ("JPEG", {"progressive": True}), ("JPEG", {"comment": b"c" * 60000, "icc_profile": bytes(200_000)}), ("PNG", {}),
    ("GIF", {"comment": b"c" * 5000}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"big_tiff": True}), ("PPM", {}), ("BMP", {}),
    ("JPEG2000", {"quality_layers": [20, 5, 0]}), ("JPEG2000", {"precinct_size": (32, 32)}),
    ("JPEG2000", {"no_jp2": True, "tile_size": (16, 16)})])
def test_ordinary_files(kind: str, options: dict[str, Any]) -> None:
    assert load_picture(encoded(kind, **options)).shape == (64, 48, 3)


def test_a_thumbnail_before_the_picture() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1
    with pytest.raises(ImageError, match="the first picture of .* is a reduced one, as in raw files"):
        load_picture(encoded("TIFF", tiffinfo=tags))


@pytest.mark.parametrize("exif", [
    tiff((274, 3, 1, 6)), b"Exif\0\0" + tiff((256, 4, 1, 5), (274, 3, 1, 6)), tiff((274, 4, 1, 6)),
    tiff((274, 3, 1, 6 << 16), order=">", header=b"MM\0*")])
def test_orientations(exif: bytes) -> None:
    assert exif_orientation(exif) == 6
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        assert load_picture(encoded(kind, exif=exif if exif.startswith(b"Exif") else b"Exif\0\0" + exif)).shape \
            == (48, 64, 3)


@pytest.mark.parametrize("exif", [
    b"", b"Exif\0\0", tiff((274, 3, 1, 9)), tiff((274, 3, 1, 0)), tiff((256, 3, 1, 6)), tiff((274, 3, 1, 6))[:-8],
    tiff((274, 3, 1, 6))[:4] + b"\xff\xff\xff\xff", b"RIFF" + bytes(40)])
def test_no_orientation(exif: bytes) -> None:
    assert exif_orientation(exif) is None
