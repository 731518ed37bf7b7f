"""Square training pictures of a run, and the few that it is evaluated on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from codec_contract.errors import EdgegrainError
from edgegrain.pictures.packed import first_pictures, pack, random_pictures
from edgegrain.pictures.stored_pictures import matches, stored_pictures
from edgegrain.pictures.writing import Progress
from edgegrain.training.family import RunOptions

HELD_OUT = 16  # pictures that a run is evaluated on
UNSEEN_SEED = 2**40  # of whatever is drawn to evaluate on; training counts up from far below


def packed_folder(run: Path) -> Path:
    """The folder for packed pictures, next to the run's."""
    return run.parent / "packed"


def require_pictures(options: RunOptions, count: int) -> None:
    """Raise EdgegrainError if there is neither ``--data`` nor a recipe with ``count`` random pictures."""
    if options.data is None and not count:
        raise EdgegrainError("no training pictures; pass --data with their folder")


def without(options: RunOptions, patterns: tuple[str, ...]) -> RunOptions:
    """The options, with pictures whose names match a pattern left out."""
    return replace(options, exclude=(*options.exclude, *patterns))


def training_pictures(options: RunOptions, run: Path, size: int, *, count: int, seed: int) -> np.ndarray:
    """uint8 ``[N, size, size, 3]`` of ``--data``, or ``count`` random pictures without it.

    Raises:
        EdgegrainError: there is neither, or the pictures cannot be read.
    """
    require_pictures(options, count)
    if options.data is None:
        return random_pictures(count, size, seed)
    return packed_pictures(run, options.data, options.exclude, size, options.report)


def packed_pictures(run: Path, data: Path, exclude: tuple[str, ...], size: int, report: Progress | None = None
                    ) -> np.ndarray:
    """uint8 ``[N, size, size, 3]`` of a folder's pictures without those that match ``exclude``, stored next to the run.

    Raises:
        EdgegrainError: the pictures cannot be read.
    """
    return pack(stored_pictures(data, exclude), size, packed_folder(run), report)


def generated_pictures(options: RunOptions, run: Path, size: int, patterns: tuple[str, ...]) -> np.ndarray | None:
    """uint8 ``[N, size, size, 3]`` of the pictures of ``--data`` whose names match a pattern; None if there are none.

    Raises:
        ImageError: a picture cannot be read.
    """
    if options.data is None:
        return None
    found = [picture for picture in stored_pictures(options.data, options.exclude) if matches(picture.name, patterns)]
    return pack(found, size, packed_folder(run), options.report) if found else None


def held_out_pictures(options: RunOptions, pictures: np.ndarray) -> np.ndarray:
    """The first pictures of ``--validation``, else of the training pictures, which are read already."""
    if options.validation is None:
        return pictures[:HELD_OUT]
    return first_pictures(options.validation, HELD_OUT, pictures.shape[1])
