"""An ordinary float encoder of the exact one's shape, for comparison in the report."""

from __future__ import annotations

import numpy as np

from edge_encoder.integer_network import INPUT, IntegerNetwork
from export.encoder.graph import Add, Conv, EncoderGraph, LeakyRelu, Node, rounding_nodes

WEIGHT_SPREAD = 0.1
"""Relative deviation of the contrast's real weights from the integers that they replace."""


def float_contrast(network: IntegerNetwork, seed: int = 0) -> EncoderGraph:
    """The same layers as ordinary floats: real weights, ReLU, no rounding before the LR.

    Weights are the integer encoder's, each scaled by a random factor in 0.9...1.1, so that activations have the
    size they have in the exact encoder, as training without quantization could have produced.
    """
    rng = np.random.default_rng(seed)
    nodes: list[Node] = []
    outputs = {INPUT: INPUT}
    for index, layer in enumerate(network.layers):
        weight = layer.exported_weight()
        bias = layer.bias * layer.scale()
        if (layer.weight != 1).any():  # the box mean stays a mean
            weight = weight * rng.uniform(1 - WEIGHT_SPREAD, 1 + WEIGHT_SPREAD, weight.shape)
            bias = bias * rng.uniform(1 - WEIGHT_SPREAD, 1 + WEIGHT_SPREAD, bias.shape)
        nodes.append(Conv(f"{layer.name}.conv", outputs[layer.input], weight.astype(np.float32),
                          bias.astype(np.float32), layer.stride, layer.padding, layer.groups))
        if layer.skip:
            nodes.append(Add(f"{layer.name}.add", nodes[-1].name, outputs[layer.skip]))
        if index < len(network.layers) - 1:
            nodes.append(LeakyRelu(layer.name, nodes[-1].name))
        outputs[layer.name] = nodes[-1].name
    nodes += rounding_nodes(nodes[-1].name)
    return EncoderGraph(f"float-{network.architecture}", network.hr, network.lr, tuple(nodes), exact=False)
