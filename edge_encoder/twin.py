"""The exact encoder as a trainable torch module, the float twin of `edge_encoder.integer_network`; and `lower`, the
only place where real weights become the integers of a published encoder.

The twin computes in the units of the integers: activations are the integers 0...255 stored as floats, weights are
rounded to int8 before the convolution and scaled by powers of two. In float32 it equals the int64 reference byte for
byte; under bfloat16 autocast (training only) integers up to 256 and int8 weights are still exact, only accumulators are
rounded. The gradients are those of a straight-through estimator.

Real values: an activation is its integer times 2^-5, an input pixel its byte times 2^-7, and the correction is in units
of 2^5 LR levels, so ordinary initialisations and learning rates apply.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import BundleError
from edge_encoder.integer_network import (
    ACCUMULATOR_LIMIT,
    ACTIVATION_MAX,
    DEPTHWISE_L1,
    DEPTHWISE_MAX,
    INPUT,
    IntegerConv,
    IntegerNetwork,
    is_winograd_shaped,
    prove_bound,
)

HR_SIZES = (256, 512, 1024)
LR_SIZES = (16, 32, 64, 128)

_NAME = re.compile(r"exact-(\d+)-(\d+)-p(\d+)-c(\d+(?:-\d+)*)-b(\d+(?:-\d+)*)-e(\d+)")


@dataclass(frozen=True)
class EncoderConfig:
    """Patch stem, then stages joined by 3x3 convolutions of stride 2, then the correction head."""

    hr: int  # side of the square input, in pixels
    lr: int  # side of the square output, in pixels
    patch: int  # kernel and stride of the stem; nothing runs at full resolution
    channels: tuple[int, ...]  # of every stage; hr / patch / 2^(len(channels) - 1) == lr
    blocks: tuple[int, ...]  # residual blocks (depthwise 3x3, pointwise, pointwise) of every stage
    expansion: int = 2  # width of a block's hidden 1x1 convolution, in multiples of its channels

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.blocks) or not self.channels:
            found = f"{len(self.channels)} stages and {len(self.blocks)} block counts"
            raise ValueError(f"an encoder needs a block count for each of at least one stage, got {found}")
        if (lr := self.hr / self.patch / 2 ** (len(self.channels) - 1)) != self.lr:
            stages = f"patch {self.patch} and {len(self.channels)} stages"
            raise ValueError(f"{stages} turn {self.hr} into {lr:g}, not {self.lr}")

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
    hr, lr, patch, widths, counts, expansion = found.groups()
    channels, blocks = (tuple(map(int, numbers.split("-"))) for numbers in (widths, counts))
    return EncoderConfig(int(hr), int(lr), int(patch), channels, blocks, int(expansion))


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


ACTIVATION_BITS = 5
WEIGHT_MAX = 127
MAX_SHIFT = 15


def _straight_through(real: Tensor, quantized: Tensor) -> Tensor:
    """Exactly the quantized value, whose gradient passes to the real one."""
    return quantized + (real - real.detach())


class _FloorClamp(torch.autograd.Function):
    """clamp(floor(v), 0, 255) in the type of convolutions (bfloat16 is exact); the gradient passes inside the range."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, dtype: torch.dtype) -> Tensor:
        result = value.floor().clamp_(0, ACTIVATION_MAX).to(dtype)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad.to(result.dtype), result, 0, ACTIVATION_MAX).float(), None


def floor_clamp(value: Tensor) -> Tensor:
    """Round ``value`` down to integers 0...255, as floats of the type of convolutions."""
    autocast = torch.is_autocast_enabled(value.device.type)
    return _FloorClamp.apply(value, torch.get_autocast_dtype(value.device.type) if autocast else torch.float32)


