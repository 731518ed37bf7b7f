"""`find_faces`: the faces of a picture, and the reasons for which they would not be restored well."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from codec_contract.fit import MAX_PIXELS, Fit, check_fit
from codec_contract.payload import FIT_ALIGN, FIT_CROP
from codec_contract.rgb import Rgb
from edge_encoder.faces.detection import DetectedFace, FaceDetector
from edge_encoder.faces.suitability import (
    COMPANION,
    LARGEST_CUT,
    LARGEST_ROLL,
    LARGEST_YAW,
    LEAST_PIXELS,
    LEAST_SHARE,
    FaceProblem,
    roll,
    share_outside,
    yaw,
)
from edge_encoder.preprocessing import WHITE, Colour, PictureSource, load_picture


@dataclass(frozen=True)
class Face:
    """A face in a picture that was turned upright by its EXIF orientation.

    Attributes:
        box: left, top, right and bottom of the square from the forehead to the chin, in pixels. It may extend beyond
            the picture.
        share: side of the box, in longer sides of the picture; for ``fit="crop"`` of its centre square.
        roll: rotation in the picture, clockwise, in degrees.
        yaw: rotation to the side, in degrees; 0 for a view from the front, positive towards the picture's right.
        score: the detector's confidence, 0.5 to 1.
        problems: ``"too-small"``, ``"turned-away"``, ``"tilted"``, ``"cut-off"``.
    """

    box: tuple[float, float, float, float]
    share: float
    roll: float
    yaw: float
    score: float
    problems: tuple[FaceProblem, ...]


@dataclass(frozen=True)
class FaceCheck:
    """Faces of a picture.

    Attributes:
        faces: the largest first.
        problems: of the picture, ``"none"`` or ``"several"``, and of its largest face; () if it can be encoded.
        message: the problems in words, with advice; "" without problems.
    """

    faces: tuple[Face, ...]
    problems: tuple[FaceProblem, ...]
    message: str


def find_faces(
    picture: PictureSource,
    fit: Fit = "pad",
    *,
    background: Colour = WHITE,
    max_pixels: int = MAX_PIXELS,
    align: bool = False,
) -> FaceCheck:
    """Find the faces of a picture, and check if `compress` with the same arguments encodes one of them well.

    It needs neither the extra ``align`` nor its model.

    Args:
        picture: as for `compress`.
        fit: as for `compress`; ``"crop"`` searches the centre square only.
        background: colour behind transparent pixels.
        max_pixels: largest picture that is read.
        align: judge the face as if it were aligned: it may then be tilted, small in the picture, and next to others;
            ``fit`` is ignored.

    Raises:
        ImageError: the picture cannot be read, or is refused; there is no such fit.
    """
    check_fit(fit)
    rgb = load_picture(picture, background=background, max_pixels=max_pixels)
    return check_faces(rgb, FIT_ALIGN if align else fit)


def check_faces(rgb: Rgb, fit: str) -> FaceCheck:
    """The faces of a picture, uint8 ``[H, W, 3]``, judged for a payload's fit."""
    height, width = rgb.shape[:2]
    corner = (0, 0)
    if fit == FIT_CROP:
        side = min(width, height)
        corner = ((width - side) // 2, (height - side) // 2)
        rgb = rgb[corner[1] : corner[1] + side, corner[0] : corner[0] + side]
    found = _detector().find(rgb)
    aligned = fit == FIT_ALIGN
    size = rgb.shape[1], rgb.shape[0]
    messages: dict[FaceProblem, str] = {}
    if not found:
        messages["none"] = f"no face was found in the picture of {width} x {height} pixels; use another picture"
    companions = [face for face in found if face.side >= COMPANION * found[0].side]
    if len(companions) > 1 and not aligned:
        messages["several"] = (f"{len(companions)} faces are in the picture; crop it to one of them, or encode the "
                               "largest with align=True (--align)")
    judged = [(face, _problems(face, size, aligned)) for face in found]
    if judged:
        messages |= judged[0][1]
    return FaceCheck(
        tuple(_describe(face, corner, size, tuple(problems)) for face, problems in judged),
        tuple(messages), ". Also: ".join(messages.values()))


def _problems(face: DetectedFace, size: tuple[int, int], aligned: bool) -> dict[FaceProblem, str]:
    """Problem -> message with advice."""
    share = face.side / max(size)
    messages: dict[FaceProblem, str] = {}
    if face.side < LEAST_PIXELS:
        messages["too-small"] = (f"the face has a size of {face.side:.0f} pixels, expected at least "
                                 f"{LEAST_PIXELS:.0f}; use a larger picture")
    elif share < LEAST_SHARE and not aligned:
        messages["too-small"] = (f"the face takes up {share:.0%} of the longer side, expected at least "
                                 f"{LEAST_SHARE:.0%}; crop the picture around the face, or pass align=True (--align)")
    if abs(yaw(face)) > LARGEST_YAW:
        messages["turned-away"] = (f"the face is turned away by {abs(yaw(face)):.0f} degrees, expected at most "
                                   f"{LARGEST_YAW:.0f}; use a picture from the front")
    if abs(roll(face)) > LARGEST_ROLL and not aligned:
        messages["tilted"] = (f"the face is tilted by {abs(roll(face)):.0f} degrees, expected at most "
                              f"{LARGEST_ROLL:.0f}; rotate the picture, or pass align=True (--align)")
    if share_outside(face, size) > LARGEST_CUT:
        messages["cut-off"] = "the face is cut off by the picture's edge; use a picture that shows all of it"
    return messages


def _describe(
    face: DetectedFace, corner: tuple[int, int], size: tuple[int, int], problems: tuple[FaceProblem, ...]
) -> Face:
    left, top = (face.centre - face.side / 2 + corner).tolist()
    return Face((left, top, left + face.side, top + face.side), face.side / max(size), roll(face), yaw(face),
                face.score, problems)


@functools.cache
def _detector() -> FaceDetector:
    return FaceDetector()
