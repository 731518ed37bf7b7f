"""Losses: of restored pictures ([GRAIN] 3.5, equation 4), and of GRAIN's LR, its rate and the codes; their weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from edgegrain.metrics.identity import FaceIdentity
from edgegrain.metrics.lpips import LPIPS, PERIOD, cropped
from edgegrain.metrics.picture_metrics import enlarged_regions, mean_saturation, region_weights
from edgegrain.metrics.weights import find_metric_weights


class MetricNetworks(NamedTuple):
    """Frozen networks, or None where their weights are not given."""

    lpips: LPIPS | None = None
    identity: FaceIdentity | None = None
    vgg: LPIPS | None = None

    @classmethod
    def load(
        cls, weights: Path | None, device: torch.device, *, needed: bool, faces: bool = False, vgg: bool = False
    ) -> MetricNetworks:
        """Those of a folder, or of the fetched weights if losses need them; else none."""
        if needed:
            weights = find_metric_weights(weights, faces=faces)
        if weights is None:
            return cls()
        found = cls(LPIPS(weights), FaceIdentity(weights) if faces else None, LPIPS(weights, "vgg") if vgg else None)
        for network in found:
            if network is not None:
                network.requires_grad_(False).to(device)
        return found


def feature_loss(vgg: LPIPS, layer: int, picture: Tensor, target: Tensor, *, squared: bool = False) -> Tensor:
    """Mean absolute or squared difference of pictures ``[B, 3, H, W]`` in a layer of VGG16 that LPIPS compares."""
    with torch.no_grad():
        wanted = vgg.activations(target)[layer].float()
    difference = vgg.activations(picture)[layer].float() - wanted
    return difference.square().mean() if squared else difference.abs().mean()


def running_mean(mean: Tensor | None, value: Tensor, decay: float) -> Tensor:
    """The running mean after one more value; elements that are not finite do not count, as `descend` skips them."""
    latest = value if mean is None else torch.lerp(value, mean, decay)
    return torch.where(value.isfinite(), latest, torch.zeros_like(value) if mean is None else mean)


GRID_PERIOD = 16
"""Pixels after which a grid in a restored picture repeats; grids of 2, 4 and 8 do so too. Corners of windows are
multiples of it, so that a grid has one place in them."""


class GridLoss:
    """The part of pictures or windows that repeats with a period and that their originals lack: a grid. The detail of
    one batch hides a grid of a tenth of a level, so the loss keeps a running mean over steps."""

    def __init__(self) -> None:
        self._means: dict[int, Tensor] = {}  # by period

    def __call__(self, restored: Tensor, target: Tensor, period: int = GRID_PERIOD) -> tuple[Tensor, Tensor]:
        """The loss of pictures or windows ``[N, 3, s, s]``, with the gradient of the batch's own grid but the signs of
        the running mean, and the mean absolute height of that mean, detached."""
        found = repeated(restored, period) - repeated(target, period)
        self._means[period] = mean = running_mean(self._means.get(period), found.detach(), 0.97)
        return (found * mean.sign()).mean(), mean.abs().mean()


def repeated(windows: Tensor, period: int) -> Tensor:
    """The part of windows ``[N, 3, s, s]`` that repeats every ``period`` pixels, ``[3, period, period]``, of mean 0."""
    count = windows.shape[-1] // period
    whole = windows[..., : count * period, : count * period]
    mean = whole.unflatten(-1, (count, period)).unflatten(-3, (count, period)).mean((0, 2, 4))
    return mean - mean.mean((1, 2), keepdim=True)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; pictures in [-1, 1]. A term of weight 0 is not computed.

    The defaults replace the paper's squared error by an absolute one, which trains a small decoder faster, and scale
    the other terms to it.

    Attributes:
        l1, l2: mean absolute and mean squared error of the picture.
        region_gain: how many times more the absolute error counts at eyes and mouth, in addition; a face's eye is 1 %
            of its picture.
        lpips: LPIPS with AlexNet.
        regions: LPIPS of both eyes and the mouth, enlarged to twice their size, as pictures of their own.
        identity: half the squared distance of face descriptors.
        grid: a pattern that repeats in every picture (`GridLoss`).
        lr, lr_l2: mean absolute and mean squared error of the LR against the area average of the picture.
        lr_saturation: relative error of the LR's mean saturation (HSV) against that of the area average: the rate loss
            takes colours first, because chroma that is smaller costs fewer bits.
        rate: expected bits of the payload's coder per sample of the LR.
        codes: squared error of predicted codes in units of the variance of W, on pictures whose codes are known.
    """

    l1: float = 1.0
    l2: float = 0.0
    region_gain: float = 0.0
    lpips: float = 0.25
    regions: float = 0.0
    identity: float = 0.1
    grid: float = 0.0
    lr: float = 0.02
    lr_l2: float = 0.0
    lr_saturation: float = 0.0
    rate: float = 0.0
    codes: float = 0.0


