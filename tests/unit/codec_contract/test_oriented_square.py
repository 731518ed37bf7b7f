"""Squares at any angle: corners and bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codec_contract.errors import PayloadError
from codec_contract.oriented_square import OrientedSquare, centre_square, nearest_square


@pytest.mark.parametrize(("square", "corners"), [
    (OrientedSquare(4 * 10, 4 * 20, 4 * 6, 0), [[7, 17], [7, 23], [13, 23], [13, 17]]),
    # Turned clockwise: its upper edge points down, so what was above it lies to its right.
    (OrientedSquare(40, 80, 0, 24), [[13, 17], [7, 17], [7, 23], [13, 23]])])
def test_corners(square: OrientedSquare, corners: list[list[int]]) -> None:
    assert square.corners().tolist() == corners and square.side == 6


@pytest.mark.parametrize(("across", "side"), [
    ((4, 0), 1), ((2, 3), 1), ((5, 0), 1), ((6, 0), 2), ((0, -9), 2), ((12, 16), 5), ((400, 300), 125), ((8, 8), 3)])
def test_sides_are_rounded(across: Any, side: int) -> None:
    assert OrientedSquare(0, 0, *across).side == side


def test_the_nearest_square() -> None:
    assert nearest_square((10.1, 20.13), (6.1, -0.9), (100, 50)) == OrientedSquare(40, 81, 24, -4)
    with pytest.raises(PayloadError, match=r"centre \(100.25, 20.0\) lies outside of the picture of 100 x 50"):
        nearest_square((100.2, 20), (6, 0), (100, 50))


@pytest.mark.parametrize(
    ("size", "left", "top", "side"), [((640, 480), 80, 0, 480), ((7, 12), 0, 2, 7), ((1, 1), 0, 0, 1)])
def test_the_centre_square(size: tuple[int, int], left: Any, top: Any, side: int) -> None:
    corners = centre_square(size).corners()
    assert corners[0].tolist() == [left, top] and corners[2].tolist() == [left + side, top + side]
    assert centre_square(size).side == side


def test_the_longest_edge() -> None:
    OrientedSquare(4 * 65535, 0, -16 * 65535, 0).check((65535, 1))
    with pytest.raises(PayloadError, match="1 to 262140 pixels long"):
        OrientedSquare(0, 0, -16 * 65535, 1).check((65535, 1))


def test_corners_form_a_square() -> None:
    corners = OrientedSquare(400, 400, 120, 77).corners()
    edges = np.diff(np.vstack([corners, corners[:1]]), axis=0)
    assert np.allclose(np.hypot(*edges.T), np.hypot(120, 77) / 4)
    assert np.allclose((edges * np.roll(edges, 1, axis=0)).sum(axis=1), 0)