class TwinConv(nn.Module):
    """One layer of the integer network with real, trainable weights.

    ``offset``: the input's fractional bits beyond those of activations (pixels have 7); ``skip``: another layer's
    output is added, which the bound includes; ``gain``: factor on the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        offset: int = 0,
        skip: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.groups, self.offset, self.skip = kernel, stride, groups, offset, skip
        fan_in = inputs // groups * kernel * kernel
        weight = torch.randn(outputs, inputs // groups, kernel, kernel)
        self.weight = nn.Parameter(weight * gain * math.sqrt(2 / fan_in))
        self.bias = nn.Parameter(torch.zeros(outputs))

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Zeros at (top, left, bottom, right): centred at stride 1, TensorFlow's SAME at stride 2, none for patches."""
        total = self.kernel - self.stride
        return (total // 2, total // 2, total - total // 2, total - total // 2)

    @torch.no_grad()
    def integers(self) -> tuple[Tensor, Tensor, Tensor]:
        """int8-valued weight, integer bias and shift of every channel, as float32 / float32 / int32 tensors.

        The weight scale of a channel is the largest power of two that keeps every limit of `prove_bound`.
        """
        weight, bias = self.weight.float(), self.bias.float()
        peak = weight.abs().amax((1, 2, 3)).clamp_min(1e-12)
        l1 = weight.abs().sum((1, 2, 3)).clamp_min(1e-12)
        # Every term of the bound grows with 2^e, so the largest e follows from the real weights; only their rounding
        # can exceed a limit, and then one bit less is within it.
        per_unit = l1 * ACTIVATION_MAX + 2.0**self.offset * (bias.abs() * 2.0**ACTIVATION_BITS + 0.5)
        if self.skip:
            per_unit = per_unit + 2.0**self.offset * ACTIVATION_MAX
        largest = torch.minimum(WEIGHT_MAX / peak, ACCUMULATOR_LIMIT / per_unit)
        if is_winograd_shaped(self.groups, self.stride, self.kernel):
            largest = torch.minimum(largest, torch.minimum(DEPTHWISE_L1 / l1, DEPTHWISE_MAX / peak))
        shift = (torch.floor(torch.log2(largest)) + self.offset).clamp_(1, MAX_SHIFT).to(torch.int32)
        broken = self._breaks_a_limit(*self._rounded(weight, bias, shift), shift)
        shift = torch.where(broken, shift - 1, shift).clamp_min(1)
        return *self._rounded(weight, bias, shift), shift

    def _rounded(self, weight: Tensor, bias: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        exponent = (shift - self.offset).view(-1, 1, 1, 1)
        rounded = torch.ldexp(weight, exponent).round().clamp_(-WEIGHT_MAX, WEIGHT_MAX)
        return rounded, torch.ldexp(bias * 2.0**ACTIVATION_BITS, shift).round()

    def _breaks_a_limit(self, weight: Tensor, bias: Tensor, shift: Tensor) -> Tensor:
        """bool ``[O]``: True for channels that `edge_encoder.integer_network.prove_bound` would refuse."""
        l1 = weight.abs().sum((1, 2, 3))
        bound = l1 * ACTIVATION_MAX + (bias + torch.ldexp(torch.ones_like(bias), shift - 1)).abs() + 1
        if self.skip:
            bound = bound + torch.ldexp(torch.full_like(bias, ACTIVATION_MAX), shift)
        broken = bound >= ACCUMULATOR_LIMIT
        if is_winograd_shaped(self.groups, self.stride, self.kernel):
            broken = broken | (l1 > DEPTHWISE_L1) | (weight.abs().amax((1, 2, 3)) > DEPTHWISE_MAX)
        return broken

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Convolve integers 0...255; returns the value before flooring, in float32 (rounding offset and guard
        half already added)."""
        integer_weight, integer_bias, shift = self.integers()
        quantized = torch.ldexp(integer_weight, -shift.view(-1, 1, 1, 1))
        weight = _straight_through(self.weight * 2.0**-self.offset, quantized)
        rounding = torch.ldexp(torch.ones_like(integer_bias), shift - 1) + 0.5
        bias = _straight_through(self.bias * 2.0**ACTIVATION_BITS, torch.ldexp(integer_bias + rounding, -shift))
        top, left, bottom, right = self.padding
        if (top, left) == (bottom, right):
            y = F.conv2d(x, weight, stride=self.stride, padding=top, groups=self.groups)
        else:
            y = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, stride=self.stride, groups=self.groups)
        y = y.float() + bias.view(-1, 1, 1)
        return y if skip is None else y + skip


class ResidualBlock(nn.Module):
    """x + pointwise(pointwise(depthwise(x))), every step followed by floor and clamp (the clamp at 0 is the ReLU)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = TwinConv(channels, channels, 3, groups=channels)
        self.expand = TwinConv(channels, channels * expansion, 1)
        self.project = TwinConv(channels * expansion, channels, 1, skip=True, gain=0.3)

    def forward(self, x: Tensor) -> Tensor:
        y = floor_clamp(self.depthwise(x))
        y = floor_clamp(self.expand(y))
        return floor_clamp(self.project(y, skip=x))


def box_mean(picture: Tensor, factor: int) -> Tensor:
    """The correctly rounded area average of squares of ``factor`` pixels, as integers 0...255 (halves round up)."""
    return torch.floor(F.avg_pool2d(picture.float(), factor) + 0.5)


class EncoderTwin(nn.Module):
    """Trainable exact encoder: LR levels = box mean of the picture + learned correction, clamped to 0...255."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = TwinConv(3, config.channels[0], config.patch, stride=config.patch, offset=2)
        self.downs = nn.ModuleList(TwinConv(a, b, 3, stride=2) for a, b in pairwise(config.channels))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, config.expansion) for _ in range(count)))
            for width, count in zip(config.channels, config.blocks, strict=True)
        )
        self.head = TwinConv(config.channels[-1], 3, 1, skip=True, gain=0.1)

    def forward(self, picture: Tensor, *, noise: bool = False) -> tuple[Tensor, Tensor]:
        """Encode ``[B, 3, hr, hr]``, integers 0...255 in any float dtype, to float32 LR levels ``[B, 3, lr, lr]`` in
        0...255 and the box mean; ``noise`` of +-1/2 level replaces rounding in training ([GRAIN] 3.2 (2))."""
        x = floor_clamp(self.stem(picture))
        for index, blocks in enumerate(self.stages):
            if index:
                x = floor_clamp(self.downs[index - 1](x))
            x = blocks(x)
        box = box_mean(picture, self.config.hr // self.config.lr)
        value = self.head(x, skip=box)
        if noise:
            # value carries the rounding offset 1/2: floor(value) is round(value - 1/2).
            return (value - 0.5 + torch.rand_like(value) - 0.5).clamp(0, ACTIVATION_MAX), box
        return floor_clamp(value).float(), box


class BoxMean(nn.Module):
    """The control "without invertible encoder" ([GRAIN] Table 2): the LR is the exact box mean, without training."""

    def __init__(self, hr: int, lr: int) -> None:
        super().__init__()
        self.hr, self.lr = hr, lr

    def forward(self, picture: Tensor, *, noise: bool = False) -> tuple[Tensor, Tensor]:
        box = box_mean(picture, self.hr // self.lr)
        return box, box


def lower(twin: EncoderTwin) -> IntegerNetwork:
    """Freeze a twin into its integer network and prove its bounds."""
    config, layers = twin.config, []
    for name, source, conv, skip in _wiring(twin):
        if skip == "box":
            layers.append(box_layer(config.hr // config.lr))
        weight, *others = (tensor.numpy() for tensor in conv.cpu().integers())
        bias, shift = (array.astype(np.int32) for array in others)
        shape = conv.stride, conv.padding, conv.groups
        layers.append(IntegerConv(name, source, weight.astype(np.int8), bias, shift, *shape, skip))
    network = IntegerNetwork(config.name, config.hr, config.lr, tuple(layers))
    prove_bound(network)
    return network


@torch.no_grad()
def raise_twin(network: IntegerNetwork, config: EncoderConfig) -> EncoderTwin:
    """Convert a published network to a twin that computes the same LRs, with the rounded values, to train it on."""
    twin = EncoderTwin(config)
    layers = {layer.name: layer for layer in network.layers}
    convs = {name: conv for name, _, conv, _ in _wiring(twin)}
    if network.architecture != config.name or set(layers) != {*convs, "box"}:
        raise BundleError(f"the encoder is {network.architecture!r}, not {config.name!r}")
    for name, conv in convs.items():
        shift = torch.from_numpy(layers[name].shift)
        weight, bias = (torch.from_numpy(array).float() for array in (layers[name].weight, layers[name].bias))
        conv.weight.copy_(torch.ldexp(weight, (conv.offset - shift).view(-1, 1, 1, 1)))
        conv.bias.copy_(torch.ldexp(bias, -shift - ACTIVATION_BITS))
    return twin


def _wiring(twin: EncoderTwin) -> Iterator[tuple[str, str, TwinConv, str | None]]:
    """Name, input, module and skip of each layer, in order; the skip of the last one is the box mean."""
    yield (last := "stem"), INPUT, twin.stem, None
    for stage, blocks in enumerate(twin.stages):
        if stage:
            yield f"down{stage}", last, cast(TwinConv, twin.downs[stage - 1]), None
            last = f"down{stage}"
        for index, block in enumerate(cast(Iterable[ResidualBlock], blocks.children())):
            name = f"stage{stage}.block{index}"
            yield f"{name}.depthwise", last, block.depthwise, None
            yield f"{name}.expand", f"{name}.depthwise", block.expand, None
            yield f"{name}.project", f"{name}.expand", block.project, last
            last = f"{name}.project"
    yield "head", last, twin.head, "box"


def box_network(hr: int, lr: int) -> IntegerNetwork:
    """The exact box mean alone, rounded to levels; ``hr`` is ``lr`` times a power of two."""
    return IntegerNetwork(f"box-{hr}-{lr}", hr, lr, (box_layer(hr // lr),))


def box_layer(factor: int) -> IntegerConv:
    """Correctly rounded box mean as a depthwise layer of ones: the sum of factor^2 pixels, shifted right."""
    weight, bias = np.ones((3, 1, factor, factor), np.int8), np.zeros(3, np.int32)
    shift = np.full(3, 2 * int(math.log2(factor)), np.int32)
    return IntegerConv("box", INPUT, weight, bias, shift, stride=factor, groups=3)
