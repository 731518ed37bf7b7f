"""The discriminator of StyleGAN2: residual blocks down to 4x4, minibatch standard deviation, two linear layers."""

from __future__ import annotations

import math

from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.stylegan2.layers import EqualizedConv, EqualizedLinear, activate, minibatch_stddev
from server_decoder.stylegan2.synthesis import StyleGAN2Config

GROUP = 4  # pictures whose deviation is measured together, as in the published networks


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
