"""Grey pictures: whether an LR was one, and grey squares enlarged."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.pixels import Rgb
from sdk.codec import Codec
from sdk.open_bundle import GREY_LIMITS, as_grey, is_grey, without_colour
from tests.pictures import noise
from tests.tiny_bundle import LR, refresh_manifest, write_tiny_bundle


def tinted(side: int, cb: float) -> Rgb:
    """An LR of random luma with a mean Cb, and colours that cancel out within its cells."""
    random = np.random.default_rng(side)
    luma = random.integers(60, 200, (side, side, 1)).repeat(3, 2).astype(float)
    luma[..., 2] += 1.772 * cb
    luma[..., 1] -= 0.344 * cb
    luma[::2, :, 0] += 12
    luma[1::2, :, 0] -= 12
    return np.rint(luma).astype(np.uint8)


@pytest.mark.parametrize("side", GREY_LIMITS)
def test_detail_in_colours_is_no_colour(side: int) -> None:
    limit = GREY_LIMITS[side]
    assert is_grey(tinted(side, 0), "faces", 2) and is_grey(tinted(side, limit - 0.8), "faces", 2)
    assert not is_grey(tinted(side, limit + 0.8), "faces", 2) and not is_grey(tinted(side, -limit - 0.8), "faces", 2)
    assert is_grey(tinted(side, limit + 0.2), "faces", 56)  # rounding alone makes that


def test_a_coloured_corner_is_colour_and_other_domains_and_sizes_keep_theirs() -> None:
    lr = tinted(16, 0)
    lr[12:, 12:, 2] = np.minimum(lr[12:, 12:, 2].astype(int) + 55, 255)
    assert not is_grey(lr, "faces", 2)
    assert not is_grey(tinted(16, 0), "cats", 2) and not is_grey(tinted(64, 0), "faces", 2)


def test_grey_has_the_luma_of_the_picture() -> None:
    picture = noise(7, 9)
    expected = np.asarray(Image.fromarray(picture).convert("L")).astype(int)
    grey = as_grey(picture)
    assert without_colour(grey) and not without_colour(picture)
    assert np.abs(grey[..., 0] - expected).max() <= 1
    assert np.array_equal(as_grey(grey), grey)


def test_each_of_a_batch_at_every_size(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, doublings=2)
    refresh_manifest(folder, domain="faces")
    codec = Codec(folder, threads=1)
    grey, colour = tinted(LR, 0), tinted(LR, 40)
    for size in ("native", *codec.bundle.sides):
        first, second = codec.restore_batch([colour, grey], size=size)
        assert not without_colour(np.asarray(first)) and without_colour(np.asarray(second))
        assert np.array_equal(np.asarray(sdk.restore(grey, bundle=folder, size=size)), np.asarray(second))
