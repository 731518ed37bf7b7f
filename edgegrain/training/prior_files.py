"""Generators and discriminators of recipes, from files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from codec_contract.errors import EdgegrainError
from edgegrain.training.grain.recipes import FACES
from edgegrain.training.recipe import Recipe
from export.decoder.export import described_prior
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import PriorConfig
from server_decoder.prior_store import DEFAULT_PRIOR
from server_decoder.stylegan2.networks import StyleGAN2Config, load_discriminator


def recipe_prior(recipe: Recipe, prior: GenerativePrior | str | Path | None) -> GenerativePrior | None:
    """The generator of a recipe, cut and rounded as the recipe says; None for recipes without one and for trial runs.

    ``prior``: a network, which is returned, a file, or the name of a fetched prior; None for the published one if that
    is of the recipe's kind.
    """
    if isinstance(prior, GenerativePrior):
        return prior
    described = recipe.prior
    if described is None:
        if prior is not None:
            raise EdgegrainError("this recipe has no generator; leave --prior out")
        return None
    if prior is None and getattr(recipe, "random_pictures", False):
        return None
    if prior is None and isinstance(described.network, StyleGAN2Config):
        raise EdgegrainError("this recipe needs a StyleGAN2; pass --prior with its file (edgegrain convert --from "
                             "stylegan2-rosinality)")
    domain = getattr(recipe, "domain", FACES)
    if prior is None and domain != FACES:
        raise EdgegrainError(f"the published generator makes {FACES}; pass --prior with the file of one that makes "
                             f"{domain} (docs/training.md)")
    return described_prior(described, prior or DEFAULT_PRIOR)


@torch.no_grad()
def random_prior(config: PriorConfig, seed: int) -> GenerativePrior:
    """A generator with random weights for trial runs, the same for the same seed, with its measured mean code."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = config.build()
        prior.mean_code.copy_(prior.map(torch.randn(1024, prior.code_width)).mean(0))
    return prior


def recipe_discriminator(recipe: Recipe, given: nn.Module | Path | None) -> nn.Module | None:
    """The trained discriminator of a recipe that uses StyleGAN2's, from its file; None without one."""
    if given is None or isinstance(given, nn.Module):
        return given
    config = getattr(getattr(recipe, "adversarial", None), "discriminator", None)
    if not isinstance(config, StyleGAN2Config):
        raise EdgegrainError("this recipe uses no StyleGAN2 discriminator; leave --discriminator out")
    return load_discriminator(given, config)
