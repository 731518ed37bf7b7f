"""Bundles of the authors' networks.

GRAIN's phone half is its own float encoder. GLEAN's and GCFSR's is the exact area mean: the papers reduce pictures
bicubically, so what these networks get is a little softer than what they were trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save
from torch import nn

from edge_encoder.float_encoder import RRDBEncoder
from edge_encoder.integer_network import run_reference
from edge_encoder.preprocessing import PREPROCESSING
from edge_encoder.runtime import EncoderSession
from edgegrain.contract.coder_tables import CoderTables
from edgegrain.contract.contract_id import lr_contract_id
from edgegrain.contract.errors import BundleError, ExportError
from edgegrain.contract.files import write_atomically
from edgegrain.contract.manifest import SCHEMA, Manifest
from export.bundle import CODER, DECODER, assemble_bundle, write_bundle
from export.checkpoints.grain import GrainCheckpoint
from export.checkpoints.placement import Placement
from export.decoder_graph import decoder_graph, round_weights, store_half
from export.decoder_sources import area_average
from export.encoder_files import export_encoder
from export.irn import made_tiles
from export.rrdb_graph import rrdb_graph
from export.runtimes import FORMATS
from export.server import Comparison, Weights, compare_decoder, export_decoder
from server_decoder.gcfsr import GCFSR, GCFSRUpscaler
from server_decoder.gcfsr import KIND as GCFSR_KIND
from server_decoder.glean import GLEAN
from server_decoder.glean import KIND as GLEAN_KIND
from server_decoder.grain.grain import KIND as GRAIN_KIND
from server_decoder.runtime import INPUT, OUTPUT

STRENGTH = "strength"
"""Input of GCFSR's decoders that may be left out: the factor s, 4 to 64; the LR's own by default."""
RRDB_WEIGHTS = "rrdb_encoder.safetensors"
"""GRAIN's float encoder in a bundle; `edge_encoder.float_encoder.load_rrdb_encoder` reads it."""
COMPARED = 2
SMALLEST_FACTOR, LARGEST_FACTOR = 4, 64
"""The factors that GCFSR was trained for ([GCFSR] 4)."""
_FLIPPED_BY = 1  # levels that runtimes may round a float encoder's LR differently


def write_grain_bundle(checkpoint: GrainCheckpoint, folder: Path, licence: Mapping[str, str], *, domain: str,
                       formats: Sequence[str], force: bool = False) -> tuple[Manifest, Comparison]:
    """Write the bundle of the authors' GRAIN.

    Args:
        checkpoint: the model; its decoder's weights are rounded to float16.
        folder: of the bundle; its name becomes the id.
        licence: of ``weights`` and ``data``.
        domain: what the network was trained for.
        formats: of the encoder; ``onnx`` is among them.
        force: replace a bundle that exists.

    Raises:
        FileExistsError: the folder exists and ``force`` is false.
        ExportError: a conversion fails, or an export differs from torch.
        BundleError: the name makes no id.
    """
    encoder, decoder = checkpoint.encoder, checkpoint.decoder
    hr, lr = decoder.config.decoder.hr, decoder.config.decoder.lr
    if hr >> encoder.config.scale != lr:
        raise BundleError(f"the encoder halves {hr} {encoder.config.scale} times, but the decoder takes LRs of {lr}")
    graph = rrdb_graph(encoder, hr)
    pictures = np.stack(made_tiles(COMPARED, hr))
    lrs = encoder.encode(pictures)
    model = export_decoder(decoder, lr, Weights.float16)
    comparison = compare_decoder(model, decoder, lrs)
    tables = CoderTables.default()

    def write(staging: Path) -> None:
        write_atomically(staging / RRDB_WEIGHTS, save({name: tensor.contiguous() for name, tensor
                                                       in encoder.state_dict().items()}))
        write_atomically(staging / CODER, tables.to_json())
        export_encoder(graph, staging, formats)
        found = EncoderSession(staging / FORMATS["onnx"]).encode(pictures)
        if (steps := int(np.abs(found.astype(np.int16) - lrs).max())) > _FLIPPED_BY:
            raise ExportError(f"the exported encoder differs from torch by {steps} levels, more than {_FLIPPED_BY}")

    record = {
        "schema": SCHEMA, **_fields(folder.name, GRAIN_KIND, domain, decoder.config.as_dict(), checkpoint.placements,
                                    licence),
        "hr": hr, "lr": lr, "lr_contract_id": lr_contract_id(_digest(encoder), PREPROCESSING, tables).hex(),
        "encoder": {"architecture": graph.name, "exact": False, "parameters": graph.parameters(),
                    "flops": graph.flops()},
        "preprocessing": PREPROCESSING,
    }
    card = _card(folder.name, "GRAIN", hr, lr, checkpoint.placements, licence,
                 "The encoder is a float network: runtimes may round an LR byte differently. The LR that travels is "
                 "what the decoder gets, so nothing depends on it.")
    return write_bundle(folder, write, model, record, card, force), comparison


