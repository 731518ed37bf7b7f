"""Sheets of generated pictures: samples in a grid, and pairs whose layers exchange their codes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from codec_contract.errors import ImageError
from codec_contract.files import write_atomically
from codec_contract.quantization import quantize
from server_decoder.generative_prior import GenerativePrior

GAP = 6
TITLE = 24
TILE = 192
"""Side of a picture on the mixing sheet; samples keep their size."""
PAPER, INK = (255, 255, 255), (20, 20, 20)

# Resolutions of the layers that take their codes from the other picture ([StyleGAN] Section 3.1: coarse styles 4-8,
# middle styles 16-32, fine styles from 64 on).
MIXTURES = {"coarse, 4 to 8": (4, 8), "middle, 16 to 32": (16, 32), "fine, from 64": (64, 4096)}

Report = Callable[[float], None]
Picture = npt.NDArray[np.uint8]


def sample_sheet(prior: GenerativePrior, count: int, seed: int, psi: float, report: Report) -> Image.Image:
    """``count`` pictures in reading order, in a grid that is nearly square."""
    codes = truncated_codes(prior, count, seed, psi)
    pictures = _synthesize(prior, codes, report)
    return _grid(pictures, math.ceil(math.sqrt(count)), prior.size, titles=())


def mixing_sheet(prior: GenerativePrior, count: int, seed: int, psi: float, report: Report) -> Image.Image:
    """A row per pair: A, then A with the coarse, the middle, the fine layers' codes of B, then B."""
    first, second = truncated_codes(prior, 2 * count, seed, psi).chunk(2)
    columns = [first, *(mix(prior, first, second, *band) for band in MIXTURES.values()), second]
    pictures = _synthesize(prior, torch.stack(columns, dim=1).flatten(0, 1), report)
    return _grid(pictures, len(columns), min(TILE, prior.size), ("A", *(f"B's {name}" for name in MIXTURES), "B"))


def mix(prior: GenerativePrior, codes: Tensor, other: Tensor, first: int, last: int) -> Tensor:
    """``codes`` ``[B, L, C]`` with those of ``other`` for layers at resolutions ``first``...``last``."""
    taken = torch.tensor([first <= resolution <= last for resolution in prior.code_resolutions], device=codes.device)
    return torch.where(taken[None, :, None], other, codes)


@torch.no_grad()
def truncated_codes(prior: GenerativePrior, count: int, seed: int, psi: float) -> Tensor:
    """Codes ``[count, L, C]``, the same for every layer; picture n is the same whatever the count."""
    z = np.random.default_rng(seed).standard_normal((count, prior.code_width), dtype=np.float32)
    return prior.truncate(prior.broadcast(prior.map(torch.from_numpy(z).to(prior.mean_code))), psi)


def write_sheet(sheet: Image.Image, path: Path, *, force: bool = False) -> None:
    """Write a sheet as PNG or JPEG, by the suffix.

    Raises:
        ImageError: another suffix.
        FileExistsError: the file exists and ``force`` is false.
    """
    options = {".png": {"format": "PNG", "optimize": True},
               ".jpg": {"format": "JPEG", "quality": 85, "optimize": True, "progressive": True}}
    if path.suffix.lower() not in options:
        raise ImageError(f"a sheet is written as .png or .jpg, got {path.name}")
    buffer = io.BytesIO()
    sheet.save(buffer, **options[path.suffix.lower()])  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue(), force=force)


@torch.no_grad()
def _synthesize(prior: GenerativePrior, codes: Tensor, report: Report) -> list[Picture]:
    pictures = []
    for index, code in enumerate(codes):
        picture = prior(code[None]).picture[0].permute(1, 2, 0)
        pictures.append(quantize(picture.float().cpu().numpy()))
        report((index + 1) / len(codes))
    return pictures


def _grid(pictures: list[Picture], columns: int, tile: int, titles: tuple[str, ...]) -> Image.Image:
    rows = -(-len(pictures) // columns)
    top = TITLE if titles else 0
    step = tile + GAP
    sheet = Image.new("RGB", (columns * step - GAP, top + rows * step - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for index, title in enumerate(titles):
        draw.text((index * step + tile // 2, top // 2), title, INK, font, anchor="mm")
    for index, picture in enumerate(pictures):
        image = Image.fromarray(picture)
        if image.width != tile:
            image = image.resize((tile, tile), Image.Resampling.LANCZOS)
        sheet.paste(image, (index % columns * step, top + index // columns * step))
    return sheet
