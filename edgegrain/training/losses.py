"""Losses of all stages ([GRAIN] 3.5, equations 1-4): the picture against the original, the LR, the codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgegrain.metrics.identity import FaceIdentity
from edgegrain.metrics.lpips import LPIPS, PERIOD


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; pictures in [-1, 1]. A term of weight 0 is not computed.

    The defaults trade the paper's squared error for an absolute one, which trains a small decoder faster, and scale the
    rest to it.

    Attributes:
        l1, l2: mean absolute and mean squared error of the picture.
        lpips: LPIPS with AlexNet.
        identity: half the squared distance of face descriptors.
        lr, lr_l2: mean absolute and mean squared error of the LR against the area average of the picture.
        rate: bits that the payload's coder is expected to need per sample of the LR.
        codes: squared error of predicted codes in units of the variance of W, on pictures whose codes are known.
    """

    l1: float = 1.0
    l2: float = 0.0
    lpips: float = 0.25
    identity: float = 0.1
    lr: float = 0.02
    lr_l2: float = 0.0
    rate: float = 0.0
    codes: float = 0.0


# [GRAIN] supplementary 1: lambda_1 = 1 (L2), lambda_2 = 0.8 (LPIPS), lambda_3 = 0.1 (identity; 0 off faces),
# lambda_LR = 0.1 in stage 1 and the final stage. lambda_adv = 0.01 is the default of `AdversarialConfig`.
PAPER = LossWeights(l1=0.0, l2=1.0, lpips=0.8, identity=0.1, lr=0.0, lr_l2=0.1)


def picture_loss(weights: LossWeights, picture: Tensor, target: Tensor, lpips: LPIPS | None,
                 identity: FaceIdentity | None, *, offset: tuple[int, int] | None = None
                 ) -> tuple[Tensor, dict[str, Tensor]]:
    """L_base ([GRAIN] equation 4) of restored pictures: the weighted sum and every unweighted term, detached.

    Args:
        picture, target: ``[B, 3, S, S]`` in [-1, 1].
        lpips: may be None if its weight is 0.
        identity: descriptor network, or None off faces or while pictures are still too blurred for it to say anything.
        offset: rows and columns, below `edgegrain.metrics.lpips.PERIOD`, from which on LPIPS sees the two pictures,
            without as many at the far edges as make a whole period; None: it sees them whole. A decoder judged at one
            phase only learns a texture of that period, which LPIPS at that phase takes for detail.
    """
    terms = {}
    if weights.l1:
        terms["l1"] = (picture - target).abs().mean()
    if weights.l2:
        terms["l2"] = (picture - target).pow(2).mean()
    if weights.lpips and lpips is not None:
        seen, wanted = picture, target
        if offset is not None:
            rows, columns = (slice(first, size - PERIOD + first)
                             for first, size in zip(offset, picture.shape[2:], strict=True))
            seen, wanted = picture[..., rows, columns], target[..., rows, columns]
        terms["lpips"] = lpips(seen, wanted).mean()
    if weights.identity and identity is not None:
        # dlib compares unnormalized descriptors by distance, so half the squared distance stands for 1 - cosine.
        # Half the batch is enough: the term is cheap in gradient noise and dear in time.
        half = (len(picture) + 1) // 2
        with torch.no_grad():
            wanted = identity(target[:half])
        terms["identity"] = 0.5 * (identity(picture[:half]) - wanted).pow(2).sum(1).mean()
    return _sum(weights, terms)


def random_offset(part: float) -> tuple[int, int] | None:
    """Rows and columns from which on LPIPS sees a step's pictures: below its period, in ``part`` (0...1) of the steps;
    None, from the corner, in the others."""
    if not part or torch.rand(()) >= part:
        return None
    rows, columns = torch.randint(PERIOD, (2,)).tolist()
    return rows, columns


def lr_loss(weights: LossWeights, lr: Tensor, box: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """L_LR: what keeps the LR a viewable small picture. ``lr`` and ``box``: ``[B, 3, h, w]`` in [-1, 1]."""
    terms = {}
    if weights.lr:
        terms["lr"] = F.l1_loss(lr, box)
    if weights.lr_l2:
        terms["lr_l2"] = F.mse_loss(lr, box)
    return _sum(weights, terms)


def rate_loss(weights: LossWeights, bits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What an LR costs: ``bits`` per sample, a scalar, from `edgegrain.training.rate.RateModel`."""
    return _sum(weights, {"rate": bits})


def code_loss(weights: LossWeights, codes: Tensor, truth: Tensor, variance: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Error of predicted codes ``[B, L, W]`` against the true ones: 1 is what predicting the mean code costs.

    ``variance`` is the mean variance of W's components, a scalar.
    """
    return _sum(weights, {"codes": (codes.float() - truth).pow(2).mean() / variance})


def _sum(weights: LossWeights, terms: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    total = sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros(()))
    return total, {name: value.detach() for name, value in terms.items()}
