"""The square that FFHQ cuts out around a face, and cutting squares at any angle."""

from __future__ import annotations

import numpy as np
import pytest

from codec_contract.errors import ImageError
from codec_contract.oriented_square import OrientedSquare, centre_square
from codec_contract.resize import exact_resize
from edge_encoder.faces.alignment import FacePoints, cut_square, ffhq_square


def published_quad(left: np.ndarray, right: np.ndarray, mouth: np.ndarray) -> np.ndarray:
    """The published lines of FFHQ, with their order of corners: upper left, lower left, lower right, upper right."""
    eye_avg, eye_to_eye = (left + right) * 0.5, right - left
    eye_to_mouth = mouth - eye_avg
    x = eye_to_eye - np.flipud(eye_to_mouth) * [-1, 1]
    x /= np.hypot(*x)
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y = np.flipud(x) * [-1, 1]
    c = eye_avg + eye_to_mouth * 0.1
    return np.stack([c - x - y, c - x + y, c + x + y, c + x - y])


@pytest.mark.parametrize("angle", [0, 0.3, -1.2, 3])
@pytest.mark.parametrize("mouth_distance", [50, 130])
def test_is_what_ffhq_publishes(angle: float, mouth_distance: float) -> None:
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = np.array([[-40, 0], [40, 3], [5, mouth_distance]]) @ turn + [300, 320]
    square = ffhq_square(FacePoints(*(tuple(point) for point in points)), (640, 600))
    assert np.abs(square.corners() - published_quad(*points)).max() < 0.4


def test_an_upright_face() -> None:
    square = ffhq_square(FacePoints((80, 100), (120, 100), (100, 140)), (200, 220))
    # 2 * max(2 * 40, 1.8 * 40) = 160 pixels around (100, 104).
    assert square == OrientedSquare(400, 416, 640, 0)


@pytest.mark.parametrize(("points", "message"), [
    (((5, 5), (5, 5), (5, 5)), "points of the face coincide"),
    (((5, 5), (5.01, 5), (5, 5.01)), "must be 1 to 800 pixels"),
    (((0, 50), (201, 50), (100, 150)), "must be 1 to 800 pixels"),
    (((150, 100), (260, 100), (205, 150)), "lies outside of the picture of 200 x 150"),
])
def test_faces_that_no_square_fits(points: tuple[tuple[float, float], ...], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        ffhq_square(FacePoints(*points), (200, 150))


def ramps(width: int, height: int) -> np.ndarray:
    """R is x, G is y, B is 9; so that a pixel says where it comes from."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 9)], axis=-1).astype(np.uint8)


def test_an_upright_square_is_the_picture_s_part() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    corners = OrientedSquare(4 * 60, 4 * 40, 4 * 64, 0).corners()
    np.testing.assert_array_equal(cut_square(rgb, corners, 64, coarse=True), rgb[8:72, 28:92])


@pytest.mark.parametrize("coarse", [False, True])
def test_a_square_on_its_side(coarse: bool) -> None:
    # The upper edge points down: rows of the result are columns of the picture, from right to left.
    corners = OrientedSquare(4 * 100, 4 * 100, 0, 4 * 64).corners()
    cut = cut_square(ramps(200, 200), corners, 64, coarse=coarse).astype(int)
    expected = np.rot90(ramps(200, 200)[68:132, 68:132].astype(int))
    inside = slice(1, -1), slice(1, -1)
    assert np.abs(cut - expected)[inside].max() <= 1


@pytest.mark.parametrize("side", [16, 40, 256])
def test_positions_are_kept_at_any_angle_and_scale(side: int) -> None:
    square = OrientedSquare(4 * 100, 4 * 120, 4 * 80, 4 * 60)
    cut = cut_square(ramps(200, 220), square.corners(), side).astype(float)
    upper_left, lower_left, _, upper_right = square.corners()
    middles = (np.arange(side) + 0.5) / side
    expected = upper_left + middles[None, :, None] * (upper_right - upper_left) + \
        middles[:, None, None] * (lower_left - upper_left) - 0.5
    assert np.abs(cut[..., :2] - expected).max() < 1.3  # Pillow cuts fractions off
    assert (cut[..., 2] == 9).all()


def test_large_squares_are_averaged_not_sampled() -> None:
    stripes = np.zeros((1000, 1000, 3), np.uint8)
    stripes[:, ::2] = 200
    cut = cut_square(stripes, centre_square((1000, 1000)).corners(), 32)
    assert np.abs(cut.astype(int) - 100).max() <= 2


def test_the_centre_square_is_almost_the_exact_resize() -> None:
    smooth = exact_resize(np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8), (600, 400))
    cut = cut_square(smooth, centre_square((600, 400)).corners(), 64)
    assert np.abs(cut.astype(int) - exact_resize(smooth[:, 100:500], (64, 64))).max() <= 3


def test_outside_of_the_picture_it_is_mirrored() -> None:
    rgb = ramps(100, 100)
    cut = cut_square(rgb, OrientedSquare(0, 0, 4 * 40, 0).corners(), 40, coarse=True)
    np.testing.assert_array_equal(cut[20:, 20:], rgb[:20, :20])
    np.testing.assert_array_equal(cut[:20, :20], rgb[:20, :20][::-1, ::-1])


def test_what_is_mirrored_fades() -> None:
    tall = np.zeros((300, 200, 3), np.uint8)
    tall[::4] = tall[1::4] = 200
    whole = cut_square(tall, OrientedSquare(4 * 100, 4 * 140, 4 * 160, 0).corners(), 160).astype(int)
    cut = cut_square(tall[100:], OrientedSquare(4 * 100, 4 * 40, 4 * 160, 0).corners(), 160).astype(int)
    # Rows 0 to 39 lie above the picture: stripes no more from some way on, and nearly the median colour at their end.
    np.testing.assert_array_equal(cut[41:], whole[41:])
    assert np.abs(np.diff(whole[:25, 80, 0])).max() > 100 and np.abs(np.diff(cut[:25, 80, 0])).max() < 6
    assert np.abs(cut[0] - 200).max() < 25


def test_a_square_far_larger_than_the_picture() -> None:
    rgb = np.full((3, 5, 3), 77, np.uint8)
    cut = cut_square(rgb, OrientedSquare(10, 6, 80, 0).corners(), 32)
    assert cut.shape == (32, 32, 3) and (cut == 77).all()
