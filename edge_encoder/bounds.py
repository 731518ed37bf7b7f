"""The proof that a float32 runtime computes the integer encoder exactly.

Activations lie in 0...255, so a channel's accumulator is bounded by the L1 norm of its weights. If every partial
sum, in any order and with the rounding offset and the skip counted in, stays below 2^23, then each of them and its
half is a float32 number: no runtime can round anything before the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_encoder.integer_network import IntegerConv, IntegerNetwork, validate
from edgegrain.contract.errors import ExportError

ACTIVATION_MAX = 255
ACCUMULATOR_LIMIT = 2**23  # float32 has a 24-bit significand: one bit is kept for the guard half


@dataclass(frozen=True)
class LayerBound:
    """``maximum[o]``: the largest |accumulator| (in accumulator units) channel ``o`` can reach."""

    layer: str
    maximum: np.ndarray

    @property
    def worst_log2(self) -> float:
        return float(np.log2(max(int(self.maximum.max()), 1)))


@dataclass(frozen=True)
class BoundReport:
    """The bounds of all layers of a network, each below `ACCUMULATOR_LIMIT`."""

    layers: tuple[LayerBound, ...]

    @property
    def worst_log2(self) -> float:
        return max(layer.worst_log2 for layer in self.layers)


def layer_bound(layer: IntegerConv) -> np.ndarray:
    """int64 ``[O]``: the bound of every partial sum of a layer, in any order of summation.

    sum |w| * 255 + |b + 2^(s-1)| + 1/2 (rounded up) + 255 * 2^s for a skip.
    """
    l1 = np.abs(layer.weight.astype(np.int64)).sum((1, 2, 3))
    offset = np.abs(layer.bias.astype(np.int64) + (np.int64(1) << (layer.shift.astype(np.int64) - 1))) + 1
    bound = l1 * ACTIVATION_MAX + offset
    if layer.skip:
        bound = bound + (np.int64(ACTIVATION_MAX) << layer.shift.astype(np.int64))
    return bound


def prove(network: IntegerNetwork) -> BoundReport:
    """Bound every accumulator of the network.

    Raises:
        ExportError: an accumulator can reach 2^23; the message names layer and channel.
    """
    validate(network)
    report = []
    for layer in network.layers:
        bound = layer_bound(layer)
        worst = int(bound.argmax())
        if bound[worst] >= ACCUMULATOR_LIMIT:
            raise ExportError(
                f"layer {layer.name!r}, channel {worst}: the accumulator can reach {int(bound[worst])}, which float32 "
                f"does not hold exactly (limit {ACCUMULATOR_LIMIT}); lower that channel's weight scale and lower again"
            )
        report.append(LayerBound(layer.name, bound))
    return BoundReport(tuple(report))
