"""Faces of photographs: `find_faces`, and the encoder's square of a face or of a whole picture."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_contract.errors import ImageError, PayloadError
from codec_contract.exact_square import cut_square
from codec_contract.fit import MAX_PHOTO_PIXELS, MAX_PIXELS, fit_picture
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import FIT_ALIGN, FIT_PAD
from codec_contract.pixels import Rgb
from edge_encoder.faces.alignment import FaceFinder, FoundFace, ffhq_square, is_framed
from edge_encoder.faces.detection import LEAST_PIXELS, FaceProblem
from edge_encoder.preprocessing import WHITE, Colour, PictureSource, load_picture
from sdk.generated_mark import GeneratedMark, MarkedPicture
from sdk.inputs import PayloadSource, read_payload

DOMAIN = "faces"
"""Domain of the bundles that encode faces of photographs."""
FEATHER = 0.1
"""Width of the border in which the face fades into the background, as a fraction of the square's side."""

_NO_FACE = "no face was found in the picture of {} x {} pixels; use another picture"
_BAND_PIXELS = 1 << 20


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
        picture, background, max_pixels: as for `compress`.
        every: search all parts of the picture, as `compress_faces` does, for small faces next to large ones.

    Raises:
        ImageError: the picture cannot be read, or is refused.
    """
    rgb = load_picture(picture, background=background, max_pixels=max_pixels)
    size = rgb.shape[1], rgb.shape[0]
    found = finder().find(rgb, every=every)
    messages: dict[FaceProblem, str] = found[0].detected.problems(size) if found else {"none": _NO_FACE.format(*size)}
    faces = tuple(_describe(face, size) for face in found)
    return FaceCheck(faces, tuple(messages), ". Also: ".join(messages.values()))


def fit_face(rgb: Rgb, hr: int, *, require: bool = False) -> Fitted:
    """The encoder's square for the largest face of a picture, uint8 ``[H, W, 3]``; a picture that is framed as in FFHQ
    is taken whole. With ``require``, a face that is too small, turned away or cut off is refused."""
    size = rgb.shape[1], rgb.shape[0]
    if not (found := finder().find(rgb, largest=True)):
        advice = "or encode all of it, which restores only faces that fill it well: align=False (--no-align)"
        raise ImageError(f"{_NO_FACE.format(*size)}, {advice}")
    face = found[0]
    if require and (problems := face.detected.problems(size)):
        raise ImageError(". Also: ".join(problems.values()))
    return cut_face(rgb, hr, ffhq_square(face.points, size))


def fit_faces(rgb: Rgb, hr: int, *, framed_whole: bool = True, least: float = LEAST_PIXELS) -> Iterator[Fitted]:
    """The encoder's squares for all faces of a picture whose boxes have a least side in pixels, the largest first."""
    size = rgb.shape[1], rgb.shape[0]
    found = [(face.detected, _square(face, size)) for face in finder().find(rgb, every=True)]
    if not (faces := [(face, square) for face, square in found if square is not None]):
        raise ImageError(_NO_FACE.format(*size))
    if faces[0][0].side < least:
        raise ImageError(faces[0][0].problems(size)["too-small"])
    for face, square in faces:
        if face.side >= least:
            yield dataclasses.replace(cut_face(rgb, hr, square, framed_whole=framed_whole), face=face.side)


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


def _square(face: FoundFace, size: tuple[int, int]) -> OrientedSquare | None:
    try:
        return ffhq_square(face.points, size)
    except ImageError:
        return None


def _describe(found: FoundFace, size: tuple[int, int]) -> Face:
    face, problems = found.detected, tuple(found.detected.problems(size))
    left, top = (face.centre - face.side / 2).tolist()
    box = left, top, left + face.side, top + face.side
    return Face(box, face.side / max(size), face.roll, face.yaw, face.score, problems, _square(found, size))


