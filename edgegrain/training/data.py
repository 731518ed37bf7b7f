"""Pictures of a run: to train on, stored or generated, to evaluate on, as levels, and sample sheets of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.pixels import dequantize, unit_to_levels
from edgegrain.metrics.lpips import LPIPS
from edgegrain.pictures.packed import pack, random_pictures
from edgegrain.pictures.sheets import Tile, draw_sheet, sample_sheet, write_sheet
from edgegrain.pictures.stored_pictures import list_pictures, read_square
from edgegrain.pictures.writing import Progress
from edgegrain.training.distributed import mixed_precision
from edgegrain.training.family import RunOptions
from server_decoder.generative_prior import GenerativePrior
from server_decoder.stylegan2.networks import mix_styles

HELD_OUT = 16  # pictures that a run is evaluated on
UNSEEN_SEED = 2**40  # of whatever is drawn to evaluate on; training counts up from far below


def packed_folder(run: Path) -> Path:
    """The folder for packed pictures, next to the run's."""
    return run.parent / "packed"


def training_pictures(recipe: Any, options: RunOptions, run: Path, size: int) -> np.ndarray:
    """uint8 ``[N, size, size, 3]`` of ``--data``, or the recipe's random pictures."""
    if options.data is None:
        return random_pictures(recipe.random_pictures, size, recipe.seed)
    return packed_pictures(run, options.data, options.exclude, size, options.report)


def packed_pictures(
    run: Path, data: Path, exclude: tuple[str, ...], size: int, report: Progress | None = None
) -> np.ndarray:
    """uint8 ``[N, size, size, 3]`` of a folder's pictures without those to exclude, stored next to the run."""
    return pack(list_pictures(data, exclude), size, packed_folder(run), report)


def held_out_pictures(options: RunOptions, pictures: np.ndarray) -> np.ndarray:
    """The first pictures of ``--validation``, else of the training pictures, which are read already."""
    if options.validation is None:
        return pictures[:HELD_OUT]
    paths = list_pictures(options.validation)[:HELD_OUT]
    return np.stack([read_square(path, pictures.shape[1]) for path in paths])


def picture_levels(picture: np.ndarray, device: torch.device | None = None) -> Tensor:
    """A uint8 picture ``[H, W, 3]`` -> integers 0...255, float32 ``[1, 3, H, W]``, on the device or the CPU."""
    return torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1)[None].float()


def rounded_levels(picture: Tensor) -> Tensor:
    """Pictures of any shape, [-1, 1] -> integers 0...255, rounded half up and clipped."""
    return unit_to_levels(picture).add(0.5).floor().clamp(0, 255)


def levels_psnr(levels: Tensor, target: Tensor) -> float:
    """PSNR in dB over all samples of two equally shaped tensors of integers 0...255; at most 108, for equal ones."""
    return 10 * math.log10(255**2 / float((levels - target).pow(2).mean().clamp_min(1e-6)))


def compared(restored: Tensor, levels: Tensor, lpips: LPIPS | None, *, off_grid: bool = False) -> dict[str, float]:
    """Figures of a restored picture in [-1, 1], rounded, against its levels ``[1, 3, H, W]``: PSNR (dB) and LPIPS."""
    rounded = rounded_levels(restored)
    row = {"psnr": levels_psnr(rounded, levels)}
    if lpips is not None:
        a, b = dequantize(rounded), dequantize(levels)
        with torch.no_grad():
            row["lpips_alex"] = float(lpips(a, b))
            if off_grid:
                row["lpips_alex_off_grid"] = float(lpips.off_grid(a, b))
    return row


def mean_figures(rows: Sequence[Mapping[str, float]], **digits: int) -> dict[str, float]:
    """Means over rows of figures, rounded; ``digits``: of figures other than ``psnr`` that do not have four."""
    digits = {"psnr": 3, **digits}
    return {name: round(float(np.mean([row[name] for row in rows])), digits.get(name, 4)) for name in rows[0]}


