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
import torch

from codec_contract.bundle.manifest import IRN_WEIGHTS
from codec_contract.errors import ExportError
from codec_contract.pixels import network_input, pictures_of
from edge_encoder.integer_network import INPUT
from edgegrain.papers.bundle_parts import GraphWriter, compare_encoder, float_encoder, state_digest, write_compared
from edgegrain.papers.irn.network import IRN, NEGATIVE_SLOPE, RGB, DownscalingModule, InvBlock, IRNConfig, Upscaler
from export.bundle import writer
from export.decoder.graph import add_optional_input, decoder_graph, round_weights, store_half
from export.encoder.graph import Add, Conv, EncoderGraph, Exp, Multiply, Scale, Sigmoid, rounding_nodes
from export.encoder.torch_graph import torch_encoder
from export.proof.inputs import smooth_pictures
from server_decoder import weight_file
from server_decoder.decoder_session import LATENT

TILE, TILE_OVERLAP = 256, 64  # largest side and least overlap of tiles, in pixels
PHOTOGRAPHS = {
    "weights": "Research only, because of the data; the code is Apache-2.0.",
    "data": "BSDS500, training and validation pictures: research use.",
}
"""Licence of edgegrain's own weights."""
_KIND = weight_file.WeightKind("IRN", "irn", IRNConfig.from_dict)


def save_irn(model: IRN, path: Path, training: Mapping[str, Any], *, force: bool = False) -> Path:
    """Write a network; ``training``, plain JSON values, is read back by `read_training`."""
    config, records = model.config.as_dict(), {"training": dict(training)}
    return weight_file.save_network(path, _KIND, config, model.state_dict(), records=records, force=force)


def load_irn(path: str | Path) -> IRN:
    """The network that `save_irn` wrote, its weights in float32."""
    config = weight_file.read_config(path, _KIND)
    model = weight_file.described_network(path, lambda: IRN(config))
    weight_file.fill_network(model, path, _KIND)
    return model.eval()


def read_training(path: str | Path) -> dict[str, Any]:
    """The training record in a file's header; empty if there is none."""
    return dict(weight_file.read_record(path, _KIND, "training", {}))


def irn_digest(model: IRN) -> bytes:
    """SHA-256 over configuration and weights, 32 bytes: it identifies the encoder in an LR contract."""
    return state_digest(model.state_dict(), json.dumps(model.config.as_dict(), sort_keys=True))


def write_irn_bundle(
    weights: Path,
    folder: Path,
    *,
    version: str = writer.FIRST_VERSION,
    formats: Sequence[str] = ("tflite", "onnx"),
    licence: Mapping[str, str] | None = None,
    force: bool = False,
) -> writer.WrittenBundle:
    """Write the bundle of an ``irn.safetensors``, with the tables of a ``coder.json`` next to it."""
    writer.refuse_to_replace(folder, force, version=version)
    writer.require_bundle_formats(formats)
    training = read_training(weights)
    plus = bool((training.get("config") or {}).get("discriminator"))
    fields = {"training": training, "licence": licence or PHOTOGRAPHS, "version": version}
    tables = writer.tables_in(weights.parent)
    return write_bundle_of(load_irn(weights), folder, plus, tables=tables, formats=formats, force=force, **fields)


