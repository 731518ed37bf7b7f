"""Face alignment as in FFHQ: find the eyes and the mouth of faces, and compute the square around each.

The square is that of the FFHQ data set (Karras et al., "A Style-Based Generator Architecture for Generative Adversarial
Networks", 2019, appendix A; the published ``recreate_aligned_images``). The eyes and the mouth are points of Face Mesh
(Kartynnik et al., 2019; 468 points on 192 x 192 pixels): `face_landmarks.onnx` next to this file is its TFLite file
(Apache-2.0), converted once (CREDIT.md).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ImageError, PayloadError
from codec_contract.oriented_square import UNITS, OrientedSquare, nearest_square
from codec_contract.pixels import Rgb
from edge_encoder.faces.detection import (
    LEAST_SCORE,
    DetectedFace,
    FaceDetector,
    Photograph,
    Points,
    open_network,
    place,
    square_around,
)

_SIDE = 192
_MESH_SCALE = 1.5  # side of the square for the landmarks, in sides of the face's box
# Points of the mesh that correspond to dlib's around the eyes and at the mouth's corners.
_LEFT_EYE, _RIGHT_EYE = (33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380)
_MOUTH = (61, 291)

# Least presence of a face in the second pass. Those of 477 training pictures have .9997 and more; 462 small, blurred,
# dark, turned or badly compressed ones .998 and more, but for two; dogs and cats that the detector confirms have less
# than .93.
CONFIRMED_PRESENCE = 0.95

# Limits of a picture that is framed already, for its face's square: the distance of the centres and the difference of
# the sides, in sides of the picture, and the roll in degrees.
FRAMED_CENTRE, FRAMED_SIDE, FRAMED_ROLL = 0.03, 0.08, 4.0


class FoundFace(NamedTuple):
    """A face with its box and, ``[3, 2]``, its left and right eye as seen in the picture and the middle of its mouth"""

    detected: DetectedFace
    points: Points


class FaceFinder:
    """Both networks, loaded once and shared by threads."""

    def __init__(self) -> None:
        self._detector = FaceDetector()
        self._landmarks = open_network("face_landmarks.onnx")

    def find(self, rgb: Rgb, *, every: bool = False, largest: bool = False) -> list[FoundFace]:
        """Faces of an upright picture, uint8 ``[H, W, 3]``, the largest first.

        The whole picture is searched first, then its parts, until faces are found; with ``every`` all parts are
        searched, so that small faces next to large ones are found too; with ``largest`` only the first is given.
        """
        photo, found = Photograph(rgb), list[FoundFace]()
        for detected in self._detector.searches(photo):
            for face in detected:
                if all(face.apart(other.detected) for other in found):
                    points = self._points(photo, face)
                    found += [] if points is None else [FoundFace(face, points)]
                if found and largest:
                    return found
            if found and not every:
                break
        return sorted(found, key=lambda face: -face.detected.side)

    def _points(self, photo: Photograph, face: DetectedFace) -> Points | None:
        """Eyes and mouth of a face, or None. The second pass is centred by the first."""
        points = self._mesh(photo, square_around(face.centre, face.across, _MESH_SCALE * face.side), LEAST_SCORE)
        if points is None:
            return None
        across = points[list(_RIGHT_EYE)].mean(axis=0) - points[list(_LEFT_EYE)].mean(axis=0)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        if not across.any() or not photo.contains(middle):
            return None
        right = across / np.hypot(*across)
        extent = np.ptp(points @ np.array([[right[0], -right[1]], [right[1], right[0]]]), axis=0).max()
        points = self._mesh(photo, square_around(middle, across, _MESH_SCALE * extent), CONFIRMED_PRESENCE)
        if points is None:
            return None
        return np.stack([points[list(rows)].mean(axis=0) for rows in (_LEFT_EYE, _RIGHT_EYE, _MOUTH)])

    def _mesh(self, photo: Photograph, square: Points, presence: float) -> Points | None:
        """The 468 points of the face in a square, in the picture's pixels; None below a presence of a face."""
        found, points = self._landmarks.run(["presence", "points"], {"image": photo.sample(square, _SIDE, "edge")})
        return place(square, points) if found[0] > presence else None


def ffhq_square(points: npt.ArrayLike, picture_size: tuple[int, int]) -> OrientedSquare:
    """The square that FFHQ cuts out around a face with the points of `FoundFace`; `ImageError` if a point is not
    finite, the face too small, or its square too large for the picture of (width, height), or outside of it."""
    left, right, mouth = positions = np.asarray(points, np.float64)
    if not np.isfinite(positions).all():
        raise ImageError(f"the points of a face are finite numbers, got {positions.tolist()}")
    eyes = (left + right) / 2
    eye_to_eye, eye_to_mouth = right - left, mouth - eyes
    x = eye_to_eye + np.array([eye_to_mouth[1], -eye_to_mouth[0]])  # eye_to_mouth, rotated to the direction of the eyes
    length = np.hypot(*x)
    if not length:
        raise ImageError("the points of the face coincide; it is too small to be aligned")
    x *= max(2.0 * np.hypot(*eye_to_eye), 1.8 * np.hypot(*eye_to_mouth)) / length
    try:
        return nearest_square(eyes + 0.1 * eye_to_mouth, 2 * x, picture_size)
    except PayloadError as error:
        raise ImageError(f"the face cannot be aligned: {error}") from error


def is_framed(square: OrientedSquare, picture_size: tuple[int, int]) -> bool:
    """True for a picture of (width, height) that is already framed like FFHQ's: its face's square is the picture."""
    width, height = picture_size
    centre = math.hypot(square.x / UNITS / width - 0.5, square.y / UNITS / height - 0.5)
    roll = math.degrees(math.atan2(square.across_y, square.across_x))
    side = math.hypot(square.across_x, square.across_y) / UNITS
    differences = (abs(side / length - 1) for length in picture_size)
    return centre <= FRAMED_CENTRE and abs(roll) <= FRAMED_ROLL and max(differences) <= FRAMED_SIDE
