"""The square that FFHQ cuts out around a face, pictures that are framed so, and the finder on the shipped portrait."""

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import ImageError
from codec_contract.oriented_square import OrientedSquare
from edge_encoder.faces.alignment import FaceFinder, ffhq_square, is_framed


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


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
    square = ffhq_square(points, (640, 600))
    assert np.abs(square.corners() - published_quad(*points)).max() < 0.4


def test_an_upright_face() -> None:
    square = ffhq_square([(80, 100), (120, 100), (100, 140)], (200, 220))
    # 2 * max(2 * 40, 1.8 * 40) = 160 pixels around (100, 104).
    assert square == OrientedSquare(400, 416, 640, 0)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (((5, 5), (5, 5), (5, 5)), "points of the face coincide"),
        (((5, 5), (5.01, 5), (5, 5.01)), "must be 1 to 800 pixels"),
        (((0, 50), (201, 50), (100, 150)), "must be 1 to 800 pixels"),
        (((150, 100), (260, 100), (205, 150)), "lies outside of the picture of 200 x 150"),
        (((math.nan, 50), (80, 50), (100, 150)), "are finite numbers"),
        (((50, 50), (80, math.inf), (100, 150)), "are finite numbers"),
    ],
)
def test_faces_that_no_square_fits(points: tuple[tuple[float, float], ...], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        ffhq_square(points, (200, 150))


# Off by 2.9 % of the side, larger by 7.4 % and smaller, turned by 3.7 degrees; then a little more, and upside down.
FRAMED = [(512, 512, 1024, 0), (542, 512, 1024, 0), (512, 512, 1100, 0), (512, 512, 948, 0), (512, 512, 1022, 66)]
OTHERS = [(534, 534, 1024, 0), (512, 512, 1110, 0), (512, 512, 938, 0), (512, 512, 1020, 75), (512, 512, -1024, 0)]


def test_framed_pictures() -> None:
    assert all(is_framed(OrientedSquare(*square), (256, 256)) for square in FRAMED)
    assert not any(is_framed(OrientedSquare(*square), (256, 256)) for square in OTHERS)
    assert is_framed(OrientedSquare(512, 550, 1024, 0), (256, 275))
    assert not is_framed(OrientedSquare(512, 640, 1024, 0), (256, 320))  # a portrait of 4 : 5


def placed(portrait: np.ndarray, size: tuple[int, int], centre: tuple[float, float], degrees: float, scale: float):
    """The portrait turned clockwise, scaled, and put into a larger picture of soft patches."""
    cells = np.random.default_rng(1).integers(60, 190, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
    cos, sin = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    back = (cos, sin, 128 - cos * centre[0] - sin * centre[1], -sin, cos, 128 + sin * centre[0] - cos * centre[1])
    image = Image.fromarray(portrait).convert("RGBA")
    turned = image.transform(size, Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)
    picture.paste(turned.convert("RGB"), mask=turned.getchannel("A"))
    return np.asarray(picture)


def test_a_framed_portrait(finder: FaceFinder, portrait: np.ndarray) -> None:
    (face,) = finder.find(portrait)
    assert is_framed(ffhq_square(face.points, (256, 256)), (256, 256))
    assert np.hypot(*(face.points[:2] - [(96, 122), (160, 123)]).T).max() < 4


PLACES = [(0, 1, (500, 420)), (20, 0.6, (640, 480)), (-30, 2, (900, 800)), (12, 0.3, (700, 450)), (90, 1, (420, 500))]
PLACES += [(180, 0.8, (600, 500)), (270, 1, (420, 500)), (0, 0.2, (1200, 800)), (8, 0.5, (3000, 2100))]


def apart(finder: FaceFinder, face: np.ndarray, degrees: float, scale: float, size: tuple[int, int]) -> float:
    """Largest error of the square of a face that was turned, scaled and moved, in the face's 256 pixels."""
    centre = size[0] * 0.45, size[1] * 0.52
    before = ffhq_square(finder.find(face)[0].points, (256, 256)).corners()
    (found,) = finder.find(placed(face, size, centre, degrees, scale))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = (before - 128) @ np.array([[cos, sin], [-sin, cos]]) * scale + centre
    return np.hypot(*(ffhq_square(found.points, size).corners() - moved).T).max() / scale


@pytest.mark.parametrize("place", PLACES)
def test_turned_and_moved_faces_are_found_again(finder: FaceFinder, portrait: np.ndarray, place: Any) -> None:
    assert apart(finder, portrait, *place) < 14


def test_every_face(finder: FaceFinder, portrait: np.ndarray) -> None:
    """A large face is found first; small ones next to it only where all parts are searched."""
    picture = placed(portrait, (1600, 1200), (500, 500), 5, 2.5)
    for column in (1100, 1300, 1500):
        corner = slice(1000, 1064), slice(column - 32, column + 32)
        picture = picture.copy()
        picture[corner] = np.asarray(Image.fromarray(portrait).resize((64, 64), Image.Resampling.LANCZOS))
    found = finder.find(picture, every=True)
    assert len(found) == 4 and found[0].detected.side > 4 * found[1].detected.side
    assert sorted(round(face.detected.centre[0] / 100) for face in found[1:]) == [11, 13, 15]
    assert np.hypot(*(finder.find(picture)[0].detected.centre - found[0].detected.centre)) < 1


def test_no_face(finder: FaceFinder) -> None:
    y, x = np.mgrid[:200, :300]
    assert finder.find(np.stack([x * 255 // 299, y * 255 // 199, 128 + 0 * x], axis=-1).astype(np.uint8)) == []
    for shape in ((1, 1), (2, 3000), (3000, 2)):
        assert finder.find(np.zeros((*shape, 3), np.uint8), every=True) == []


def test_what_only_looks_like_a_face_is_left_out(portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = FaceFinder()
    network, presences = finder._landmarks, []

    class Unsure:
        """The landmarks with the presence that the second pass finds in a dog."""

        def run(self, *arguments: object) -> list[np.ndarray]:
            presence, points = network.run(*arguments)
            presences.append(presence)
            return [presence if len(presences) % 2 else np.array([0.93], np.float32), points]

    monkeypatch.setattr(finder, "_landmarks", Unsure())
    assert finder.find(portrait) == [] and len(presences) % 2 == 0
