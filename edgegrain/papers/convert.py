"""Conversion of checkpoints that authors published into bundles and priors.

GRAIN's encoder is its own float network. GLEAN and GCFSR have an exact reduction as encoder: bicubic, as in the papers,
or the area mean, which is softer than what these networks were trained on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from codec_contract.bundle.manifest import IRN_WEIGHTS
from codec_contract.errors import BundleError, ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.encoder_session import EncoderSession
from edgegrain.papers.face_sr.bundle import (
    USUAL_FACTOR,
    Restorer,
    gcfsr_restorer,
    glean_restorer,
    write_restorer_bundle,
)
from edgegrain.papers.gcfsr.checkpoints import load_gcfsr_checkpoint
from edgegrain.papers.glean.checkpoints import load_glean_checkpoint
from edgegrain.papers.grain.checkpoints import load_grain_checkpoint
from edgegrain.papers.grain.rrdb_encoder import rrdb_encoder
from edgegrain.papers.irn.bundle import save_irn, write_irn_bundle
from edgegrain.papers.irn.checkpoints import load_irn_checkpoint
from edgegrain.papers.stylegan import checkpoints as stylegan2
from edgegrain.papers.stylegan.checkpoints import NVIDIA, ROSINALITY, Layout
from edgegrain.papers.tensor_map import TensorMap
from export.bundle.card import AUTHORS, bundle_card
from export.bundle.writer import (
    COMPARED,
    BundleParts,
    compare_encoder,
    manifest_fields,
    refuse_to_replace,
    require_bundle_formats,
    write_bundle,
)
from export.decoder import DecoderOptions, WeightStorage
from export.decoder.export import Comparison, compare_decoder, export_decoder
from export.encoder.onnx_emitter import onnx_model
from export.proof.proof_inputs import smooth_pictures
from server_decoder.grain.grain import KIND as GRAIN_KIND

PAPERS_REDUCTION = "bicubic"
_STORAGE = "Weights are stored as float16. The payload's coder tables are the general ones, not fitted to these LRs."


@dataclass(frozen=True)
class ConversionOptions:
    """Choices for a conversion.

    Attributes:
        lr: side of a GCFSR bundle's LRs; None for a `USUAL_FACTOR`-th of the picture's.
        domain: of the training pictures; only GLEANs were published for domains other than faces.
        formats: of the bundle's encoder; ``onnx`` is among them.
        force: replace an existing result.
        reduction: of GLEAN's and GCFSR's bundles, a key of `edgegrain.papers.face_sr.bundle.REDUCTIONS`.
    """

    lr: int | None = None
    domain: str = "faces"
    formats: Sequence[str] = ("onnx",)
    force: bool = False
    reduction: str = PAPERS_REDUCTION


@dataclass(frozen=True)
class ConversionReport:
    """Result of a conversion.

    Attributes:
        source: one of `SOURCES`.
        path: the folder of the bundle, or the prior's file.
        parameters: trainable numbers by network.
        tensor_maps: one for every file.
        comparison: the bundle's decoder compared with torch; None without a bundle.
    """

    source: str
    path: Path
    parameters: Mapping[str, int]
    tensor_maps: tuple[TensorMap, ...]
    comparison: Comparison | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"source": self.source, "path": str(self.path), "parameters": dict(self.parameters),
                "files": [asdict(tensor_map) for tensor_map in self.tensor_maps],
                "decoder_beside_torch": None if self.comparison is None else asdict(self.comparison)}


def convert(source: str, files: Sequence[Path], out: Path, options: ConversionOptions = ConversionOptions()
            ) -> ConversionReport:
    """Convert checkpoints in the authors' layout.

    Args:
        source: one of `SOURCES`.
        files: GRAIN's three or four, else one.
        out: folder of the bundle, whose name becomes its id; for a StyleGAN2 the safetensors file.
        options: see there.
    """
    if source not in SOURCES:
        raise ModelError(f"unknown source {source!r}; expected one of {', '.join(SOURCES)}")
    if not source.startswith("stylegan2"):  # whose result is a file without an encoder, checked by `_stylegan2`
        refuse_to_replace(out, options.force)
        require_bundle_formats(options.formats)
    if source != "grain" and len(files) != 1:
        raise ModelError(f"{source} is converted from one file, got {len(files)}")
    return SOURCES[source](files, out, options)


def _grain(files: Sequence[Path], out: Path, options: ConversionOptions) -> ConversionReport:
    checkpoint, licence = load_grain_checkpoint(files), AUTHORS["grain"]
    rrdb, decoder = checkpoint.encoder, checkpoint.decoder
    hr, lr = decoder.config.decoder.hr, decoder.config.decoder.lr
    if hr >> rrdb.config.scale != lr:
        raise BundleError(f"the encoder halves {hr} {rrdb.config.scale} times, but the decoder takes LRs of {lr}")
    encoder = rrdb_encoder(rrdb, hr)
    pictures = np.stack(smooth_pictures(COMPARED, hr))
    lrs = rrdb.encode(pictures)
    compare_encoder(EncoderSession(onnx_model(encoder.graph).SerializeToString()).encode, pictures, lrs)
    model = export_decoder(decoder, lr, DecoderOptions(WeightStorage.float16))  # rounds its weights
    comparison = compare_decoder(model, decoder, lrs)

    training = _training_record(checkpoint.tensor_maps)
    fields = manifest_fields(out.name, GRAIN_KIND, architecture=decoder.config.as_dict(), training=training,
                             licence=licence, domain=options.domain)
    card = bundle_card(out.name, f"GRAIN as its authors trained it, {hr} x {hr} from {lr} x {lr}.", training, licence, [
        "The encoder is a float network: an LR byte may differ between runtimes. The decoder gets the LR that was "
        "sent, so nothing depends on it.", _STORAGE])
    parts = BundleParts(encoder, model, CoderTables.default(), fields, card, options.formats)
    write_bundle(out, parts, force=options.force)
    return ConversionReport("grain", out, {"encoder": _count(rrdb), "decoder": _count(decoder)},
                            checkpoint.tensor_maps, comparison)


def _irn(files: Sequence[Path], out: Path, options: ConversionOptions, *, plus: bool) -> ConversionReport:
    irn, tensor_map = load_irn_checkpoint(files[0])
    with tempfile.TemporaryDirectory() as folder:
        weights = save_irn(irn, Path(folder) / IRN_WEIGHTS, training=_training_record([tensor_map]),
                           dtype=torch.float32)
        written = write_irn_bundle(weights, out, formats=options.formats, licence=AUTHORS["irn"], plus=plus,
                                   force=options.force)
    return ConversionReport("irn-plus" if plus else "irn", out, {"rescaler": _count(irn)}, (tensor_map,),
                            written.decoder)


def _glean(files: Sequence[Path], out: Path, options: ConversionOptions) -> ConversionReport:
    network, tensor_map = load_glean_checkpoint(files[0])
    parameters = {"network": _count(network) - _count(network.prior), "prior": _count(network.prior)}
    comparison = _write_restorer(glean_restorer(network), tensor_map, out, options)
    return ConversionReport("glean", out, parameters, (tensor_map,), comparison)


def _gcfsr(files: Sequence[Path], out: Path, options: ConversionOptions) -> ConversionReport:
    network, tensor_map = load_gcfsr_checkpoint(files[0])
    lr = network.config.size // USUAL_FACTOR if options.lr is None else options.lr
    comparison = _write_restorer(gcfsr_restorer(network, lr), tensor_map, out, options)
    return ConversionReport("gcfsr", out, {"network": _count(network)}, (tensor_map,), comparison)


def _write_restorer(restorer: Restorer, tensor_map: TensorMap, out: Path, options: ConversionOptions) -> Comparison:
    remarks = [_STORAGE]
    if options.reduction != PAPERS_REDUCTION:
        remarks.insert(0, "The network was trained on bicubic reductions.")
    return write_restorer_bundle(
        out, restorer, options.reduction, training=_training_record([tensor_map]), licence=AUTHORS[restorer.codec],
        domain=options.domain, tables=CoderTables.default(), formats=options.formats, remarks=remarks,
        force=options.force).decoder


def _stylegan2(files: Sequence[Path], out: Path, options: ConversionOptions, *, layout: Layout) -> ConversionReport:
    done = stylegan2.convert(files[0], out, layout, options.force)
    return ConversionReport(f"stylegan2-{layout.name.lower()}", out, done.parameters, (done.tensor_map,))


def _training_record(tensor_maps: Sequence[TensorMap]) -> dict[str, Any]:
    """The files that a network comes from, as a manifest's ``training``."""
    return {"converted_from": [{"file": source.file, "sha256": source.sha256} for source in tensor_maps]}


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


SOURCES: dict[str, Callable[[Sequence[Path], Path, ConversionOptions], ConversionReport]] = {
    "grain": _grain,
    "irn": partial(_irn, plus=False),
    "irn-plus": partial(_irn, plus=True),
    "glean": _glean, "gcfsr": _gcfsr,
    "stylegan2-nvidia": partial(_stylegan2, layout=NVIDIA),
    "stylegan2-rosinality": partial(_stylegan2, layout=ROSINALITY),
}
"""Name -> conversion."""
