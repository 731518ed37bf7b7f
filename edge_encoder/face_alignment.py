"""Faces brought to the place that portraits have in FFHQ: which square of a picture to take, and taking it.

The square is that of the FFHQ data set (Karras et al., "A Style-Based Generator Architecture for Generative Adversarial
Networks", 2019, appendix A; the published ``recreate_aligned_images``). Its resampling is not part of any contract:
payloads are equal on all clients from the cut-out square onward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgegrain.contract.errors import ImageError, PayloadError
from edgegrain.contract.oriented_square import OrientedSquare, nearest_square
from edgegrain.contract.resize import exact_resize

Rgb = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
"""``[N, 2]``: x and y in pixels from the picture's upper left corner."""

FFHQ_OVERSAMPLING = 4
"""FFHQ samples its pictures of 1024 x 1024 pixels at 4096 x 4096."""


@dataclass(frozen=True)
class FacePoints:
    """Where a face is: x and y in pixels, left and right as seen in the picture."""

    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    mouth: tuple[float, float]
    """Midway between its corners."""


def ffhq_square(face: FacePoints, picture_size: tuple[int, int]) -> OrientedSquare:
    """The square that FFHQ cuts out around a face.

    Raises:
        ImageError: the face is too small, or its square too large for the picture of (width, height).
    """
    left, right, mouth = (np.array(point, np.float64) for point in (face.left_eye, face.right_eye, face.mouth))
    eyes = (left + right) / 2
    eye_to_eye, eye_to_mouth = right - left, mouth - eyes
    x = eye_to_eye + np.array([eye_to_mouth[1], -eye_to_mouth[0]])  # eye_to_mouth turned to point along the eyes
    length = np.hypot(*x)
    if not length:
        raise ImageError("the points of the face coincide; it is too small to be aligned")
    x *= max(2.0 * np.hypot(*eye_to_eye), 1.8 * np.hypot(*eye_to_mouth)) / length
    try:
        return nearest_square(eyes + 0.1 * eye_to_mouth, 2 * x, picture_size)
    except PayloadError as error:
        raise ImageError(f"the face cannot be aligned: {error}") from error


def cut_square(rgb: Rgb, corners: Points, side: int, oversampling: int = FFHQ_OVERSAMPLING) -> Rgb:
    """Resample a square of a picture, at any angle; what lies outside of the picture is reflected at its edges.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        corners: ``[4, 2]`` in pixels: upper left, lower left, lower right, upper right.
        side: of the result.
        oversampling: samples along a pixel of the result, 1 where speed matters more than quality.

    Returns:
        uint8 ``[side, side, 3]``.
    """
    length = float(np.hypot(*(corners[3] - corners[0])))
    shrink = max(1, int(length / side / (1 if oversampling == 1 else 2)))
    # A frame around the square, whose sides lie on whole pixels of the shrunk picture.
    low = np.floor(corners.min(axis=0) / shrink - 2).astype(int)
    high = np.ceil(corners.max(axis=0) / shrink + 2).astype(int)
    frame = Image.fromarray(_window(rgb, low, high, shrink))
    samples = oversampling * side
    upper_left, lower_left, _, upper_right = corners / shrink - low
    columns = (upper_right - upper_left) / samples, (lower_left - upper_left) / samples, upper_left
    sampled = frame.transform((samples, samples), Image.Transform.AFFINE, tuple(np.stack(columns, axis=1).ravel()),
                              Image.Resampling.BILINEAR)
    return exact_resize(np.asarray(sampled), (side, side))


def _window(rgb: Rgb, low: npt.NDArray[np.int_], high: npt.NDArray[np.int_], shrink: int) -> Rgb:
    """Pixels [low, high) of a picture shrunk by a whole factor, also those beyond its edges."""
    height, width = rgb.shape[:2]
    size = -(-width // shrink), -(-height // shrink)
    (left, top), (right, bottom) = (np.clip(ends, (0, 0), size) for ends in (low, high))
    inside = rgb[top * shrink : bottom * shrink, left * shrink : right * shrink]
    if shrink > 1:
        inside = np.asarray(Image.fromarray(inside).reduce(shrink))
    margins = ((top - low[1], high[1] - bottom), (left - low[0], high[0] - right), (0, 0))
    return np.pad(inside, margins, mode="symmetric")
