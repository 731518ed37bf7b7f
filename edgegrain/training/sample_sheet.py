"""Sample sheets of training runs: pictures of a network, or of a generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from edgegrain.pictures.prior_samples import sample_sheet
from edgegrain.pictures.sheets import Tile, draw_sheet, write_sheet
from edgegrain.training.levels import rounded_levels
from server_decoder.generative_prior import GenerativePrior

SAMPLES = 16  # pictures of a generator's sheet
TRUNCATION = 0.7


def write_samples(rows: Sequence[Tensor], path: Path) -> None:
    """Write a sheet with one column per picture; every row ``[B, 3, S, S]`` in [-1, 1]. Small rows are enlarged."""
    tiles = [[Tile(picture) for picture in rounded_levels(row).permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)]
             for row in rows]
    write_sheet(draw_sheet(tiles), path, force=True)


def write_prior_samples(prior: GenerativePrior, path: Path) -> None:
    """Write generated pictures in a nearly square grid: the same latents at every call, truncated."""
    write_sheet(sample_sheet(prior, SAMPLES, 0, TRUNCATION, lambda finished: None), path, force=True)
