"""The generator and the discriminator that a stage is given as files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from codec_contract.errors import EdgegrainError
from edgegrain.training.face_sr.recipes import FaceSRTraining
from edgegrain.training.grain.stages import FACES, StageConfig
from export.decoder.sources import described_prior
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import GrainConfig
from server_decoder.grain.prior_config import PriorConfig
from server_decoder.prior_store import DEFAULT_PRIOR
from server_decoder.stylegan2 import checkpoints
from server_decoder.stylegan2.synthesis import StyleGAN2Config


def load_prior(config: StageConfig, prior: str | Path | None) -> GenerativePrior | None:
    """The generator of a stage that has one, cut and rounded as the stage says; None without one and for trial runs.

    Args:
        config: the stage.
        prior: a file, or the name of a fetched prior; None for the published one where that is of the stage's kind.

    Raises:
        EdgegrainError: the stage has no generator, or there is no such prior, or it is of another kind or size.
    """
    described = config.decoder.prior if isinstance(config.decoder, GrainConfig) else None
    if described is None:
        if prior is not None:
            raise EdgegrainError(f"stage {config.stage} of this recipe has no generator; leave --prior out")
        return None
    if prior is None and config.made_up:
        return None
    if prior is None and isinstance(described.network, StyleGAN2Config):
        raise EdgegrainError("this recipe needs a StyleGAN2; pass --prior with its file (edgegrain prior convert)")
    if prior is None and config.domain != FACES:
        raise EdgegrainError(f"the published generator makes {FACES}; pass --prior with the file of one that makes "
                             f"{config.domain} (docs/new_domain.md)")
    return described_prior(described, prior or DEFAULT_PRIOR)


@torch.no_grad()
def random_prior(config: PriorConfig, seed: int) -> GenerativePrior:
    """For trial runs: a generator with random weights, the same at every call, and its measured mean code."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = config.build()
        prior.mean_code.copy_(prior.map(torch.randn(1024, prior.code_width)).mean(0))
    return prior


def load_discriminator(config: StageConfig | FaceSRTraining, path: Path | None) -> nn.Module | None:
    """The trained discriminator of a recipe that uses StyleGAN2's; None without a file.

    Raises:
        EdgegrainError: the recipe has no such discriminator, or the file holds another.
    """
    if path is None:
        return None
    if config.adversarial is None or not isinstance(config.adversarial.discriminator, StyleGAN2Config):
        raise EdgegrainError("this recipe uses no StyleGAN2 discriminator; leave --discriminator out")
    return checkpoints.load_discriminator(path, config.adversarial.discriminator)
