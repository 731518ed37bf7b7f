"""Conversion of checkpoints that authors published into bundles and priors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codec_contract.bundle.file_names import IRN_WEIGHTS
from codec_contract.errors import ModelError
from edgegrain.papers.checkpoint_bundles import (
    PAPERS_REDUCTION,
    Target,
    training_record,
    write_grain_bundle,
    write_restorer,
)
from edgegrain.papers.face_sr.bundle import USUAL_FACTOR, gcfsr_restorer, glean_restorer
from edgegrain.papers.gcfsr.checkpoints import load_gcfsr_checkpoint
from edgegrain.papers.glean.checkpoints import load_glean_checkpoint
from edgegrain.papers.grain.checkpoints import load_grain_checkpoint
from edgegrain.papers.irn.bundle import write_irn_bundle
from edgegrain.papers.irn.checkpoints import load_irn_checkpoint
from edgegrain.papers.irn.weights import save_irn
from edgegrain.papers.stylegan import checkpoints as stylegan2
from edgegrain.papers.stylegan.layouts import NVIDIA, ROSINALITY
from edgegrain.papers.tensor_map import TensorMap
from export.bundle.card import AUTHORS
from export.bundle.writer import refuse_to_replace, require_bundle_formats
from export.decoder.comparison import Comparison

_DRAWN = "drawn from a seed: the file has no noise"
_MEASURED = "the mean of 10,000 mapped codes: the file has none"
_OTHER_NETWORKS = "no part of the generator or the discriminator"


@dataclass(frozen=True)
class ConversionOptions:
    """Choices for a conversion.

    Attributes:
        lr: side of a GCFSR bundle's LRs; None for a `USUAL_FACTOR`-th of the picture's.
        domain: of the training pictures; only GLEANs were published for domains other than faces.
        formats: of the bundle's encoder; ``onnx`` is among them.
        force: replace an existing result.
        reduction: of GLEAN's and GCFSR's bundles, a key of `edgegrain.papers.face_sr.reductions.REDUCTIONS`.
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

    Raises:
        ExistsError: ``out`` exists and is not to be replaced.
        ModelError: the source is unknown, the files are too many, cannot be read or are of another layout.
        BundleError, ExportError: the bundle cannot be made; a format is unknown.
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
    checkpoint = load_grain_checkpoint(files)
    comparison = write_grain_bundle(checkpoint, _target("grain", out, options))
    parameters = {"encoder": _count(checkpoint.encoder), "decoder": _count(checkpoint.decoder)}
    return ConversionReport("grain", out, parameters, checkpoint.tensor_maps, comparison)


def _irn(files: Sequence[Path], out: Path, options: ConversionOptions, *, plus: bool) -> ConversionReport:
    irn, tensor_map = load_irn_checkpoint(files[0])
    with tempfile.TemporaryDirectory() as folder:
        weights = save_irn(irn, Path(folder) / IRN_WEIGHTS, training=training_record([tensor_map]), dtype=torch.float32)
        written = write_irn_bundle(weights, out, formats=options.formats, licence=AUTHORS["irn"], plus=plus,
                                   force=options.force)
    source = "irn-plus" if plus else "irn"
    return ConversionReport(source, out, {"rescaler": _count(irn)}, (tensor_map,), written.decoder)


def _glean(files: Sequence[Path], out: Path, options: ConversionOptions) -> ConversionReport:
    network, tensor_map = load_glean_checkpoint(files[0])
    parameters = {"network": _count(network) - _count(network.prior), "prior": _count(network.prior)}
    comparison = write_restorer(glean_restorer(network), tensor_map, _target("glean", out, options))
    return ConversionReport("glean", out, parameters, (tensor_map,), comparison)


def _gcfsr(files: Sequence[Path], out: Path, options: ConversionOptions) -> ConversionReport:
    network, tensor_map = load_gcfsr_checkpoint(files[0])
    lr = network.config.size // USUAL_FACTOR if options.lr is None else options.lr
    comparison = write_restorer(gcfsr_restorer(network, lr), tensor_map, _target("gcfsr", out, options))
    return ConversionReport("gcfsr", out, {"network": _count(network)}, (tensor_map,), comparison)


def _stylegan2(files: Sequence[Path], out: Path, options: ConversionOptions, *, rosinality: bool) -> ConversionReport:
    done = stylegan2.convert(files[0], out, options.force, ROSINALITY if rosinality else NVIDIA)
    tensor_map = TensorMap(files[0].name, done.source_sha256, done.names,
                          {name: _unused(name) for name in done.unused},
                          {name: _MEASURED if name.endswith("mean_code") else _DRAWN for name in done.made})
    name = f"stylegan2-{'rosinality' if rosinality else 'nvidia'}"
    return ConversionReport(name, out, done.parameters, (tensor_map,))


def _target(source: str, out: Path, options: ConversionOptions) -> Target:
    return Target(out, options.domain, AUTHORS[source], options.formats, options.force, options.reduction)


def _unused(name: str) -> str:
    return ("a low-pass filter, a constant here" if name.endswith((ROSINALITY.filter_suffix, NVIDIA.filter_suffix))
            else _OTHER_NETWORKS)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


SOURCES: dict[str, Callable[[Sequence[Path], Path, ConversionOptions], ConversionReport]] = {
    "grain": _grain,
    "irn": partial(_irn, plus=False),
    "irn-plus": partial(_irn, plus=True),
    "glean": _glean, "gcfsr": _gcfsr,
    "stylegan2-nvidia": partial(_stylegan2, rosinality=False),
    "stylegan2-rosinality": partial(_stylegan2, rosinality=True),
}
"""Name -> conversion."""
