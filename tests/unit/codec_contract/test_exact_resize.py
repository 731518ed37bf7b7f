"""The exact resize: Pillow's resampler and the page's arithmetic agree in every byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_contract.exact_square import cubic, exact_resize
from tests.pictures import noise


def resized_axis(levels: np.ndarray, size_out: int) -> np.ndarray:
    """The second axis of uint8 [rows, size_in, channels] as docs/exact_square.md resamples it, in integers."""
    size_in = levels.shape[1]
    if size_in == size_out:
        return levels
    half_width = max(size_in, size_out)  # of the triangle, in units of 1 / size_out input pixels
    output = np.empty((len(levels), size_out, 3), np.uint8)
    for position in range(size_out):
        centre = (2 * position + 1) * size_in  # in units of 1 / (2 size_out) pixels
        first = max(0, (centre - 2 * half_width) // (2 * size_out))
        x = np.arange(first, min(size_in, first + 2 * (-(-half_width // size_out)) + 2))
        height = np.maximum(2 * half_width - np.abs((2 * x + 1) * size_out - centre), 0)
        weights = ((height << 23) + height.sum()) // (2 * height.sum())
        total = np.einsum("rtc,t->rc", levels[:, x].astype(np.int64), weights)
        output[:, position] = np.clip((total + (1 << 21)) >> 22, 0, 255)
    return output


def resized(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resized_axis(resized_axis(rgb, size[0]).transpose(1, 0, 2), size[1]).transpose(1, 0, 2)


def assert_equal_everywhere(rgb: np.ndarray, size: tuple[int, int]) -> None:
    expected = resized(rgb, size)
    assert expected.shape == (size[1], size[0], 3)
    differing = int((exact_resize(rgb, size) != expected).sum())
    assert differing == 0, f"{rgb.shape} to {size}: {differing} bytes differ"


@settings(max_examples=150, deadline=None)
@given(*[st.integers(1, 96)] * 4, st.integers(0, 2**31))
def test_pillow_is_the_written_arithmetic(width: int, height: int, new_width: int, new_height: int, seed: int) -> None:
    assert_equal_everywhere(noise(width, height, seed), (new_width, new_height))


@pytest.mark.parametrize(("size", "new"), [((4000, 3000), (256, 256)), ((37, 23), (4000, 3000))])
def test_twelve_megapixels(size: tuple[int, int], new: tuple[int, int]) -> None:
    assert_equal_everywhere(noise(*size), new)


def test_two_pixels_to_one_by_hand() -> None:
    # Both pixels weigh one half: (10 + 21) / 2 = 15.5, and halves round up.
    assert exact_resize(np.array([[[10] * 3, [21] * 3]], dtype=np.uint8), (1, 1)).tolist() == [[[16] * 3]]


def test_same_size_is_a_copy() -> None:
    rgb = noise(9, 5)
    result = exact_resize(rgb, (9, 5))
    assert np.array_equal(result, rgb) and not np.shares_memory(result, rgb)


def test_a_view_with_strides_is_read_correctly() -> None:
    rgb = noise(64, 48)
    assert np.array_equal(exact_resize(rgb[::2, ::-1], (16, 16)), exact_resize(rgb[::2, ::-1].copy(), (16, 16)))


def test_keys_kernel_interpolates() -> None:
    assert cubic(np.array([0.0, 1.0, -1.0, 2.0, 3.0])).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    x = np.linspace(0, 1, 11)
    np.testing.assert_allclose(sum(cubic(x + shift) for shift in (-2, -1, 0, 1)), np.ones(11))
