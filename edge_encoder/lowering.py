"""Lower the trained twin to the integer network; the only place where real weights become a published encoder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import torch

from codec_contract.errors import BundleError
from edge_encoder.integer_network import INPUT, IntegerConv, IntegerNetwork, prove_bound
from edge_encoder.twin import ACTIVATION_BITS, EncoderConfig, EncoderTwin, ResidualBlock, TwinConv


def lower(twin: EncoderTwin) -> IntegerNetwork:
    """Freeze a twin into its integer network and prove its bounds."""
    config, layers = twin.config, []
    for name, source, conv, skip in _wiring(twin):
        if skip == "box":
            layers.append(box_layer(config.hr // config.lr))
        weight, bias, shift = (tensor.numpy() for tensor in conv.cpu().integers())
        layers.append(IntegerConv(
            name=name, input=source, weight=weight.astype(np.int8), bias=bias.astype(np.int32),
            shift=shift.astype(np.int32), stride=conv.stride, padding=conv.padding, groups=conv.groups, skip=skip))
    network = IntegerNetwork(config.name, config.hr, config.lr, tuple(layers))
    prove_bound(network)
    return network


@torch.no_grad()
def raise_twin(network: IntegerNetwork, config: EncoderConfig) -> EncoderTwin:
    """Convert a network to a twin that computes the same LRs, to continue training from a published encoder.

    The twin has the values rounded to int8, not those before `lower`.
    """
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
    return IntegerConv(
        name="box", input=INPUT, weight=np.ones((3, 1, factor, factor), np.int8), bias=np.zeros(3, np.int32),
        shift=np.full(3, 2 * int(math.log2(factor)), np.int32), stride=factor, groups=3)
