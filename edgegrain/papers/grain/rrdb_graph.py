"""GRAIN's float encoder as a graph, exported like the exact one, but not exact.

Its report states how many LR bytes differ between runtimes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from codec_contract.errors import ExportError
from codec_contract.quantization import HALF_RANGE
from edge_encoder.integer_network import INPUT
from edgegrain.papers.grain.rrdb_encoder import FloatEncoderConfig, RRDBEncoder, load_rrdb_encoder
from edgegrain.papers.graph_writer import GraphWriter
from export.encoder.graph import Add, EncoderGraph, Scale, rounding_nodes
from server_decoder.grain.rrdb import NEGATIVE_SLOPE, RESIDUAL_SCALE, RRDB

RANDOM_LR_SPREAD = 0.4
"""Standard deviation, in [-1, 1], of the LRs that random weights are scaled to give."""


def rrdb_graph(encoder: RRDBEncoder, hr: int) -> EncoderGraph:
    """The encoder for pictures of ``hr`` x ``hr``, with quantization and its inverse inside.

    Raises:
        ExportError: the encoder cannot halve ``hr`` often enough.
    """
    lr = hr >> encoder.config.scale
    if lr < 1 or lr << encoder.config.scale != hr:
        raise ExportError(f"{hr} cannot be halved {encoder.config.scale} times, as {encoder.config.name} does")
    writer = _Writer(NEGATIVE_SLOPE)
    writer.nodes.append(Scale("picture", INPUT, 1 / HALF_RANGE, -1.0))
    shallow = writer.conv("conv_first", "picture", encoder.conv_first)
    for name, module in encoder.body.named_modules():
        if isinstance(module, nn.Conv2d):
            shallow = writer.leaky(writer.conv(f"body.{name}", shallow, module))
    trunk = shallow
    for index, block in enumerate(encoder.RRDB_trunk):
        if isinstance(block, RRDB):
            trunk = writer.rrdb(f"RRDB_trunk.{index}", trunk, block)
    writer.nodes.append(Add("features", shallow, writer.conv("trunk_conv", trunk, encoder.trunk_conv)))
    first, _, last = encoder.out
    hidden = writer.leaky(writer.conv("out.0", "features", first))
    writer.nodes += rounding_nodes(writer.conv("out.2", hidden, last), HALF_RANGE, HALF_RANGE)
    return EncoderGraph(encoder.config.name, hr, lr, tuple(writer.nodes), exact=False)


def random_rrdb_encoder(hr: int, lr: int, seed: int = 0, config: FloatEncoderConfig | None = None) -> RRDBEncoder:
    """An encoder with random weights whose LRs have the spread of a trained one's.

    Args:
        hr, lr: side lengths; they determine the number of halvings.
        seed: of the weights.
        config: instead of the paper's, with any ``scale``.

    Raises:
        ExportError: ``hr / lr`` is not a power of two of at least 2.
    """
    scale = (hr // lr).bit_length() - 1
    if scale < 1 or lr << scale != hr:
        raise ExportError(f"the official encoder halves sides: {hr} -> {lr} is not possible")
    config = config or FloatEncoderConfig()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        encoder = RRDBEncoder(FloatEncoderConfig(config.channels, config.growth, config.blocks, scale))
        for name, parameter in encoder.named_parameters():
            if name.endswith(".weight"):
                nn.init.kaiming_normal_(parameter, a=NEGATIVE_SLOPE)
            else:
                nn.init.zeros_(parameter)
        lr_values = encoder(torch.rand(1, 3, 4 << scale, 4 << scale) * 2 - 1)
        dict(encoder.named_parameters())["out.2.weight"].mul_(RANDOM_LR_SPREAD / lr_values.std())
    return encoder.eval()


def official_graph(hr: int, lr: int, weights: Path | None, seed: int) -> EncoderGraph:
    """The graph of a checkpoint, or of random weights.

    Raises:
        ExportError: the encoder does not turn ``hr`` into ``lr``.
    """
    if weights is None:
        return rrdb_graph(random_rrdb_encoder(hr, lr, seed), hr)
    rrdb = load_rrdb_encoder(weights)
    if lr << rrdb.config.scale != hr:
        raise ExportError(f"{weights} has {rrdb.config.scale} halvings: it turns {hr} into "
                          f"{hr >> rrdb.config.scale}, not {lr}")
    return rrdb_graph(rrdb, hr)


def bundle_graph(path: Path, hr: int) -> EncoderGraph:
    """The graph of the weights in a bundle for pictures of ``hr`` x ``hr``."""
    return rrdb_graph(load_rrdb_encoder(path), hr)


class _Writer(GraphWriter):
    def rrdb(self, name: str, source: str, block: RRDB) -> str:
        x = source
        for part, dense in enumerate(block.dense_blocks(), 1):
            inner = f"{name}.RDB{part}"
            x = self.residual(inner, x, self.dense(inner, x, dense.convs()))
        return self.residual(name, source, x)

    def residual(self, name: str, source: str, branch: str) -> str:
        self.nodes.append(Scale(f"{name}.scaled", branch, RESIDUAL_SCALE))
        self.nodes.append(Add(name, f"{name}.scaled", source))
        return name
