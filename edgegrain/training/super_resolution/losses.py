"""Losses of enlarged windows. Pictures are ``[N, 3, s, s]`` in [-1, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgegrain.metrics.lpips import LPIPS, cropped
from edgegrain.training.grid_loss import GridLoss
from edgegrain.training.super_resolution.recipes import SuperResolutionLosses
from edgegrain.training.super_resolution.windows import CELL
from server_decoder.window import Window


def window_loss(weights: SuperResolutionLosses, enlarged: Tensor, target: Tensor, restored: Tensor,
                lpips: LPIPS | None, offset: tuple[int, int] | None, grid: GridLoss | None = None
                ) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum, and every unweighted term, detached.

    Args:
        weights: of the terms.
        enlarged, target: windows at the enlarged size.
        restored: the same windows of the network's input.
        lpips: may be None if its weight is 0.
        offset: rows and columns at which the crop for LPIPS begins, as in `edgegrain.training.losses.picture_loss`.
        grid: of the run; None leaves its term out.
    """
    terms = detail_terms(weights, enlarged, target, lpips, offset)
    factor = enlarged.shape[-1] // restored.shape[-1]
    if weights.reduced or weights.input:
        mean = F.avg_pool2d(enlarged, factor)
        terms["reduced"] = (mean - F.avg_pool2d(target, factor)).abs().mean()
        terms["input"] = (mean - restored).abs().mean()
    total = sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros(()))
    detached = {name: value.detach() for name, value in terms.items()}
    if weights.grid and grid is not None:
        part, detached["grid"] = grid(enlarged, target, CELL * factor)
        total = total + weights.grid * part
    return total, detached


def half_loss(weights: SuperResolutionLosses, enlarged: Tensor, target: Tensor, lpips: LPIPS | None,
              offset: tuple[int, int] | None) -> Tensor:
    """The loss of factor 2 as a step of factor 4, by `SuperResolutionLosses.half`.

    Args:
        weights: of the terms.
        enlarged: windows at twice the size.
        target: the originals at four times the size; their 2x2 box means count.
        lpips, offset: as in `window_loss`.
    """
    terms = detail_terms(weights, enlarged, F.avg_pool2d(target, 2), lpips, offset)
    return weights.half * sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros(()))


def detail_terms(weights: SuperResolutionLosses, enlarged: Tensor, target: Tensor, lpips: LPIPS | None,
                 offset: tuple[int, int] | None) -> dict[str, Tensor]:
    """The unweighted terms that compare an enlarged window with its original of the same size."""
    terms = {}
    if weights.l1:
        terms["l1"] = (enlarged - target).abs().mean()
    if weights.lpips and lpips is not None:
        if offset is not None:
            enlarged, target = cropped(enlarged, offset), cropped(target, offset)
        terms["lpips"] = lpips(enlarged, target).mean()
    return terms


def cut_windows(picture: Tensor, windows: list[list[Window]]) -> Tensor:
    """The windows of pictures ``[B, 3, S, S]``, those of the first picture first."""
    return torch.stack([picture[index, :, top : top + size, left : left + size]
                        for index, of_picture in enumerate(windows) for top, left, size in of_picture])
