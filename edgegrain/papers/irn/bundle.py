"""Bundles of IRN: phones downscale tiles with the forward pass, servers upscale them with the inverse.

Both halves come from the same file, so an LR contract has only one decoder; other weights make another bundle. Encoder
and decoder are compared with torch before the bundle is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from codec_contract.bundle.file_names import IRN_WEIGHTS
from codec_contract.errors import BundleError
from codec_contract.quantization import network_input, pictures_of
from edgegrain.papers.irn.encoder_graph import irn_graph
from edgegrain.papers.irn.network import IRN, KIND, Downscaler, Upscaler
from edgegrain.papers.irn.weights import irn_digest, load_irn, read_training, save_irn
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
from export.decoder.comparison import compare_decoder
from export.decoder.decoder_graph import add_optional_input, decoder_graph, round_weights, store_half
from export.encoder.graph import EncoderGraph
from export.encoder.torch_graph import torch_encoder
from export.proof.proof_inputs import smooth_pictures
from server_decoder.decoder_session import LATENT

TILE = 256
"""Side of a tile, in pixels."""
TILE_OVERLAP = 64
"""Least overlap of tiles, in pixels."""
IRN_FORMATS = ("tflite", "onnx")


def upscaler_graph(irn: IRN, lr: int) -> onnx.ModelProto:
    """The decoder for tiles: ``lr`` float32 ``[B, 3, lr, lr]`` and, optionally, ``z`` float32
    ``[B, z_channels, lr, lr]`` -> ``hr`` float32 ``[B, 3, S, S]``. Without ``z`` it takes zero.

    Raises:
        ExportError: torch cannot express the network in ONNX, or a weight is too large for float16.
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

    Raises:
        ExistsError: the folder exists and ``force`` is false.
        ModelError: the weights are damaged.
        ExportError: a conversion fails, or an export differs from torch.
        BundleError: id or version is not valid, or the sizes do not fit.
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
