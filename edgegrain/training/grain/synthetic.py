"""Training pictures from a generator, whose true codes are known, and changes of photographs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from edgegrain.training.distributed import mixed_precision
from server_decoder.generative_prior import GenerativePrior
from server_decoder.stylegan2.networks import mix_styles

SHIFT = 0.04  # of the side, at most
# Deviations, the last two as powers of two.
BRIGHTNESS = 12.0  # levels
CONTRAST = 0.15
SATURATION = 0.25


def jitter(pictures: Tensor) -> Tensor:
    """Integers 0...255 as float ``[B, 3, S, S]`` -> the same type, each picture shifted and recoloured at random.

    Against overfitting to a small set. The pictures are restored, so nothing is resampled (shifts are whole pixels,
    edges mirrored), and brightness and colour stay natural. A shift of less than one LR pixel changes all of the LR.
    """
    return recoloured(shifted(pictures))


def shifted(pictures: Tensor) -> Tensor:
    """Every picture ``[B, 3, S, S]`` shifted by whole pixels, edges mirrored."""
    batch, _, side, _ = pictures.shape
    most = int(SHIFT * side)
    padded = F.pad(pictures, (most, most, most, most), mode="reflect")
    corners = torch.randint(2 * most + 1, (batch, 2)).tolist()
    return torch.stack([picture[:, y : y + side, x : x + side]
                        for picture, (y, x) in zip(padded, corners, strict=True)])


def recoloured(pictures: Tensor) -> Tensor:
    """Integers 0...255 as float ``[B, 3, S, S]`` with brightness, contrast and saturation changed, each in half of the
    pictures; rounded and clipped."""

    def draw(deviation: float) -> Tensor:
        chosen = torch.rand(len(pictures), 1, 1, 1, device=pictures.device) < 0.5
        return deviation * torch.randn(chosen.shape, device=pictures.device) * chosen

    grey = pictures.mean(1, keepdim=True)
    coloured = grey + (pictures - grey) * torch.exp2(draw(SATURATION))
    middle = pictures.mean((1, 2, 3), keepdim=True)
    return (middle + (coloured - middle) * torch.exp2(draw(CONTRAST)) + draw(BRIGHTNESS)).round().clamp(0, 255)


class SyntheticBatch(NamedTuple):
    """Generated pictures ``[B, 3, S, S]`` in [-1, 1], clipped, and their codes ``[B, L, W]``, truncated and mixed."""

    pictures: Tensor
    codes: Tensor


def synthetic_faces(
    prior: GenerativePrior, count: int, seed: int, *, batch: int = 8, psi_range: tuple[float, float] = (0.5, 0.95),
    mixing: float = 0.5, dtype: torch.dtype = torch.float32,
) -> Iterator[SyntheticBatch]:
    """``count`` pictures in batches, on the prior's device; the last batch may be smaller.

    The codes depend on ``seed`` and ``batch`` only, on every device. The truncation of every picture is uniform in
    ``psi_range``; a share ``mixing`` takes the codes of another picture from a random layer on ([StyleGAN] 3.1). With
    bfloat16 the generator runs under autocast; pictures and codes are float32 either way.
    """
    device = prior.mean_code.device
    generator = torch.Generator().manual_seed(seed)
    low, high = psi_range
    for start in range(0, count, batch):
        size = min(batch, count - start)
        z = torch.randn(2, size, prior.code_width, generator=generator)
        psi = low + (high - low) * torch.rand(size, 1, 1, generator=generator)
        mixed = torch.rand(size, generator=generator) < mixing
        crossover = torch.randint(1, prior.code_count, (size,), generator=generator)
        crossover = torch.where(mixed, crossover, prior.code_count)
        with torch.no_grad(), mixed_precision(device, dtype == torch.bfloat16):
            with torch.autocast(device.type, enabled=False):  # codes are targets: full precision
                first, second = prior.map(z.flatten(0, 1).to(device)).chunk(2)
                codes = mix_styles(prior.broadcast(first), prior.broadcast(second), crossover)
                codes = prior.mean_code + psi.to(device) * (codes - prior.mean_code)
            pictures = prior(codes).picture.float().clamp(-1, 1)
        yield SyntheticBatch(pictures, codes)
