"""`FaceFinder`: the eyes and the mouth of a picture's largest face, found by two models of MediaPipe.

The detector is BlazeFace (Bazarevsky et al., 2019; "back camera": 256 x 256 pixels, 896 anchors), the landmarks are
Face Mesh's (Kartynnik et al., 2019; 468 points on 192 x 192 pixels). Both are TFLite files (Apache-2.0), run with
ai-edge-litert, the extra ``align``; they are not part of the package: `edge_encoder.faces.models`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ModelError
from codec_contract.native_output import without_lines
from codec_contract.quantization import dequantize
from codec_contract.rgb import Rgb
from edge_encoder.faces.alignment import FacePoints, Points, cut_square
from edge_encoder.faces.models import DETECTOR, LANDMARKS, read_model

_DETECTOR_SIDE, _LANDMARKS_SIDE = 256, 192
_ANCHOR_LAYERS = ((16, 2), (8, 6))  # cells per side, anchors per cell
_LEAST_SCORE = 0.5  # of both models, as in MediaPipe's graphs
_LANDMARKS_SCALE = 1.5  # side of the square for the landmarks, in sides of the face's box
# Points of the mesh that correspond to dlib's around the eyes and at the mouth's corners.
_LEFT_EYE, _RIGHT_EYE = (33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380)
_MOUTH = (61, 291)


class FaceFinder:
    """Both models, loaded once and shared by threads.

    Args:
        folder: folder with `edge_encoder.faces.models.FILES`.

    Raises:
        ModelError: ai-edge-litert or a model is missing, or a model has another content.
    """

    def __init__(self, folder: Path) -> None:
        self._detector = _Model(folder, DETECTOR)
        self._landmarks = _Model(folder, LANDMARKS)
        self._anchors = _anchors()

    def find(self, rgb: Rgb) -> FacePoints | None:
        """The largest face of an upright picture, uint8 ``[H, W, 3]``; None if no face is found.

        The whole picture is searched first, then its parts, for small faces.
        """
        for search in _searches(rgb.shape[1], rgb.shape[0]):
            faces = [face for square in search for face in self._detect(rgb, square)]
            for face in sorted(faces, key=_area, reverse=True):
                points = self._refine(rgb, face)
                if points is not None:
                    return points
        return None

    def _detect(self, rgb: Rgb, square: Points) -> list[Points]:
        """Squares around the faces in a square, rotated with their eyes; of overlapping ones the most confident."""
        levels = cut_square(rgb, square, _DETECTOR_SIDE, coarse=True)[None]
        regressors, scores = self._detector.run(dequantize(levels.astype(np.float32)))
        scores = scores[0, :, 0]
        faces: list[Points] = []
        for index in np.argsort(-scores):
            if scores[index] <= _logit(_LEAST_SCORE):
                break
            # Offset of the centre; width and height; offsets of six points, of which the first are the eyes.
            values = regressors[0, index].reshape(-1, 2)
            centre, left, right = (_place(square, self._anchors[index] + values[row] / _DETECTOR_SIDE)
                                   for row in (0, 2, 3))
            side = float(values[1].max()) / _DETECTOR_SIDE * np.hypot(*(square[3] - square[0]))
            apart = all(np.hypot(*(centre - other.mean(axis=0))) > side / 2 for other in faces)
            if side > 0 and (right - left).any() and apart and _inside(centre, rgb):
                faces.append(_square(centre, right - left, _LANDMARKS_SCALE * side))
        return faces

    def _refine(self, rgb: Rgb, face: Points) -> FacePoints | None:
        """Eyes and mouth of the face in a square, or None. The second pass is centred by the first."""
        points = self._mesh(rgb, face)
        if points is None:
            return None
        across = points[list(_RIGHT_EYE)].mean(axis=0) - points[list(_LEFT_EYE)].mean(axis=0)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        if not across.any() or not _inside(middle, rgb):
            return None
        extent = np.ptp(_turned(points, across), axis=0).max()
        points = self._mesh(rgb, _square(middle, across, _LANDMARKS_SCALE * extent))
        if points is None:
            return None
        left, right, mouth = (points[list(rows)].mean(axis=0) for rows in (_LEFT_EYE, _RIGHT_EYE, _MOUTH))
        return FacePoints((left[0], left[1]), (right[0], right[1]), (mouth[0], mouth[1]))

    def _mesh(self, rgb: Rgb, face: Points) -> Points | None:
        """The 468 points of the face in a square, in the picture's pixels."""
        levels = cut_square(rgb, face, _LANDMARKS_SIDE, coarse=True)[None]
        points, presence = self._landmarks.run(levels.astype(np.float32) / np.float32(255))
        if presence.item() <= _logit(_LEAST_SCORE):
            return None
        return _place(face, points.reshape(-1, 3)[:, :2] / _LANDMARKS_SIDE)


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


def _searches(width: int, height: int) -> Iterator[list[Points]]:
    """Groups of squares to search for faces, in order."""
    longest = max(width, height)
    middle, right = np.array([width, height]) / 2, np.array([1.0, 0.0])
    yield [_square(middle, right, longest)]
    # Parts of half the size that overlap by half.
    steps = [np.linspace(longest / 4, max(longest / 4, side - longest / 4), -(-4 * side // longest) - 1)
             if 2 * side > longest else np.array([side / 2]) for side in (width, height)]
    yield [_square(np.array([x, y]), right, longest / 2) for y in steps[1] for x in steps[0]]
    for across in ([0.0, 1.0], [0.0, -1.0]):  # pictures rotated by 90 degrees
        yield [_square(middle, np.array(across), longest)]


def _square(centre: Points, direction: Points, side: float) -> Points:
    """Corners, ``[4, 2]``, of a square whose upper edge has a direction; in the order of `cut_square`."""
    right = direction / np.hypot(*direction) * side / 2
    down = np.array([-right[1], right[0]])
    return np.stack([centre - right - down, centre - right + down, centre + right + down, centre + right - down])


def _place(square: Points, positions: npt.NDArray[np.floating[Any]]) -> Points:
    """Convert positions in a square, ``[..., 2]``, 0 to 1 from its upper left corner, to pixels of the picture."""
    return np.asarray(
        square[0] + positions[..., :1] * (square[3] - square[0]) + positions[..., 1:] * (square[1] - square[0]))


def _turned(points: Points, direction: Points) -> Points:
    """Points in rotated axes, the first of which has a direction."""
    right = direction / np.hypot(*direction)
    return np.asarray(points @ np.array([[right[0], -right[1]], [right[1], right[0]]]))


def _inside(point: Points, rgb: Rgb) -> bool:
    return bool((point > 0).all() and (point < rgb.shape[1::-1]).all())


def _area(face: Points) -> float:
    return float(((face[3] - face[0]) ** 2).sum())


def _anchors() -> npt.NDArray[np.float32]:
    """Positions of the detector's outputs, ``[896, 2]``, x and y from 0 to 1."""
    layers = []
    for cells, count in _ANCHOR_LAYERS:
        middles = (np.arange(cells, dtype=np.float32) + np.float32(0.5)) / cells
        grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)  # x runs fastest
        layers.append(grid.repeat(count, axis=0))
    return np.concatenate(layers)


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))
