"""From a picture to the encoder's square: fitted as a whole, or the face in it aligned."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codec_contract.errors import ImageError, ModelError
from codec_contract.fit import Rgb, fit_picture
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import FIT_ALIGN, FIT_CROP, FIT_PAD
from edge_encoder.faces.alignment import cut_square, ffhq_square
from edge_encoder.faces.landmarks import FaceFinder
from edge_encoder.faces.models import models_folder

Align = bool | Literal["auto"]
"""Whether a face is looked for and cut out; ``"auto"``: where none is found, or none can be, the centre square is."""


@dataclass(frozen=True)
class Fitted:
    """The encoder's square, uint8 ``[hr, hr, 3]``, and what its payload says about where it comes from."""

    rgb: Rgb
    original_size: tuple[int, int]
    fit: str
    square: OrientedSquare | None = None


def fit_or_align(rgb: Rgb, hr: int, fit: str, align: Align) -> Fitted:
    """Bring a picture, uint8 ``[H, W, 3]``, to the encoder's square.

    Raises:
        ImageError: ``align`` is no such choice, or comes with a fit; or it is true and there is no face.
        ModelError: ``align`` is true, and the extra or its models are not installed.
    """
    if align not in (True, False, "auto"):
        raise ImageError(f"align is True, False or 'auto', got {align!r}")
    size = rgb.shape[1], rgb.shape[0]
    if align is False:
        return Fitted(fit_picture(rgb, hr, fit), size, fit)
    if fit != FIT_PAD:
        raise ImageError(f"an aligned picture is cut to a square, which needs no fit; leave fit={fit!r} or align out")
    try:
        square = face_square(rgb)
    except (ImageError, ModelError):
        if align != "auto":
            raise
        return Fitted(fit_picture(rgb, hr, FIT_CROP), size, FIT_CROP)
    return Fitted(cut_square(rgb, square.corners(), hr), size, FIT_ALIGN, square)


def face_square(rgb: Rgb) -> OrientedSquare:
    """The square around the largest face of a picture, as in FFHQ.

    Raises:
        ImageError: there is no face, or it is too small or too large to be aligned.
        ModelError: the extra or its models are not installed.
    """
    face = _finder(models_folder()).find(rgb)
    if face is None:
        raise ImageError(f"no face was found in the picture of {rgb.shape[1]} x {rgb.shape[0]} pixels; leave align "
                         "out, or choose align='auto' (--align-auto) for the centre square in such cases")
    return ffhq_square(face, (rgb.shape[1], rgb.shape[0]))


@functools.lru_cache(maxsize=1)
def _finder(folder: Path) -> FaceFinder:
    return FaceFinder(folder)
