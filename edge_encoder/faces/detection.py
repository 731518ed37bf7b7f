"""`FaceDetector`: the faces of a picture, found by MediaPipe's BlazeFace, and the limits of faces that can be encoded.

BlazeFace (Bazarevsky et al., 2019; "back camera": 256 x 256 pixels, 896 anchors) gives a face's box, its eyes, nose,
mouth and ears. `face_detector.onnx` next to this file is its TFLite file (Apache-2.0), converted once
(CREDIT.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ModelError
from codec_contract.exact_square import reduce_picture, sample_square
from codec_contract.oriented_square import UNITS, OrientedSquare, square_corners
from codec_contract.pixels import Rgb

if TYPE_CHECKING:
    import onnxruntime

Points = npt.NDArray[np.float64]  # `[N, 2]`: x and y in pixels from the picture's upper left corner

LEAST_SCORE = 0.5  # least score of a candidate, as in MediaPipe's graphs
CONFIRMED_SCORE = 0.7
"""Least score of a candidate that is detected a second time; the lowest among 589 pictures of faces is 0.79."""

FaceProblem = Literal["none", "too-small", "turned-away", "cut-off"]
"""Reasons for which a face is not restored well (docs/faces.md has the measurements)."""
LEAST_PIXELS = 32.0  # side of a face's box in the picture, in pixels
LARGEST_YAW = 45.0  # degrees; 99 % of the training pictures are turned less
LARGEST_CUT = 0.3  # share of a face's box outside of the picture

# Distance of the nose's tip from the plane of the eyes, in distances of the eyes: fitted to Face Mesh's 468 points in
# 589 training pictures; 2 degrees off on average, 6 at most in 95 % of them.
_NOSE_DEPTH = 1 / 1.35

_SIDE = 256
_SECOND_LOOK = 4.5  # side of the square around a face in which it must be found again, in sides of its box
_LEAST_PART = 512  # side of the smallest parts that are searched, in pixels; in smaller ones a face of 32 is not small
_MOST_PARTS = 100  # of one size: a second of a core; pictures with sides of over 8192 pixels have more of the smallest
_MOST_CANDIDATES = 64  # of one search: as many faces as a scene holds
_WORKING_SIDE = 1024  # least longest side of the reduced copy that large squares are sampled from


@dataclass(frozen=True)
class DetectedFace:
    """A face in a picture, in pixels, left and right as seen there: the centre and side of its box, a square from the
    forehead to the chin; left and right eye, nose, mouth, left and right ear, ``[6, 2]``, which are guessed if hidden.
    """

    centre: Points
    side: float
    points: Points
    score: float

    @property
    def across(self) -> Points:
        """From the left to the right eye."""
        return np.asarray(self.points[1] - self.points[0])

    @property
    def roll(self) -> float:
        """Rotation in the picture, clockwise, in degrees from -180 to 180."""
        return float(np.degrees(np.arctan2(self.across[1], self.across[0])))

    @property
    def yaw(self) -> float:
        """Rotation to the side, in degrees from -90 to 90; positive towards the picture's right."""
        eyes = float(np.hypot(*self.across))
        offset = float((self.points[2] - self.points[:2].mean(axis=0)) @ self.across) / eyes
        return float(np.degrees(np.arctan2(offset, _NOSE_DEPTH * eyes)))

    def share_outside(self, size: tuple[int, int]) -> float:
        """Share of the face's box outside of a picture of (width, height)."""
        seen = np.minimum(self.centre + self.side / 2, size) - np.maximum(self.centre - self.side / 2, 0)
        return 1 - float(np.prod(np.maximum(seen, 0))) / self.side**2

    def apart(self, other: DetectedFace) -> bool:
        """True if neither face's centre is in the other's box."""
        return bool(np.hypot(*(self.centre - other.centre)) > max(self.side, other.side) / 2)

    def problems(self, size: tuple[int, int]) -> dict[FaceProblem, str]:
        """Problem -> message with advice, of the face in a picture of (width, height); empty if there is none."""
        messages: dict[FaceProblem, str] = {}
        if self.side < LEAST_PIXELS:
            found = f"the face has a size of {self.side:.0f} pixels, expected at least {LEAST_PIXELS:.0f}"
            messages["too-small"] = f"{found}; use a larger picture"
        if (yaw := abs(self.yaw)) > LARGEST_YAW:
            found = f"the face is turned away by {yaw:.0f} degrees, expected at most {LARGEST_YAW:.0f}"
            messages["turned-away"] = f"{found}; use a picture from the front"
        if self.share_outside(size) > LARGEST_CUT:
            messages["cut-off"] = "the face is cut off by the picture's edge; use a picture that shows all of it"
        return messages


