"""Bundles of IRN: phones downscale tiles with the forward pass, servers upscale them with the inverse.

Both halves come from the same file, so an LR contract has only one decoder; other weights make another bundle. Encoder
and decoder are compared with torch before the bundle is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch

from codec_contract.bundle.manifest import IRN_WEIGHTS
from codec_contract.errors import BundleError, ExportError
from codec_contract.pixels import network_input, pictures_of
from edge_encoder.integer_network import INPUT
from edgegrain.papers.graph_writer import GraphWriter
from edgegrain.papers.irn.network import (
    FROM_YCBCR,
    IRN,
    KIND,
    NEGATIVE_SLOPE,
    RGB,
    TO_YCBCR,
    CellTransform,
    Downscaler,
    DownscalingModule,
    InvBlock,
    IRNConfig,
    TriInvBlock,
    Upscaler,
)
from export.bundle.card import PHOTOGRAPHS, bundle_card
from export.bundle.writer import (
    COMPARED,
    FIRST_VERSION,
    BundleParts,
    WrittenBundle,
    compare_encoder,
    float_encoder,
    manifest_fields,
    refuse_to_replace,
    require_bundle_formats,
    tables_in,
    write_bundle,
)
from export.decoder.export import compare_decoder
from export.decoder.graph import add_optional_input, decoder_graph, round_weights, store_half
from export.encoder.graph import Add, Conv, EncoderGraph, Exp, Multiply, Scale, Sigmoid, rounding_nodes
from export.encoder.torch_graph import torch_encoder
from export.proof.proof_inputs import smooth_pictures
from server_decoder.decoder_session import LATENT
from server_decoder.weight_file import (
    WeightKind,
    described_network,
    fill_network,
    read_config,
    read_record,
    save_network,
    state_digest,
)

_KIND = WeightKind("IRN", "irn", IRNConfig.from_dict)
_TRAINING = "training"
LEVELS = 255


def save_irn(model: IRN, path: str | Path, *, training: Mapping[str, Any] | None = None,
             dtype: torch.dtype = torch.float16, force: bool = False) -> Path:
    """Write a network; ``training``, plain JSON values, is read back by `read_training`."""
    return save_network(path, _KIND, model.config.as_dict(), model.state_dict(), dtype=dtype, force=force,
                        records={_TRAINING: dict(training or {})})


def load_irn(path: str | Path) -> IRN:
    """The network that `save_irn` wrote, its weights in float32."""
    config = read_config(path, _KIND)
    model = described_network(path, lambda: IRN(config))
    fill_network(model, path, _KIND)
    return model.eval()


def read_training(path: str | Path) -> dict[str, Any]:
    """The training record in a file's header; empty if there is none."""
    return dict(read_record(path, _KIND, _TRAINING, {}))


def irn_digest(model: IRN) -> bytes:
    """SHA-256 over configuration and weights, 32 bytes: it identifies the encoder in an LR contract."""
    return state_digest(model.state_dict(), json.dumps(model.config.as_dict(), sort_keys=True))


TILE = 256
"""Side of a tile, in pixels."""
TILE_OVERLAP = 64
"""Least overlap of tiles, in pixels."""
IRN_FORMATS = ("tflite", "onnx")


def upscaler_graph(irn: IRN, lr: int) -> onnx.ModelProto:
    """The decoder for tiles: ``lr`` float32 ``[B, 3, lr, lr]`` and, optionally, ``z`` float32
    ``[B, z_channels, lr, lr]`` -> ``hr`` float32 ``[B, 3, S, S]``. Without ``z`` it takes zero.
    """
    graph = store_half(decoder_graph(Upscaler(irn), lr))
    channels = irn.config.z_channels
    add_optional_input(graph, LATENT, ["z_batch", channels, "z_height", "z_width"],
                       np.zeros((1, channels, 1, 1), np.float32))
    return graph


def bundle_graph(path: Path, hr: int) -> EncoderGraph:
    """The encoder of the weights in a bundle, for tiles of ``hr`` x ``hr``."""
    return irn_graph(load_irn(path), hr)


