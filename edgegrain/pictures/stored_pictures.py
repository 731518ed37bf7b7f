"""Pictures of a folder, and their centre squares."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from codec_contract.errors import ImageError
from codec_contract.fit import fit_picture
from codec_contract.payload import FIT_CROP
from codec_contract.pixels import Rgb
from edge_encoder.preprocessing import load_picture, readable_formats

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")


def list_pictures(folder: str | Path, exclude: tuple[str, ...] = ()) -> list[Path]:
    """Picture files of a folder by name, without those matching a pattern of ``exclude`` (``usgov_*``)."""
    paths = sorted(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in SUFFIXES and not any(fnmatch.fnmatch(path.name, pattern) for pattern in exclude)
    )
    if not paths:
        besides = f" besides {', '.join(exclude)}" if exclude else ""
        raise ImageError(f"no pictures ({', '.join(SUFFIXES)}) in {folder}{besides}")
    return paths


def description(path: Path) -> str:
    """Name, length and time of the last change of a file, which tell other pictures of the same name apart."""
    return f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}"


def read_square(path: Path, size: int) -> np.ndarray:
    """uint8 ``[size, size, 3]`` of a picture to train on: its centre square, resized by the contract's exact resize.

    A JPEG of more than eight times the size is decoded at a half to an eighth of its own, which saves most of the time.
    """
    with open_picture(path) as image:
        image.draft("RGB", (4 * size, 4 * size))  # at least this large
        return fit_picture(load_picture(image), size, FIT_CROP)


@contextlib.contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """The picture for the block to decode."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            yield image
    except Exception as error:  # damaged files can make Pillow's readers raise any type
        advice = "remove it, or leave it out with --exclude"
        raise ImageError(f"{path} cannot be read as a picture ({error}); {advice}") from error


def original_of(path: Path, side: int) -> Rgb:
    """The centre square of a picture file, uint8 ``[side, side, 3]``."""
    return fit_picture(load_picture(path), side, FIT_CROP)
