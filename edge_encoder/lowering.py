"""From the trained twin to the integers: the only place where real weights become the published encoder."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import numpy as np

from edge_encoder.architectures import EncoderConfig
from edge_encoder.bounds import prove
from edge_encoder.integer_network import INPUT, IntegerConv, IntegerNetwork
from edge_encoder.twin import EncoderTwin, ResidualBlock, TwinConv


def lower(twin: EncoderTwin) -> IntegerNetwork:
    """Freeze a twin into its integer network and prove its bounds.

    Raises:
        ExportError: a channel's weights are too large for any scale that keeps its accumulator exact.
    """
    config = twin.config
    layers = [_layer("stem", INPUT, twin.stem)]
    for stage, blocks in enumerate(twin.stages):
        if stage:
            layers.append(_layer(f"down{stage}", layers[-1].name, cast(TwinConv, twin.downs[stage - 1])))
        for index, block in enumerate(cast(Iterable[ResidualBlock], blocks.children())):
            name, source = f"stage{stage}.block{index}", layers[-1].name
            layers.append(_layer(f"{name}.depthwise", source, block.depthwise))
            layers.append(_layer(f"{name}.expand", layers[-1].name, block.expand))
            layers.append(_layer(f"{name}.project", layers[-1].name, block.project, skip=source))
    features = layers[-1].name
    layers.append(box_layer(config))
    layers.append(_layer("head", features, twin.head, skip="box"))
    network = IntegerNetwork(config.name, config.hr, config.lr, tuple(layers))
    prove(network)
    return network


def box_network(config: EncoderConfig) -> IntegerNetwork:
    """The network of a zero correction: plain exact area downscaling."""
    return IntegerNetwork(f"box-{config.hr}-{config.lr}", config.hr, config.lr, (box_layer(config),))


def box_layer(config: EncoderConfig) -> IntegerConv:
    """Exactly rounded box mean as a depthwise layer of ones: the sum of factor^2 pixels, shifted right."""
    factor = config.hr // config.lr
    return IntegerConv(
        name="box", input=INPUT, weight=np.ones((3, 1, factor, factor), np.int8), bias=np.zeros(3, np.int32),
        shift=np.full(3, 2 * int(math.log2(factor)), np.int32), stride=factor, groups=3)


def _layer(name: str, source: str, conv: TwinConv, skip: str | None = None) -> IntegerConv:
    weight, bias, shift = (tensor.numpy() for tensor in conv.cpu().integers())
    return IntegerConv(
        name=name, input=source, weight=weight.astype(np.int8), bias=bias.astype(np.int32),
        shift=shift.astype(np.int32), stride=conv.stride, padding=conv.padding, groups=conv.groups, skip=skip)
