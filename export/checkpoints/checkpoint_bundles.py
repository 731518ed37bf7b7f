"""Bundles of the authors' networks.

GRAIN's phone half is its own float encoder, GLEAN's and GCFSR's an exact reduction: bicubic, as in the papers, or the
area mean, which is softer than what these networks were trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from codec_contract.bundle.contract_id import lr_contract_id
from codec_contract.bundle.manifest import SCHEMA
from codec_contract.errors import BundleError, ExportError
from codec_contract.files import write_atomically
from codec_contract.fit import PREPROCESSING
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.encoder_session import EncoderSession
from export.bundle.face_sr_bundle import (
    COMPARED,
    Description,
    Restorer,
    gcfsr_restorer,
    glean_restorer,
    write_restorer_bundle,
)
from export.bundle.irn_bundle import made_tiles
from export.bundle.reductions import REDUCTIONS
from export.bundle.writer import CODER, DECODER, write_bundle
from export.checkpoints.grain import GrainCheckpoint
from export.checkpoints.tensor_map import Placement
from export.decoder.command import Comparison, Weights, compare_decoder, export_decoder
from export.encoder.formats import export_encoder
from export.encoder.rrdb_graph import rrdb_graph
from export.proof.runtimes import FORMATS
from server_decoder.decoder_session import INPUT, OUTPUT
from server_decoder.face_sr.gcfsr import GCFSR
from server_decoder.face_sr.glean import GLEAN
from server_decoder.grain.grain import KIND as GRAIN_KIND
from server_decoder.grain.rrdb_encoder import RRDBEncoder

RRDB_WEIGHTS = "rrdb_encoder.safetensors"
"""GRAIN's float encoder in a bundle; `server_decoder.grain.rrdb_encoder.load_rrdb_encoder` reads it."""
PAPERS_REDUCTION = "bicubic"
_FLIPPED_BY = 1  # levels that runtimes may round a float encoder's LR differently


@dataclass(frozen=True)
class Target:
    """Where a bundle goes and what it says about itself.

    Attributes:
        folder: of the bundle; its name becomes the id.
        domain: what the network was trained for.
        licence: of ``weights`` and ``data``.
        formats: of the encoder; ``onnx`` is among them.
        force: replace a bundle that exists.
        reduction: a key of `REDUCTIONS`: the encoder of GLEAN's and GCFSR's bundles.
    """

    folder: Path
    domain: str
    licence: Mapping[str, str]
    formats: Sequence[str] = ("onnx",)
    force: bool = False
    reduction: str = PAPERS_REDUCTION


def write_grain_bundle(checkpoint: GrainCheckpoint, target: Target) -> Comparison:
    """Write the bundle of the authors' GRAIN.

    Args:
        checkpoint: the model; its decoder's weights are rounded to float16.
        target: of the bundle.

    Returns:
        The exported decoder beside torch.

    Raises:
        FileExistsError: the folder exists and is not to be replaced.
        ExportError: a conversion fails, or an export differs from torch.
        BundleError: the name makes no id, or encoder and decoder do not fit.
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
        weights = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
        write_atomically(staging / RRDB_WEIGHTS, save(weights))
        write_atomically(staging / CODER, tables.to_json())
        export_encoder(graph, staging, target.formats)
        found = EncoderSession(staging / FORMATS["onnx"]).encode(pictures)
        if (steps := int(np.abs(found.astype(np.int16) - lrs).max())) > _FLIPPED_BY:
            raise ExportError(f"the exported encoder differs from torch by {steps} levels, more than {_FLIPPED_BY}")

    record = {
        "schema": SCHEMA, **_fields(target, GRAIN_KIND, decoder.config.as_dict(), checkpoint.placements),
        "hr": hr, "lr": lr, "lr_contract_id": lr_contract_id(_digest(encoder), PREPROCESSING, tables).hex(),
        "encoder": {"architecture": graph.name, "exact": False, "parameters": graph.parameters(),
                    "flops": graph.flops()},
        "preprocessing": PREPROCESSING,
    }
    card = _card(target, GRAIN_KIND, hr, lr, checkpoint.placements,
                 "The encoder is a float network: runtimes may round an LR byte differently. The LR that travels is "
                 "what the decoder gets, so nothing depends on it.")
    write_bundle(target.folder, write, model, record, card, target.force)
    return comparison


def write_glean_bundle(network: GLEAN, placement: Placement, target: Target) -> Comparison:
    """Write a bundle of GLEAN behind an exact reduction.

    Args:
        network: its weights are rounded to float16.
        placement: of its tensors.
        target: of the bundle.

    Returns, Raises:
        As `write_grain_bundle`.
    """
    return _write_restorer(glean_restorer(network), placement, target)


def write_gcfsr_bundle(network: GCFSR, lr: int, placement: Placement, target: Target) -> Comparison:
    """Write a bundle of GCFSR behind an exact reduction, for one size of LRs.

    Args:
        network: its weights are rounded to float16.
        lr: side of the LRs, a 4th to a 64th of the network's size.
        placement: of its tensors.
        target: of the bundle.

    Returns:
        As `write_grain_bundle`.

    Raises:
        BundleError: ``lr`` is no power of two that many times smaller than the picture, or too small for the
            reduction.
        FileExistsError, ExportError: as `write_grain_bundle`.
    """
    return _write_restorer(gcfsr_restorer(network, lr), placement, target)


def _write_restorer(restorer: Restorer, placement: Placement, target: Target) -> Comparison:
    hr, lr = restorer.hr, restorer.lr
    remark = f"The encoder is the exact {target.reduction} reduction." + (
        "" if target.reduction == PAPERS_REDUCTION else " The network was trained on bicubic ones.")
    card = _card(target, restorer.codec, hr, lr, [placement], remark)
    description = Description(target.domain, card, target.licence, sources([placement]), formats=target.formats,
                              force=target.force)
    return write_restorer_bundle(target.folder, restorer, REDUCTIONS[target.reduction](hr, lr), description)[1]


def sources(placements: Sequence[Placement]) -> dict[str, Any]:
    """The files that a network comes from, as a manifest's ``training``."""
    return {"converted_from": [{"file": placement.file, "sha256": placement.sha256} for placement in placements]}


def _fields(target: Target, codec: str, described: Mapping[str, Any], placements: Sequence[Placement]
            ) -> dict[str, Any]:
    return {
        "id": target.folder.name, "version": "1.0.0", "codec": codec, "domain": target.domain,
        "decoder": {"file": DECODER, "input": INPUT, "output": OUTPUT, "controls": [],
                    "architecture": dict(described)},
        "training": sources(placements), "evaluation": {}, "licence": dict(target.licence),
    }


def _card(target: Target, codec: str, hr: int, lr: int, placements: Sequence[Placement], remark: str) -> str:
    files = [f"- `{placement.file}`, SHA-256 {placement.sha256}" for placement in placements]
    return "\n".join([
        f"# {target.folder.name}", "",
        f"{codec.upper()} as its authors trained it, {hr} x {hr} from {lr} x {lr}, converted from", "", *files, "",
        f"**{target.licence['weights']}**", "", f"Data: {target.licence['data']}", "", remark, "",
        "Weights are stored as float16. The payload's coder tables are the general ones, not fitted to these LRs.", "",
        "What a restored picture shows beyond its LR is plausible, not evidence.", ""])


def _digest(encoder: RRDBEncoder) -> bytes:
    total = hashlib.sha256(repr(sorted(asdict(encoder.config).items())).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
    return total.digest()
