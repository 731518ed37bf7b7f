"""The bits that the LR coder needs for an LR, with gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codec_contract.lr_coder.coder_tables import ACTIVATION_MAX, ChannelNetwork, CoderTables, Layer
from codec_contract.lr_coder.logistic import MEAN_BITS
from edgegrain.training.grain.rate import FIRST_OCTAVE, MEAN_UNIT, STEPS_PER_OCTAVE, CoderContext, code_length


class PayloadBits(nn.Module):
    """Code length of LRs of one size under a bundle's coder tables: their integer arithmetic without its rounding."""

    def __init__(self, tables: CoderTables, height: int, width: int) -> None:
        super().__init__()
        self._context = CoderContext(height, width)
        self._channels = nn.ModuleList(_Channel(network) for network in tables.channels)

    def forward(self, indices: Tensor) -> Tensor:
        """Bits of an LR's body, ``[B]``, for indices of levels ``[B, 3, h, w]`` (`codec_contract.lr_coder.level_step`),
        in float32 also under autocast."""
        with torch.autocast(indices.device.type, enabled=False):
            indices = indices.float()
            bits = indices.new_zeros(len(indices))
            for channel, network in enumerate(self._channels):
                context, reference = self._context(indices, channel)
                length = code_length(network(context.flatten(0, 1)), reference.flatten(), indices[:, channel].flatten())
                bits = bits + length.view(len(indices), -1).sum(1)
            return bits


class _Channel(nn.Module):
    """A channel's network: contexts ``[N, n]`` in levels to the prediction ``[N, 2]`` that `code_length` takes."""

    def __init__(self, network: ChannelNetwork) -> None:
        super().__init__()
        self._hidden = nn.ModuleList(map(_linear, network.hidden))
        self._output = _linear(network.output)

    def forward(self, context: Tensor) -> Tensor:
        values = context
        for layer in self._hidden:
            values = layer(values).clamp(0, ACTIVATION_MAX)
        mean, scale = self._output(torch.cat([context, values], 1)).unbind(1)
        return torch.stack([mean / (MEAN_UNIT * (1 << MEAN_BITS)), FIRST_OCTAVE + scale / STEPS_PER_OCTAVE], 1)


def _linear(layer: Layer) -> nn.Linear:
    outputs, inputs = layer.weight.shape
    linear = nn.Linear(inputs, outputs)
    unit = torch.exp2(-torch.from_numpy(layer.shift).float())
    linear.weight = nn.Parameter(torch.from_numpy(layer.weight).float() * unit[:, None], requires_grad=False)
    linear.bias = nn.Parameter(torch.from_numpy(layer.bias).float() * unit, requires_grad=False)
    return linear
