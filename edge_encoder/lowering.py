"""Lower the trained twin to the integer network; the only place where real weights become a published encoder."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import numpy as np
import torch

from codec_contract.errors import BundleError
from edge_encoder.integer_network import INPUT, IntegerConv, IntegerNetwork, prove_bound
from edge_encoder.twin import ACTIVATION_BITS, EncoderConfig, EncoderTwin, ResidualBlock, TwinConv


def lower(twin: EncoderTwin) -> IntegerNetwork:
    """Freeze a twin into its integer network and prove_bound its bounds."""
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
    layers.append(box_layer(config.hr // config.lr))
    layers.append(_layer("head", features, twin.head, skip="box"))
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
    convs = {"stem": twin.stem, "head": twin.head}
    for name, module in twin.named_modules():
        if isinstance(module, TwinConv) and name not in convs:
            convs[_layer_name(name)] = module
    if network.architecture != config.name or set(layers) != {*convs, "box"}:
        raise BundleError(f"the encoder is {network.architecture!r}, not {config.name!r}")
    for name, conv in convs.items():
        shift = torch.from_numpy(layers[name].shift)
        weight, bias = (torch.from_numpy(array).float() for array in (layers[name].weight, layers[name].bias))
        conv.weight.copy_(torch.ldexp(weight, (conv.offset - shift).view(-1, 1, 1, 1)))
        conv.bias.copy_(torch.ldexp(bias, -shift - ACTIVATION_BITS))
    return twin


def box_network(hr: int, lr: int) -> IntegerNetwork:
    """The exact box mean alone, rounded to levels; ``hr`` is ``lr`` times a power of two."""
    return IntegerNetwork(f"box-{hr}-{lr}", hr, lr, (box_layer(hr // lr),))


def box_layer(factor: int) -> IntegerConv:
    """Correctly rounded box mean as a depthwise layer of ones: the sum of factor^2 pixels, shifted right."""
    return IntegerConv(
        name="box", input=INPUT, weight=np.ones((3, 1, factor, factor), np.int8), bias=np.zeros(3, np.int32),
        shift=np.full(3, 2 * int(math.log2(factor)), np.int32), stride=factor, groups=3)


def _layer_name(module: str) -> str:
    """``stages.1.0.expand`` -> ``stage1.block0.expand``, ``downs.0`` -> ``down1``."""
    parts = module.split(".")
    if parts[0] == "downs":
        return f"down{int(parts[1]) + 1}"
    return f"stage{parts[1]}.block{parts[2]}.{parts[3]}"


def _layer(name: str, source: str, conv: TwinConv, skip: str | None = None) -> IntegerConv:
    weight, bias, shift = (tensor.numpy() for tensor in conv.cpu().integers())
    return IntegerConv(
        name=name, input=source, weight=weight.astype(np.int8), bias=bias.astype(np.int32),
        shift=shift.astype(np.int32), stride=conv.stride, padding=conv.padding, groups=conv.groups, skip=skip)
