"""Losses of stage 1 ([GRAIN] 3.5): the picture against the original, the LR against the area average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgegrain.evaluation.identity import FaceIdentity
from edgegrain.evaluation.lpips import LPIPS


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; pictures in [-1, 1].

    The paper's ([GRAIN] supplementary 1) are l2 1, lpips 0.8, identity 0.1, lr 0.1. The defaults trade its squared
    error for an absolute one, which trains a small decoder faster, and scale the rest to it.
    """

    l1: float = 1.0
    l2: float = 0.0
    lpips: float = 0.25
    identity: float = 0.1
    lr: float = 0.02


PAPER = LossWeights(l1=0.0, l2=1.0, lpips=0.8, identity=0.1, lr=0.1)


def stage1_loss(weights: LossWeights, picture: Tensor, target: Tensor, lr: Tensor, box: Tensor,
                lpips: LPIPS, identity: FaceIdentity | None) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum and every unweighted term.

    Args:
        picture, target: ``[B, 3, S, S]`` in [-1, 1].
        lr, box: LR and box mean ``[B, 3, h, w]`` in [-1, 1].
        identity: descriptor network, or None off faces or while pictures are still too blurred for it to say anything.
    """
    terms = {}
    if weights.l1:
        terms["l1"] = (picture - target).abs().mean()
    if weights.l2:
        terms["l2"] = (picture - target).pow(2).mean()
    if weights.lpips:
        terms["lpips"] = lpips(picture, target).mean()
    if weights.identity and identity is not None:
        # dlib compares unnormalized descriptors by distance, so half the squared distance stands for 1 - cosine.
        # Half the batch is enough: the term is cheap in gradient noise and dear in time.
        half = (len(picture) + 1) // 2
        with torch.no_grad():
            wanted = identity(target[:half])
        terms["identity"] = 0.5 * (identity(picture[:half]) - wanted).pow(2).sum(1).mean()
    if weights.lr:
        terms["lr"] = F.l1_loss(lr, box)
    total = sum(getattr(weights, name) * value for name, value in terms.items())
    return total, {name: float(value.detach()) for name, value in terms.items()}
