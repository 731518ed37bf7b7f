"""Face alignment as in FFHQ: compute the square around a face, and resample it.

The square is that of the FFHQ data set (Karras et al., "A Style-Based Generator Architecture for Generative Adversarial
Networks", 2019, appendix A; the published ``recreate_aligned_images``). Its resampling is not part of any contract:
payloads are equal on all clients from the cut-out square onward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from codec_contract.errors import ImageError, PayloadError
from codec_contract.oriented_square import OrientedSquare, nearest_square
from codec_contract.resize import exact_resize
from codec_contract.rgb import Rgb

Points = npt.NDArray[np.float64]
"""``[N, 2]``: x and y in pixels from the picture's upper left corner."""

# FFHQ samples its pictures of 1024 x 1024 pixels at 4096 x 4096, and blurs mirrored pixels, over a distance of at least
# 0.3 of the square's side, by up to 0.02 of it.
_OVERSAMPLING, _FADING, _BLUR = 4, 0.3, 0.02


@dataclass(frozen=True)
class FacePoints:
    """Positions in a face: x and y in pixels, left and right as seen in the picture."""

    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    mouth: tuple[float, float]
    """Midpoint of its corners."""


def ffhq_square(face: FacePoints, picture_size: tuple[int, int]) -> OrientedSquare:
    """The square that FFHQ cuts out around a face.

    Raises:
        ImageError: the face is too small, or its square too large for the picture of (width, height).
    """
    left, right, mouth = (np.array(point, np.float64) for point in (face.left_eye, face.right_eye, face.mouth))
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


def cut_square(
    rgb: Rgb, corners: Points, side: int, *, coarse: bool = False, on_grey: bool = False
) -> Rgb:
    """Resample a square of a picture, at any angle.

    Outside of the picture, mirrored pixels are blurred and fade into the median colour, so that no second eyes appear.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        corners: ``[4, 2]`` in pixels: upper left, lower left, lower right, upper right.
        side: side of the result.
        coarse: one sample per pixel, without blur: for the networks that find faces.
        on_grey: grey outside of the picture, instead of mirrored pixels.

    Returns:
        uint8 ``[side, side, 3]``.
    """
    length = float(np.hypot(*(corners[3] - corners[0])))
    shrink = max(1, int(length / side / (1 if coarse else 2)))
    # A frame around the square, at whole pixels of the reduced picture.
    low = np.floor(corners.min(axis=0) / shrink - 2).astype(int)
    high = np.ceil(corners.max(axis=0) / shrink + 2).astype(int)
    inside, margins = _window(rgb, low, high, shrink)
    if on_grey:
        frame = np.pad(inside, (*margins, (0, 0)), constant_values=128)
    else:
        frame = np.pad(inside, (*margins, (0, 0)), mode="symmetric")
    if not (coarse or on_grey) and max(max(ends) for ends in margins):
        frame = _faded(frame, margins, np.median(inside, axis=(0, 1)), length / shrink)
    samples = side if coarse else _OVERSAMPLING * side
    upper_left, lower_left, _, upper_right = corners / shrink - low
    columns = (upper_right - upper_left) / samples, (lower_left - upper_left) / samples, upper_left
    sampled = Image.fromarray(frame).transform(
        (samples, samples), Image.Transform.AFFINE, tuple(np.stack(columns, axis=1).ravel()), Image.Resampling.BILINEAR)
    return exact_resize(np.asarray(sampled), (side, side))


def _window(
    rgb: Rgb, low: npt.NDArray[np.int_], high: npt.NDArray[np.int_], shrink: int
) -> tuple[Rgb, tuple[tuple[int, int], tuple[int, int]]]:
    """The part of a picture, reduced by an integer factor, in the pixels [low, high), and the number of their rows and
    columns before and after it."""
    height, width = rgb.shape[:2]
    size = -(-width // shrink), -(-height // shrink)
    (left, top), (right, bottom) = (np.clip(ends, (0, 0), size) for ends in (low, high))
    inside = rgb[top * shrink : bottom * shrink, left * shrink : right * shrink]
    if shrink > 1:
        inside = np.asarray(Image.fromarray(inside).reduce(shrink))
    return inside, ((top - low[1], high[1] - bottom), (left - low[0], high[0] - right))


def _faded(
    frame: Rgb, margins: tuple[tuple[int, int], tuple[int, int]], median: npt.NDArray[np.float64], length: float
) -> Rgb:
    """A frame with margins that are blurred and fade into the median colour; pixels inside are unchanged."""
    beyond = [np.maximum(before - 0.5 - np.arange(count), np.arange(count) + 0.5 - (count - behind))
              for count, (before, behind) in zip(frame.shape, margins, strict=False)]
    distance = np.maximum(beyond[0][:, None], beyond[1]) / max(_FADING * length, *margins[0], *margins[1])
    distance = np.clip(distance, 0, 1).astype(np.float32)[..., None]
    blurred = np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(_BLUR * length)), np.float32)
    mixed = frame + np.minimum(3 * distance, 1) * (blurred - frame)
    return np.rint(mixed + distance * (median.astype(np.float32) - mixed)).astype(np.uint8)
