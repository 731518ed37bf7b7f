"""Losses that compare a restored picture with its original ([GRAIN] 3.5, equation 4), and the weights of all terms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgegrain.metrics.face_regions import chroma_difference, enlarged_regions, region_weights
from edgegrain.metrics.identity import FaceIdentity
from edgegrain.metrics.lpips import LPIPS, PERIOD, cropped
from edgegrain.training.grid_loss import GridLoss

CHROMA_AREA = 4


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; pictures in [-1, 1]. A term of weight 0 is not computed.

    The defaults replace the paper's squared error by an absolute one, which trains a small decoder faster, and scale
    the other terms to it.

    Attributes:
        l1, l2: mean absolute and mean squared error of the picture.
        region_gain: how many times more the absolute error counts at eyes and mouth, in addition; a face's eye is 1 %
            of its picture.
        chroma: mean absolute error of a* and b* (CIELAB) over areas of `CHROMA_AREA`² pixels, divided by 100, with the
            weights of the absolute error, in which brightness hides the colour of an iris or of teeth.
        lpips: LPIPS with AlexNet.
        regions: LPIPS of both eyes and the mouth, enlarged to twice their size, as pictures of their own.
        identity: half the squared distance of face descriptors.
        grid: a pattern that repeats in every picture (`edgegrain.training.grid_loss`).
        lr, lr_l2: mean absolute and mean squared error of the LR against the area average of the picture.
        lr_saturation: relative error of the LR's mean saturation (HSV) against that of the area average: the rate loss
            takes colours first, because chroma that is smaller costs fewer bits.
        rate: expected bits of the payload's coder per sample of the LR.
        codes: squared error of predicted codes in units of the variance of W, on pictures whose codes are known.
    """

    l1: float = 1.0
    l2: float = 0.0
    region_gain: float = 0.0
    chroma: float = 0.0
    lpips: float = 0.25
    regions: float = 0.0
    identity: float = 0.1
    grid: float = 0.0
    lr: float = 0.02
    lr_l2: float = 0.0
    lr_saturation: float = 0.0
    rate: float = 0.0
    codes: float = 0.0


def picture_loss(weights: LossWeights, picture: Tensor, target: Tensor, lpips: LPIPS | None,
                 identity: FaceIdentity | None, *, offset: tuple[int, int] | None = None, grid: GridLoss | None = None
                 ) -> tuple[Tensor, dict[str, Tensor]]:
    """L_base ([GRAIN] equation 4) of restored pictures: the weighted sum and every unweighted term, detached.

    Args:
        picture, target: ``[B, 3, S, S]`` in [-1, 1].
        lpips: may be None if its weight is 0.
        identity: descriptor network; None for other domains than faces, and while pictures are too blurred for it.
        offset: rows and columns, below `edgegrain.metrics.lpips.PERIOD`, at which the crop for LPIPS begins; the crop
            is one period smaller than the picture. None for the whole picture. With one phase only, a decoder learns a
            texture of that period, which LPIPS at that phase mistakes for detail.
        grid: of the run; None leaves its term out.
    """
    terms = {}
    if weights.l1:
        terms["l1"] = _weighted_mean((picture - target).abs(), weights.region_gain)
    if weights.chroma:
        difference = chroma_difference(picture, target, picture.shape[-1] // CHROMA_AREA)
        terms["chroma"] = _weighted_mean(difference.abs() / 100, weights.region_gain)
    if weights.l2:
        terms["l2"] = (picture - target).pow(2).mean()
    if weights.lpips and lpips is not None:
        seen, wanted = picture, target
        if offset is not None:
            seen, wanted = cropped(picture, offset), cropped(target, offset)
        terms["lpips"] = lpips(seen, wanted).mean()
    if weights.regions and lpips is not None:
        terms["regions"] = lpips(enlarged_regions(picture), enlarged_regions(target)).mean()
    if weights.identity and identity is not None:
        # dlib compares unnormalized descriptors by distance, so half the squared distance replaces 1 - cosine.
        # Half the batch is enough: the term adds little gradient noise and takes much time.
        half = (len(picture) + 1) // 2
        with torch.no_grad():
            wanted = identity(target[:half])
        terms["identity"] = 0.5 * (identity(picture[:half]) - wanted).pow(2).sum(1).mean()
    total, terms = weighted_sum(weights, terms)
    if weights.grid and grid is not None:
        part, terms["grid"] = grid(picture, target)
        total = total + weights.grid * part
    return total, terms


def _weighted_mean(error: Tensor, region_gain: float) -> Tensor:
    """The mean of errors ``[B, C, H, W]`` with the weights of eyes and mouth, if there is a gain."""
    return (error * region_weights(error.shape[-1], region_gain).to(error.device) if region_gain else error).mean()


def random_offset(part: float) -> tuple[int, int] | None:
    """A random offset for `picture_loss` in ``part`` (0...1) of the steps, None in the others."""
    if not part or torch.rand(()) >= part:
        return None
    rows, columns = torch.randint(PERIOD, (2,)).tolist()
    return rows, columns


def weighted_sum(weights: LossWeights, terms: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the terms by the weights of the same names, and the unweighted terms, detached."""
    total = sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros(()))
    return total, {name: value.detach() for name, value in terms.items()}