def write_samples(rows: Sequence[Tensor], path: Path) -> None:
    """Write a sheet with one column per picture; every row ``[B, 3, S, S]`` in [-1, 1]. Small rows are enlarged."""
    pictures = [rounded_levels(row).permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8) for row in rows]
    write_sheet(draw_sheet([[Tile(picture) for picture in row] for row in pictures]), path, force=True)


def write_prior_samples(prior: GenerativePrior, path: Path) -> None:
    """Write generated pictures in a nearly square grid: the same latents at every call, truncated."""
    write_sheet(sample_sheet(prior, 16, 0, 0.7, lambda finished: None), path, force=True)


SHIFT = 0.04  # of the side, at most
BRIGHTNESS, CONTRAST, SATURATION = 12.0, 0.15, 0.25  # deviations: of levels, and of powers of two


def jitter(pictures: Tensor) -> Tensor:
    """Levels ``[B, 3, S, S]``, each picture shifted and recoloured at random, against overfitting to a small set.

    The pictures are restored, so nothing is resampled (shifts are whole pixels, edges mirrored), and brightness and
    colour stay natural. A shift of less than one LR pixel changes all of the LR.
    """
    return recoloured(shifted(pictures))


def shifted(pictures: Tensor) -> Tensor:
    """Every picture ``[B, 3, S, S]`` shifted by whole pixels, edges mirrored."""
    batch, _, side, _ = pictures.shape
    most = int(SHIFT * side)
    padded = F.pad(pictures, (most, most, most, most), mode="reflect")
    corners = torch.randint(2 * most + 1, (batch, 2)).tolist()
    return torch.stack(
        [picture[:, y : y + side, x : x + side] for picture, (y, x) in zip(padded, corners, strict=True)]
    )


def recoloured(pictures: Tensor) -> Tensor:
    """Pictures of `jitter` with brightness, contrast and saturation changed, each in half of the pictures."""

    def draw(deviation: float) -> Tensor:
        chosen = torch.rand(len(pictures), 1, 1, 1, device=pictures.device) < 0.5
        return deviation * torch.randn(chosen.shape, device=pictures.device) * chosen

    grey = pictures.mean(1, keepdim=True)
    coloured = grey + (pictures - grey) * torch.exp2(draw(SATURATION))
    middle = pictures.mean((1, 2, 3), keepdim=True)
    return (middle + (coloured - middle) * torch.exp2(draw(CONTRAST)) + draw(BRIGHTNESS)).round().clamp(0, 255)


def synthetic_faces(
    prior: GenerativePrior, batch: int, seed: int, psi_range: tuple[float, float] = (0.5, 0.95), bf16: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of pictures ``[B, 3, S, S]`` in [-1, 1], clipped, and codes ``[B, L, W]``, on the prior's device.

    The codes depend on ``seed`` and ``batch`` only, on every device. The truncation of every picture is uniform in
    ``psi_range``; half of the pictures take the codes of another one from a random layer on ([StyleGAN] 3.1). With
    ``bf16`` the generator runs under autocast; pictures and codes are float32 either way.
    """
    device = prior.mean_code.device
    generator = torch.Generator().manual_seed(seed)
    low, high = psi_range
    while True:
        z = torch.randn(2, batch, prior.code_width, generator=generator)
        psi = low + (high - low) * torch.rand(batch, 1, 1, generator=generator)
        mixed = torch.rand(batch, generator=generator) < 0.5
        crossover = torch.randint(1, prior.code_count, (batch,), generator=generator)
        crossover = torch.where(mixed, crossover, prior.code_count)
        with torch.no_grad(), mixed_precision(device, bf16):
            with torch.autocast(device.type, enabled=False):  # codes are targets: full precision
                first, second = prior.map(z.flatten(0, 1).to(device)).chunk(2)
                codes = mix_styles(prior.broadcast(first), prior.broadcast(second), crossover)
                codes = prior.mean_code + psi.to(device) * (codes - prior.mean_code)
            pictures = prior(codes).picture.float().clamp(-1, 1)
        yield pictures, codes
