"""Files that would take long to read are refused; others of their formats are read."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from PIL import Image, TiffImagePlugin

from codec_contract.errors import ImageError
from edge_encoder import picture_structure
from edge_encoder.picture_structure import MAX_BLOCKS, MAX_PARTS, MAX_SEGMENTS, exif_orientation
from edge_encoder.preprocessing import load_picture
from tests.pictures import chunk
from tests.unit.edge_encoder.test_same_pictures import encoded


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


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def media(*boxes: bytes, data: bytes = b"") -> bytes:
    """A file of HEIF with these tables; ``data`` are at its byte 28."""
    return box(b"ftyp", b"heic\0\0\0\0mif1") + box(b"mdat", data) + box(b"meta", bytes(4), *boxes)


def joined(kind: bytes, *tiles: int, sizes: tuple[int, ...], relation: bytes = b"dimg") -> bytes:
    """Item 1 is of a kind and put together from tiles; items are squares of these sizes."""
    ids = range(1, len(sizes) + 1)
    entries = [box(b"infe", b"\2\0\0\0", struct.pack(">HH4s", item, 0, kind if item == 1 else b"hvc1")) for item in ids]
    return media(
        box(b"iinf", bytes(6), *entries),
        box(b"iref", bytes(4), box(relation, struct.pack(f">HH{len(tiles)}H", 1, len(tiles), *tiles))),
        box(b"iprp", box(b"ipco", *(box(b"ispe", struct.pack(">4xII", size, size)) for size in sizes)),
            box(b"ipma", struct.pack(">4xI", len(ids)), *(struct.pack(">HBB", item, 1, item) for item in ids))),
        box(b"iloc", bytes(4), b"\x44\0", struct.pack(">HHHHII", 1, 1, 0, 1, 28, 0)))


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
    "tiles": (tiff((256, 4, 1, 60000), (257, 4, 1, 1), (322, 4, 1, 16), (323, 4, 1, 16384)), "983040000 pixels in"),
    "a tile": (tiff((322, 4, 1, 8000), (323, 3, 1, 8000 << 16), order=">", header=b"MM\0*"), "64000000 pixels in"),
    "a comment of a PPM": (b"P6\n#" + bytes(MAX_PARTS) + b"\n1 1 255\nabc", "a header of more than 20000 bytes"),
    "layers": (jpeg2000(b"\xff\x52", 6, b"\1\0"), "more than 64 layers"),
    "blocks": (jpeg2000(b"\xff\x52", 10, b"\1"), "or parts of fewer"),
    "precincts": (encoded("JPEG2000", precinct_size=(16, 16)), "or parts of fewer"),
    "small tiles": (jpeg2000(b"\xff\x51", 6, struct.pack(">8I", 90, 50, 0, 0, 1, 1, 0, 0)), "4500 tiles"),
    "tables": (media(box(b"iref", bytes(66_000))), "more than 65536 bytes of tables"),
    "boxes": (media(box(b"free") * MAX_PARTS), "more than 20000 boxes"),
    "items without lengths": (
        media(box(b"iloc", bytes(6), struct.pack(">HHHH", 1, 1, 0, 65535))), "items in several boxes or without"),
    "items that share bytes": (
        media(box(b"iloc", bytes(4), b"\4\0", struct.pack(">HHHHII", 1, 1, 0, 2, 9 << 20, 9 << 20))),
        "18874368 bytes of items, more than the file"),
    "samples": (
        media(data=bytes(20_000)) + box(b"moov", box(b"stbl", box(b"stsz", struct.pack(">III", 0, 1, 9)))),
        "samples of 1 bytes"),
    "properties": (
        media(box(b"ipco", box(b"free", bytes(1 << 20))),
              box(b"ipma", struct.pack(">4xIHB", 1, 1, 40), b"\1" * 40)), "41943040 bytes of properties"),
    "large tiles": (joined(b"grid", 2, 3, sizes=(64, 2000, 2000)), "8000000 pixels in a part of a picture of 4096"),
    "a tile in many places": (joined(b"grid", *(9 * [2]), sizes=(64, 900)), "7290000 pixels in a part"),
    "tiles of tiles": (joined(b"grid", 2, 1, sizes=(64, 64)), "tiles that have tiles"),
    "an overlay": (joined(b"iovl", 2, sizes=(64, 64)), "drawn over or derived from others"),
    "a derived picture": (joined(b"iden", 2, sizes=(64, 64)), "drawn over or derived from others"),
    "large transparency": (joined(b"hvc1", 2, sizes=(3000, 64), relation=b"auxl"), "9000000 pixels in a part"),
    "transparency of any size": (
        media(box(b"iref", bytes(4), box(b"auxl", struct.pack(">HHH", 2, 1, 1)))), "108000000 pixels in a part"),
    "two sizes": (media(box(b"ipco", *(box(b"ispe", struct.pack(">4xII", side, 9)) for side in (7, 8))),
                        box(b"ipma", struct.pack(">4xIHB", 1, 1, 2), b"\1\2")), "a picture of two sizes"),
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


FRAMES = {
    "still": {"subsampling": "4:4:4"}, "transparent": {"picture": Image.new("RGBA", (1000, 800))},
    "animated": {"save_all": True, "append_images": [Image.new("RGB", (1000, 800), "red")]}}


@pytest.mark.parametrize("options", FRAMES.values(), ids=FRAMES)
def test_frames_larger_than_the_picture(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_structure, "MAX_AVIF_BYTES", 20_000_000)
    data = encoded("AVIF", **{"picture": Image.new("RGB", (1000, 800))} | options)
    assert load_picture(data).shape == (800, 1000, 3)
    for sides in (">II", ">HxxHxx"):  # in ``ispe`` of items, in ``tkhd`` of tracks
        data = data.replace(struct.pack(sides, 1000, 800), struct.pack(sides, 64, 64))
    with pytest.raises(ImageError, match=r"64 x 64 pixels and frames that could take 2\d{7} bytes to decode"):
        load_picture(data)


@pytest.mark.parametrize(("timing", "flags", "message"), [
    ("0", "0001000", "cannot be decoded"), ("0", "0001001", "could take"), ("0", "0011000", "could take"),
    ("0", "1000000", "could take"), ("1" + 64 * "0" + "0" + "0", "0001000", "cannot be decoded"),
    ("1" + 64 * "0" + "0" + "1", "0001000", "could take")])
def test_headers_of_frames(timing: str, flags: str, message: str) -> None:
    """Only a key frame that is shown has certainly the size of the sequence, unless it says another."""
    sequence = "00000" + timing + "0" + 5 * "0" + 12 * "0" + "00000" + "1111" + "1111" + f"{63:016b}{47:016b}" \
        + "0" + 7 * "0" + "0" + "1" + "1"
    bits = [int(code.ljust(-(-len(code) // 8) * 8, "0"), 2).to_bytes(-(-len(code) // 8)) for code in (sequence, flags)]
    stream = b"\x0a" + bytes([len(bits[0])]) + bits[0] + b"\x32" + bytes([len(bits[1])]) + bits[1]
    data = encoded("AVIF", Image.effect_noise((64, 48), 90))
    place = data.index(b"mdat") + 4
    with pytest.raises(ImageError, match=message):
        load_picture(data[:place] + stream + bytes(len(data) - place - len(stream)))


@pytest.mark.parametrize("table", [
    box(b"iloc", bytes(4), b"\x44\0\0\1"), box(b"iref", bytes(4), box(b"dimg", struct.pack(">HHH8x", 1, 1, 2)))])
def test_tables_that_end_early(table: bytes) -> None:
    with pytest.raises(ImageError, match="damaged or truncated: its tables end early"):
        load_picture(media(table))


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
