"""`FaceDetector`: the faces of a picture, found by MediaPipe's BlazeFace.

BlazeFace (Bazarevsky et al., 2019; "back camera": 256 x 256 pixels, 896 anchors) gives a face's box, its eyes, nose,
mouth and ears. `face_detector.onnx` next to this file is its TFLite file (Apache-2.0), converted by
`export.face_detector`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ModelError
from codec_contract.oriented_square import square_corners
from codec_contract.rgb import Rgb
from edge_encoder.faces.alignment import Points, cut_square

MODEL = Path(__file__).with_name("face_detector.onnx")
LEAST_SCORE = 0.5
"""Least score of a candidate, as in MediaPipe's graphs."""
CONFIRMED_SCORE = 0.7
"""Least score of a candidate that is detected a second time; the lowest among 589 pictures of faces is 0.79."""

_SIDE = 256
_SECOND_LOOK = 4.5  # side of the square around a face in which it must be found again, in sides of its box


@dataclass(frozen=True)
class DetectedFace:
    """A face in a picture; positions in pixels, left and right as seen in the picture.

    Attributes:
        centre: of its box, from the forehead to the chin.
        side: of its box, which is a square.
        points: ``[6, 2]``: left and right eye, nose, mouth, left and right ear. Hidden ones are estimates.
        score: 0 to 1.
    """

    centre: Points
    side: float
    points: Points
    score: float

    @property
    def across(self) -> Points:
        """From the left to the right eye."""
        return np.asarray(self.points[1] - self.points[0])


class FaceDetector:
    """The network, loaded once and shared by threads.

    Raises:
        ModelError: the model cannot be loaded.
    """

    def __init__(self, model: Path = MODEL) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1  # 10 ms
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise ModelError(f"the face detector cannot be loaded: {error}; install edgegrain again") from error

    def find(self, rgb: Rgb) -> list[DetectedFace]:
        """The faces of a picture, uint8 ``[H, W, 3]``, the largest first.

        Every candidate is searched for again, upright and small in a square of its surroundings: large faces that are
        turned get a wrong angle at first, and faces of cats and patterns are found, but rarely twice. If the whole
        picture shows no face, its parts are searched, and the picture turned to all sides.
        """
        for candidates in self.searches(rgb):
            confirmed = [face for candidate in candidates if (face := self._second_look(rgb, candidate)) is not None]
            if confirmed:
                return _largest_first(confirmed)
        return []

    def searches(self, rgb: Rgb) -> Iterator[list[DetectedFace]]:
        """Candidates, the largest first: in the whole picture, in its parts, in the picture turned to all sides."""
        for squares in _searches(rgb.shape[1], rgb.shape[0]):
            yield _largest_first([face for square in squares for face in self._detect(rgb, square)])

    def _second_look(self, rgb: Rgb, candidate: DetectedFace) -> DetectedFace | None:
        """The face in the place of a candidate, perhaps upside down; None if it is not found again."""
        looks: list[DetectedFace] = []
        for across in (candidate.across, -candidate.across):
            square = square_around(candidate.centre, across, _SECOND_LOOK * candidate.side)
            looks += [face for face in self._detect(rgb, square, on_grey=True)
                      if face.score > CONFIRMED_SCORE and not _apart(face, candidate)]
            if not looks:
                return None
        return max(looks, key=lambda face: face.score)

    def _detect(self, rgb: Rgb, square: Points, *, on_grey: bool = False) -> list[DetectedFace]:
        """The faces in a square of the picture; of overlapping ones the most confident."""
        levels = cut_square(rgb, square, _SIDE, coarse=True, on_grey=on_grey)[None]
        scores, points = self._session.run(["scores", "points"], {"image": levels})
        side = float(np.hypot(*(square[3] - square[0])))
        faces = []
        for index in np.argsort(-scores):
            if scores[index] <= LEAST_SCORE:
                break
            centre, *keypoints = place(square, np.delete(points[index], 1, axis=0))
            face = DetectedFace(centre, float(points[index, 1].max()) * side, np.stack(keypoints), float(scores[index]))
            if face.side > 0 and face.across.any() and inside(centre, rgb):
                faces.append(face)
        return _distinct(faces)


def square_around(centre: Points, direction: Points, side: float) -> Points:
    """Corners, ``[4, 2]``, of a square whose upper edge has a direction; in the order of `cut_square`."""
    return square_corners(centre, direction / np.hypot(*direction) * side / 2)


def place(square: Points, positions: npt.NDArray[np.floating[Any]]) -> Points:
    """Convert positions in a square, ``[..., 2]``, 0 to 1 from its upper left corner, to pixels of the picture."""
    return np.asarray(
        square[0] + positions[..., :1] * (square[3] - square[0]) + positions[..., 1:] * (square[1] - square[0]))


def inside(point: Points, rgb: Rgb) -> bool:
    """True for a point of the picture."""
    return bool((point > 0).all() and (point < rgb.shape[1::-1]).all())


def _largest_first(faces: list[DetectedFace]) -> list[DetectedFace]:
    return _distinct(sorted(faces, key=lambda face: -face.side))


def _distinct(faces: list[DetectedFace]) -> list[DetectedFace]:
    """The faces without those that overlap an earlier one."""
    kept: list[DetectedFace] = []
    for face in faces:
        if all(_apart(face, other) for other in kept):
            kept.append(face)
    return kept


def _apart(face: DetectedFace, other: DetectedFace) -> bool:
    """True if neither face's centre is in the other's box."""
    return bool(np.hypot(*(face.centre - other.centre)) > max(face.side, other.side) / 2)


def _searches(width: int, height: int) -> Iterator[list[Points]]:
    """Groups of squares to search for faces, in order."""
    longest = max(width, height)
    middle, right = np.array([width, height]) / 2, np.array([1.0, 0.0])
    yield [square_around(middle, right, longest)]
    # Parts of half the size that overlap by half.
    steps = [np.linspace(longest / 4, max(longest / 4, side - longest / 4), -(-4 * side // longest) - 1)
             if 2 * side > longest else np.array([side / 2]) for side in (width, height)]
    yield [square_around(np.array([x, y]), right, longest / 2) for y in steps[1] for x in steps[0]]
    for across in ([0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]):  # pictures rotated by 90 and 180 degrees
        yield [square_around(middle, np.array(across), longest)]
