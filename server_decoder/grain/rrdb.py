"""Residual-in-residual dense blocks (ESRGAN), the trunk of GRAIN's encoder and decoder ([GRAIN] 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.2
RESIDUAL_SCALE = 0.2


class ResidualDenseBlock(nn.Module):
    """``convs`` 3x3 convolutions, each seeing the input and all earlier outputs; the last one returns to ``channels``.

    ESRGAN uses five; GRAIN's two finest scales use four.
    """

    def __init__(self, channels: int, growth: int, convs: int = 5) -> None:
        super().__init__()
        self.convs = convs
        for index in range(convs):
            out = channels if index == convs - 1 else growth
            self.add_module(f"conv{index + 1}", nn.Conv2d(channels + index * growth, out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for index in range(1, self.convs):
            conv = self.get_submodule(f"conv{index}")
            features.append(F.leaky_relu(conv(torch.cat(features, 1)), NEGATIVE_SLOPE))
        last = self.get_submodule(f"conv{self.convs}")
        return x + RESIDUAL_SCALE * last(torch.cat(features, 1))


class RRDB(nn.Module):
    """``dense_blocks`` residual dense blocks inside one more residual connection."""

    def __init__(self, channels: int, growth: int, dense_blocks: int = 3, convs: int = 5) -> None:
        super().__init__()
        self.dense_blocks = dense_blocks
        for index in range(dense_blocks):
            self.add_module(f"RDB{index + 1}", ResidualDenseBlock(channels, growth, convs))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for index in range(self.dense_blocks):
            y = self.get_submodule(f"RDB{index + 1}")(y)
        return x + RESIDUAL_SCALE * y


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection: the cheap block of the small decoders."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.leaky_relu(self.conv1(x), NEGATIVE_SLOPE))
