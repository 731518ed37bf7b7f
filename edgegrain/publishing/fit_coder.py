"""Fit the tables of the LR coder to the LRs of an encoder (``edgegrain publish coder``).

One network per channel is trained in floating point to give each sample as many bits of probability as it can, then
rounded to the integers of `CoderTables`. The tables are part of the LR contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from codec_contract.errors import ImageError
from codec_contract.lr_coder.coder import encode_lr
from codec_contract.lr_coder.coder_tables import (
    ACTIVATION_MAX,
    MAX_SHIFT,
    MAX_WEIGHT,
    ChannelNetwork,
    CoderTables,
    Layer,
)
from codec_contract.lr_coder.context import all_contexts
from codec_contract.lr_coder.logistic import MEAN_BITS, SCALE_MAX
from edgegrain.evaluation.classical_codecs import encode_lossless

LR = npt.NDArray[np.uint8]

CONTEXT_UNIT = 32.0
"""Contexts are divided by this, in levels, so that the float network sees values of order one."""
MEAN_UNIT = 16.0
"""Levels per unit of the float network's mean output."""
STEPS_PER_OCTAVE = 8
FIRST_OCTAVE = -2
FLOOR = 2.0**-20
BATCH = 4096
CALIBRATION_SAMPLES = 200_000
WIDTHS = (128, 128)
STEPS = 8000
ROUNDED_FROM = 0.7
"""Fraction of the steps after which weights are rounded."""


class FloatNetwork(nn.Module):
    """The trainable form of a channel's network: contexts [B, n] in levels to mean and log2 scale [B, 2].

    After `calibrate` it computes with weights rounded as they are written, and gradients pass straight through the
    rounding.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = (inputs, *widths)
        layers = [nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        output = nn.Linear(inputs + sizes[-1], 2)
        with torch.no_grad():
            output.weight.mul_(0.1)
            output.bias.copy_(torch.tensor([0.0, 3.0]))
        self.layers = nn.ModuleList([*layers, output])
        self.units: list[tuple[Tensor, Tensor]] = []
        """Value of an integer 1 at each layer's inputs and outputs, once calibrated."""

    def weight(self, index: int) -> Tensor:
        """A layer's weights [outputs, inputs], rounded once there are units."""
        weight = self.layers[index].weight
        assert isinstance(weight, Tensor)
        if not self.units:
            return weight
        unit_in, unit_out = self.units[index]
        integers = weight.detach() * unit_in / unit_out[:, None]
        factor = torch.exp2(eight_bit_shift(integers))[:, None]
        rounded = torch.round(integers * factor).clamp(-MAX_WEIGHT, MAX_WEIGHT) / factor
        return weight + (rounded * unit_out[:, None] / unit_in - weight).detach()

    def bias(self, index: int) -> Tensor:
        """A layer's biases [outputs]."""
        bias = self.layers[index].bias
        assert isinstance(bias, Tensor)
        return bias

    def forward(self, context: Tensor) -> Tensor:
        scaled = context / CONTEXT_UNIT
        values, last = scaled, len(self.layers) - 1
        for index in range(last):
            values = torch.relu(values @ self.weight(index).T + self.bias(index))
        return torch.cat([scaled, values], dim=1) @ self.weight(last).T + self.bias(last)

    @torch.no_grad()
    def calibrate(self, context: Tensor) -> None:
        """Choose the integer units of every layer from typical contexts [S, n].

        A hidden unit's largest value is scaled near the top of its range, unless its weights would then not fit into
        8 bits. ReLU commutes with this scaling, and the next layer's weights undo it.
        """
        context_unit = torch.full((context.shape[1],), 1.0 / CONTEXT_UNIT)
        values, unit, units = context / CONTEXT_UNIT, context_unit, []
        last = len(self.layers) - 1
        for index in range(last):
            values = torch.relu(values @ self.weight(index).T + self.bias(index))
            range_unit = values.amax(dim=0) / (0.9 * ACTIVATION_MAX)
            weight_unit = (self.weight(index) * unit).abs().amax(dim=1) / MAX_WEIGHT
            units.append((unit, torch.maximum(range_unit, weight_unit).clamp(min=2.0**-40)))
            unit = units[-1][1]
        mean_unit = 1.0 / (MEAN_UNIT * (1 << MEAN_BITS))
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
            layers.append(
                Layer(
                    weight=torch.round(weight * factor[:, None]).numpy().astype(np.int32),
                    bias=torch.round(bias / unit_out * factor).numpy().astype(np.int32),
                    shift=shift.numpy().astype(np.int32),
                )
            )
        return ChannelNetwork(tuple(layers[:-1]), layers[-1])


def eight_bit_shift(weight: Tensor) -> Tensor:
    """Exponent of the largest power of two for each row of [outputs, inputs] at which the row fits into 8 bits."""
    largest = weight.abs().amax(dim=1).clamp(min=2.0**-MAX_SHIFT)
    # A little less than 127: a weight rounded to 127 / 2**n must not fall into the next row of exponents.
    return torch.floor(torch.log2((MAX_WEIGHT + 0.49) / largest)).clamp(0, MAX_SHIFT)


def code_length(prediction: Tensor, reference: Tensor, level: Tensor) -> Tensor:
    """Bits per sample, [B]: the coder's arithmetic in floating point."""
    mean = (reference + MEAN_UNIT * prediction[:, 0]).clamp(0.0, 255.0)
    last_octave = FIRST_OCTAVE + SCALE_MAX / STEPS_PER_OCTAVE
    scale = torch.exp2(prediction[:, 1].clamp(FIRST_OCTAVE, last_octave))

    def below(edge: Tensor | float) -> Tensor:
        return torch.sigmoid((edge - mean) / scale)

    mass = below(level + 0.5) - below(level - 0.5) + FLOOR
    return -torch.log2(mass / (below(255.5) - below(-0.5) + 256 * FLOOR))


