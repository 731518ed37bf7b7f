"""GRAIN's invertible decoder ([GRAIN] 3.2 (3)): RRDB blocks and upsampling layers, one feature map f_inv per scale.

Residual-in-residual dense blocks (RRDB, ESRGAN) are the trunk of GRAIN's encoder and decoder.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.2
STEP_BRANCHES = {16: (96, 4), 32: (64, 2), 64: (32, 2)}  # of scales up to this size: channels and blocks
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


def tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that went through JSON, which makes tuples lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


class ResidualDenseBlock(nn.Module):
    """``convs`` 3x3 convolutions, each seeing the input and all earlier outputs; the last one returns to ``channels``.

    ESRGAN uses five; GRAIN's two finest scales use four.
    """

    def __init__(self, channels: int, growth: int, convs: int = 5) -> None:
        super().__init__()
        for index in range(convs):
            out = channels if index == convs - 1 else growth
            self.add_module(f"conv{index + 1}", nn.Conv2d(channels + index * growth, out, 3, padding=1))

    def convs(self) -> list[Any]:
        """The convolutions in order; all but the last are followed by a leaky ReLU."""
        return list(self.children())

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
        for index in range(dense_blocks):
            self.add_module(f"RDB{index + 1}", ResidualDenseBlock(channels, growth, convs))

    def dense_blocks(self) -> list[Any]:
        return list(self.children())

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


UPSAMPLING = ("nearest", "subpixel", "bilinear")


@dataclass(frozen=True)
class Scale:
    """One resolution of the decoder."""

    size: int  # side length of its square feature map
    channels: int  # of f_inv at this scale
    rrdb: int = 0  # number of RRDB blocks (three dense blocks of five convolutions)
    dense: int = 0  # number of reduced RRDB blocks (one dense block of four convolutions)
    residual: int = 0  # number of plain residual blocks
    growth: int = 32  # channels that every dense convolution adds


@dataclass(frozen=True)
class DecoderConfig:
    """The scales from the LR to the HR size, each twice the one before.

    Attributes:
        scales: coarse to fine.
        upsampling: ``"nearest"`` (the paper's; all scales have the same width), ``"subpixel"`` (a transposed 2x2
            convolution of stride 2) or ``"bilinear"`` (followed by a 3x3 convolution). The latter two give every scale
            a width of its own. Sub-pixel convolutions leave a grid of the period of their strides on smooth surfaces;
            bilinear interpolation, which is the FIR filter [1, 3, 3, 1], does not.
        head: hidden channels of the 3x3 convolutions that make the picture; () for one convolution.
        step: above 0, of the LR's levels, unless another is given. What other steps need is a branch of its own
            (`StepBranch`), so that one decoder serves all rates of a bundle and this one is as good as without.
    """

    scales: tuple[Scale, ...]
    upsampling: str = "nearest"
    head: tuple[int, ...] = (64, 32)
    step: int = 0

    def __post_init__(self) -> None:
        sizes = [scale.size for scale in self.scales]
        if any(b != 2 * a for a, b in itertools.pairwise(sizes)):
            raise ValueError(f"decoder scales must double, got {sizes}")
        if self.upsampling not in UPSAMPLING:
            raise ValueError(f"unknown upsampling {self.upsampling!r}; expected one of {', '.join(UPSAMPLING)}")
        if self.upsampling == "nearest" and len({scale.channels for scale in self.scales}) != 1:
            raise ValueError("nearest upsampling keeps the width: give all scales the same number of channels")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DecoderConfig:
        """The configuration that ``dataclasses.asdict`` wrote; tuples may have become lists."""
        return cls(**{**tuples(fields), "scales": tuple(Scale(**scale) for scale in fields["scales"])})

    @property
    def lr(self) -> int:
        return self.scales[0].size

    @property
    def hr(self) -> int:
        return self.scales[-1].size


# The official model's depths: 3, 3, 3, 2, 1 RRDB blocks, then one reduced block at 512 and 1024; 64 channels
# everywhere ([GRAIN] 3.2: f_inv of 16x16x64 ... 1024x1024x64).
PAPER_1024_LR16 = DecoderConfig(
    tuple(Scale(size, 64, rrdb=count) for size, count in ((16, 3), (32, 3), (64, 3), (128, 2), (256, 1)))
    + (Scale(512, 64, dense=1), Scale(1024, 64, dense=1))
)

# The bundle faces-256-lr16 up to 0.5.0: the width is at the coarse scales and the finest features are few.
_COARSE = Scale(16, 160, rrdb=2), Scale(32, 128, residual=2)
FACES_256_LR16 = DecoderConfig(
    (*_COARSE, Scale(64, 72, residual=2), Scale(128, 40, residual=1), Scale(256, 12)), "subpixel", ()
)

# The bundle faces-256-lr16 1.0.0: more capacity at the fine scales, where eyes and skin are made, 14.0 GMAC instead of
# 3.6.
_FINE = Scale(64, 96, residual=2), Scale(128, 64, residual=2), Scale(256, 32, residual=2)
FACES_256_LR16_FINE = DecoderConfig((Scale(16, 160, rrdb=4), Scale(32, 128, residual=4), *_FINE), "bilinear", ())

# The bundle faces-256-lr16-tiny: without the last blocks at 16x16 and 32x32, which do little.
FACES_256_LR16_SLIM = DecoderConfig((*_COARSE, *_FINE), "bilinear", ())

# The bundle faces-256-lr16-small, the default one: more blocks at 32x32 to 128x128, 18 GMAC. Trained on a GPU.
_DEEP = Scale(64, 96, residual=6), Scale(128, 64, residual=3), Scale(256, 32, residual=2)
FACES_256_LR16_DEEP = DecoderConfig((Scale(16, 160, rrdb=2), Scale(32, 128, residual=4), *_DEEP), "bilinear", ())

# For larger LRs: the same fine scales, and coarse blocks only at the LR's size.
FACES_256_LR32_FINE = DecoderConfig((Scale(32, 160, rrdb=2), *_FINE), "bilinear", ())
FACES_256_LR64_FINE = DecoderConfig(
    (Scale(64, 96, residual=10), Scale(128, 64, residual=3), Scale(256, 32, residual=3)), "bilinear", ()
)
FACES_256_LR32 = DecoderConfig(
    (Scale(32, 160, rrdb=2), Scale(64, 96, residual=2), Scale(128, 48, residual=1), Scale(256, 16)), "subpixel", ()
)


class DecoderScale(nn.Module):
    """Blocks and a convolution around which the scale's input is added: f_inv = x + conv(blocks(x))."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        blocks: list[nn.Module] = [RRDB(scale.channels, scale.growth) for _ in range(scale.rrdb)]
        blocks += [RRDB(scale.channels, scale.growth, dense_blocks=1, convs=4) for _ in range(scale.dense)]
        blocks += [ResidualBlock(scale.channels) for _ in range(scale.residual)]
        self.blocks = nn.Sequential(*blocks)
        self.conv = nn.Conv2d(scale.channels, scale.channels, 3, padding=1) if blocks else None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.conv is None else x + self.conv(self.blocks(x))


