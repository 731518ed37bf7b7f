"""Adaptive discriminator augmentation ([ADA], Karras et al. 2020, arXiv:2006.06676).

The discriminator sees real and generated pictures only through random transformations, each with probability p; p is
adapted to the overfitting of the discriminator. The generator learns the untransformed distribution as long as p stays
below about 0.8 ([ADA] Section 2.2).

All geometry is one affine warp with bilinear sampling: flips, quarter rotations and whole-pixel shifts are exact, the
rest is a little softer than with the paper's wavelet filter at twice the resolution (Appendix B).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Strengths: [ADA] Appendix B. Translations are parts of the side; scales, contrast and saturation are powers of two.
INTEGER_SHIFT = 0.125
SCALE = 0.2
SHIFT = 0.125
BRIGHTNESS = 0.2
CONTRAST = 0.5
SATURATION = 1.0


@dataclass(frozen=True)
class AdaptationConfig:
    """Adaptation of p to overfitting; the defaults are those of [ADA] Section 3.

    Attributes:
        target: of r_t, the mean sign of the discriminator's scores of real training pictures. 0 is no overfitting, 1
            complete; p rises above the target and falls below it.
        every: steps between two adjustments.
        pictures: smallest number in which p rises from 0 to 1.
        limit: largest p; beyond 0.8 augmentations appear in generated pictures ([ADA] Section 2.2).
    """

    target: float = 0.6
    every: int = 4
    pictures: int = 500_000
    limit: float = 0.8


class AdaptiveProbability:
    """The controller of p.

    Attributes:
        p: probability of every transformation.
        overfitting: r_t at the last adjustment.
    """

    def __init__(self, config: AdaptationConfig, p: float = 0.0) -> None:
        self.config, self.p = config, p
        self.overfitting = 0.0
        self._signs: list[Tensor] = []

    def observe(self, sign: Tensor, pictures: int) -> None:
        """Record the mean sign of one step's scores of real training pictures; adjust p every few steps.

        Args:
            sign: scalar, over all processes.
            pictures: real pictures in that step, of all processes.
        """
        self._signs.append(sign.detach())
        if len(self._signs) < self.config.every:
            return
        self.overfitting = float(torch.stack(self._signs).mean())
        step = pictures * len(self._signs) / self.config.pictures
        direction = math.copysign(1.0, self.overfitting - self.config.target)
        self.p = min(max(self.p + direction * step, 0.0), self.config.limit)
        self._signs.clear()


def augment(pictures: Tensor, p: float) -> Tensor:
    """Pictures ``[B, 3, S, S]`` about [-1, 1], transformed independently; differentiable."""
    if p <= 0:
        return pictures
    with torch.autocast(pictures.device.type, enabled=False):  # bfloat16 does not resolve half a pixel
        return recolour(warp(pictures, geometry(pictures, p)), colours(pictures, p))


def geometry(pictures: Tensor, p: float) -> Tensor:
    """Random maps ``[B, 2, 3]`` from output to input coordinates, both -1...1 from edge to edge."""
    draw = _Draw(pictures, p)
    side = pictures.shape[-1]
    matrix = torch.eye(3, device=pictures.device).expand(len(pictures), 3, 3)

    # Pixel blitting: moves pixels without resampling them.
    flip = draw.choose(draw.integers(2) * 2.0 - 1.0, 1.0)
    matrix = matrix @ _scaling(flip, torch.ones_like(flip))
    matrix = matrix @ _rotation(draw.choose(draw.integers(4) * (math.pi / 2), 0.0))
    shift = draw.together(*((draw.uniform(-INTEGER_SHIFT, INTEGER_SHIFT) * side).round() * (2 / side) for _ in "xy"))
    matrix = matrix @ _translation(*shift)

    # General geometry. Two rotations of smaller probability replace one of p, as either may be the identity:
    # 1 - (1 - q)^2 = p ([ADA] Appendix B).
    once = 1 - math.sqrt(1 - p)
    scale = draw.choose(torch.exp2(draw.normal(SCALE)), 1.0)
    matrix = matrix @ _scaling(scale, scale)
    matrix = matrix @ _rotation(draw.choose(draw.uniform(-math.pi, math.pi), 0.0, once))
    stretch = draw.choose(torch.exp2(draw.normal(SCALE)), 1.0)
    matrix = matrix @ _scaling(stretch, 1 / stretch)
    matrix = matrix @ _rotation(draw.choose(draw.uniform(-math.pi, math.pi), 0.0, once))
    shift = draw.together(draw.normal(2 * SHIFT), draw.normal(2 * SHIFT))
    return (matrix @ _translation(*shift))[:, :2]


def warp(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Sample pictures along affine maps ``[B, 2, 3]``; the outside is mirrored."""
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def colours(pictures: Tensor, p: float) -> Tensor:
    """Random affine maps of colour, ``[B, 4, 4]`` on (r, g, b, 1)."""
    draw = _Draw(pictures, p)
    device = pictures.device
    identity = torch.eye(4, device=device)
    luma = torch.tensor([1.0, 1.0, 1.0, 0.0], device=device) / math.sqrt(3)  # the axis of greys
    along = torch.outer(luma, luma)
    cross = torch.zeros(4, 4, device=device)  # the cross product with the axis
    cross[0, 1] = cross[1, 2] = cross[2, 0] = -1 / math.sqrt(3)
    cross[1, 0] = cross[2, 1] = cross[0, 2] = 1 / math.sqrt(3)
    unit = torch.diag(torch.tensor([0.0, 0.0, 0.0, 1.0], device=device))

    def per_picture(values: Tensor) -> Tensor:
        return values[:, None, None]

    brightness = draw.choose(draw.normal(BRIGHTNESS), 0.0)
    matrix = identity + per_picture(brightness) * torch.outer((identity - unit).sum(1), unit.sum(0))
    contrast = draw.choose(torch.exp2(draw.normal(CONTRAST)), 1.0)
    matrix = (per_picture(contrast) * (identity - unit) + unit) @ matrix
    inverted = draw.choose(draw.integers(2), 0.0)
    matrix = (identity - 2 * per_picture(inverted) * along) @ matrix  # reflection: light greys become dark
    angle = per_picture(draw.choose(draw.uniform(-math.pi, math.pi), 0.0))
    around = identity - along - unit
    matrix = (along + unit + angle.cos() * around + angle.sin() * cross) @ matrix  # rotation: another hue
    saturation = draw.choose(torch.exp2(draw.normal(SATURATION)), 1.0)
    return (along + unit + per_picture(saturation) * around) @ matrix


