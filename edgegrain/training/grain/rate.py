"""The rate loss: the expected bits of the payload's coder for an LR.

The coder predicts every sample from the ones before it with a small network per channel and codes it under a
discretized logistic distribution (docs/lr_coder.md). Here the same contexts, networks and distribution run in floating
point on LRs that have gradients. The networks are trained along with the encoder, because the coder's tables are fitted
to its LRs when it is published (`edgegrain.publishing.fit_coder`, with the same networks); the encoder moves towards
LRs that such a model predicts well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.lr_coder.coder_tables import ACTIVATION_MAX, MAX_SHIFT, MAX_WEIGHT, ChannelNetwork, Layer
from codec_contract.lr_coder.context import CONTEXT_SIZES, MEAN_BITS, MIDDLE, SCALE_MAX, neighbour_indices, positions
from edgegrain.training.losses import running_mean

CONTEXT_UNIT = 32.0  # contexts are divided by this, in levels, so that the float network sees values of order one
MEAN_UNIT = 16.0  # levels per unit of the float network's mean output
STEPS_PER_OCTAVE, FIRST_OCTAVE, FLOOR = 8, -2, 2.0**-20


class FloatNetwork(nn.Module):
    """The trainable form of a channel's network: contexts ``[B, n]`` in levels to mean and log2 scale ``[B, 2]``; after
    `calibrate` with weights rounded as they are written, through which gradients pass straight."""

    def __init__(self, inputs: int, widths: Sequence[int], *, skip: bool = True, step: int = 1) -> None:
        """``skip``: let the output layer use the context too; ``step``: that of the levels, whose indices become
        smaller: without it networks for 28 and more learn nothing.

        An output's weights share one 8-bit scale, and those of the context are far larger than those of hidden units,
        which then round to zero. So networks that become integers have no skip: their context weights count as 0.
        """
        super().__init__()
        sizes = (inputs, *widths)
        layers = [nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        output = nn.Linear(inputs + sizes[-1], 2)
        with torch.no_grad():
            output.weight.mul_(0.1)
            output.bias.copy_(torch.tensor([0.0, 3.0]))
        self.layers = nn.ModuleList([*layers, output])
        self._unused = 0 if skip else inputs
        self._step = step
        self.units: list[tuple[Tensor, Tensor]] = []  # once calibrated: integer 1s of each layer's inputs and outputs

    def weight(self, index: int) -> Tensor:
        """A layer's weights ``[outputs, inputs]``, rounded once there are units."""
        weight: Tensor = self.layers[index].get_parameter("weight")
        if self._unused and index == len(self.layers) - 1:
            weight = F.pad(weight[:, self._unused :], (self._unused, 0))
        if not self.units:
            return weight
        unit_in, unit_out = self.units[index]
        integers = weight.detach() * unit_in / unit_out[:, None]
        factor = torch.exp2(eight_bit_shift(integers))[:, None]
        rounded = torch.round(integers * factor).clamp(-MAX_WEIGHT, MAX_WEIGHT) / factor
        return weight + (rounded * unit_out[:, None] / unit_in - weight).detach()

    def bias(self, index: int) -> Tensor:
        """A layer's biases ``[outputs]``."""
        return self.layers[index].get_parameter("bias")

    def forward(self, context: Tensor) -> Tensor:
        scaled = context * (self._step / CONTEXT_UNIT)
        values, last = scaled, len(self.layers) - 1
        for index in range(last):
            values = torch.relu(values @ self.weight(index).T + self.bias(index))
        mean, scale = (torch.cat([scaled, values], dim=1) @ self.weight(last).T + self.bias(last)).unbind(1)
        return torch.stack([mean / self._step, scale], 1)

    @torch.no_grad()
    def calibrate(self, context: Tensor) -> None:
        """Choose the integer units of every layer from typical contexts ``[S, n]``: a hidden unit's largest value comes
        near the top of its range, unless its weights would then not fit into 8 bits. The next layer undoes it."""
        context_unit = torch.full((context.shape[1],), self._step / CONTEXT_UNIT)
        values, unit, units = context * context_unit, context_unit, []
        last = len(self.layers) - 1
        for index in range(last):
            values = torch.relu(values @ self.weight(index).T + self.bias(index))
            range_unit = values.amax(dim=0) / (0.9 * ACTIVATION_MAX)
            weight_unit = (self.weight(index) * unit).abs().amax(dim=1) / MAX_WEIGHT
            units.append((unit, torch.maximum(range_unit, weight_unit).clamp(min=2.0**-40)))
            unit = units[-1][1]
        mean_unit = self._step / (MEAN_UNIT * (1 << MEAN_BITS))
        units.append((torch.cat([context_unit, unit]), torch.tensor([mean_unit, 1.0 / STEPS_PER_OCTAVE])))
        self.units = units

    @torch.no_grad()
    def integers(self) -> ChannelNetwork:
        """The calibrated network in the coder's integer form."""
        layers = []
        for index, (unit_in, unit_out) in enumerate(self.units):
            bias = self.bias(index)
            if index == len(self.units) - 1:
                bias = bias - torch.tensor([0.0, float(FIRST_OCTAVE)])
            weight = self.weight(index).double() * unit_in / unit_out[:, None]
            shift = eight_bit_shift(weight)
            factor = torch.exp2(shift)
            values = torch.round(weight * factor[:, None]), torch.round(bias / unit_out * factor), shift
            layers.append(Layer(*(each.numpy().astype(np.int32) for each in values)))
        return ChannelNetwork(tuple(layers[:-1]), layers[-1])


