"""LRs that `restore` reads: up to the largest of a payload, and damaged ones."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import DeviceMemoryError, ImageError
from codec_contract.payload import MAX_LARGE_LR_PIXELS
from sdk.inputs import read_restore_source


def test_an_lr_of_a_photograph_is_read_from_a_png(tmp_path: Path) -> None:
    lr = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(lr).save(tmp_path / "lr.png")
    read = read_restore_source(tmp_path / "lr.png")
    assert isinstance(read, np.ndarray)
    np.testing.assert_array_equal(read, lr)
    with pytest.raises(ImageError, match=f"1 to {MAX_LARGE_LR_PIXELS} pixels"):
        read_restore_source(Image.new("RGB", (1 << 13, (1 << 11) + 1)))


@pytest.mark.parametrize("lr", [np.zeros((0, 0, 3), np.uint8), np.zeros((0, 5, 3), np.uint8), Image.new("RGB", (0, 5))])
def test_an_lr_has_pixels(lr: np.ndarray | Image.Image) -> None:
    with pytest.raises(ImageError, match="at least one pixel|1 to .* pixels"):
        read_restore_source(lr)


def test_array_subclasses_count_as_their_array() -> None:
    lr = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    read = read_restore_source(np.ma.masked_array(lr, mask=lr > 9))
    assert type(read) is np.ndarray
    np.testing.assert_array_equal(read, lr)


@pytest.mark.parametrize("function", ["PIL.Image.open", "PIL.Image.Image.convert"])
def test_lack_of_memory_is_no_damage(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "PNG")
    monkeypatch.setattr(function, fail)
    with pytest.raises(DeviceMemoryError, match="too little memory to read the LR"):
        read_restore_source(stream.getvalue())


def test_a_damaged_picture_is_an_image_error() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(stream, "PNG")
    with pytest.raises(ImageError, match="cannot be read"):
        read_restore_source(Image.open(io.BytesIO(stream.getvalue()[:300])))
