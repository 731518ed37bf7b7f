"""Coding 2: lossless at any size, smaller than PNG on pictures, no more memory than the LR's."""

from __future__ import annotations

import io
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codec_contract.errors import PayloadError
from codec_contract.lr_coder.coder import deflate_lr, inflate_lr, median_prediction


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_every_size_survives(width: int, height: int, seed: int) -> None:
    lr = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    if seed % 2:
        lr //= 64
    assert np.array_equal(inflate_lr(deflate_lr(lr), width, height), lr)


def test_the_predictor_is_loco_is() -> None:
    """Left 10, upper 20: an edge above a bright corner, one beside a dark corner, a slope between."""
    left, upper = np.array([10, 10, 10], np.uint8), np.array([20, 20, 20], np.uint8)
    assert median_prediction(left, upper, np.array([25, 5, 14], np.uint8)).tolist() == [10, 20, 16]
    bright = np.array([250], np.uint8)
    assert median_prediction(bright, bright - 10, bright - 5).tolist() == [245]


def test_differences_are_what_the_page_says() -> None:
    """A 2 x 2 LR by hand: green as it is, red and blue minus green."""
    lr = np.array([[[5, 3, 3], [6, 4, 2]], [[9, 7, 0], [1, 9, 9]]], np.uint8)
    planes = np.frombuffer(zlib.decompress(deflate_lr(lr)), np.uint8).reshape(3, 2, 2)
    # Green 3 4 / 7 9: the corner is below both neighbours 7 and 4, so the larger, 7, is median_prediction.
    assert planes[0].tolist() == [[3, 1], [4, 2]]
    # Red - green 2 2 / 2 248: 2 is median_prediction everywhere.
    assert planes[1].tolist() == [[2, 0], [0, 246]]
    # Blue - green 0 254 / 249 0: the corner 0 is below both, so 254 is median_prediction.
    assert planes[2].tolist() == [[0, 254], [249, 2]]


def test_pictures_need_fewer_bytes_than_as_png() -> None:
    rng = np.random.default_rng(0)
    cells = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    picture = np.asarray(cells.resize((320, 240), Image.Resampling.BICUBIC)).astype(np.int16)
    lr = np.clip(picture + rng.integers(-3, 4, (240, 320, 1)), 0, 255).astype(np.uint8)  # grey noise
    png = io.BytesIO()
    Image.fromarray(lr).save(png, "PNG", optimize=True)
    assert len(deflate_lr(lr)) < 0.95 * len(png.getvalue())


@pytest.mark.parametrize(("body", "size", "message"), [
    (b"no deflate", (2, 2), "corrupt"),
    (zlib.compress(bytes(11)), (2, 2), "12 samples"),
    (zlib.compress(bytes(13)), (2, 2), "12 samples"),
    (zlib.compress(bytes(12)) + b"x", (2, 2), "12 samples"),
    (zlib.compress(bytes(12))[:-1], (2, 2), "12 samples"),
])
def test_other_bodies_are_refused(body: bytes, size: tuple[int, int], message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        inflate_lr(body, *size)


def test_a_bomb_is_refused_in_little_memory() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(PayloadError):
        inflate_lr(bomb, 10, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("shape", [(4_000, 2), (2, 4_000), (100, 100)])
def test_lrs_are_decoded_within_three_times_their_memory(shape: tuple[int, int]) -> None:
    lr = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    body = deflate_lr(lr)
    tracemalloc.start()
    decoded = inflate_lr(body, shape[1], shape[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(decoded, lr)
    assert peak < 3 * lr.nbytes