def fit_network(
    context: Tensor, reference: Tensor, level: Tensor, *, widths: Sequence[int], steps: int, seed: int
) -> FloatNetwork:
    """Train one channel's network on samples [S, n], [S], [S] of any number type; the result is calibrated."""
    torch.manual_seed(seed)
    network = FloatNetwork(context.shape[1], widths)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for step in range(steps):
        if step == round(ROUNDED_FROM * steps):
            network.calibrate(context[:: max(1, len(context) // CALIBRATION_SAMPLES)].float())
        batch = torch.randint(len(context), (BATCH,))
        prediction = network(context[batch].float())
        loss = code_length(prediction, reference[batch].float(), level[batch].float()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def _samples(lrs: Sequence[LR], channel: int) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts [S, n], references [S] and levels [S] of one channel of all LRs, int16."""
    pairs = [all_contexts(lr, channel) for lr in lrs]
    context = np.concatenate([pair[0].astype(np.int16) for pair in pairs])
    reference = np.concatenate([pair[1].astype(np.int16) for pair in pairs])
    level = np.concatenate([lr[..., channel].ravel().astype(np.int16) for lr in lrs])
    return torch.from_numpy(context), torch.from_numpy(reference), torch.from_numpy(level)


def fit_tables(
    lrs: Sequence[LR] | LR, *, widths: Sequence[int] = WIDTHS, steps: int = STEPS, seed: int = 0
) -> CoderTables:
    """Coder tables for LRs like these, uint8 [N, h, w, 3] or a list of uint8 [h, w, 3] of any sizes.

    Args:
        widths: units of each hidden layer; (128, 128) makes tables of about 94 KB, (64, 64) of 31 KB, for which LRs
            of 16 x 16 need 1 to 2 % more (docs/experiments/2026-11.md).
        steps: optimizer steps of 4096 samples for each channel.
    """
    networks = []
    for channel in range(3):
        context, reference, level = _samples(list(lrs), channel)
        network = fit_network(context, reference, level, widths=widths, steps=steps, seed=seed + channel)
        networks.append(network.integers())
    first, second, third = networks
    return CoderTables((first, second, third))


def generic_lrs(folder: Path, seed: int = 0) -> list[LR]:
    """LRs for fitting the default tables: box means of the folder's pictures at many scales.

    Sides are 8 to 64. Crops and mirroring are random. A fifth of the LRs has low contrast; half of them carry noise of
    random strength, correlated between channels, like the texture of learned encoders.
    """
    rng = np.random.default_rng(seed)
    mixing = np.linalg.cholesky(np.array([[1.0, 0.6, 0.4], [0.6, 1.0, 0.6], [0.4, 0.6, 1.0]]))
    lrs = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        crop = int(rng.integers(min(picture.size) // 2, min(picture.size) + 1))
        left = int(rng.integers(picture.width - crop + 1))
        top = int(rng.integers(picture.height - crop + 1))
        side = int(rng.choice([8, 16, 16, 24, 32, 64], p=[0.2, 0.25, 0.25, 0.15, 0.1, 0.05]))
        small = picture.resize((side, side), Image.Resampling.BOX, (left, top, left + crop, top + crop))
        levels = np.asarray(small, dtype=np.float64)
        if rng.random() < 0.5:
            levels = levels[:, ::-1]
        if rng.random() < 0.2:
            levels = levels.mean(axis=(0, 1)) + rng.uniform(0, 0.5) * (levels - levels.mean(axis=(0, 1)))
        if rng.random() < 0.5:
            strength = 2.0 ** rng.uniform(0, 6.5)
            levels = levels + strength * rng.standard_normal((side, side, 3)) @ mixing.T
        lrs.append(np.clip(np.floor(levels + 0.5), 0, 255).astype(np.uint8))
    return lrs


def load_lrs(path: Path) -> list[LR]:
    """LRs from a .npy file, uint8 [N, h, w, 3], or generic LRs made from a folder of pictures.

    Raises:
        ImageError: the file holds no such array.
    """
    if path.is_dir():
        return generic_lrs(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ImageError(f"{path} is not a .npy file of LRs ({error})") from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise ImageError(f"{path} must hold uint8 [N, h, w, 3], is {array.dtype} {list(array.shape)}")
    return list(array)


@dataclass(frozen=True)
class CoderReport:
    """Coder tables and their result on LRs that they were not fitted to.

    Attributes:
        tables: the fitted tables.
        fitted_to: number of LRs used for fitting.
        held_out: number of held-out LRs coded.
        coded: mean bytes of a held-out LR.
        lossless: mean bytes of the same LRs by classical format.
    """

    tables: CoderTables
    fitted_to: int
    held_out: int
    coded: float
    lossless: Mapping[str, float]


def fit_and_report(lrs: Sequence[LR], *, widths: Sequence[int] = WIDTHS, steps: int = STEPS, held_out: int = 500
                   ) -> CoderReport:
    """Fit tables to nine of ten LRs and code at most ``held_out`` of the others."""
    kept = [lr for index, lr in enumerate(lrs) if index % 10]
    tables = fit_tables(kept, widths=widths, steps=steps)
    held = lrs[::10][:held_out]
    return CoderReport(tables, len(kept), len(held), float(np.mean([len(encode_lr(lr, tables)) for lr in held])), {
        "optimised PNG": float(np.mean([len(encode_lossless(lr, "png")) for lr in held])),
        "lossless WebP": float(np.mean([len(encode_lossless(lr, "webp")) for lr in held])),
    })