def picture_loss(
    weights: LossWeights,
    picture: Tensor,
    target: Tensor,
    lpips: LPIPS | None,
    identity: FaceIdentity | None,
    *,
    offset: tuple[int, int] | None = None,
    grid: GridLoss | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_base ([GRAIN] equation 4) of pictures ``[B, 3, S, S]``: the weighted sum and every unweighted term, detached.

    LPIPS compares crops that begin at ``offset`` and are one period smaller: with one phase only, a decoder learns a
    texture of that period, which LPIPS at that phase mistakes for detail. None leaves a term, or the crop, out.
    """
    terms = {}
    if weights.l1:
        error = (picture - target).abs()
        if weights.region_gain:
            error = error * region_weights(error.shape[-1], weights.region_gain).to(error.device)
        terms["l1"] = error.mean()
    if weights.l2:
        terms["l2"] = (picture - target).pow(2).mean()
    if weights.lpips and lpips is not None:
        terms["lpips"] = lpips(cropped(picture, offset), cropped(target, offset)).mean()
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


def random_offset(part: float) -> tuple[int, int] | None:
    """A random offset for `picture_loss` in this part of the steps, None in the others."""
    if not part or torch.rand(()) >= part:
        return None
    rows, columns = torch.randint(PERIOD, (2,)).tolist()
    return rows, columns


def weighted_sum(weights: Any, terms: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the terms by the weights of the same names, and the unweighted terms, detached."""
    total = sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros(()))
    return total, {name: value.detach() for name, value in terms.items()}


PAPER = LossWeights(l1=0.0, l2=1.0, lpips=0.8, identity=0.1, lr=0.0, lr_l2=0.1)
"""[GRAIN] supplementary 1: lambda_1 = 1 (L2), lambda_2 = 0.8 (LPIPS), lambda_3 = 0.1 (identity; 0 without faces),
lambda_LR = 0.1 in stage 1 and the final stage. lambda_adv = 0.01 is the default of `AdversarialConfig`."""
GREY = 0.05  # added to the saturation that an error is relative to: grey pictures have none


def lr_loss(weights: LossWeights, lr: Tensor, box: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """L_LR, which keeps the LR a viewable small picture. ``lr`` and ``box``: ``[B, 3, h, w]`` in [-1, 1]."""
    terms = {}
    if weights.lr:
        terms["lr"] = F.l1_loss(lr, box)
    if weights.lr_l2:
        terms["lr_l2"] = F.mse_loss(lr, box)
    if weights.lr_saturation:
        wanted = mean_saturation(box)
        terms["lr_saturation"] = ((mean_saturation(lr) - wanted).abs() / (wanted + GREY)).mean()
    return weighted_sum(weights, terms)


def code_loss(weights: LossWeights, codes: Tensor, truth: Tensor, variance: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Error of predicted codes ``[B, L, W]`` in units of W's mean variance: predicting the mean code has 1."""
    return weighted_sum(weights, {"codes": (codes.float() - truth).pow(2).mean() / variance})