def paste(
    face: PictureSource,
    payload: PayloadSource,
    background: PictureSource,
    *,
    feather: float = FEATHER,
    max_pixels: int = MAX_PIXELS,
    mark: bool = True,
) -> Image.Image:
    """Put the restored square of an aligned (or cropped) picture back into a picture of the whole.

    Args:
        face: the result of `restore` for the payload, of any side; ``size="native"``, or one of
            `BundleInfo.sides`, avoids resampling twice.
        payload: a `Payload`, its bytes or the path of its file; its header says where the square lies.
        background: the whole picture, for instance as a small JPEG: of the original's size, or of its aspect.
        feather: width of the border in which the face fades in, 0 to 0.5 of the square's side.
        max_pixels: largest picture that is read.
        mark: as for `restore`; the mark of a face that `restore` returned is taken over.

    Returns:
        An RGB picture of the background's size, equal to the background outside of the square.

    Raises:
        PayloadError: the payload is damaged, or of a picture that was not cut.
        ImageError: a picture cannot be read, the face is not square, or the background has another aspect.
    """
    header = read_payload(payload).header
    square = header.cut
    if square is None:
        advice = "only aligned faces and pictures compressed with fit='crop' are parts of others"
        raise PayloadError(
            f"the payload holds the whole picture (fit {header.fit!r}), which needs no background; {advice}"
        )
    if not 0 <= feather <= 0.5:
        raise ImageError(f"feather is a fraction of the square's side, 0 to 0.5, got {feather!r}")
    inner, outer = (load_picture(picture, max_pixels=max_pixels) for picture in (face, background))
    if inner.shape[0] != inner.shape[1]:
        raise ImageError(f"a restored face is square, got {inner.shape[1]} x {inner.shape[0]} pixels")
    (width, height), (wide, high) = outer.shape[1::-1], header.original_size
    if abs(width * high - height * wide) > max(wide, high):  # a pixel's rounding of the shorter side
        advice = f"the original had {wide} x {high}; give one of that size or aspect"
        raise ImageError(f"the background has {width} x {height} pixels, {advice}")
    picture = Image.fromarray(outer)
    blend_face(picture, Image.fromarray(inner), square.corners() * (width / wide, height / high), feather)
    if not mark:
        return picture
    return MarkedPicture(picture, face.info.get("xmp") if isinstance(face, MarkedPicture) else GeneratedMark().xmp())


def blend_face(picture: Image.Image, face: Image.Image, corners: npt.NDArray[np.float64], feather: float) -> None:
    """Draw a face into the quadrangle with these corners, ``[4, 2]`` in pixels, in place; arguments as `paste`."""
    upper_left, lower_left, _, upper_right = corners
    low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)), picture.size).astype(int)
    width, height = (int(length) for length in high - low)
    if min(width, height) < 1:  # a square of less than a pixel, at the edge
        return
    # Position in the square, 0 to 1, of the window's point (x, y): matrix @ (x, y) + offset.
    matrix = np.linalg.inv(np.stack([upper_right - upper_left, lower_left - upper_left], axis=1))
    offset = matrix @ (low - upper_left)

    side = max(1, round(float(np.hypot(*(upper_right - upper_left)))))
    if side < face.width:  # averaged first: the transform reads only the nearest pixels
        face = face.resize((side, side), Image.Resampling.LANCZOS)
    rows = np.column_stack([matrix, offset])
    x = np.arange(width, dtype=np.float32) + np.float32(0.5)
    for first in range(0, height, max(1, _BAND_PIXELS // width)):  # large windows take little memory so
        band = min(height - first, max(1, _BAND_PIXELS // width))
        shifted = rows + [[0, 0, first * row[1]] for row in rows]
        window = face.transform(
            (width, band), Image.Transform.AFFINE, tuple((shifted * face.width).ravel()), Image.Resampling.BICUBIC
        )
        y = np.arange(band, dtype=np.float32)[:, None] + np.float32(0.5)
        across, down = (horizontal * x + vertical * y + shift for horizontal, vertical, shift in shifted.tolist())
        inset = np.minimum(np.minimum(across, 1 - across), np.minimum(down, 1 - down))
        ramp = np.clip(inset / feather, 0, 1) if feather else (inset >= 0).astype(np.float32)
        mask = Image.fromarray(np.rint(255 * ramp * ramp * (3 - 2 * ramp)).astype(np.uint8))  # smooth at both ends
        picture.paste(window, (int(low[0]), int(low[1]) + first), mask)