def recolour(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Apply maps ``[B, 4, 4]`` to every pixel of ``[B, 3, S, S]``."""
    flat = matrix[:, :3, :3] @ pictures.flatten(2).float() + matrix[:, :3, 3:]
    return flat.view(pictures.shape)


class _Draw:
    """Random numbers, one per picture, on the pictures' device."""

    def __init__(self, pictures: Tensor, p: float) -> None:
        self._batch, self._device, self._p = len(pictures), pictures.device, p

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(self._batch, device=self._device)

    def normal(self, deviation: float) -> Tensor:
        return deviation * torch.randn(self._batch, device=self._device)

    def integers(self, count: int) -> Tensor:
        return torch.randint(count, (self._batch,), device=self._device).float()

    def choose(self, values: Tensor, neutral: float, probability: float | None = None) -> Tensor:
        """``values`` where the transformation happens, else the identity's value."""
        return self._where(self._happens(probability), values, neutral)

    def together(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Two offsets that happen together or not at all."""
        happens = self._happens(None)
        return self._where(happens, first, 0.0), self._where(happens, second, 0.0)

    def _happens(self, probability: float | None) -> Tensor:
        return torch.rand(self._batch, device=self._device) < (self._p if probability is None else probability)

    @staticmethod
    def _where(happens: Tensor, values: Tensor, neutral: float) -> Tensor:
        return torch.where(happens, values, torch.full_like(values, neutral))


def _matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrix((x, zero, zero), (zero, y, zero), (zero, zero, one))


def _rotation(angle: Tensor) -> Tensor:
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    return _matrix((angle.cos(), -angle.sin(), zero), (angle.sin(), angle.cos(), zero), (zero, zero, one))


def _translation(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrix((one, zero, x), (zero, one, y), (zero, zero, one))
