"""A small residual discriminator that is trained from random weights; 2.9 M parameters for 256 x 256."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.grain.rrdb import NEGATIVE_SLOPE, initialize
from server_decoder.stylegan2.layers import minibatch_stddev

GROUP = 4  # pictures of one minibatch standard deviation, as in StyleGAN2


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Widths from fine to coarse; every step halves the resolution, down to 4 x 4.

    Attributes:
        size: side of its input, a power of two; larger pictures are averaged down to it.
        width: channels at the finest resolution; they double with every halving.
        widest: limit of the doubling.
    """

    size: int = 256
    width: int = 16
    widest: int = 192

    def __post_init__(self) -> None:
        if self.size < 4 or self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two from 4 on, got {self.size}")
        if min(self.width, self.widest) < 1:
            raise ValueError(f"width and widest are at least 1, got {self.width} and {self.widest}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels at the resolutions ``size, size / 2, ..., 4``."""
        steps = int(math.log2(self.size)) - 1
        return tuple(min(self.widest, self.width * 2**index) for index in range(steps))


class ResidualDown(nn.Module):
    """Two 3x3 convolutions and average pooling, with a pooled 1x1 shortcut."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.conv1(x), NEGATIVE_SLOPE)
        y = F.avg_pool2d(F.leaky_relu(self.conv2(y), NEGATIVE_SLOPE), 2)
        return (y + self.shortcut(F.avg_pool2d(x, 2))) * math.sqrt(0.5)


class SmallDiscriminator(nn.Module):
    """Pictures ``[B, 3, S, S]`` in [-1, 1] -> logits ``[B]``: larger means more like an original.

    Raises:
        ModelError: S is no multiple of the configured size.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.stem = nn.Conv2d(3, channels[0], 3, padding=1)
        self.blocks = nn.Sequential(
            *(ResidualDown(a, b) for a, b in zip(channels, channels[1:], strict=False)))
        self.conv = nn.Conv2d(channels[-1] + 1, channels[-1], 3, padding=1)
        self.dense = nn.Linear(channels[-1] * 16, channels[-1])
        self.logit = nn.Linear(channels[-1], 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                initialize(module)

    def forward(self, picture: Tensor) -> Tensor:
        size = self.config.size
        side = picture.shape[-1]
        if picture.shape[1:] != (3, side, side) or side % size:
            raise ModelError(f"this discriminator takes pictures [batch, 3, {size}, {size}], or a multiple of that "
                             f"size, got {list(picture.shape)}")
        if side != size:
            picture = F.avg_pool2d(picture, side // size)
        x = F.leaky_relu(self.stem(picture), NEGATIVE_SLOPE)
        x = self.blocks(x)  # [B, C, 4, 4]
        x = F.leaky_relu(self.conv(minibatch_stddev(x, GROUP)), NEGATIVE_SLOPE).flatten(1)
        return self.logit(F.leaky_relu(self.dense(x), NEGATIVE_SLOPE)).float()[:, 0]
