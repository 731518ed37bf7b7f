"""``python -m export.bundle.irn_bundle``: a bundle made of an IRN's trained weights.

    python -m export.bundle.irn_bundle --weights zoo/photos-x4 --out bundles/photos-x4

Phones downscale tiles with the forward pass, servers upscale them with the inverse. Both come from the same file, so
there is no better decoder for an LR contract; other weights make another bundle. Encoder and decoder are compared with
torch before the bundle is written.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import typer
from onnx import TensorProto, helper, numpy_helper

from codec_contract.bundle.contract_id import lr_contract_id
from codec_contract.bundle.manifest import SCHEMA, Manifest
from codec_contract.errors import BundleError, EdgegrainError, ExportError
from codec_contract.files import write_atomically
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.quantization import dequantize, quantize, unit_to_levels
from export.bundle.writer import CODER, DECODER, write_bundle
from export.decoder.command import Comparison, compare_decoder
from export.decoder.decoder_graph import decoder_graph, round_weights, store_half
from export.encoder.formats import export_encoder
from export.encoder.irn_graph import irn_graph
from export.proof.torch_executor import torch_encoder
from server_decoder.decoder_session import INPUT, LATENT, OUTPUT
from server_decoder.irn.network import IRN, KIND, Downscaler, Upscaler
from server_decoder.irn.weights import WEIGHTS, digest, load_irn, read_training, save_irn

TILE = 256
"""Side of a tile, in pixels."""
TILE_OVERLAP = 64
"""Least overlap of tiles, in pixels."""
COMPARED = 4
FORMATS = ("tflite", "onnx")
LICENCE = {
    "weights": "Research only, because of the data; the code is Apache-2.0.",
    "data": "BSDS500, training and validation pictures: research use.",
}


@dataclass(frozen=True)
class IRNBundle:
    """What was written, and how far the files are from torch.

    Attributes:
        manifest: of the bundle.
        flips: LR bytes that differ between the encoder's graph and the network, per million.
        decoder: the exported decoder beside the network.
    """

    manifest: Manifest
    flips: float
    decoder: Comparison


def upscaler_graph(irn: IRN, lr: int, *, half: bool = True) -> onnx.ModelProto:
    """The decoder for tiles: ``lr`` float32 ``[B, 3, lr, lr]`` and, if it is given, ``z`` float32
    ``[B, z_channels, lr, lr]`` -> ``hr`` float32 ``[B, 3, S, S]``.

    Raises:
        ExportError: torch cannot express the network in ONNX, or a weight is too large for float16.
    """
    graph = decoder_graph(Upscaler(irn), lr)
    if half:
        graph = store_half(graph)
    # An input that is an initializer too may be left out; the network itself holds the zero that then stands for it.
    held = [tensor for tensor in graph.graph.initializer if tensor.name == LATENT]
    if not held:
        raise ExportError("torch folded z into the graph; it must stay an input")
    held[0].CopyFrom(numpy_helper.from_array(np.zeros((1, irn.config.z_channels, 1, 1), np.float32), LATENT))
    graph.graph.input.append(helper.make_tensor_value_info(
        LATENT, TensorProto.FLOAT, ["z_batch", irn.config.z_channels, "z_height", "z_width"]))
    onnx.checker.check_model(graph)
    return graph


def write_irn_bundle(weights: Path, folder: Path, *, pictures: Sequence[np.ndarray], version: str = "1.0.0",
                     formats: Sequence[str] = FORMATS, evaluation: Mapping[str, Any] | None = None,
                     licence: Mapping[str, str] = LICENCE, tile: int = TILE, overlap: int = TILE_OVERLAP,
                     force: bool = False) -> IRNBundle:
    """Write the bundle of an ``irn.safetensors``, or of a folder that holds one and perhaps a ``coder.json``.

    Args:
        weights: the file or folder.
        folder: of the bundle; its name becomes the id.
        pictures: uint8 ``[tile, tile, 3]``, to compare on.
        version: of the bundle.
        formats: of the encoder.
        evaluation, licence: for the manifest.
        tile, overlap: in pixels, multiples of the factor.
        force: replace a bundle that exists.

    Raises:
        FileExistsError: the folder exists and ``force`` is false.
        ModelError: the weights are damaged.
        ExportError: a conversion fails, or an export differs from torch.
        BundleError: the name makes no id, or the sizes do not fit.
    """
    path = weights / WEIGHTS if weights.is_dir() else weights
    irn, training = load_irn(path), read_training(path)
    round_weights(irn, compact=False)  # a float32 file too: both halves take what the decoder's file keeps
    factor = irn.config.factor
    if tile % factor or overlap % factor:
        raise BundleError(f"tiles of {tile} that overlap by {overlap} are no multiples of the factor {factor}")
    tables_file = path.parent / CODER
    tables = CoderTables.from_json(tables_file.read_bytes()) if tables_file.is_file() else CoderTables.default()
    graph = irn_graph(irn, tile)
    flips = compare_encoder(irn, torch_encoder(graph, onednn=True), np.stack(pictures))
    lrs = torch_encoder(graph, onednn=True)(np.stack(pictures))
    decoder = upscaler_graph(irn, tile // factor).SerializeToString()
    comparison = compare_decoder(decoder, Upscaler(irn).eval(), lrs)
    preprocessing = {"pad": "edge", "tile_overlap": overlap // factor}
    described = irn.config.as_dict()
    config = training.get("config") or {}
    plus = bool(config.get("discriminator") or config.get("judge"))  # the latter until edgegrain 0.5

    def write(staging: Path) -> None:
        save_irn(irn, staging / WEIGHTS, training=training)
        write_atomically(staging / CODER, tables.to_json())
        export_encoder(graph, staging, formats)

    record = {
        "schema": SCHEMA, "id": folder.name, "version": version, "codec": "irn_plus" if plus else KIND,
        "domain": "photographs", "hr": tile, "lr": tile // factor,
        "lr_contract_id": lr_contract_id(digest(irn), preprocessing, tables).hex(),
        "encoder": {"architecture": graph.name, "exact": False, "parameters": graph.parameters(),
                    "flops": graph.flops()},
        "preprocessing": preprocessing,
        "decoder": {"file": DECODER, "input": INPUT, "output": OUTPUT, "controls": ["seed"],
                    "z": {"input": LATENT, "channels": irn.config.z_channels, "std": irn.config.z_std},
                    "architecture": described},
        "training": training, "evaluation": dict(evaluation or {}), "licence": dict(licence),
    }
    manifest = write_bundle(folder, write, bytes(decoder), record, _card(folder.name, factor, training, licence), force)
    return IRNBundle(manifest, flips, comparison)


@torch.no_grad()
def compare_encoder(irn: IRN, encode: Any, pictures: np.ndarray) -> float:
    """LR bytes per million that ``encode`` (uint8 ``[N, S, S, 3]`` -> LRs) gives otherwise than the network.

    Raises:
        ExportError: one differs by more than a level.
    """
    values = dequantize(torch.from_numpy(pictures).permute(0, 3, 1, 2).float())
    expected = quantize(Downscaler(irn)(values).permute(0, 2, 3, 1).numpy())
    steps = np.abs(encode(pictures).astype(np.int16) - expected)
    if steps.max() > 1:
        raise ExportError(f"the exported encoder differs from torch by {steps.max()} levels, more than 1")
    return round(1e6 * float((steps > 0).mean()), 2)


def made_tiles(count: int, side: int, seed: int = 0) -> list[np.ndarray]:
    """uint8 ``[side, side, 3]``: smooth tiles with some grain, where no pictures are at hand."""
    rng = np.random.default_rng(seed)
    waves = torch.nn.functional.interpolate(torch.from_numpy(rng.uniform(-1, 1, (count, 3, 9, 9))), (side, side),
                                            mode="bicubic", align_corners=True)
    levels = unit_to_levels(waves.permute(0, 2, 3, 1).numpy()) + rng.normal(0, 6, (count, side, side, 1))
    return list(np.clip(levels, 0, 255).astype(np.uint8))


def _card(name: str, factor: int, training: Mapping[str, Any], licence: Mapping[str, str]) -> str:
    seen = training.get("crops_seen")
    lines = [
        f"# {name}", "",
        f"Photographs of any size, {factor} times smaller on each side and back, by invertible rescaling (IRN).", "",
        f"**{licence['weights']}**", "",
        *([f"Training: {seen:,} crops."] if isinstance(seen, int) else []), f"Data: {licence['data']}", "",
        "The encoder is a float network: runtimes may round an LR byte differently, which `python -m export.mobile` "
        "counts. The LR that travels is what the decoder gets, so nothing depends on it.", "",
        "What finer detail than the LR's a restored picture shows is plausible, not evidence.", ""]
    return "\n".join(lines)


def main(
    weights: Annotated[Path, typer.Option(exists=True, help="irn.safetensors, or a folder of a run or of the zoo.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; its name becomes the bundle's id.")],
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1.0.0",
    formats: Annotated[str, typer.Option(help="Of the encoder, comma-separated: tflite, coreml, onnx.")] = ",".join(
        FORMATS),
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle.")] = False,
) -> None:
    """Write the bundle of an IRN: encoder, decoder, coder tables, manifest."""
    chosen = tuple(part.strip() for part in formats.split(",") if part.strip())
    try:
        if "onnx" not in chosen:
            raise ExportError("a bundle needs the encoder as onnx; add it to --formats")
        written = write_irn_bundle(weights, out, pictures=made_tiles(COMPARED, TILE), version=version, formats=chosen,
                                   force=force)
    except (EdgegrainError, FileExistsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    size = sum(entry.size for entry in written.manifest.files.values())
    typer.echo(f"{out}: {size:,} bytes, {datetime.date.today().isoformat()}; on {COMPARED} made-up tiles the encoder "
               f"differs from torch in {written.flips:g} of a million LR bytes, the decoder by at most "
               f"{written.decoder.largest_difference:.1e}")


if __name__ == "__main__":
    typer.run(main)
