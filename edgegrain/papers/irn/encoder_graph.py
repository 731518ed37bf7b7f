"""IRN's forward pass as an encoder graph; like GRAIN's float encoder it is not exact.

The phone sends y alone. The last coupling's change of the high bands affects only z, so it is left out. There is no
integer form with couplings that round; experiments/2026-11.md says why.
"""

from __future__ import annotations

import numpy as np

from codec_contract.errors import ExportError
from edge_encoder.integer_network import INPUT
from edgegrain.papers.graph_writer import GraphWriter
from edgegrain.papers.irn.network import (
    FROM_YCBCR,
    IRN,
    NEGATIVE_SLOPE,
    RGB,
    TO_YCBCR,
    CellTransform,
    DownscalingModule,
    InvBlock,
    TriInvBlock,
)
from export.encoder.graph import Add, Conv, EncoderGraph, Exp, Multiply, Scale, Sigmoid, rounding_nodes

LEVELS = 255
# The cell (a, b; c, d) -> mean, horizontal, vertical and diagonal difference, as in `HaarTransform`.
_HAAR = np.array([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]], np.float32) / 4


def irn_graph(irn: IRN, hr: int) -> EncoderGraph:
    """The encoder for tiles of ``hr`` x ``hr``, with quantization and its inverse inside.

    Raises:
        ExportError: ``hr`` is no multiple of the factor.
    """
    factor = irn.config.factor
    if hr % factor:
        raise ExportError(f"tiles of {hr} cannot be downscaled by {factor}")
    writer = _Writer(NEGATIVE_SLOPE)
    writer.nodes.append(Scale("picture", INPUT, 1 / LEVELS))
    low, high = "picture", ""
    for depth, stage in enumerate(irn.stages):
        if not isinstance(stage, DownscalingModule):
            raise ExportError(f"stage {depth} is no downscaling module")
        cells = _HAAR
        if isinstance(stage.transform, CellTransform):
            side = stage.transform.scale
            cells = stage.transform.matrix.detach().numpy().reshape(-1, side, side)
        low, high = writer.transform(f"stages.{depth}.transform", low, high, RGB * irn.config.scale**(2 * depth), cells)
        parts: tuple[str, ...] = writer.to_ycbcr(f"stages.{depth}", low) if stage.tri else (low,)
        for index, block in enumerate(stage.blocks):
            if not isinstance(block, InvBlock):
                raise ExportError(f"stage {depth} holds something else than InvBlocks")
            last = depth == len(irn.stages) - 1 and index == len(stage.blocks) - 1
            where = f"stages.{depth}.blocks.{index}"
            parts = writer.low(where, parts, high, block)
            if not last:
                high = writer.high(where, parts, high, block)
        low = writer.from_ycbcr(f"stages.{depth}", parts) if stage.tri else parts[0]
    writer.nodes += rounding_nodes(low, LEVELS)
    return EncoderGraph(_architecture(irn), hr, hr // factor, tuple(writer.nodes), exact=False)


def _architecture(irn: IRN) -> str:
    """The name of the network's shape, such as ``irn-x4-b8-8-g32``."""
    config = irn.config
    return f"irn-x{config.factor}-b{'-'.join(map(str, config.blocks))}-g{config.growth}{'-tri' if config.tri else ''}"


class _Writer(GraphWriter):
    def transform(self, name: str, low: str, high: str, channels: int, cells: np.ndarray) -> tuple[str, str]:
        """The transform of low and high bands together, as convolutions without overlap: one for the first of the low
        bands, one for all the rest.

        Args:
            name: of the nodes.
            low, high: their sources; ``high`` is "" for a picture.
            channels: of both.
            cells: every band's weights of a cell, ``[s^2, s, s]``.
        """
        count, side, _ = cells.shape
        bands = np.zeros((count, channels, channels, side, side), np.float32)  # [band, channel, input, row, column]
        for channel in range(channels):
            bands[:, channel, channel] = cells
        weight = bands.reshape(count * channels, channels, side, side)
        source = self.concat(f"{name}.in", [low, high] if high else [low])
        self.nodes.append(Conv(f"{name}.low", low, weight[:RGB, :RGB], np.zeros(RGB, np.float32), side))
        self.nodes.append(Conv(f"{name}.high", source, weight[RGB:], np.zeros(len(weight) - RGB, np.float32), side))
        return f"{name}.low", f"{name}.high"

    def to_ycbcr(self, name: str, low: str) -> tuple[str, str]:
        """Luminance and chrominance of the low band."""
        for part, rows in (("y", TO_YCBCR[:1]), ("c", TO_YCBCR[1:])):
            weight = rows.numpy()[:, :, None, None]
            self.nodes.append(Conv(f"{name}.{part}", low, weight, np.zeros(len(rows), np.float32)))
        return f"{name}.y", f"{name}.c"

    def from_ycbcr(self, name: str, parts: tuple[str, ...]) -> str:
        source = self.concat(f"{name}.ycbcr", list(parts))
        self.nodes.append(Conv(f"{name}.rgb", source, FROM_YCBCR.numpy()[:, :, None, None], np.zeros(RGB, np.float32)))
        return f"{name}.rgb"

    def low(self, name: str, parts: tuple[str, ...], h2: str, block: InvBlock) -> tuple[str, ...]:
        """The low band's parts after a block: the band itself, or its luminance and chrominance."""
        if not isinstance(block, TriInvBlock):
            self.nodes.append(Add(f"{name}.h1", parts[0], self.dense(f"{name}.phi", h2, block.phi.convs())))
            return (f"{name}.h1",)
        y, c = parts
        change = self.dense(f"{name}.chrominance", self.concat(f"{name}.y_h2", [y, h2]), block.chrominance.convs())
        self.nodes.append(Add(f"{name}.c", c, change))
        change = self.dense(f"{name}.luminance", self.concat(f"{name}.c_h2", [f"{name}.c", h2]),
                            block.luminance.convs())
        self.nodes.append(Add(f"{name}.y", y, change))
        return f"{name}.y", f"{name}.c"

    def high(self, name: str, parts: tuple[str, ...], h2: str, block: InvBlock) -> str:
        """The high bands after a block, whose new low parts are given."""
        h1 = self.concat(f"{name}.low", list(parts))
        rho = self.dense(f"{name}.rho", h1, block.rho.convs())
        eta = self.dense(f"{name}.eta", h1, block.eta.convs())
        self.nodes += [
            Sigmoid(f"{name}.sigmoid", rho),
            Scale(f"{name}.exponent", f"{name}.sigmoid", 2 * block.clamp, -block.clamp),
            Exp(f"{name}.scale", f"{name}.exponent"),
            Multiply(f"{name}.scaled", h2, f"{name}.scale"),
            Add(f"{name}.h2", f"{name}.scaled", eta)]
        return f"{name}.h2"
