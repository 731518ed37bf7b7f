"""Losses of GRAIN's stages besides those of the picture ([GRAIN] 3.5): the LR, its rate and the codes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from edgegrain.training.losses import LossWeights, weighted_sum

PAPER = LossWeights(l1=0.0, l2=1.0, lpips=0.8, identity=0.1, lr=0.0, lr_l2=0.1)
"""[GRAIN] supplementary 1: lambda_1 = 1 (L2), lambda_2 = 0.8 (LPIPS), lambda_3 = 0.1 (identity; 0 without faces),
lambda_LR = 0.1 in stage 1 and the final stage. lambda_adv = 0.01 is the default of `AdversarialConfig`."""


GREY = 0.05
"""Added to the saturation that an error is relative to: grey pictures have none."""


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


def mean_saturation(picture: Tensor) -> Tensor:
    """Mean saturation of HSV, ``[B]``, 0...1, of pictures ``[B, 3, h, w]`` in [-1, 1]; see
    `edgegrain.evaluation.evaluator`."""
    levels = (picture + 1) / 2
    largest = levels.amax(1)
    return ((largest - levels.amin(1)) / largest.clamp_min(1 / 255)).mean((1, 2))


def rate_loss(weights: LossWeights, bits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Rate of the LR: ``bits`` per sample, a scalar, from `edgegrain.training.grain.rate.RateModel`."""
    return weighted_sum(weights, {"rate": bits})


def code_loss(weights: LossWeights, codes: Tensor, truth: Tensor, variance: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Error of predicted codes ``[B, L, W]`` relative to predicting the mean code, which has 1.

    ``variance`` is the mean variance of W's components, a scalar.
    """
    return weighted_sum(weights, {"codes": (codes.float() - truth).pow(2).mean() / variance})
