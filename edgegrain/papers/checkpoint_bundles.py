"""Bundles of the authors' networks.

GRAIN's encoder is its own float network. GLEAN and GCFSR have an exact reduction as encoder: bicubic, as in the papers,
or the area mean, which is softer than what these networks were trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.errors import BundleError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.encoder_session import EncoderSession
from edgegrain.papers.face_sr.bundle import Restorer, write_restorer_bundle
from edgegrain.papers.grain.checkpoints import GrainCheckpoint
from edgegrain.papers.grain.trained_encoder import rrdb_encoder
from edgegrain.papers.tensor_map import TensorMap
from export.bundle.card import bundle_card
from export.bundle.writer import (
    COMPARED,
    BundleParts,
    compare_encoder,
    manifest_fields,
    refuse_to_replace,
    write_bundle,
)
from export.decoder.command import export_decoder
from export.decoder.comparison import Comparison, compare_decoder
from export.decoder.decoder_options import DecoderOptions, WeightStorage
from export.encoder.onnx_emitter import onnx_model
from export.proof.proof_inputs import smooth_pictures
from server_decoder.grain.grain import KIND as GRAIN_KIND

PAPERS_REDUCTION = "bicubic"
_STORAGE = "Weights are stored as float16. The payload's coder tables are the general ones, not fitted to these LRs."


@dataclass(frozen=True)
class Target:
    """The bundle to write.

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
        The exported decoder compared with torch.

    Raises:
        ExistsError: the folder exists and is not to be replaced.
        ExportError: a conversion fails, or an export differs from torch.
        BundleError: the name is no valid id, or encoder and decoder do not fit.
    """
    refuse_to_replace(target.folder, target.force)
    rrdb, decoder = checkpoint.encoder, checkpoint.decoder
    hr, lr = decoder.config.decoder.hr, decoder.config.decoder.lr
    if hr >> rrdb.config.scale != lr:
        raise BundleError(f"the encoder halves {hr} {rrdb.config.scale} times, but the decoder takes LRs of {lr}")
    encoder = rrdb_encoder(rrdb, hr)
    pictures = np.stack(smooth_pictures(COMPARED, hr))
    lrs = rrdb.encode(pictures)
    compare_encoder(EncoderSession(onnx_model(encoder.graph).SerializeToString()).encode, pictures, lrs)
    model = export_decoder(decoder, lr, DecoderOptions(WeightStorage.float16))
    comparison = compare_decoder(model, decoder, lrs)

    training = training_record(checkpoint.tensor_maps)
    fields = manifest_fields(target.folder.name, GRAIN_KIND, architecture=decoder.config.as_dict(), training=training,
                             licence=target.licence, domain=target.domain)
    summary = f"GRAIN as its authors trained it, {hr} x {hr} from {lr} x {lr}."
    card = bundle_card(target.folder.name, summary, training, target.licence, [
        "The encoder is a float network: an LR byte may differ between runtimes. The decoder gets the LR that was "
        "sent, so nothing depends on it.", _STORAGE])
    parts = BundleParts(encoder, model, CoderTables.default(), fields, card, target.formats)
    write_bundle(target.folder, parts, force=target.force)
    return comparison


def write_restorer(restorer: Restorer, tensor_map: TensorMap, target: Target) -> Comparison:
    """Write the bundle of the authors' GLEAN or GCFSR behind an exact reduction.

    Args:
        restorer: from `glean_restorer` or `gcfsr_restorer`; its weights are rounded to float16.
        tensor_map: of its file.
        target: of the bundle.

    Returns, Raises:
        As `write_grain_bundle`.
    """
    remarks = [_STORAGE]
    if target.reduction != PAPERS_REDUCTION:
        remarks.insert(0, "The network was trained on bicubic reductions.")
    return write_restorer_bundle(
        target.folder, restorer, target.reduction, training=training_record([tensor_map]), licence=target.licence,
        domain=target.domain, tables=CoderTables.default(), formats=target.formats, remarks=remarks, force=target.force
    ).decoder


def training_record(tensor_maps: Sequence[TensorMap]) -> dict[str, Any]:
    """The files that a network comes from, as a manifest's ``training``."""
    return {"converted_from": [{"file": source.file, "sha256": source.sha256} for source in tensor_maps]}
