"""Sheets of generated pictures: samples of a prior in a grid, and pairs whose layers exchange their codes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codec_contract.pixels import pictures_of
from edgegrain.pictures.sheets import Tile, draw_sheet, in_rows
from server_decoder.generative_prior import GenerativePrior

MIXING_SIDE = 192
"""Longest side of a picture on the mixing sheet; samples keep their size."""

# Resolutions of the layers that take their codes from the other picture ([StyleGAN] Section 3.1: coarse styles 4-8,
# middle styles 16-32, fine styles from 64 on).
MIXTURES = {"coarse, 4 to 8": (4, 8), "middle, 16 to 32": (16, 32), "fine, from 64": (64, 4096)}


def sample_sheet(prior: GenerativePrior, count: int, seed: int, psi: float,
                 report: Callable[[float], None]) -> Image.Image:
    """Draw ``count`` samples in reading order, in a nearly square grid; ``report`` gets the finished part, 0...1."""
    tiles = _synthesize(prior, truncated_codes(prior, count, seed, psi), report)
    return draw_sheet(in_rows(tiles, math.ceil(math.sqrt(count))))


def mixing_sheet(prior: GenerativePrior, count: int, seed: int, psi: float,
                 report: Callable[[float], None]) -> Image.Image:
    """Draw a row per pair: A, then A with the codes of B in the coarse, the middle, the fine layers, then B."""
    first, second = truncated_codes(prior, 2 * count, seed, psi).chunk(2)
    columns = [first, *(mix_codes(prior, first, second, *band) for band in MIXTURES.values()), second]
    tiles = _synthesize(prior, torch.stack(columns, dim=1).flatten(0, 1), report)
    return draw_sheet(in_rows(tiles, len(columns)), titles=("A", *(f"B's {name}" for name in MIXTURES), "B"),
                      side=min(MIXING_SIDE, prior.size))


def mix_codes(prior: GenerativePrior, codes: Tensor, other: Tensor, first: int, last: int) -> Tensor:
    """``codes`` ``[B, L, C]``, with those of ``other`` in the layers of resolutions ``first``...``last``."""
    taken = torch.tensor([first <= resolution <= last for resolution in prior.code_resolutions], device=codes.device)
    return torch.where(taken[None, :, None], other, codes)


@torch.no_grad()
def truncated_codes(prior: GenerativePrior, count: int, seed: int, psi: float) -> Tensor:
    """Random codes ``[count, L, C]``, equal in every layer; picture n does not depend on the count."""
    z = np.random.default_rng(seed).standard_normal((count, prior.code_width), dtype=np.float32)
    return prior.truncate(prior.broadcast(prior.map(torch.from_numpy(z).to(prior.mean_code))), psi)


@torch.no_grad()
def _synthesize(prior: GenerativePrior, codes: Tensor, report: Callable[[float], None]) -> list[Tile]:
    tiles = []
    for index, code in enumerate(codes):
        picture = prior(code[None]).picture.float()
        tiles.append(Tile(pictures_of(picture.cpu().numpy())[0]))
        report((index + 1) / len(codes))
    return tiles
