"""Files of more than 8 bits per channel: read right or refused; the white that TIFFs declare, or that is guessed."""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from codec_contract.errors import ImageError
from edge_encoder.colour import levels_to_8_bits
from edge_encoder.preprocessing import load_picture

UNCOMPRESSED, DEFLATE = 1, 8


def levels(channels: int, bits: int) -> np.ndarray:
    """Black, grey and white pixels, ``[2, 3, channels]``, with opaque alpha."""
    white = (1 << bits) - 1
    ramp = np.repeat(np.array([[[0], [white // 2 + 1], [white]]] * 2), channels, 2)
    if channels in (2, 4):
        ramp[..., -1] = white
    return ramp.astype(np.uint8 if bits == 8 else np.uint16)


def jpeg2000(channels: int, bits: int, kind: str) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(
        levels(channels, bits).squeeze(), level=0, codecformat=kind, bitspersample=bits, reversible=True))


def planar_tiff(bits: int, compression: int, photometric: int = 2, channels: int = 3) -> bytes:
    """A TIFF of `levels` in separate planes, one strip each."""
    pixels = levels(channels, bits)
    planes = [np.ascontiguousarray(pixels[..., index]).astype(f"<u{bits // 8}").tobytes() for index in range(channels)]
    if compression == DEFLATE:
        planes = [imagecodecs.zlib_encode(plane) for plane in planes]
    arrays = b"".join([
        np.full(channels, bits, "<u2").tobytes(), np.array([len(plane) for plane in planes], "<u4").tobytes(),
        (8 + np.cumsum([0, *map(len, planes)])[:-1]).astype("<u4").tobytes()])
    start = 8 + sum(map(len, planes))
    tags = [(256, 3, 1, pixels.shape[1]), (257, 3, 1, pixels.shape[0]), (258, 3, channels, start),
            (259, 3, 1, compression), (262, 3, 1, photometric), (273, 4, channels, start + 6 * channels),
            (277, 3, 1, channels), (278, 3, 1, pixels.shape[0]), (279, 4, channels, start + 2 * channels),
            (284, 3, 1, 2), *([(338, 3, 1, 2)] if photometric == 2 and channels == 4 else [])]
    return (b"II*\0" + struct.pack("<I", start + len(arrays)) + b"".join(planes) + arrays
            + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4))


@pytest.mark.parametrize("kind", ["jp2", "j2k"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_jpeg_2000_with_colour_or_alpha(channels: int, kind: str, tmp_path: Path) -> None:
    assert load_picture(jpeg2000(channels, 8, kind))[0, :, 0].tolist() == [0, 128, 255]
    for bits in (10, 12, 16):
        data = jpeg2000(channels, bits, kind)
        (tmp_path / "deep.jp2").write_bytes(data)
        for source in (data, tmp_path / "deep.jp2", Image.open(io.BytesIO(data))):
            with pytest.raises(ImageError, match=f"with {bits} bits per channel.*convert it to 8 bits"):
                load_picture(source)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_grey_jpeg_2000(bits: int) -> None:
    assert load_picture(jpeg2000(1, bits, "jp2"))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(("photometric", "channels"), [(2, 3), (2, 4), (5, 4)])
def test_planar_tiff(photometric: int, channels: int) -> None:
    for bits, compression in ((8, UNCOMPRESSED), (8, DEFLATE), (16, DEFLATE)):
        read = load_picture(planar_tiff(bits, compression, photometric, channels))[0, :, 0].tolist()
        assert read == ([0, 128, 255] if photometric == 2 else [0, 0, 0])  # CMYK: of a black plate, all is black
    with pytest.raises(ImageError, match="uncompressed TIFF with planes of 16 bits.*convert it to 8 bits"):
        load_picture(planar_tiff(16, UNCOMPRESSED, photometric, channels))


def test_a_truncated_header_is_refused() -> None:
    data = jpeg2000(3, 16, "j2k")
    for length in range(0, 60, 3):
        with pytest.raises(ImageError):
            load_picture(data[:length])


# -- grey TIFFs of 16 and 32 bits ---------------------------------------------------------------------------

LARGEST_SAMPLE = 341


def tiff(levels: list[int], dtype: type = np.uint16, white: int | None = None, tags: dict[int, int] | None = None
         ) -> bytes:
    described, stream = TiffImagePlugin.ImageFileDirectory_v2(), io.BytesIO()
    for tag, value in (tags or ({} if white is None else {LARGEST_SAMPLE: white})).items():
        described[tag] = value
    Image.fromarray(np.array([levels], dtype)).save(stream, "TIFF", tiffinfo=described)
    return stream.getvalue()


def read(data: bytes) -> list[int]:
    loaded = load_picture(data)
    assert (loaded == loaded[:, :, :1]).all()
    return loaded[0, :, 0].tolist()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_declared_white(dtype: type, caplog: pytest.LogCaptureFixture) -> None:
    assert read(tiff([0, 2048, 4095], dtype, white=4095)) == [0, 128, 255]
    assert read(tiff([0, 100, 200, 300], dtype, white=200)) == [0, 128, 255, 255]  # beyond white
    assert read(tiff([0, 100], dtype, white=65535)) == [0, 0]  # black on purpose
    assert not caplog.records


def test_declared_white_beyond_16_bits() -> None:
    assert read(tiff([0, 500_000, 1_000_000], np.int32, white=1_000_000)) == [0, 128, 255]
    assert read(tiff([0, 2**31 - 1], np.int32, white=2**31 - 1)) == [0, 255]
    with pytest.raises(ImageError, match="levels from 0 to 70000, expected 0 to 65535"):
        load_picture(tiff([0, 70_000], np.int32))
    with pytest.raises(ImageError, match="levels from -1 to 3, expected 0 to 65535"):
        load_picture(tiff([-1, 3], np.int32, white=4095))


@pytest.mark.parametrize(("levels", "white"), [([0, 100, 255], 255), ([0, 256, 1000], 1023), ([0, 1024, 4095], 4095)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_likely_white(levels: list[int], white: int, dtype: type, caplog: pytest.LogCaptureFixture) -> None:
    assert read(tiff(levels, dtype)) == [(510 * level + white) // (2 * white) for level in levels]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"levels up to {levels[-1]} and declares no range; {white} is taken for white" in record.getMessage()


def test_dark_and_black_pictures_stay_so(caplog: pytest.LogCaptureFixture) -> None:
    assert read(tiff([0, 4096])) == [0, 16]
    assert read(tiff([0, 0])) == [0, 0]
    png = io.BytesIO()
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(png, "PNG")
    assert read(png.getvalue()) == [0, 16]  # PNG's 16 bits are always all of them
    assert load_picture(np.array([[0, 4095]], np.uint16))[0, :, 0].tolist() == [0, 16]
    assert not caplog.records


def test_every_level_rounds_to_the_nearest() -> None:
    for white in (1, 255, 1023, 4095, 65535, 1_000_000):
        levels = np.unique(np.linspace(0, white, 5000).astype(np.int64))
        exact = levels * 255 / white
        assert np.abs(levels_to_8_bits(levels, white) - exact).max() <= 0.5 + 1e-9


def test_white_may_be_zero() -> None:
    """PhotometricInterpretation 0 (MinIsWhite), as fax and microscope software write it. Pillow does 8 bits itself."""
    assert read(tiff([0, 21845, 65535], tags={262: 0})) == [255, 170, 0]