def write_bundle_of(irn: IRN, folder: Path, plus: bool, **described: Any) -> writer.WrittenBundle:
    """Write the bundle of a network, whose weights are rounded. ``plus``: IRN+; ``described``: see `write_compared`."""
    round_weights(irn, compact=False)  # both halves use what the decoder's file stores
    factor, channels = irn.config.factor, irn.config.z_channels
    lr = TILE // factor
    graph, upscaler = irn_graph(irn, lr * factor), Upscaler(irn).eval()
    model, z = store_half(decoder_graph(upscaler, lr)), np.zeros((1, channels, 1, 1), np.float32)
    add_optional_input(model, LATENT, ["z_batch", channels, "z_height", "z_width"], z)
    compared = np.stack(smooth_pictures(writer.COMPARED, lr * factor))
    encode = torch_encoder(graph, onednn=True)

    def write_weights(staging: Path) -> None:
        save_irn(irn, staging / IRN_WEIGHTS, described["training"])

    preprocessing = {"pad": "edge", "tile_overlap": TILE_OVERLAP // factor}
    return write_compared(
        folder,
        "irn_plus" if plus else "irn",
        float_encoder(graph, irn_digest(irn), write_weights, preprocessing),
        upscaler,
        bytes(model.SerializeToString()),
        encode(compared),
        f"Photographs of any size, {factor} times smaller on each side and back, by invertible rescaling (IRN).",
        [
            "The encoder is a float network: an LR byte may differ between runtimes; `edgegrain export encoder` "
            "counts such bytes. The decoder gets the LR that was sent, so nothing depends on them."
        ],
        encoder_flips=compare_encoder(encode, compared, irn_lrs(irn, compared)),
        architecture=irn.config.as_dict(),
        domain="photographs",
        controls=("seed",),
        inputs={"z": {"input": LATENT, "channels": channels, "std": irn.config.z_std}},
        **described,
    )


@torch.no_grad()
def irn_lrs(irn: IRN, pictures: np.ndarray) -> np.ndarray:
    """The network's own LRs: uint8 ``[N, S, S, 3]`` -> uint8 ``[N, s, s, 3]``."""
    y, _ = irn((torch.from_numpy(network_input(pictures)) + 1) / 2)
    return pictures_of((y * 2 - 1).numpy())


def bundle_graph(path: Path, hr: int) -> EncoderGraph:
    """The encoder of the weights in a bundle, for tiles of ``hr`` x ``hr``."""
    return irn_graph(load_irn(path), hr)


def irn_graph(irn: IRN, hr: int) -> EncoderGraph:
    """The encoder for tiles of ``hr`` x ``hr``, with quantization and its inverse inside; it gives y alone, without the
    last coupling's change of the high bands. experiments/2026-11.md says why there is no integer form."""
    config, factor = irn.config, irn.config.factor
    if hr % factor:
        raise ExportError(f"tiles of {hr} cannot be downscaled by {factor}")
    graph = GraphWriter(NEGATIVE_SLOPE)
    low, high = graph.add(Scale("picture", INPUT, 1 / 255)), ""
    for depth, stage in enumerate(cast(Sequence[DownscalingModule], irn.stages)):
        name = f"stages.{depth}.transform"
        source = graph.concat(f"{name}.in", [low, high] if high else [low])
        # One convolution without overlap for the first of the low bands, one for all the rest.
        weight = _transform_weight(stage, RGB * config.scale ** (2 * depth))
        none = np.zeros(len(weight), np.float32)
        low = graph.add(Conv(f"{name}.low", low, weight[:RGB, :RGB], none[:RGB], config.scale))
        high = graph.add(Conv(f"{name}.high", source, weight[RGB:], none[RGB:], config.scale))
        for index, block in enumerate(cast(Sequence[InvBlock], stage.blocks)):
            name = f"stages.{depth}.blocks.{index}"
            low = graph.add(Add(f"{name}.h1", low, graph.dense(f"{name}.phi", high, block.phi.convs())))
            if depth == len(irn.stages) - 1 and index == len(stage.blocks) - 1:
                break
            rho = graph.dense(f"{name}.rho", low, block.rho.convs())
            eta = graph.dense(f"{name}.eta", low, block.eta.convs())
            sigmoid = graph.add(Sigmoid(f"{name}.sigmoid", rho))
            exponent = graph.add(Scale(f"{name}.exponent", sigmoid, 2 * block.clamp, -block.clamp))
            scaled = graph.add(Multiply(f"{name}.scaled", high, graph.add(Exp(f"{name}.scale", exponent))))
            high = graph.add(Add(f"{name}.h2", scaled, eta))
    graph.nodes += rounding_nodes(low, 255)
    name = f"irn-x{factor}-b{'-'.join(map(str, config.blocks))}-g{config.growth}"
    return EncoderGraph(name, hr, hr // factor, tuple(graph.nodes), exact=False)


def _transform_weight(stage: DownscalingModule, channels: int) -> np.ndarray:
    """The transform as a convolution's weight: every band of all channels after the other."""
    cells = stage.cells().numpy()
    bands = np.zeros((len(cells), channels, channels, *cells.shape[1:]), np.float32)
    bands[:, range(channels), range(channels)] = cells[:, None]
    return bands.reshape(-1, *bands.shape[2:])