def write_glean_bundle(network: GLEAN, placement: Placement, folder: Path, licence: Mapping[str, str], *, domain: str,
                       formats: Sequence[str], force: bool = False) -> tuple[Manifest, Comparison]:
    """Write a bundle of GLEAN behind the exact area mean; arguments and errors as `write_grain_bundle`."""
    config = network.config
    return _write_area_bundle(network, config.lr, config.prior.size, GLEAN_KIND, config.as_dict(), [], placement,
                              folder, licence, domain, formats, force)


def write_gcfsr_bundle(network: GCFSR, lr: int, placement: Placement, folder: Path, licence: Mapping[str, str], *,
                       domain: str, formats: Sequence[str], force: bool = False) -> tuple[Manifest, Comparison]:
    """Write a bundle of GCFSR behind the exact area mean, for one size of LRs.

    Except in the blind form, the decoder takes ``strength``, float32 ``[1]`` or ``[B]``, the factor s between 4 and 64;
    where it is left out, the LR's own factor stands.

    Args:
        network: its weights are rounded to float16.
        lr: side of the LRs, a 4th to a 64th of the network's size.
        placement: of its tensors.
        folder, licence, domain, formats, force: as in `write_grain_bundle`.

    Raises:
        BundleError: ``lr`` is no power of two that many times smaller than the picture.
        FileExistsError, ExportError: as in `write_grain_bundle`.
    """
    size = network.config.size
    if lr < 1 or lr & (lr - 1) or not SMALLEST_FACTOR * lr <= size <= LARGEST_FACTOR * lr:
        raise BundleError(f"LRs of this network are {max(1, size // LARGEST_FACTOR)} to {size // SMALLEST_FACTOR} "
                          f"pixels wide, a power of two, got {lr}")
    described = {**network.config.as_dict(), "lr": lr}
    controls = [] if network.config.blind else [STRENGTH]
    return _write_area_bundle(GCFSRUpscaler(network, lr), lr, size, GCFSR_KIND, described, controls, placement, folder,
                              licence, domain, formats, force)


def _write_area_bundle(decoder: nn.Module, lr: int, hr: int, codec: str, described: Mapping[str, Any],
                       controls: Sequence[str], placement: Placement, folder: Path, licence: Mapping[str, str],
                       domain: str, formats: Sequence[str], force: bool) -> tuple[Manifest, Comparison]:
    encoder = area_average(hr, lr)
    decoder.eval().requires_grad_(False)
    round_weights(decoder, compact=False)
    graph = store_half(decoder_graph(decoder, lr))
    if STRENGTH in controls:
        _open_input(graph, STRENGTH)
    model = bytes(graph.SerializeToString())
    comparison = compare_decoder(model, decoder, run_reference(encoder, np.stack(made_tiles(COMPARED, hr))))
    fields = _fields(folder.name, codec, domain, described, [placement], licence, controls)
    card = _card(folder.name, codec.upper(), hr, lr, [placement], licence,
                 "The encoder is the exact area mean. The network was trained on LRs that were reduced bicubically.")
    manifest = assemble_bundle(folder, encoder, model, CoderTables.default(), fields, card=card, formats=formats,
                               force=force)
    return manifest, comparison


def _open_input(graph: onnx.ModelProto, name: str) -> None:
    """Let an initializer be given as an input; left out, it stands."""
    held = [tensor for tensor in graph.graph.initializer if tensor.name == name]
    if not held:
        raise ExportError(f"torch folded {name} into the graph; it must stay an input")
    value = numpy_helper.to_array(held[0]).astype(np.float32)
    held[0].CopyFrom(numpy_helper.from_array(value, name))
    graph.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_batch"]))
    onnx.checker.check_model(graph)


def _fields(name: str, codec: str, domain: str, described: Mapping[str, Any], placements: Sequence[Placement],
            licence: Mapping[str, str], controls: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "id": name, "version": "1.0.0", "codec": codec, "domain": domain,
        "decoder": {"file": DECODER, "input": INPUT, "output": OUTPUT, "controls": list(controls),
                    "architecture": dict(described)},
        "training": sources(placements), "evaluation": {}, "licence": dict(licence),
    }


def sources(placements: Sequence[Placement]) -> dict[str, Any]:
    """The files that a network comes from, as a manifest's ``training``."""
    return {"converted_from": [{"file": placement.file, "sha256": placement.sha256} for placement in placements]}


def _card(name: str, title: str, hr: int, lr: int, placements: Sequence[Placement], licence: Mapping[str, str],
          remark: str) -> str:
    files = [f"- `{placement.file}`, SHA-256 {placement.sha256}" for placement in placements]
    return "\n".join([
        f"# {name}", "", f"{title} as its authors trained it, {hr} x {hr} from {lr} x {lr}, converted from", "", *files,
        "", f"**{licence['weights']}**", "", f"Data: {licence['data']}", "", remark, "",
        "Weights are stored as float16. The payload's coder tables are the general ones, not fitted to these LRs.", "",
        "A restored face is a plausible picture, not evidence of who somebody is.", ""])


def _digest(encoder: RRDBEncoder) -> bytes:
    total = hashlib.sha256(repr(sorted(asdict(encoder.config).items())).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
    return total.digest()
