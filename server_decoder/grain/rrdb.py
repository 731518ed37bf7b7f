"""Residual-in-residual dense blocks (ESRGAN), the trunk of GRAIN's encoder and decoder ([GRAIN] 3.2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.2
RESIDUAL_SCALE = 0.2
INITIAL_RESIDUAL = 0.3  # factor on the last convolution of a branch that is added without a scale of its own


@torch.no_grad()
def initialize(convolution: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Kaiming initialization for leaky ReLU and zero bias; transposed convolutions have stride = kernel.

    PyTorch's default makes the weights of a 3x3 convolution 1.7 times smaller; with it a small decoder needed 1.6 times
    the pictures to reach the same LPIPS.
    """
    taps = 1 if isinstance(convolution, nn.ConvTranspose2d) else convolution.weight[0, 0].numel()
    gain = nn.init.calculate_gain("leaky_relu", NEGATIVE_SLOPE)
    nn.init.normal_(convolution.weight, std=gain / math.sqrt(convolution.in_channels * taps))
    if convolution.bias is not None:
        convolution.bias.zero_()


def convolutions(channels: Sequence[int]) -> nn.Sequential:
    """3x3 convolutions from each width to the next, each with a leaky ReLU."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(channels):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE)]
    return nn.Sequential(*layers)


class ResidualDenseBlock(nn.Module):
    """``convs`` 3x3 convolutions, each seeing the input and all earlier outputs; the last one returns to ``channels``.

    ESRGAN uses five; GRAIN's two finest scales use four.
    """

    def __init__(self, channels: int, growth: int, convs: int = 5) -> None:
        super().__init__()
        self.count = convs
        for index in range(convs):
            out = channels if index == convs - 1 else growth
            self.add_module(f"conv{index + 1}", nn.Conv2d(channels + index * growth, out, 3, padding=1))

    def convs(self) -> tuple[nn.Conv2d, ...]:
        """The convolutions in order; all but the last are followed by a leaky ReLU."""
        return tuple(cast(nn.Conv2d, self.get_submodule(f"conv{index + 1}")) for index in range(self.count))

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = self.convs()
        features = [x]
        for conv in inner:
            features.append(F.leaky_relu(conv(torch.cat(features, 1)), NEGATIVE_SLOPE))
        return x + RESIDUAL_SCALE * last(torch.cat(features, 1))


class RRDB(nn.Module):
    """``dense_blocks`` residual dense blocks inside one more residual connection."""

    def __init__(self, channels: int, growth: int, dense_blocks: int = 3, convs: int = 5) -> None:
        super().__init__()
        self.count = dense_blocks
        for index in range(dense_blocks):
            self.add_module(f"RDB{index + 1}", ResidualDenseBlock(channels, growth, convs))

    def dense_blocks(self) -> tuple[ResidualDenseBlock, ...]:
        """The dense blocks in order."""
        return tuple(cast(ResidualDenseBlock, self.get_submodule(f"RDB{index + 1}")) for index in range(self.count))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for block in self.dense_blocks():
            y = block(y)
        return x + RESIDUAL_SCALE * y


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection: the cheap block of the small decoders."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.leaky_relu(self.conv1(x), NEGATIVE_SLOPE))
