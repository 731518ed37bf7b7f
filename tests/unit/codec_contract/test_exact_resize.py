"""The exact resize: Pillow's resampler and the integer reference agree in every byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_contract.errors import ImageError
from codec_contract.resize import PRECISION_BITS, cubic, exact_resize, filter_weights, reference_resize


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_equal_everywhere(rgb: np.ndarray, size: tuple[int, int]) -> None:
    expected = reference_resize(rgb, size)
    assert expected.shape == (size[1], size[0], 3)
    differing = int((exact_resize(rgb, size) != expected).sum())
    assert differing == 0, f"{rgb.shape} to {size}: {differing} bytes differ"


@settings(max_examples=150, deadline=None)
@given(*[st.integers(1, 96)] * 4, st.integers(0, 2**31))
def test_pillow_is_the_written_arithmetic(width: int, height: int, new_width: int, new_height: int, seed: int) -> None:
    assert_equal_everywhere(noise(width, height, seed), (new_width, new_height))


@pytest.mark.parametrize("side", [16, 256, 1024])
@pytest.mark.parametrize("original", [(1, 1), (640, 480), (1023, 1025)])
def test_encoder_inputs(original: tuple[int, int], side: int) -> None:
    assert_equal_everywhere(noise(*original), (side, side))


@pytest.mark.parametrize(("size", "new"), [((4000, 3000), (256, 256)), ((37, 23), (4000, 3000))])
def test_twelve_megapixels(size: tuple[int, int], new: tuple[int, int]) -> None:
    assert_equal_everywhere(noise(*size), new)


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_a_constant_picture_stays_constant(level: int) -> None:
    flat = np.full((97, 1013, 3), level, dtype=np.uint8)
    for size in [(256, 256), (7, 300), (2000, 1)]:
        assert np.unique(exact_resize(flat, size)).tolist() == [level]


def binary64_weights(size_in: int, size_out: int) -> np.ndarray:
    """Pillow's ``precompute_coeffs`` and ``normalize_coeffs_8bpc``, operation by operation, dense."""
    scale = size_in / size_out
    support = max(scale, 1.0)
    dense = np.zeros((size_out, size_in), dtype=np.int64)
    for position in range(size_out):
        centre = (position + 0.5) * scale
        start = max(int(centre - support + 0.5), 0)
        stop = min(int(centre + support + 0.5), size_in)
        row = [max(1.0 - abs((x - centre + 0.5) * (1.0 / support)), 0.0) for x in range(start, stop)]
        total = 0.0
        for weight in row:
            total += weight
        dense[position, start:stop] = [int(0.5 + weight / total * (1 << PRECISION_BITS)) for weight in row]
    return dense


@pytest.mark.parametrize(
    "pair", [(1, 1), (3, 7), (7, 3), (640, 256), (1000, 256), (1013, 64), (4096, 256), (16384, 31), (200, 4000)]
)
def test_integer_weights_are_those_of_binary64(pair: Any) -> None:
    size_in, size_out = pair
    first, weights = filter_weights(size_in, size_out)
    dense = np.zeros((size_out, size_in), dtype=np.int64)
    for position in range(size_out):
        used = np.flatnonzero(weights[position])
        dense[position, first[position] + used] = weights[position, used]
    assert np.array_equal(dense, binary64_weights(size_in, size_out))


def test_two_pixels_to_one_by_hand() -> None:
    # Both pixels weigh one half: (10 + 21) / 2 = 15.5, and halves round up.
    assert exact_resize(np.array([[[10] * 3, [21] * 3]], dtype=np.uint8), (1, 1)).tolist() == [[[16] * 3]]


def test_width_comes_before_height() -> None:
    rgb = noise(61, 47, seed=5)
    by_hand = exact_resize(exact_resize(rgb, (16, 47)), (16, 16))
    other_way = exact_resize(exact_resize(rgb, (61, 16)), (16, 16))
    assert np.array_equal(exact_resize(rgb, (16, 16)), by_hand)
    assert not np.array_equal(by_hand, other_way)


def test_same_size_is_a_copy() -> None:
    rgb = noise(9, 5)
    result = exact_resize(rgb, (9, 5))
    assert np.array_equal(result, rgb) and not np.shares_memory(result, rgb)


def test_a_view_with_strides_is_read_correctly() -> None:
    rgb = noise(64, 48)
    assert np.array_equal(exact_resize(rgb[::2, ::-1], (16, 16)), exact_resize(rgb[::2, ::-1].copy(), (16, 16)))


@pytest.mark.parametrize("resize", [exact_resize, reference_resize])
@pytest.mark.parametrize(("rgb", "size", "message"), [
    (np.zeros((4, 4, 3), dtype=np.float32), (2, 2), "float32"),
    (np.zeros((4, 4), dtype=np.uint8), (2, 2), r"uint8 \[4, 4\]"),
    (np.zeros((4, 4, 4), dtype=np.uint8), (2, 2), r"\[4, 4, 4\]"), ([[1, 2, 3]], (2, 2), "list"),
    (np.zeros((0, 4, 3), dtype=np.uint8), (2, 2), "height is 0"),
    (np.zeros((4, 4, 3), dtype=np.uint8), (0, 2), "new width is 0"),
    (np.zeros((4, 4, 3), dtype=np.uint8), (2, 70000), "new height is 70000")])
def test_refusals_name_what_is_wrong(
    resize: Callable[..., np.ndarray], rgb: np.ndarray, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        resize(rgb, size)


def test_keys_kernel_interpolates() -> None:
    assert cubic(np.array([0.0, 1.0, -1.0, 2.0, 3.0])).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    x = np.linspace(0, 1, 11)
    np.testing.assert_allclose(sum(cubic(x + shift) for shift in (-2, -1, 0, 1)), np.ones(11))
