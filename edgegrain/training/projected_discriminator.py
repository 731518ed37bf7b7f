"""A discriminator on frozen features, as in projected GANs (Sauer et al., NeurIPS 2021).

Small heads look at four layers of the AlexNet of LPIPS and, if wanted, at four of the face descriptor: what one network
does not see, the other may. They learn in hundreds of steps where a discriminator on pixels needs hundreds of
thousands, so runs of a few hours on a CPU can have an adversarial loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from edgegrain.metrics.identity import MAPS
from edgegrain.metrics.lpips import PERIOD, cropped, normalize
from edgegrain.training.metric_networks import MetricNetworks
from server_decoder.grain.rrdb import NEGATIVE_SLOPE

LAYERS = (64, 192, 384, 256)
"""Channels of the first four layers of AlexNet."""


@dataclass(frozen=True)
class ProjectedConfig:
    """Attributes:
        head_width: channels of each head.
        identity: heads on the face descriptor too.
    """

    head_width: int = 96
    identity: bool = False


class ProjectedDiscriminator(nn.Module):
    """Pictures ``[B, 3, S, S]`` in [-1, 1] -> logits ``[B, 1, h, w]`` of every head: large means like an original.

    AlexNet's layers are computed at a random offset within its period. At one offset only, a decoder learns a texture
    of that period, as it does with LPIPS.

    Attributes:
        features: gives the unit-normalized layers of AlexNet, `edgegrain.metrics.lpips.LPIPS.features`.
        face_maps: gives the maps of the face descriptor, `edgegrain.metrics.identity.FaceIdentity.maps`.

    `use` sets both after construction. They are not part of the state: a run stores the heads only.
    """

    features: Callable[[Tensor], list[Tensor]] | None
    face_maps: Callable[[Tensor], list[Tensor]] | None

    def __init__(self, config: ProjectedConfig) -> None:
        super().__init__()
        self.config, self.features, self.face_maps = config, None, None
        self.heads = nn.ModuleList(_head(channels, config.head_width) for channels in LAYERS)
        self.face_heads = nn.ModuleList(_head(channels, config.head_width) for channels in MAPS if config.identity)

    def use(self, networks: MetricNetworks) -> None:
        """Take the frozen features of these networks."""
        self.features = None if networks.lpips is None else networks.lpips.features
        self.face_maps = None if networks.identity is None else networks.identity.maps

    def forward(self, picture: Tensor) -> list[Tensor]:
        if self.features is None or (self.config.identity and self.face_maps is None):
            raise ModelError("a projected discriminator needs the AlexNet of LPIPS and, with identity, the face "
                             "descriptor; pass --weights with their weights")
        shifted = cropped(picture, torch.randint(PERIOD, (2,)).tolist())
        logits = [head(_enlarged(layer)).float() for head, layer in zip(
            self.heads, self.features(shifted)[:len(LAYERS)], strict=True)]
        if self.config.identity and self.face_maps is not None:
            logits += [head(_enlarged(layer)).float() for head, layer in zip(
                self.face_heads, normalize(self.face_maps(picture)), strict=True)]
        return logits


def _head(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1), nn.LeakyReLU(NEGATIVE_SLOPE),
                         nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE),
                         nn.Conv2d(width, 1, 1))


def _enlarged(layer: Tensor) -> Tensor:
    """Vectors of length 1 have components of about 1 / sqrt(channels); convolutions learn faster from larger ones."""
    return 0.5 * math.sqrt(layer.shape[1]) * layer
