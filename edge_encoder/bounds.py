"""The proof that a float32 runtime computes the integer encoder exactly.

Activations lie in 0...255, so a channel's accumulator is bounded by the L1 norm of its weights. If every partial
sum, in any order and with the rounding offset and the skip counted in, stays below 2^23, then each of them and its
half is a float32 number: no runtime can round anything before the floor.

Depthwise 3x3 layers of stride 1 have one more limit. Some runtimes compute them with Winograd kernels, whose fractional
constants make rounding errors that grow with the weights: with nine weights of +-127, F(6,3) in float32 errs by more
than one accumulator unit (NNPACK, which torch uses without oneDNN from 16 pictures on: 1.20). With no
weight above 48 and their magnitudes summing to at most 112 the worst errors found by search, over trained and fresh
encoders, stay near 0.3, below the guard half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerConv, IntegerNetwork, validate_network

ACTIVATION_MAX = 255
ACCUMULATOR_LIMIT = 2**23  # float32 has a 24-bit significand; one bit is for the guard half
DEPTHWISE_L1 = 112  # largest sum of |w| over the nine taps of a depthwise channel of stride 1
DEPTHWISE_MAX = 48  # largest |w| there: one heavy corner tap weighs most in the transformed domain


@dataclass(frozen=True)
class LayerBound:
    """``maximum[o]``: the largest |accumulator| (in accumulator units) channel ``o`` can reach."""

    layer: str
    maximum: np.ndarray

    @property
    def worst_log2(self) -> float:
        """Logarithm, base 2, of the largest bound of all channels; 0 or more."""
        return float(np.log2(max(int(self.maximum.max()), 1)))


@dataclass(frozen=True)
class BoundReport:
    """The bounds of all layers of a network, each below `ACCUMULATOR_LIMIT`."""

    layers: tuple[LayerBound, ...]

    @property
    def worst_log2(self) -> float:
        """The largest of all layers."""
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


def is_winograd_shaped(groups: int, stride: int, kernel: int) -> bool:
    """True if runtimes may compute such a layer with Winograd kernels (dense ones are not allowed at all)."""
    return groups > 1 and stride == 1 and kernel > 1


def prove(network: IntegerNetwork) -> BoundReport:
    """Bound every accumulator of the network."""
    validate_network(network)
    report = []
    for layer in network.layers:
        bound = layer_bound(layer)
        worst = int(bound.argmax())
        if bound[worst] >= ACCUMULATOR_LIMIT:
            raise ExportError(
                f"layer {layer.name!r}, channel {worst}: the accumulator can reach {int(bound[worst])}, which float32 "
                f"does not represent exactly (limit {ACCUMULATOR_LIMIT}); lower that channel's weight scale and lower "
                "again"
            )
        if is_winograd_shaped(layer.groups, max(layer.strides), max(layer.kernel)):
            magnitude = np.abs(layer.weight.astype(np.int64))
            for what, value, limit in (("sum to", magnitude.sum((1, 2, 3)), DEPTHWISE_L1),
                                       ("reach", magnitude.max((1, 2, 3)), DEPTHWISE_MAX)):
                if value.max() > limit:
                    raise ExportError(
                        f"layer {layer.name!r}, channel {int(value.argmax())}: depthwise weights {what} "
                        f"{int(value.max())} in magnitude, up to {limit} stays exact in Winograd kernels; lower that "
                        "channel's scale"
                    )
        report.append(LayerBound(layer.name, bound))
    return BoundReport(tuple(report))
