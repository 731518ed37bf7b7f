"""Sample sheets of training runs as PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from edgegrain.training.levels import to_levels
from server_decoder.generative_prior import GenerativePrior

SAMPLES = 16  # pictures of a generator's sheet
TRUNCATION = 0.7


def draw_sheet(rows: Sequence[Tensor], path: Path) -> None:
    """Write a sheet with one column per picture; every row ``[B, 3, S, S]`` in [-1, 1]."""
    sheet = to_levels(torch.cat(list(rows), 2))
    _save(torch.cat(list(sheet), 2), path)


@torch.no_grad()
def draw_generated(prior: GenerativePrior, path: Path, count: int = SAMPLES, psi: float = TRUNCATION) -> None:
    """Write generated pictures in a nearly square grid: the same latents at every call, truncated."""
    z = torch.randn(count, prior.code_width, generator=torch.Generator().manual_seed(0)).to(prior.mean_code.device)
    codes = prior.truncate(prior.broadcast(prior.map(z)), psi)
    pictures = torch.cat([prior(code[None]).picture for code in codes])
    columns = math.ceil(math.sqrt(count))
    rows = [torch.cat(list(row), 2) for row in pictures.split(columns)]
    rows[-1] = F.pad(rows[-1], (0, rows[0].shape[2] - rows[-1].shape[2]))
    _save(to_levels(torch.cat(rows, 1).float()), path)


def _save(levels: Tensor, path: Path) -> None:
    """Integers 0...255 ``[3, H, W]`` as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels.permute(1, 2, 0).to(torch.uint8).cpu().numpy()).save(path)
