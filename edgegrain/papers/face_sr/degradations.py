"""Reduction of pictures to LRs by any factor, and the degradations of blind face restoration."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from codec_contract.resize import cubic
from server_decoder.grain.fusion import BicubicEnlargement

REDUCTIONS = ("area", "bicubic")


def reduction_matrix(large: int, small: int, kind: str) -> npt.NDArray[np.float64]:
    """``[small, large]``: every row has the weights of one sample of the smaller line; rows sum to 1.

    Args:
        large, small: samples before and after; the factor need not be whole.
        kind: ``"area"``, the mean over the area of a sample; or ``"bicubic"``, antialiased as in Pillow: the kernel
            grows with the factor and is cut at the edge.
    """
    factor = large / small
    rows, columns = np.arange(small, dtype=np.float64)[:, None], np.arange(large, dtype=np.float64)[None]
    if kind == "area":
        left, right = np.maximum(rows * factor, columns), np.minimum((rows + 1) * factor, columns + 1)
        matrix = (right - left).clip(0)
    else:
        matrix = cubic((columns + 0.5) / factor - rows - 0.5)
    weights: npt.NDArray[np.float64] = matrix / matrix.sum(1, keepdims=True)
    return weights


def reduce_levels(picture: Tensor, side: int, kind: str) -> Tensor:
    """Integers 0...255 ``[..., S, S]`` -> ``[..., side, side]``, rounded half up; ``kind`` as in `reduction_matrix`.

    If ``side`` divides S, the area mean equals that of the exact encoder.
    """
    matrix = _reduction(picture.shape[-1], side, kind).to(picture.device)
    return (matrix @ (picture.float() @ matrix.T)).add(0.5).floor().clamp(0, 255)


def enlarge(lr: Tensor, size: int) -> Tensor:
    """Bicubic enlargement of ``[B, C, s, s]`` to ``size``, as in `edgegrain.papers.gcfsr.network.GCFSRUpscaler`."""
    enlarged: Tensor = _enlargement(lr.shape[-1], size).to(lr.device)(lr)
    return enlarged


@dataclass(frozen=True)
class BlindDegradation:
    """``x = [(y * k) reduced by r + n] as JPEG, enlarged again`` ([GFPGAN] Wang et al., CVPR 2021, equation 4.1).

    [GCFSR] 4 uses the same; the ranges are those of GFPGAN's public training options.

    Attributes:
        kernel: side of the blur kernel.
        sigma: its deviation, from and to; half of the kernels are elliptic.
        factor: r, from and to.
        noise: deviation of the noise, in levels, from and to.
        quality: of the JPEG, from and to.
    """

    kernel: int = 41
    sigma: tuple[float, float] = (0.1, 10.0)
    factor: tuple[float, float] = (0.8, 8.0)
    noise: tuple[float, float] = (0.0, 20.0)
    quality: tuple[int, int] = (60, 100)

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"a blur kernel has an odd side, got {self.kernel}")

    def degrade(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        """Integers 0...255 ``[3, S, S]`` -> integers 0...255 of the same shape, on the picture's device."""
        side, device = picture.shape[-1], picture.device
        blurred = self._blur(picture.float().cpu()[None], rng)
        small = max(1, round(side / rng.uniform(*self.factor)))
        x = F.interpolate(blurred, (small, small), mode="bilinear", align_corners=False)[0]
        noise = rng.standard_normal(tuple(x.shape), np.float32) * rng.uniform(*self.noise)
        x = (x + torch.from_numpy(noise.astype(np.float32))).round().clamp(0, 255)
        file = io.BytesIO()
        quality = int(rng.integers(self.quality[0], self.quality[1], endpoint=True))
        Image.fromarray(x.permute(1, 2, 0).to(torch.uint8).numpy()).save(file, "JPEG", quality=quality)
        read = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float()
        x = F.interpolate(read, (side, side), mode="bilinear", align_corners=False)[0]
        return x.round().clamp(0, 255).to(device)

    def _blur(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        wide, narrow = rng.uniform(*self.sigma), rng.uniform(*self.sigma)
        if rng.random() < 0.5:
            narrow = wide
        angle, radius = rng.uniform(-math.pi, math.pi), self.kernel // 2
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
        kernel = np.exp(-0.5 * ((along / wide) ** 2 + (across / narrow) ** 2))
        weights = torch.from_numpy((kernel / kernel.sum()).astype(np.float32)).expand(3, 1, -1, -1)
        # Reflection needs a picture larger than the kernel's radius.
        padding = "reflect" if picture.shape[-1] > radius else "replicate"
        return F.conv2d(F.pad(picture, (radius,) * 4, mode=padding), weights, groups=3)


@lru_cache(maxsize=256)
def _reduction(large: int, small: int, kind: str) -> Tensor:
    return torch.from_numpy(reduction_matrix(large, small, kind)).float()


@lru_cache(maxsize=256)
def _enlargement(small: int, large: int) -> BicubicEnlargement:
    return BicubicEnlargement(small, large)
