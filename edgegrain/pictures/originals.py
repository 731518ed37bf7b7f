"""The original that restored pictures are compared with."""

from __future__ import annotations

from pathlib import Path

from codec_contract.fit import fit_picture
from codec_contract.payload import FIT_CROP
from codec_contract.rgb import Rgb
from edge_encoder.preprocessing import load_picture


def original_of(path: Path, side: int) -> Rgb:
    """The centre square of a picture file, uint8 ``[side, side, 3]``.

    Raises:
        ImageError: the file cannot be read as a picture.
    """
    return fit_picture(load_picture(path), side, FIT_CROP)
