"""The rate loss: the expected bits of the payload's coder for an LR.

The coder predicts every sample from the ones before it with a small network per channel and codes it under a
discretized logistic distribution (docs/lr_coder.md). Here the same contexts, networks and distribution run in floating
point on LRs that have gradients. The networks are trained along with the encoder, because the coder's tables are fitted
to its LRs when it is published; the encoder moves towards LRs that such a model predicts well.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codec_contract.lr_coder.context import CONTEXT_SIZES, MIDDLE, neighbour_indices, positions
from edgegrain.training.grain.coder_network import FloatNetwork, code_length
from edgegrain.training.running_mean import running_mean

WIDTHS = (64, 64)
"""Hidden units of the coder's networks: fewer than `fit_tables` has, because they take part in every step."""
LEARNING_RATE = 3e-3
"""Learning rate of the networks, independent of the encoder's."""
FIT_PICTURES, FIT_STEPS, FIT_BATCH = 128, 300, 32
"""Pictures, steps and batch of `fit`."""
BELOW_TARGET = 1 / 16
"""Factor on the rate loss while LRs are smaller than their target."""
DECAY = 0.98
"""Decay of the running mean that is compared with the target: batches are small, and pictures differ."""


class CoderContext(nn.Module):
    """The coder's context of every sample of LRs of one size, with gradients; it has no weights."""

    _neighbours: Tensor
    _positions: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        neighbours = torch.from_numpy(neighbour_indices(width, height)).long()
        self.register_buffer("_neighbours", neighbours, persistent=False)
        self.register_buffer("_positions", torch.from_numpy(positions(width, height)).float(), persistent=False)

    def forward(self, levels: Tensor, channel: int) -> tuple[Tensor, Tensor]:
        """Contexts ``[B, h * w, n]`` and references ``[B, h * w]`` of a channel of LRs ``[B, 3, h, w]``, 0...255.

        Those of `codec_contract.lr_coder.context`, except that the reference is not rounded.
        """
        pixels = levels.flatten(2).transpose(1, 2)  # [B, h * w, 3]
        outside = pixels.new_full((len(pixels), 1, 3), MIDDLE)
        around = torch.cat([pixels, outside], 1)[:, self._neighbours]  # [B, h * w, 10, 3]
        reference = (around[:, :, 0, channel] + around[:, :, 1, channel]) / 2
        place = self._positions.expand(len(pixels), -1, -1)
        parts = (around.flatten(2) - reference[..., None], pixels[..., :channel] - reference[..., None],
                 reference[..., None] - MIDDLE, place)
        return torch.cat(parts, 2), reference


class RateModel(nn.Module):
    """Expected code length of LRs of one size."""

    def __init__(self, height: int, width: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.networks = nn.ModuleList(FloatNetwork(size, widths) for size in CONTEXT_SIZES)
        self._context = CoderContext(height, width)

    def forward(self, levels: Tensor) -> Tensor:
        """Bits per sample of LRs ``[B, 3, h, w]``, a scalar; levels 0...255, or levels in steps as the coder's indices
        (`codec_contract.lr_coder.coder_tables`). Computed in float32 also under autocast."""
        with torch.autocast(levels.device.type, enabled=False):
            levels = levels.float()
            bits = []
            for channel, network in enumerate(self.networks):
                context, reference = self._context(levels, channel)
                prediction = network(context.flatten(0, 1))
                bits.append(code_length(prediction, reference.flatten(), levels[:, channel].flatten()).mean())
            return torch.stack(bits).mean()


def fit(model: RateModel, levels: Tensor) -> None:
    """Fit the networks to a trained encoder's LRs, before its training goes on: the rate that random networks expect
    has a gradient that says nothing about these LRs.

    Args:
        model: trained in place, on its device.
        levels: LRs ``[N, 3, h, w]``, as `RateModel.forward` takes them, on that device.
    """
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
        """``target``: bytes of an LR, without the frame of a payload."""
        self.target = target
        self._mean: Tensor | None = None

    def factor(self, size: Tensor) -> Tensor:
        """Factor on the rate loss, a scalar, after a batch whose LRs have ``size`` expected bytes on average."""
        self._mean = running_mean(self._mean, size.detach(), DECAY)
        return torch.where(self._mean > self.target, 1.0, BELOW_TARGET)
