"""Inputs of GLEAN and GCFSR in training and evaluation, equal to those of a bundle's decoder."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codec_contract.quantization import dequantize
from edgegrain.papers.face_sr.degradations import enlarge, reduce_levels
from edgegrain.papers.face_sr.recipes import FaceSRRecipe, Factors
from edgegrain.papers.gcfsr.network import GCFSR, LARGEST_FACTOR
from edgegrain.papers.glean.network import GLEAN, GLEANConfig


class Inputs(NamedTuple):
    """Inputs of a network.

    Attributes:
        picture: ``[B, 3, s, s]`` in [-1, 1]: GLEAN's LR, or GCFSR's, enlarged to its size.
        factors: ``[B]``, the factors of the reduction; 0 where they are unknown (the blind form).
    """

    picture: Tensor
    factors: Tensor


def draw_sides(factors: Factors, size: int, count: int, rng: np.random.Generator) -> list[int]:
    """Sides of ``count`` LRs of pictures of this size, with random factors; the factor is ``size / side``."""
    if factors.continuous:
        low, high = np.log2(factors.choices[0]), np.log2(factors.choices[-1])
        drawn = 2 ** rng.uniform(low, high, count)
    else:
        drawn = rng.choice(factors.choices, count)
    return [round(size / float(factor)) for factor in drawn]


def draw_inputs(recipe: FaceSRRecipe, pictures: Tensor, rng: np.random.Generator) -> Inputs:
    """Inputs of a training batch from its pictures, integers 0...255 ``[B, 3, S, S]``."""
    if recipe.degradation is not None:
        degraded = torch.stack([recipe.degradation.degrade(picture, rng) for picture in pictures])
        return Inputs(dequantize(degraded), pictures.new_zeros(len(pictures)))
    if isinstance(recipe.network, GLEANConfig) or recipe.factors is None:
        return inputs_at(recipe, pictures, recipe.size / lr_side(recipe))
    sides = draw_sides(recipe.factors, recipe.size, len(pictures), rng)
    parts = [inputs_at(recipe, picture[None], recipe.size / side)
             for picture, side in zip(pictures, sides, strict=True)]
    return Inputs(torch.cat([part.picture for part in parts]), torch.cat([part.factors for part in parts]))


def inputs_at(recipe: FaceSRRecipe, pictures: Tensor, factor: float) -> Inputs:
    """Inputs from pictures, integers 0...255 ``[B, 3, S, S]``, all reduced by one factor."""
    lr = dequantize(reduce_levels(pictures, round(recipe.size / factor), recipe.reduction))
    known = torch.full((len(pictures),), recipe.size / lr.shape[-1], device=pictures.device)
    return Inputs(lr if isinstance(recipe.network, GLEANConfig) else enlarge(lr, recipe.size), known)


def lr_side(recipe: FaceSRRecipe) -> int:
    """Side of the LRs of the first evaluation."""
    if isinstance(recipe.network, GLEANConfig):
        return recipe.network.lr
    return round(recipe.size / (recipe.factors or Factors()).evaluated[0])


def restore(network: GLEAN | GCFSR, picture: Tensor, factors: Tensor) -> Tensor:
    """Pictures ``[B, 3, S, S]``, about [-1, 1], float32; ``factors`` gives the strength for networks that take one."""
    if isinstance(network, GLEAN):
        return network(picture).float()
    return network(picture, None if network.config.blind else factors / LARGEST_FACTOR).float()
