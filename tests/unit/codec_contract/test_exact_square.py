"""The exact square and the exact resize are the page's arithmetic (golden vectors: test_golden.py); squares."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_contract.errors import PayloadError
from codec_contract.exact_square import cubic, cut_square, exact_resize, reduce_picture, sample_square
from codec_contract.oriented_square import OrientedSquare, centre_square, nearest_square
from tests.pictures import noise

CASES = json.loads((Path(__file__).parents[2] / "golden" / "contract" / "squares.json").read_text())["cases"]


def ramps(width: int, height: int) -> np.ndarray:
    """R is x, G is y, B is 9; so that a pixel says where it comes from."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 9)], axis=-1).astype(np.uint8)


def samples_of_the_page(rgb: np.ndarray, square: OrientedSquare, n: int) -> np.ndarray:
    """Steps 1 and 2 of docs/exact_square.md in Python's integers."""
    u, v = square.across_x, square.across_y
    f = max(1, math.isqrt(u * u + v * v) // (4 * n))
    height, width = -(-rgb.shape[0] // f), -(-rgb.shape[1] // f)

    def level(column: int, row: int) -> np.ndarray:
        column, row = min(max(column, 0), width - 1), min(max(row, 0), height - 1)
        block = rgb[row * f : (row + 1) * f, column * f : (column + 1) * f].reshape(-1, 3).astype(int)
        c = len(block)
        return block[0] if f == 1 else ((block.sum(axis=0) + c // 2) * (2**24 // c)) >> 24

    out = np.empty((n, n, 3), np.uint8)
    for j in range(n):
        for i in range(n):
            a, b = 2 * i + 1 - n, 2 * j + 1 - n
            px = 8192 * (2 * n * square.x + a * u - b * v) // (n * f) - 32768
            py = 8192 * (2 * n * square.y + a * v + b * u) // (n * f) - 32768
            x, y, p, q = px >> 16, py >> 16, px >> 8 & 255, py >> 8 & 255
            upper = level(x, y) * (256 - p) + level(x + 1, y) * p
            lower = level(x, y + 1) * (256 - p) + level(x + 1, y + 1) * p
            out[j, i] = (upper * (256 - q) + lower * q + 32768) >> 16
    return out


def test_the_golden_squares_cover_what_the_page_promises() -> None:
    edges = [(case["square"][2:], case["side"]) for case in CASES]
    assert set(range(1, 17)) <= {max(1, math.isqrt(u * u + v * v) // (8 * side)) for (u, v), side in edges}
    angles = {round(math.degrees(math.atan2(v, u)) / 30) % 12 for (u, v), _ in edges}
    assert angles == set(range(12))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_it_is_the_page(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    longest = 16 * max(width, height)
    angle, length = data.draw(st.floats(0, 2 * math.pi)), data.draw(st.floats(4, longest))
    x, y = data.draw(st.integers(0, 4 * width)), data.draw(st.integers(0, 4 * height))
    square = OrientedSquare(x, y, round(length * math.cos(angle)), round(length * math.sin(angle)))
    n = data.draw(st.integers(1, 12))
    rgb = noise(width, height, data.draw(st.integers(0, 9)))
    np.testing.assert_array_equal(sample_square(rgb, square, n), samples_of_the_page(rgb, square, n))
    expected = exact_resize(samples_of_the_page(rgb, square, 2 * n), (n, n))
    np.testing.assert_array_equal(cut_square(rgb, square, n), expected)


def test_reduction_by_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = noise(301, 203)
    whole = reduce_picture(rgb, 3)
    monkeypatch.setattr("codec_contract.exact_square._STRIP_PIXELS", 1)
    np.testing.assert_array_equal(reduce_picture(rgb, 3), whole)


def test_outside_of_the_picture() -> None:
    rgb, square = ramps(100, 100), OrientedSquare(0, 0, 4 * 40, 0)
    edge = sample_square(rgb, square, 40)
    np.testing.assert_array_equal(edge[20:, 20:], rgb[:20, :20])
    assert (edge[:20, 20:] == edge[20:21, 20:]).all() and (edge[20:, :20] == edge[20:, 20:21]).all()
    grey = sample_square(rgb, square, 40, "grey")
    assert (grey[:20] == 128).all() and (grey[20:, :20] == 128).all()
    np.testing.assert_array_equal(grey[20:, 20:], rgb[:20, :20])


def test_corners() -> None:
    upright, turned = OrientedSquare(4 * 10, 4 * 20, 4 * 6, 0), OrientedSquare(40, 80, 0, 24)
    assert upright.side == turned.side == 6
    assert upright.corners().tolist() == [[7, 17], [7, 23], [13, 23], [13, 17]]
    # Turned clockwise: its upper edge points down, so what was above it lies to its right.
    assert turned.corners().tolist() == [[13, 17], [7, 17], [7, 23], [13, 23]]


@pytest.mark.parametrize(
    ("across", "side"),
    [((4, 0), 1), ((2, 3), 1), ((5, 0), 1), ((6, 0), 2), ((0, -9), 2), ((12, 16), 5), ((400, 300), 125), ((8, 8), 3)],
)
def test_sides_are_rounded(across: Any, side: int) -> None:
    assert OrientedSquare(0, 0, *across).side == side


def test_the_nearest_square() -> None:
    assert nearest_square((10.1, 20.13), (6.1, -0.9), (100, 50)) == OrientedSquare(40, 81, 24, -4)
    with pytest.raises(PayloadError, match=r"centre \(100.25, 20.0\) lies outside of the picture of 100 x 50"):
        nearest_square((100.2, 20), (6, 0), (100, 50))


@pytest.mark.parametrize(
    ("size", "left", "top", "side"), [((640, 480), 80, 0, 480), ((7, 12), 0, 2, 7), ((1, 1), 0, 0, 1)]
)
def test_the_centre_square(size: tuple[int, int], left: Any, top: Any, side: int) -> None:
    corners = centre_square(size).corners()
    assert corners[0].tolist() == [left, top] and corners[2].tolist() == [left + side, top + side]
    assert centre_square(size).side == side


def test_corners_form_a_square() -> None:
    corners = OrientedSquare(400, 400, 120, 77).corners()
    edges = np.diff(np.vstack([corners, corners[:1]]), axis=0)
    assert np.allclose(np.hypot(*edges.T), np.hypot(120, 77) / 4)
    assert np.allclose((edges * np.roll(edges, 1, axis=0)).sum(axis=1), 0)


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


@settings(max_examples=150, deadline=None)
@given(*[st.integers(1, 96)] * 4, st.integers(0, 2**31))
def test_pillow_is_the_written_arithmetic(width: int, height: int, new_width: int, new_height: int, seed: int) -> None:
    rgb, new = noise(width, height, seed), (new_width, new_height)
    np.testing.assert_array_equal(exact_resize(rgb, new), resized(rgb, new), strict=True)


@pytest.mark.parametrize(("size", "new"), [((4000, 3000), (256, 256)), ((37, 23), (4000, 3000))])
def test_twelve_megapixels(size: tuple[int, int], new: tuple[int, int]) -> None:
    np.testing.assert_array_equal(exact_resize(noise(*size), new), resized(noise(*size), new), strict=True)


def test_two_pixels_to_one_by_hand() -> None:
    # Both pixels weigh one half: (10 + 21) / 2 = 15.5, and halves round up.
    assert exact_resize(np.array([[[10] * 3, [21] * 3]], dtype=np.uint8), (1, 1)).tolist() == [[[16] * 3]]


def test_copies_and_views() -> None:
    rgb = noise(64, 48)
    result = exact_resize(rgb, (64, 48))
    assert np.array_equal(result, rgb) and not np.shares_memory(result, rgb)
    assert np.array_equal(exact_resize(rgb[::2, ::-1], (16, 16)), exact_resize(rgb[::2, ::-1].copy(), (16, 16)))


def test_keys_kernel_interpolates() -> None:
    assert cubic(np.array([0.0, 1.0, -1.0, 2.0, 3.0])).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    x = np.linspace(0, 1, 11)
    np.testing.assert_allclose(sum(cubic(x + shift) for shift in (-2, -1, 0, 1)), np.ones(11))