@torch.no_grad()
def weaken_residuals(network: nn.Module) -> None:
    """Scale what new residual blocks and scales add to their inputs by `INITIAL_RESIDUAL`."""
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            module.conv2.weight.mul_(INITIAL_RESIDUAL)
        elif isinstance(module, DecoderScale) and module.conv is not None:
            module.conv.weight.mul_(INITIAL_RESIDUAL)


class Upsample(nn.Module):
    """Twice the resolution, by one of the kinds of `DecoderConfig.upsampling`."""

    conv: nn.Conv2d | nn.ConvTranspose2d | None

    def __init__(self, channels: int, out_channels: int, kind: str) -> None:
        super().__init__()
        self.conv = None
        if kind == "subpixel":  # a 1x1 convolution with pixel shuffle, without the shuffle's copy
            self.conv = nn.ConvTranspose2d(channels, out_channels, 2, stride=2)
        elif kind == "bilinear":
            self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is None:
            return F.interpolate(x, scale_factor=2, mode="nearest")
        if isinstance(self.conv, nn.Conv2d):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return F.leaky_relu(self.conv(x), NEGATIVE_SLOPE)


class StepBranch(nn.Module):
    """What features lack if the levels of the LR have another step than the decoder's own.

    It is added times the octaves between the two steps, so at its own step a decoder does what it did before.
    """

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(channels, width, 3, padding=1)
        self.octaves = nn.Parameter(torch.randn(width, 1, 1))
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.conv = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, octaves: Tensor) -> Tensor:
        y = F.leaky_relu(self.conv_first(x), NEGATIVE_SLOPE) + octaves * self.octaves
        return x + octaves * self.conv(self.blocks(y))


class RRDBDecoder(nn.Module):
    """LR picture -> HR picture, with the multi-scale features f_inv for the modules that follow."""

    step: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        widths = [scale.channels for scale in config.scales]
        self.conv_first = nn.Conv2d(3, widths[0], 3, padding=1)
        if config.step:
            self.register_buffer("step", torch.full((1,), float(config.step)), persistent=False)
        self.step_branches = nn.ModuleList(
            StepBranch(scale.channels, *next(inner for side, inner in STEP_BRANCHES.items() if scale.size <= side))
            for scale in config.scales
            if config.step and scale.size <= max(STEP_BRANCHES)
        )
        self.scales = nn.ModuleList(DecoderScale(scale) for scale in config.scales)
        self.upsamples = nn.ModuleList(Upsample(a, b, config.upsampling) for a, b in itertools.pairwise(widths))
        head = (widths[-1], *config.head)
        self.head = nn.Sequential(*convolutions(head), nn.Conv2d(head[-1], 3, 3, padding=1))
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                initialize(module)
        weaken_residuals(self)
        for parameter in self.head[-1].parameters():
            parameter.mul_(INITIAL_RESIDUAL)  # the first pictures are near grey, not noise
        for module in self.step_branches.modules():
            if isinstance(module, StepBranch):
                module.conv.weight.zero_()

    def forward_features(self, lr: Tensor, step: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """``lr``: float ``[B, 3, lr, lr]`` in [-1, 1]; ``step``: of the levels of each LR, ``[B]`` or ``[1]``. Returns
        the picture ``[B, 3, hr, hr]`` (about [-1, 1], not clipped) and f_inv, coarse to fine."""
        features = []
        octaves = self.octaves(lr, step) if self.config.step else None
        x = self.conv_first(lr)
        for index, scale in enumerate(self.scales):
            if index:
                x = self.upsamples[index - 1](x)
            x = scale(x)
            if index < len(self.step_branches):
                x = self.step_branches[index](x, octaves)
            features.append(x)  # [B, channels, size, size]
        return self.head(x), features

    def octaves(self, lr: Tensor, step: Tensor | None = None) -> Tensor:
        """``[B, 1, 1, 1]``, a quarter of the octaves between the decoder's own step and that of each LR."""
        steps = (self.step if step is None else step) + 0 * lr[:, 0, 0, 0].float()  # or export would fold them
        return (torch.log2(steps / self.config.step) / 4).to(lr.dtype).reshape(-1, 1, 1, 1)

    def forward(self, lr: Tensor, step: Tensor | None = None) -> Tensor:
        return self.forward_features(lr, step)[0]