class Photograph:
    """A picture to search: squares of it are sampled as a network's input, large ones from a reduced copy."""

    def __init__(self, rgb: Rgb) -> None:
        self.rgb = rgb
        self.height, self.width = rgb.shape[:2]
        self._factor = max(1, max(self.height, self.width) // _WORKING_SIDE)
        self._reduced = reduce_picture(rgb, self._factor)

    def sample(self, square: Points, side: int, outside: Literal["edge", "grey"]) -> Rgb:
        """A square with the given corners, uint8 ``[1, side, side, 3]``."""
        centre, across = square.mean(axis=0), square[3] - square[0]
        factor = self._factor if np.hypot(*across) >= self._factor * side else 1
        x, y, across_x, across_y = (int(np.rint(UNITS * value / factor)) for value in (*centre, *across))
        pixels = self.rgb if factor == 1 else self._reduced
        return sample_square(pixels, OrientedSquare(x, y, across_x, across_y), side, outside)[None]

    def contains(self, point: Points) -> bool:
        """True for a point of the picture."""
        return bool((point > 0).all() and (point < (self.width, self.height)).all())


class FaceDetector:
    """The network, loaded once and shared by threads."""

    def __init__(self) -> None:
        self._session = open_network("face_detector.onnx")

    def searches(self, photo: Photograph) -> Iterator[list[DetectedFace]]:
        """Confirmed faces, the largest first: in the whole picture, in its halves, in the picture turned to all sides,
        in smaller parts.

        Every candidate is searched for again, upright and small in a square of its surroundings: large faces that are
        turned get a wrong angle at first, and faces of cats and patterns are found, but rarely twice.
        """
        for squares in _searches(photo.width, photo.height):
            candidates = _largest_first([face for square in squares for face in self._detect(photo, square)])
            confirmed = [self._second_look(photo, candidate) for candidate in candidates]
            yield _largest_first([face for face in confirmed if face is not None])

    def _second_look(self, photo: Photograph, candidate: DetectedFace) -> DetectedFace | None:
        """The face in the place of a candidate, perhaps upside down; None if it is not found again."""
        looks: list[DetectedFace] = []
        for across in (candidate.across, -candidate.across):
            faces = self._detect(photo, square_around(candidate.centre, across, _SECOND_LOOK * candidate.side))
            looks += [face for face in faces if face.score > CONFIRMED_SCORE and not face.apart(candidate)]
            if not looks:
                return None
        return max(looks, key=lambda face: face.score)

    def _detect(self, photo: Photograph, square: Points) -> list[DetectedFace]:
        """The faces in a square of the picture, on grey; of overlapping ones the most confident."""
        scores, points = self._session.run(["scores", "points"], {"image": photo.sample(square, _SIDE, "grey")})
        side = float(np.hypot(*(square[3] - square[0])))
        faces = []
        for index in np.argsort(-scores):
            if scores[index] <= LEAST_SCORE:
                break
            centre, *keypoints = place(square, np.delete(points[index], 1, axis=0))
            face = DetectedFace(centre, float(points[index, 1].max()) * side, np.stack(keypoints), float(scores[index]))
            if face.side > 0 and face.across.any() and photo.contains(centre):
                faces.append(face)
        return _distinct(faces)


def open_network(name: str) -> onnxruntime.InferenceSession:
    """A network of this folder, on one thread; `ModelError` if it cannot be loaded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # 10 ms
    try:
        model = str(Path(__file__).with_name(name))
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ModelError(f"{name} cannot be loaded: {error}; install edgegrain again") from error


def square_around(centre: Points, direction: Points, side: float) -> Points:
    """Corners, ``[4, 2]``, of a square whose upper edge has a direction, as of `OrientedSquare`."""
    return square_corners(centre, direction / np.hypot(*direction) * side / 2)


def place(square: Points, positions: npt.NDArray[np.floating[Any]]) -> Points:
    """Convert positions in a square, ``[..., 2]``, 0 to 1 from its upper left corner, to pixels of the picture."""
    right, down = square[3] - square[0], square[1] - square[0]
    return np.asarray(square[0] + positions[..., :1] * right + positions[..., 1:] * down)


def _largest_first(faces: list[DetectedFace]) -> list[DetectedFace]:
    """The faces by size, without those that overlap a larger one."""
    return _distinct(sorted(faces, key=lambda face: -face.side))


def _distinct(faces: list[DetectedFace]) -> list[DetectedFace]:
    """The first `_MOST_CANDIDATES` faces without those that overlap an earlier one."""
    kept: list[DetectedFace] = []
    for face in faces:
        if len(kept) < _MOST_CANDIDATES and all(face.apart(other) for other in kept):
            kept.append(face)
    return kept


def _searches(width: int, height: int) -> Iterator[list[Points]]:
    """Groups of squares to search for faces, in order."""
    longest, middle = max(width, height), np.array([width, height]) / 2
    directions = np.array([(1, 0), (0, 1), (0, -1), (-1, 0)])
    upright, *turned = (square_around(middle, direction, longest) for direction in directions)
    yield [upright]
    yield _parts(width, height, longest / 2)
    yield turned
    side = longest / 4
    while side >= _LEAST_PART and len(parts := _parts(width, height, side)) <= _MOST_PARTS:
        yield parts
        side /= 2


def _parts(width: int, height: int, side: float) -> list[Points]:
    """Squares of a side that cover the picture and overlap by a quarter."""
    columns, rows = (
        np.linspace(side / 2, length - side / 2, max(2, int(np.ceil((length - side) / (0.75 * side))) + 1))
        if length > side
        else [length / 2]
        for length in (width, height)
    )
    return [square_around(np.array([x, y]), np.array([1.0, 0.0]), side) for y in rows for x in columns]
