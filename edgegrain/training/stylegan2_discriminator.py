"""StyleGAN2's discriminator ([StyleGAN2] Section 4.1), whose weights `server_decoder.stylegan2.networks` writes."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.stylegan2.layers import EPSILON, EqualizedConv, EqualizedLinear, activate
from server_decoder.stylegan2.networks import StyleGAN2Config, load_state
from server_decoder.weight_file import described_network, fill

GROUP = 4  # pictures whose deviation is measured together, as in the published networks


class Discriminator(nn.Module):
    """Pictures -> one score each, high for real ones; residual, [StyleGAN2] Section 4.1, as wide as the generator."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        channels = [config.channels(resolution) for resolution in reversed(config.resolutions)]  # fine to coarse
        self.from_rgb = EqualizedConv(3, channels[0], 1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(a, b) for a, b in zip(channels, channels[1:], strict=False))
        self.conv = EqualizedConv(channels[-1] + 1, channels[-1], 3)
        self.linear = EqualizedLinear(channels[-1] * 4 * 4, channels[-1])
        self.score = EqualizedLinear(channels[-1], 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Pictures ``[B, 3, size, size]`` in [-1, 1] -> scores ``[B]``, unbounded."""
        size = self.config.size
        if picture.ndim != 4 or picture.shape[1:] != (3, size, size):
            raise ModelError(f"this discriminator takes pictures [batch, 3, {size}, {size}], got {list(picture.shape)}")
        x = activate(self.from_rgb(picture))
        for block in self.blocks:
            x = block(x)
        x = activate(self.conv(minibatch_stddev(x, GROUP)))  # [B, C, 4, 4]
        x = activate(self.linear(x.flatten(1)))
        return self.score(x).float()[:, 0]


class DiscriminatorBlock(nn.Module):
    """Half the resolution: two convolutions and a skip connection, the sum divided by sqrt(2) for its variance."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv(channels, channels, 3)
        self.conv2 = EqualizedConv(channels, out_channels, 3, down=True)
        self.skip = EqualizedConv(channels, out_channels, 1, down=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.conv2(activate(self.conv1(x))))
        return (y + self.skip(x)) * math.sqrt(0.5)


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """Append one channel with the deviation between the pictures of a group: ``[B, C, H, W]`` -> ``[B, C + 1, H, W]``.

    The standard deviation over the group, averaged over channels and pixels (Karras et al., arXiv:1710.10196, Section
    3). ``group`` shrinks to the next divisor of B. With n groups, pictures j, j + n, j + 2n, ... are one group.
    """
    batch, channels, height, width = x.shape
    group = next(count for count in range(min(group, batch), 0, -1) if batch % count == 0)
    wide = torch.promote_types(x.dtype, torch.float32)
    groups = x.to(wide).reshape(group, batch // group, channels, height, width)
    spread = (groups.var(0, correction=0) + EPSILON).sqrt().mean((1, 2, 3))  # [n]
    spread = spread.to(x.dtype).repeat(group).reshape(batch, 1, 1, 1)
    return torch.cat([x, spread.expand(-1, -1, height, width)], dim=1)


def load_discriminator(path: Path, config: StyleGAN2Config | None = None) -> Discriminator:
    """A discriminator from a weight file; ``config`` has the expected size and channels."""
    stored, state = load_state(path, "discriminator")
    if config is not None and (config.size, config.channel_base, config.channel_max) != (
            stored.size, stored.channel_base, stored.channel_max):
        raise ModelError(f"{path} holds a discriminator of {stored}, expected {config}")
    discriminator = described_network(path, lambda: Discriminator(stored))
    fill(discriminator, state, path)
    return discriminator
