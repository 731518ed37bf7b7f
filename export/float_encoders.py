"""Float encoders as graphs: GRAIN's official shape, and an ordinary float encoder for contrast.

Neither is exact. Their reports state how many LR bytes flip between runtimes instead of claiming that none does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_encoder.integer_network import INPUT, IntegerNetwork
from edgegrain.contract.errors import ExportError
from edgegrain.contract.quantization import HALF_RANGE
from export.encoder_graph import Add, Clip, Concat, Conv, EncoderGraph, Floor, LeakyRelu, Node, Scale

if TYPE_CHECKING:
    from torch import nn

    from edge_encoder.float_encoder import ResidualDenseBlock, RRDBEncoder

WEIGHT_SPREAD = 0.1
"""How far, relatively, the contrast's real weights stray from the integers they replace."""


def float_contrast(network: IntegerNetwork, seed: int = 0) -> EncoderGraph:
    """The same layers as ordinary floats: real weights, ReLU, no rounding before the LR.

    Weights are the integer encoder's, each scaled by a random factor in 0.9...1.1, so that activations have the
    size they have in the exact encoder: what training without quantization could have ended with.
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
    nodes += _rounded(nodes[-1].name, 1.0, 0.0)
    return EncoderGraph(f"float-{network.architecture}", network.hr, network.lr, tuple(nodes), exact=False)


def rrdb_graph(encoder: RRDBEncoder, hr: int) -> EncoderGraph:
    """GRAIN's float encoder for pictures of ``hr`` x ``hr``, with quantization and its inverse inside."""
    nodes: list[Node] = [Scale("picture", INPUT, 1 / HALF_RANGE, -1.0)]

    def conv(name: str, source: str, module: nn.Module, *, leaky: bool = False) -> str:
        (stride, _), (padding, _) = module.stride, module.padding  # type: ignore[misc]
        nodes.append(Conv(name, source, module.weight.detach().numpy(), module.bias.detach().numpy(), stride,
                          (padding,) * 4))
        if leaky:
            nodes.append(LeakyRelu(f"{name}.leaky", name, _leaky_slope()))
        return nodes[-1].name

    def dense_block(name: str, source: str, block: ResidualDenseBlock) -> str:
        features = [source]
        *inner, last = block.convs()
        for index, module in enumerate(inner, 1):
            features.append(conv(f"{name}.conv{index}", gathered(f"{name}.in{index}", features), module, leaky=True))
        return residual(name, source, conv(f"{name}.conv5", gathered(f"{name}.in5", features), last))

    def gathered(name: str, features: list[str]) -> str:
        if len(features) == 1:
            return features[0]
        nodes.append(Concat(name, tuple(features)))
        return name

    def residual(name: str, source: str, branch: str) -> str:
        nodes.append(Scale(f"{name}.scaled", branch, _residual_scale()))
        nodes.append(Add(name, f"{name}.scaled", source))
        return name

    shallow = conv("conv_first", "picture", encoder.conv_first)
    for index, stage in enumerate(encoder.body):
        shallow = conv(f"body.{index}", shallow, stage[0], leaky=True)  # type: ignore[index]
    trunk = shallow
    for index, block in enumerate(encoder.RRDB_trunk):
        name, source = f"RRDB_trunk.{index}", trunk
        for part, dense in enumerate(block.dense_blocks(), 1):  # type: ignore[operator]
            trunk = dense_block(f"{name}.RDB{part}", trunk, dense)
        trunk = residual(name, source, trunk)
    nodes.append(Add("features", shallow, conv("trunk_conv", trunk, encoder.trunk_conv)))
    hidden = conv("out.0", "features", encoder.out[0], leaky=True)
    nodes += _rounded(conv("out.2", hidden, encoder.out[2]), HALF_RANGE, HALF_RANGE)
    return EncoderGraph(encoder.config.name, hr, hr >> encoder.config.scale, tuple(nodes), exact=False)


def random_rrdb_encoder(hr: int, lr: int, seed: int = 0) -> RRDBEncoder:
    """An encoder of the official shape with random weights whose LRs fill the range as a trained one's do.

    Raises:
        ExportError: ``hr / lr`` is not a power of two of at least 2.
    """
    import torch
    from torch import nn

    from edge_encoder.float_encoder import LEAKY_SLOPE, FloatEncoderConfig, RRDBEncoder

    scale = (hr // lr).bit_length() - 1
    if scale < 1 or lr << scale != hr:
        raise ExportError(f"the official encoder halves sides: {hr} -> {lr} is not possible")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        encoder = RRDBEncoder(FloatEncoderConfig(scale=scale))
        for module in encoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
                nn.init.zeros_(module.bias)
        lr_values = encoder(torch.rand(1, 3, 4 << scale, 4 << scale) * 2 - 1)
        encoder.out[2].weight *= 0.4 / lr_values.std()  # type: ignore[operator]
    return encoder.eval()


def _rounded(source: str, factor: float, offset: float) -> list[Node]:
    """floor(value * factor + offset + 1/2), limited to 0...255: `contract.quantization.quantize` in graph form."""
    return [Scale("levels", source, factor, offset + 0.5), Floor("rounded", "levels"), Clip("quantized", "rounded")]


def _leaky_slope() -> float:
    from edge_encoder.float_encoder import LEAKY_SLOPE

    return LEAKY_SLOPE


def _residual_scale() -> float:
    from edge_encoder.float_encoder import RESIDUAL_SCALE

    return RESIDUAL_SCALE
