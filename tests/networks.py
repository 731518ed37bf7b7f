"""Random integer encoders made of the layer kinds the real one has, for tests that need no training."""

from dataclasses import replace
from typing import Any

import numpy as np

from edge_encoder import integer_network as integer
from edge_encoder.integer_network import INPUT, IntegerConv, IntegerNetwork, accumulate
from edge_encoder.twin import EncoderConfig, box_layer
from export.encoder.graph import Conv, EncoderGraph, Node, exact_graph

SMALL = EncoderConfig(hr=64, lr=16, patch=2, channels=(8, 16), blocks=(1, 1))


def random_network(hr: int = 64, lr: int = 16, seed: int = 0, config: EncoderConfig | None = None) -> IntegerNetwork:
    """An encoder of random int8 weights whose activations fill 0...255; without ``config`` of two narrow stages."""
    config = config or EncoderConfig(hr, lr, patch=hr // lr // 2, channels=SMALL.channels, blocks=SMALL.blocks)
    builder = _Builder(config, np.random.default_rng(seed))
    source = builder.add("stem", INPUT, 3, config.channels[0], kernel=config.patch, stride=config.patch)
    for stage, (width, blocks) in enumerate(zip(config.channels, config.blocks, strict=True)):
        if stage:
            before, shape = config.channels[stage - 1], {"kernel": 3, "stride": 2, "padding": (0, 0, 1, 1)}
            source = builder.add(f"down{stage}", source, before, width, **shape)
        for index in range(blocks):
            name, hidden = f"stage{stage}.block{index}", width * config.expansion
            shape = {"kernel": 3, "padding": (1, 1, 1, 1), "groups": width}
            depthwise = builder.add(f"{name}.depthwise", source, width, width, **shape)
            expand = builder.add(f"{name}.expand", depthwise, width, hidden)
            source = builder.add(f"{name}.project", expand, hidden, width, skip=source)
    builder.layers.append(box_layer(config.hr // config.lr))
    builder.run(builder.layers[-1])
    builder.add("head", source, config.channels[-1], 3, skip="box")
    network = IntegerNetwork(f"random-{config.name}", config.hr, config.lr, tuple(builder.layers))
    integer.prove_bound(network)
    return network


def without_guard(network: IntegerNetwork) -> EncoderGraph:
    """The encoder's graph without the guard half in the biases."""
    graph = exact_graph(network)
    halves = {f"{layer.name}.conv": np.float32(0.5) * layer.scale() for layer in network.layers}

    def lowered(node: Node) -> Node:
        return replace(node, bias=node.bias - halves[node.name]) if isinstance(node, Conv) else node

    return replace(graph, nodes=tuple(map(lowered, graph.nodes)))


class _Builder:
    """Adds layers one by one and runs each on two random pictures, so that shifts and biases suit its input."""

    def __init__(self, config: EncoderConfig, rng: np.random.Generator) -> None:
        self.rng = rng
        coarse = rng.integers(0, 256, (2, 16, 16, 3))
        picture = np.kron(coarse, np.ones((1, config.hr // 16, config.hr // 16, 1), np.int64))
        self.tensors = {INPUT: np.clip(picture + rng.integers(-20, 21, picture.shape), 0, 255)}
        self.layers: list[IntegerConv] = []

    def add(self, name: str, source: str, inputs: int, outputs: int, *, kernel: int = 1, **fields: Any) -> str:
        groups = fields.get("groups", 1)
        weight = self.rng.normal(0, 40, (outputs, inputs // groups, kernel, kernel)).round().clip(-127, 127)
        if integer.is_winograd_shaped(groups, fields.get("stride", 1), kernel):
            l1 = np.abs(weight).sum((1, 2, 3), keepdims=True)
            peak = np.abs(weight).max((1, 2, 3), keepdims=True)
            largest = np.minimum(integer.DEPTHWISE_L1 / l1, integer.DEPTHWISE_MAX / peak)
            weight = np.trunc(weight * np.minimum(1, largest))
        zeros, ones = np.zeros(outputs, np.int32), np.ones(outputs, np.int32)
        layer = IntegerConv(name, source, weight.astype(np.int8), zeros, ones, **fields)
        acc = accumulate(layer, self.tensors[source])
        spread = acc.std((0, 1, 2)) + 1
        target = 12 if layer.skip else 60  # levels: a correction is small beside what it is added to
        shift = np.clip(np.round(np.log2(spread / target)), 1, 15).astype(np.int64)
        centre = 0 if layer.skip else 70
        bias = np.round((centre << shift) - acc.mean((0, 1, 2))).astype(np.int64)
        layer = replace(layer, bias=bias.astype(np.int32), shift=shift.astype(np.int32))
        too_large = integer.layer_bound(layer) >= integer.ACCUMULATOR_LIMIT
        if too_large.any():  # halve such channels' weights: a random one may exceed what training would keep
            halved = np.where(too_large[:, None, None, None], layer.weight // 2, layer.weight)
            bias = np.where(too_large, bias // 2, bias).astype(np.int32)
            shift = np.where(too_large, np.maximum(shift - 1, 1), shift).astype(np.int32)
            layer = replace(layer, weight=halved.astype(np.int8), bias=bias, shift=shift)
        self.layers.append(layer)
        self.run(layer)
        return name

    def run(self, layer: IntegerConv) -> None:
        value = integer.unclamped(layer, accumulate(layer, self.tensors[layer.input]), self.tensors)
        self.tensors[layer.name] = np.clip(value, 0, 255)
