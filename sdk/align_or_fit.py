"""Bring a picture to the encoder's square: fit the whole picture, or align the face in it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from codec_contract.errors import ImageError, ModelError
from codec_contract.fit import fit_picture
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import FIT_ALIGN, FIT_CROP, FIT_PAD
from codec_contract.rgb import Rgb
from edge_encoder.faces.alignment import cut_square, ffhq_square
from edge_encoder.faces.landmarks import FaceFinder
from edge_encoder.faces.models import models_folder

Align = bool | Literal["auto"]
"""True cuts out the largest face, ``"auto"`` the centre square if there is none; False fits the whole picture."""


@dataclass(frozen=True)
class Fitted:
    """The encoder's square, uint8 ``[hr, hr, 3]``, with its origin as the payload stores it."""

    rgb: Rgb
    original_size: tuple[int, int]
    fit: str
    square: OrientedSquare | None = None


def fit_or_align(rgb: Rgb, hr: int, fit: str, align: Align) -> Fitted:
    """Bring a picture, uint8 ``[H, W, 3]``, to the encoder's square.

    Raises:
        ImageError: ``align`` is not one of the choices, or is combined with a fit; or it is true and no face is found.
        ModelError: ``align`` is true, and the extra ``align`` or its models are not installed.
    """
    if not isinstance(align, (bool, np.bool_)) and not (isinstance(align, str) and align == "auto"):
        raise ImageError(f"align is True, False or 'auto', got {align!r}")
    size = rgb.shape[1], rgb.shape[0]
    if not align:
        return Fitted(fit_picture(rgb, hr, fit), size, fit)
    if fit != FIT_PAD:
        raise ImageError(f"an aligned picture is a square and takes no fit; leave fit={fit!r} or align out")
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
        ImageError: no face is found, or it is too small or too large to be aligned.
        ModelError: the extra ``align`` or its models are not installed.
    """
    face = _finder(models_folder()).find(rgb)
    if face is None:
        raise ImageError(f"no face was found in the picture of {rgb.shape[1]} x {rgb.shape[0]} pixels; leave align "
                         "out, or pass align='auto' (--align-auto) to fall back to the centre square")
    return ffhq_square(face, (rgb.shape[1], rgb.shape[0]))


@functools.lru_cache(maxsize=1)
def _finder(folder: Path) -> FaceFinder:
    return FaceFinder(folder)
