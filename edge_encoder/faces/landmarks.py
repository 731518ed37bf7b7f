"""`FaceFinder`: the eyes and the mouth of a picture's largest face, found by two models of MediaPipe.

The detector is `edge_encoder.faces.detection`, the landmarks are Face Mesh's (Kartynnik et al., 2019; 468 points on
192 x 192 pixels), a TFLite file (Apache-2.0) run with ai-edge-litert, the extra ``align``; it is not part of the
package: `edge_encoder.faces.models`.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ModelError
from codec_contract.native_output import without_lines
from codec_contract.rgb import Rgb
from edge_encoder.faces.alignment import FacePoints, Points, cut_square
from edge_encoder.faces.detection import LEAST_SCORE, FaceDetector, inside, place, square_around
from edge_encoder.faces.models import LANDMARKS, read_model

_LANDMARKS_SIDE = 192
_LANDMARKS_SCALE = 1.5  # side of the square for the landmarks, in sides of the face's box
# Points of the mesh that correspond to dlib's around the eyes and at the mouth's corners.
_LEFT_EYE, _RIGHT_EYE = (33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380)
_MOUTH = (61, 291)


class FaceFinder:
    """Both models, loaded once and shared by threads.

    Args:
        folder: folder with `edge_encoder.faces.models.LANDMARKS`.

    Raises:
        ModelError: ai-edge-litert or the model is missing, or the model has another content.
    """

    def __init__(self, folder: Path) -> None:
        self._detector = FaceDetector()
        self._landmarks = _Model(folder, LANDMARKS)

    def find(self, rgb: Rgb) -> FacePoints | None:
        """The largest face of an upright picture, uint8 ``[H, W, 3]``; None if no face is found.

        The whole picture is searched first, then its parts, for small faces.
        """
        for faces in self._detector.searches(rgb):
            for face in faces:
                points = self._refine(rgb, square_around(face.centre, face.across, _LANDMARKS_SCALE * face.side))
                if points is not None:
                    return points
        return None

    def _refine(self, rgb: Rgb, face: Points) -> FacePoints | None:
        """Eyes and mouth of the face in a square, or None. The second pass is centred by the first."""
        points = self._mesh(rgb, face)
        if points is None:
            return None
        across = points[list(_RIGHT_EYE)].mean(axis=0) - points[list(_LEFT_EYE)].mean(axis=0)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        if not across.any() or not inside(middle, rgb):
            return None
        extent = np.ptp(_turned(points, across), axis=0).max()
        points = self._mesh(rgb, square_around(middle, across, _LANDMARKS_SCALE * extent))
        if points is None:
            return None
        left, right, mouth = (points[list(rows)].mean(axis=0) for rows in (_LEFT_EYE, _RIGHT_EYE, _MOUTH))
        return FacePoints((left[0], left[1]), (right[0], right[1]), (mouth[0], mouth[1]))

    def _mesh(self, rgb: Rgb, face: Points) -> Points | None:
        """The 468 points of the face in a square, in the picture's pixels."""
        levels = cut_square(rgb, face, _LANDMARKS_SIDE, coarse=True)[None]
        points, presence = self._landmarks.run(levels.astype(np.float32) / np.float32(255))
        if presence.item() <= _logit(LEAST_SCORE):
            return None
        return place(face, points.reshape(-1, 3)[:, :2] / _LANDMARKS_SIDE)


class _Model:
    """A TFLite model with one input."""

    def __init__(self, folder: Path, name: str) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ModuleNotFoundError as error:
            raise ModelError("aligning faces needs ai-edge-litert, which is not installed; install: pip install "
                             "'edgegrain[align]'") from error
        with without_lines("^INFO: "):  # the name of its delegate
            self._interpreter = Interpreter(model_content=read_model(folder, name), num_threads=1)
            self._interpreter.allocate_tensors()
        self._input: int = self._interpreter.get_input_details()[0]["index"]
        self._outputs: list[int] = [detail["index"] for detail in self._interpreter.get_output_details()]
        self._running = threading.Lock()

    def run(self, tensor: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        """The outputs for an input, in the model's order."""
        with self._running:  # an interpreter has one input tensor
            self._interpreter.set_tensor(self._input, tensor)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index) for index in self._outputs]


def _turned(points: Points, direction: Points) -> Points:
    """Points in rotated axes, the first of which has a direction."""
    right = direction / np.hypot(*direction)
    return np.asarray(points @ np.array([[right[0], -right[1]], [right[1], right[0]]]))


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))
