"""Shapes of the exact encoder: one frozen configuration per HR and LR size."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

HR_SIZES = (256, 512, 1024)
LR_SIZES = (16, 32, 64, 128)

_NAME = re.compile(r"exact-(\d+)-(\d+)-p(\d+)-c(\d+(?:-\d+)*)-b(\d+(?:-\d+)*)-e(\d+)")


@dataclass(frozen=True)
class EncoderConfig:
    """Patch stem, then stages joined by 3x3 convolutions of stride 2, then the correction head.

    Attributes:
        hr: side of the square input, in pixels.
        lr: side of the square output, in pixels.
        patch: kernel and stride of the stem; nothing runs at full resolution.
        channels: of every stage; ``hr / patch / 2^(len(channels) - 1) == lr``.
        blocks: residual blocks (depthwise 3x3, pointwise, pointwise) of every stage.
        expansion: width of a block's hidden 1x1 convolution, in multiples of its channels.
    """

    hr: int
    lr: int
    patch: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    expansion: int = 2

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.blocks) or not self.channels:
            raise ValueError("an encoder needs a block count for each of at least one stage, got "
                             f"{len(self.channels)} stages and {len(self.blocks)} block counts")
        if self.patch * 2 ** (len(self.channels) - 1) * self.lr != self.hr:
            raise ValueError(f"patch {self.patch} and {len(self.channels)} stages turn {self.hr} into "
                             f"{self.hr / self.patch / 2 ** (len(self.channels) - 1):g}, not {self.lr}")

    @property
    def name(self) -> str:
        """The name of a published network of this shape; `config_from_name` reads it back."""
        widths = "-".join(map(str, self.channels))
        return f"exact-{self.hr}-{self.lr}-p{self.patch}-c{widths}-b{'-'.join(map(str, self.blocks))}-e{self.expansion}"


def config_from_name(name: str) -> EncoderConfig:
    """The configuration for the ``name`` of a published network."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is not the name of an exact encoder of this family")
    hr, lr, patch, channels, blocks, expansion = found.groups()
    return EncoderConfig(int(hr), int(lr), int(patch), tuple(map(int, channels.split("-"))),
                         tuple(map(int, blocks.split("-"))), int(expansion))


def encoder_config(hr: int, lr: int) -> EncoderConfig:
    """The default architecture for a pair of sizes."""
    if hr not in HR_SIZES or lr not in LR_SIZES:
        raise ValueError(f"no exact encoder for {hr} -> {lr}; HR is one of {HR_SIZES}, LR one of {LR_SIZES}")
    factor = hr // lr
    # The stem leaves at most 128 x 128 positions: at 1024 that keeps the encoder under 2 GFLOP.
    patch = max(min(hr // 64, 8, factor), min(2, factor))
    stages = int(math.log2(factor // patch)) + 1
    # At 1024 the widths stop at 96: that keeps the weights under 1.5 MB as float32.
    widths = {256: (64, 128, 192, 192), 512: (32, 64, 128, 192), 1024: (32, 64, 96, 96)}[hr]
    blocks = (1, 2, 4, 4) if hr == 256 else (1, 2, 2, 2)
    return EncoderConfig(hr, lr, patch, widths[:stages], blocks[:stages])
