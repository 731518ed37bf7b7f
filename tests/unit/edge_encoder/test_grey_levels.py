"""TIFFs of 16 and 32 bits: the white that they declare, the white that is guessed, and refusals."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from codec_contract.errors import ImageError
from edge_encoder.pixel_depth import levels_to_8_bits
from edge_encoder.preprocessing import load_picture

LARGEST_SAMPLE = 341


def tiff(levels: list[int], dtype: type = np.uint16, white: int | None = None) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if white is not None:
        tags[LARGEST_SAMPLE] = white
    stream = io.BytesIO()
    Image.fromarray(np.array([levels], dtype)).save(stream, "TIFF", tiffinfo=tags)
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


@pytest.mark.parametrize(("levels", "white"), [
    ([0, 100, 255], 255), ([0, 256, 1000], 1023), ([0, 1024, 4095], 4095)])
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
    stream = io.BytesIO()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray(np.array([[0, 21845, 65535]], np.uint16)).save(stream, "TIFF", tiffinfo=tags)
    assert read(stream.getvalue()) == [255, 170, 0]
