"""The generator and the discriminator that a stage is given as files."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from edgegrain.contract.errors import EdgegrainError
from edgegrain.training.stages import StageConfig
from server_decoder.grain.grain import GrainConfig
from server_decoder.mobile_stylegan import load_mobile_stylegan
from server_decoder.prior import GenerativePrior
from server_decoder.stylegan2 import checkpoints
from server_decoder.stylegan2.checkpoints import load_stylegan2
from server_decoder.stylegan2.synthesis import StyleGAN2Config


def load_prior(config: StageConfig, path: Path | None) -> GenerativePrior | None:
    """The generator of a stage that has one; None without a file.

    Raises:
        EdgegrainError: the stage has none, or the file holds another kind or size.
    """
    if path is None:
        return None
    if not isinstance(config.decoder, GrainConfig) or config.decoder.prior is None:
        raise EdgegrainError(f"stage {config.stage} has no generator; leave --prior out")
    network = config.decoder.prior.network
    if isinstance(network, StyleGAN2Config):
        return load_stylegan2(path, network, cut_to=network.size)
    return load_mobile_stylegan(path, network, cut_to=network.size)


def load_discriminator(config: StageConfig, path: Path | None) -> nn.Module | None:
    """The trained discriminator of a stage that uses StyleGAN2's; None without a file.

    Raises:
        EdgegrainError: the stage has no such discriminator, or the file holds another.
    """
    if path is None:
        return None
    if config.adversarial is None or not isinstance(config.adversarial.discriminator, StyleGAN2Config):
        raise EdgegrainError("this recipe uses no StyleGAN2 discriminator; leave --discriminator out")
    return checkpoints.load_discriminator(path, config.adversarial.discriminator)