def write_irn_bundle(
    weights: Path, folder: Path, *, pictures: Sequence[np.ndarray] = (), version: str = FIRST_VERSION,
    formats: Sequence[str] = IRN_FORMATS, licence: Mapping[str, str] | None = None, tile: int | None = None,
    overlap: int | None = None, plus: bool | None = None, force: bool = False,
) -> WrittenBundle:
    """Write the bundle of an ``irn.safetensors``, or of a folder that holds one and perhaps a ``coder.json``.

    Args:
        weights: the file or folder.
        folder: of the bundle; its name becomes the id.
        pictures: uint8 ``[tile, tile, 3]``, to compare on; by default `COMPARED` generated ones.
        version: of the bundle.
        formats: of the encoder.
        licence: of weights and data, by default `PHOTOGRAPHS`.
        tile, overlap: in pixels, multiples of the factor; None for the largest up to `TILE` and `TILE_OVERLAP`.
        plus: the weights are those of IRN+, whose pictures are marked as generated; None for what the training record
            in the file says.
        force: replace a bundle that exists.
    """
    refuse_to_replace(folder, force, version=version)
    require_bundle_formats(formats)
    path = weights / IRN_WEIGHTS if weights.is_dir() else weights
    irn, training = load_irn(path), read_training(path)
    round_weights(irn, compact=False)  # float32 files too: both halves use what the decoder's file stores
    factor = irn.config.factor
    tile = TILE // factor * factor if tile is None else tile
    overlap = TILE_OVERLAP // factor * factor if overlap is None else overlap
    if tile % factor or overlap % factor:
        raise BundleError(f"tiles of {tile} that overlap by {overlap} are no multiples of the factor {factor}")
    graph = irn_graph(irn, tile)
    compared = np.stack(pictures or smooth_pictures(COMPARED, tile))
    encode = torch_encoder(graph, onednn=True)
    flips = compare_encoder(encode, compared, irn_lrs(irn, compared))
    model = bytes(upscaler_graph(irn, tile // factor).SerializeToString())
    comparison = compare_decoder(model, Upscaler(irn).eval(), encode(compared))

    def write_weights(staging: Path) -> None:
        save_irn(irn, staging / IRN_WEIGHTS, training=training)

    encoder = float_encoder(graph, irn_digest(irn), write_weights, {"pad": "edge", "tile_overlap": overlap // factor})
    if plus is None:
        config = training.get("config") or {}
        plus = bool(config.get("discriminator") or config.get("judge"))  # the latter until edgegrain 0.5
    licence = dict(licence or PHOTOGRAPHS)
    fields = manifest_fields(
        folder.name, "irn_plus" if plus else KIND, architecture=irn.config.as_dict(), training=training,
        licence=licence, domain="photographs", version=version, controls=("seed",),
        inputs={"z": {"input": LATENT, "channels": irn.config.z_channels, "std": irn.config.z_std}})
    summary = f"Photographs of any size, {factor} times smaller on each side and back, by invertible rescaling (IRN)."
    card = bundle_card(folder.name, summary, training, licence, [
        "The encoder is a float network: an LR byte may differ between runtimes; `edgegrain export encoder` counts "
        "such bytes. The decoder gets the LR that was sent, so nothing depends on them."])
    parts = BundleParts(encoder, model, tables_in(path.parent), fields, card, formats)
    return WrittenBundle(write_bundle(folder, parts, force=force), comparison, flips)


@torch.no_grad()
def irn_lrs(irn: IRN, pictures: np.ndarray) -> np.ndarray:
    """The network's own LRs: uint8 ``[N, S, S, 3]`` -> uint8 ``[N, s, s, 3]``."""
    return pictures_of(Downscaler(irn)(torch.from_numpy(network_input(pictures))).numpy())


# The cell (a, b; c, d) -> mean, horizontal, vertical and diagonal difference, as in `HaarTransform`.
_HAAR = np.array([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]], np.float32) / 4


def irn_graph(irn: IRN, hr: int) -> EncoderGraph:
    """The encoder for tiles of ``hr`` x ``hr``, with quantization and its inverse inside.

    It gives y alone: the last coupling's change of the high bands affects only z, so it is left out. There is no
    integer form with couplings that round; experiments/2026-11.md says why.
    """
    factor = irn.config.factor
    if hr % factor:
        raise ExportError(f"tiles of {hr} cannot be downscaled by {factor}")
    writer = _Writer(NEGATIVE_SLOPE)
    writer.nodes.append(Scale("picture", INPUT, 1 / LEVELS))
    low, high = "picture", ""
    for depth, stage in enumerate(cast(Sequence[DownscalingModule], irn.stages)):
        cells = _HAAR
        if isinstance(stage.transform, CellTransform):
            side = stage.transform.scale
            cells = stage.transform.matrix.detach().numpy().reshape(-1, side, side)
        low, high = writer.transform(f"stages.{depth}.transform", low, high, RGB * irn.config.scale**(2 * depth), cells)
        parts: tuple[str, ...] = writer.to_ycbcr(f"stages.{depth}", low) if stage.tri else (low,)
        for index, block in enumerate(cast(Sequence[InvBlock], stage.blocks)):
            last = depth == len(irn.stages) - 1 and index == len(stage.blocks) - 1
            where = f"stages.{depth}.blocks.{index}"
            parts = writer.low(where, parts, high, block)
            if not last:
                high = writer.high(where, parts, high, block)
        low = writer.from_ycbcr(f"stages.{depth}", parts) if stage.tri else parts[0]
    writer.nodes += rounding_nodes(low, LEVELS)
    config = irn.config
    name = f"irn-x{factor}-b{'-'.join(map(str, config.blocks))}-g{config.growth}{'-tri' if config.tri else ''}"
    return EncoderGraph(name, hr, hr // factor, tuple(writer.nodes), exact=False)


class _Writer(GraphWriter):
    def transform(self, name: str, low: str, high: str, channels: int, cells: np.ndarray) -> tuple[str, str]:
        """The transform of low and high bands together, as convolutions without overlap: one for the first of the low
        bands, one for all the rest. ``high`` is "" for a picture; ``cells``: every band's weights, ``[s^2, s, s]``."""
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