def eight_bit_shift(weight: Tensor) -> Tensor:
    """Exponent of the largest power of two at which a row of ``[outputs, inputs]`` fits into 8 bits, for each."""
    largest = weight.abs().amax(dim=1).clamp(min=2.0**-MAX_SHIFT)
    # A little less than 127: a weight rounded to 127 / 2**n must not fall into the next row of exponents.
    return torch.floor(torch.log2((MAX_WEIGHT + 0.49) / largest)).clamp(0, MAX_SHIFT)


class _ReturningClamp(torch.autograd.Function):
    """A clamp whose gradient is zero only where it leads further away from the limits. With that of `torch.clamp` a
    scale that overshot a limit stayed there for good."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        (x,), (low, high), (gradient,) = ctx.saved_tensors, ctx.limits, gradients
        away = ((x < low) & (gradient > 0)) | ((x > high) & (gradient < 0))  # a step goes against the gradient
        return gradient.masked_fill(away, 0), None, None


def code_length(prediction: Tensor, reference: Tensor, level: Tensor) -> Tensor:
    """Bits per sample ``[B]``, the coder's arithmetic in floating point, of a `FloatNetwork`'s ``[B, 2]``."""
    mean = (reference + MEAN_UNIT * prediction[:, 0]).clamp(0.0, 255.0)
    last_octave = FIRST_OCTAVE + SCALE_MAX / STEPS_PER_OCTAVE
    scale = torch.exp2(_ReturningClamp.apply(prediction[:, 1], FIRST_OCTAVE, last_octave))

    def below(edge: Tensor | float) -> Tensor:
        return torch.sigmoid((edge - mean) / scale)

    mass = below(level + 0.5) - below(level - 0.5) + FLOOR
    return -torch.log2(mass / (below(255.5) - below(-0.5) + 256 * FLOOR))


WIDTHS = (64, 64)  # hidden units: fewer than `fit_tables` has, because they take part in every step
LEARNING_RATE = 3e-3  # of the networks, independent of the encoder's
FIT_PICTURES, FIT_STEPS, FIT_BATCH = 128, 300, 32
BELOW_TARGET = 1 / 16  # factor on the rate loss while LRs are smaller than their target


class RateModel(nn.Module):
    """Expected code length of LRs of one size."""

    _neighbours: Tensor
    _positions: Tensor

    def __init__(self, height: int, width: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.networks = nn.ModuleList(FloatNetwork(size, widths) for size in CONTEXT_SIZES)
        neighbours = torch.from_numpy(neighbour_indices(width, height)).long()
        self.register_buffer("_neighbours", neighbours, persistent=False)
        self.register_buffer("_positions", torch.from_numpy(positions(width, height)).float(), persistent=False)

    def forward(self, levels: Tensor) -> Tensor:
        """Bits per sample, a scalar, of LRs ``[B, 3, h, w]`` as the coder's indices, 0...255 (`to_indices`)."""
        with torch.autocast(levels.device.type, enabled=False):
            levels = levels.float()
            bits = []
            for channel, network in enumerate(self.networks):
                context, reference = self.context(levels, channel)
                prediction = network(context.flatten(0, 1))
                bits.append(code_length(prediction, reference.flatten(), levels[:, channel].flatten()).mean())
            return torch.stack(bits).mean()

    def context(self, levels: Tensor, channel: int) -> tuple[Tensor, Tensor]:
        """Contexts ``[B, h * w, n]`` and references ``[B, h * w]``, not rounded, of a channel of ``[B, 3, h, w]``."""
        pixels = levels.flatten(2).transpose(1, 2)  # [B, h * w, 3]
        outside = pixels.new_full((len(pixels), 1, 3), MIDDLE)
        around = torch.cat([pixels, outside], 1)[:, self._neighbours]  # [B, h * w, 10, 3]
        reference = (around[:, :, 0, channel] + around[:, :, 1, channel]) / 2
        place, middle = self._positions.expand(len(pixels), -1, -1), reference[..., None]
        parts = around.flatten(2) - middle, pixels[..., :channel] - middle, middle - MIDDLE, place
        return torch.cat(parts, 2), reference


def fit(model: RateModel, levels: Tensor) -> None:
    """Fit the networks to a trained encoder's LRs before its training goes on: with random networks the rate has a
    gradient that says nothing about these LRs."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    chosen = torch.Generator().manual_seed(0)
    for _ in range(FIT_STEPS):
        optimizer.zero_grad(set_to_none=True)
        model(levels[torch.randint(len(levels), (FIT_BATCH,), generator=chosen)]).backward()
        optimizer.step()


class RateTarget:
    """Steers the expected size of LRs to a target: the rate loss counts in full while their mean is larger, and
    `BELOW_TARGET` of it while it is smaller (Mentzer et al. 2020, HiFiC, section 3.2)."""

    def __init__(self, target: float) -> None:
        self.target = target  # bytes of an LR, without the frame of a payload
        self._mean: Tensor | None = None

    def factor(self, size: Tensor) -> Tensor:
        """Factor on the rate loss, a scalar, after a batch whose LRs have ``size`` expected bytes on average."""
        self._mean = running_mean(self._mean, size.detach(), 0.98)  # batches are small, and pictures differ
        return torch.where(self._mean > self.target, 1.0, BELOW_TARGET)
