"""Faces of photographs: `find_faces`, and the encoder's square of a face or of a whole picture."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from codec_contract.errors import ImageError
from codec_contract.exact_square import cut_square
from codec_contract.fit import MAX_PHOTO_PIXELS, fit_picture
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import FIT_ALIGN, FIT_PAD
from codec_contract.rgb import Rgb
from edge_encoder.faces.alignment import FaceFinder, FoundFace, ffhq_square, is_framed
from edge_encoder.faces.detection import LEAST_PIXELS, FaceProblem
from edge_encoder.preprocessing import WHITE, Colour, PictureSource, load_picture

Found = TypeVar("Found")

DOMAIN = "faces"
"""Domain of the bundles that encode faces of photographs."""


@dataclass(frozen=True)
class Face:
    """A face in a picture that was turned upright by its EXIF orientation.

    Attributes:
        box: left, top, right and bottom of the square from the forehead to the chin, in pixels. It may extend beyond
            the picture.
        share: side of the box, in longer sides of the picture.
        roll: rotation in the picture, clockwise, in degrees.
        yaw: rotation to the side, in degrees; 0 for a view from the front, positive towards the picture's right.
        score: the detector's confidence, 0.5 to 1.
        problems: ``"too-small"``, ``"turned-away"``, ``"cut-off"``.
        square: the part of the picture that is encoded, as in FFHQ; None if its centre lies outside of the picture.
    """

    box: tuple[float, float, float, float]
    share: float
    roll: float
    yaw: float
    score: float
    problems: tuple[FaceProblem, ...]
    square: OrientedSquare | None = None


@dataclass(frozen=True)
class FaceCheck:
    """Faces of a picture.

    Attributes:
        faces: the largest first.
        problems: ``"none"`` without a face, else those of the largest face; () if it can be encoded.
        message: the problems in words, with advice; "" without problems.
    """

    faces: tuple[Face, ...]
    problems: tuple[FaceProblem, ...]
    message: str


@dataclass(frozen=True)
class Fitted:
    """The encoder's square, uint8 ``[hr, hr, 3]``, with its origin as the payload stores it."""

    rgb: Rgb
    original_size: tuple[int, int]
    fit: str
    square: OrientedSquare | None = None
    face: float = 0.0
    """Side of its face's box in the picture, in pixels; 0 for a whole picture."""


def find_faces(
    picture: PictureSource, *, background: Colour = WHITE, max_pixels: int = MAX_PHOTO_PIXELS, every: bool = False
) -> FaceCheck:
    """Find the faces of a picture, and check if `compress` encodes the largest of them well.

    Args:
        picture: as for `compress`.
        background: colour behind transparent pixels.
        max_pixels: largest picture that is read.
        every: search all parts of the picture, as `compress_faces` does, for small faces next to large ones.

    Raises:
        ImageError: the picture cannot be read, or is refused.
    """
    rgb = load_picture(picture, background=background, max_pixels=max_pixels)
    size = rgb.shape[1], rgb.shape[0]
    found = finder().find(rgb, every=every)
    messages: dict[FaceProblem, str] = found[0].detected.problems(size) if found else {
        "none": f"no face was found in the picture of {size[0]} x {size[1]} pixels; use another picture"}
    faces = tuple(_describe(face, size) for face in found)
    return FaceCheck(faces, tuple(messages), ". Also: ".join(messages.values()))


def fit_face(rgb: Rgb, hr: int, *, require: bool = False) -> Fitted:
    """The encoder's square for the largest face of a picture, uint8 ``[H, W, 3]``.

    Args:
        rgb: the picture; one that is already framed as in FFHQ (`is_framed`) is taken whole.
        hr: side of the result.
        require: refuse a face that is too small, turned away or cut off.

    Raises:
        ImageError: there is no face, or not one that can be aligned.
    """
    size = rgb.shape[1], rgb.shape[0]
    face, *_ = _require(finder().find(rgb), size)
    if require and (problems := face.detected.problems(size)):
        raise ImageError(". Also: ".join(problems.values()))
    return cut_face(rgb, hr, ffhq_square(face.points, size))


def fit_faces(
    rgb: Rgb, hr: int, *, framed_whole: bool = True, least: float = LEAST_PIXELS
) -> Iterator[Fitted]:
    """The encoder's squares for all faces of a picture whose boxes have a least side in pixels, the largest first.

    Raises:
        ImageError: there is no such face.
    """
    size = rgb.shape[1], rgb.shape[0]
    faces = [(face.detected, square) for face in finder().find(rgb, every=True)
             if (square := _square(face, size)) is not None]
    for face, square in _require(faces, size):
        if face.side >= least:
            yield dataclasses.replace(cut_face(rgb, hr, square, framed_whole=framed_whole), face=face.side)
        elif face is faces[0][0]:
            raise ImageError(face.problems(size)["too-small"])


def cut_face(rgb: Rgb, hr: int, square: OrientedSquare, *, framed_whole: bool = True) -> Fitted:
    """The encoder's square for a square of a picture; the whole picture if that is framed so."""
    size = rgb.shape[1], rgb.shape[0]
    if framed_whole and is_framed(square, size):
        return Fitted(fit_picture(rgb, hr, FIT_PAD), size, FIT_PAD)
    return Fitted(cut_square(rgb, square, hr), size, FIT_ALIGN, square)


@functools.cache
def finder() -> FaceFinder:
    """The networks that find faces, loaded once."""
    return FaceFinder()


def _require(faces: list[Found], size: tuple[int, int]) -> list[Found]:
    """The faces, of which there must be one."""
    if not faces:
        raise ImageError(f"no face was found in the picture of {size[0]} x {size[1]} pixels; use another picture, or "
                         "encode all of it, which restores only faces that fill it well: align=False (--no-align)")
    return faces


def _square(face: FoundFace, size: tuple[int, int]) -> OrientedSquare | None:
    try:
        return ffhq_square(face.points, size)
    except ImageError:
        return None


def _describe(found: FoundFace, size: tuple[int, int]) -> Face:
    face = found.detected
    left, top = (face.centre - face.side / 2).tolist()
    return Face((left, top, left + face.side, top + face.side), face.side / max(size), face.roll, face.yaw, face.score,
                tuple(face.problems(size)), _square(found, size))
