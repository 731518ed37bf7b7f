"""HEIC pictures, written by pillow-heif: levels, rotation, limits, damage, and the message without the extra."""

import io
import struct
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from codec_contract.errors import ImageError
from edge_encoder.preprocessing import load_picture, readable_formats
from tests.pictures import encoded, exif, refused

HEADER = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic"


@pytest.fixture(autouse=True)
def plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's readers and writers are the same after a test."""
    Image.init()
    for table in (Image.OPEN, Image.SAVE, Image.SAVE_ALL):
        monkeypatch.delitem(table, "HEIF", raising=False)


@pytest.fixture
def pillow_heif(plug_in: None):
    module = pytest.importorskip("pillow_heif", reason="needs the extra heic")
    if not module.libheif_info()["HEIF"]:
        pytest.skip("this pillow-heif cannot write HEIC")
    module.register_heif_opener()
    return module


def quarters() -> Image.Image:
    """Four colours, one in each quarter: every rotation and reflection differs."""
    colours = np.uint8([[(200, 30, 30), (30, 200, 30)], [(30, 30, 200), (220, 220, 40)]])
    return Image.fromarray(colours.repeat(32, axis=0).repeat(48, axis=1))


def heic(image: Image.Image, **options: object) -> bytes:
    return encoded(image, "HEIF", **{"quality": 95, "chroma": 444} | options)


def claiming(data: bytes, width: int, height: int) -> bytes:
    """The file with another size in its header."""
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


def assert_alike(loaded: np.ndarray, expected: Any, *, levels: float = 6) -> None:
    """Pictures of 64 x 64 pixels may be given by their colour."""
    expected = np.asarray(expected)
    expected = expected if expected.ndim == 3 else np.broadcast_to(expected, (64, 64, 3))
    assert loaded.shape == expected.shape and loaded.dtype == np.uint8
    assert np.abs(loaded.astype(int) - expected).mean() < levels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_once(pillow_heif, orientation: int) -> None:
    tagged = Image.open(io.BytesIO(encoded(quarters(), exif=exif(orientation))))
    expected = np.asarray(ImageOps.exif_transpose(tagged))
    assert_alike(load_picture(heic(quarters(), exif=exif(orientation))), expected)


def test_exif_alone_does_not_rotate(pillow_heif) -> None:
    """The format's own boxes count; EXIF is left from the camera, or was edited."""
    data = heic(quarters(), exif=exif(1))
    form = "<HHIH" if b"II*\0" in data else ">HHIH"
    tag = struct.pack(form, 0x0112, 3, 1, 1)
    assert data.count(tag) == 1
    turned = data.replace(tag, struct.pack(form, 0x0112, 3, 1, 6))
    assert_alike(load_picture(turned), np.asarray(quarters()))


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_bit_depths(pillow_heif, bits: int) -> None:
    ramp = np.repeat(np.linspace(0, 65535, 128).astype(np.uint16)[None, :, None], 64, axis=0).repeat(3, axis=2)
    mode, levels = ("RGB", (ramp >> 8).astype(np.uint8)) if bits == 8 else ("RGB;16", ramp)
    file, data = pillow_heif.from_bytes(mode, (128, 64), levels.tobytes()), io.BytesIO()
    file.save(data, quality=95, chroma=444, bit_depth=bits)
    assert pillow_heif.open_heif(data).info["bit_depth"] == bits
    assert_alike(load_picture(data.getvalue()), ramp // 257, levels=2)


def test_grey_and_transparency(pillow_heif) -> None:
    assert_alike(load_picture(heic(Image.new("L", (64, 64), 99))), 99)
    assert_alike(load_picture(heic(Image.fromarray(np.full((64, 64), 40000, np.uint16)))), 40000 // 257)
    clear = heic(Image.new("RGBA", (64, 64), (200, 0, 0, 0)))
    assert_alike(load_picture(clear, background=(10, 20, 30)), (10, 20, 30))


def test_code_points(pillow_heif) -> None:
    """Display P3, and the PQ of HDR, which phones write without an ICC profile."""
    picture = Image.new("RGB", (64, 64), (200, 100, 50))
    for primaries, colour in ((12, (215, 93, 31)), (1, (200, 100, 50))):
        assert_alike(load_picture(heic(picture, color_primaries=primaries, transfer_characteristics=13)), colour)
    with pytest.raises(ImageError, match=r"is an HDR picture \(PQ\)"):
        load_picture(heic(picture, color_primaries=9, transfer_characteristics=16))


def test_sizes_are_checked_before_decoding(pillow_heif) -> None:
    data = heic(quarters())
    with pytest.raises(ImageError, match="60000 x 60000"):
        load_picture(claiming(data, 60000, 60000))
    with pytest.raises(ImageError, match=r"96 x 64 pixels, more than 6143.*max_pixels"):
        load_picture(data, max_pixels=6143)
    with pytest.raises(ImageError, match="damaged"):
        load_picture(claiming(data, 10, 10))
    for width, message in ((8160, "damaged"), (9000, "only JPEG files that are")):  # phones have 8160 x 6144
        with pytest.raises(ImageError, match=message):
            load_picture(claiming(data, width, 6144))


def test_damaged_files(pillow_heif) -> None:
    data, rng = heic(quarters()), np.random.default_rng(3)
    for length in (13, len(data) // 4, len(data) // 2):
        with pytest.raises(ImageError, match="damaged"):
            load_picture(data[:length])
    assert 0 < refused(data, 40, rng) < 40


def test_the_first_picture_registers_the_reader() -> None:
    pytest.importorskip("pillow_heif", reason="needs the extra heic")
    assert "HEIF" not in Image.OPEN
    assert "HEIF" in readable_formats()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"^the picture of 28 bytes is a HEIC picture, .*'edgegrain\[heic\]'"):
        load_picture(HEADER + b"heic")
    with pytest.raises(ImageError, match=r"is not a picture, .*readable here: JPEG") as refusal:
        load_picture(b"no picture")
    assert "HEIF" not in str(refusal.value)
