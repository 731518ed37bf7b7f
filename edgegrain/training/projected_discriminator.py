"""A discriminator on frozen features, as in projected GANs (Sauer et al., NeurIPS 2021).

Small heads look at four layers of the AlexNet of LPIPS. They learn in hundreds of steps where a discriminator on pixels
needs hundreds of thousands, so runs of a few hours on a CPU can have an adversarial loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from edgegrain.metrics.lpips import PERIOD
from server_decoder.grain.rrdb import NEGATIVE_SLOPE

LAYERS = (64, 192, 384, 256)
"""Channels of the first four layers of AlexNet."""


@dataclass(frozen=True)
class ProjectedConfig:
    """Attributes:
        head_width: channels of each head.
    """

    head_width: int = 96


class ProjectedDiscriminator(nn.Module):
    """Pictures ``[B, 3, H, W]`` in [-1, 1] -> logits ``[B, 1, h, w]`` of four heads: large means like an original.

    The features are computed at a random offset within AlexNet's period. At one offset only, a decoder learns a texture
    of that period, as it does with LPIPS.

    Attributes:
        features: gives the unit-normalized layers of AlexNet, `edgegrain.metrics.lpips.LPIPS.features`. It is set
            after construction and is not part of the state: a run stores the heads only.
    """

    features: Callable[[Tensor], list[Tensor]] | None

    def __init__(self, config: ProjectedConfig) -> None:
        super().__init__()
        self.config, self.features, width = config, None, config.head_width
        self.heads = nn.ModuleList(nn.Sequential(
            nn.Conv2d(channels, width, 1), nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(width, 1, 1)) for channels in LAYERS)

    def forward(self, picture: Tensor) -> list[Tensor]:
        if self.features is None:
            raise ModelError("a projected discriminator needs the AlexNet of LPIPS; pass --weights with its weights")
        rows, columns = (slice(first, first + size - PERIOD) for first, size in zip(
            torch.randint(PERIOD, (2,)).tolist(), picture.shape[2:], strict=True))
        layers = self.features(picture[..., rows, columns])[:len(LAYERS)]
        # Vectors of length 1 have components of about 1 / sqrt(channels); convolutions learn faster from larger ones.
        return [head(0.5 * math.sqrt(channels) * layer).float()
                for head, channels, layer in zip(self.heads, LAYERS, layers, strict=True)]
