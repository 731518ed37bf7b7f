"""Bundles of GLEAN and GCFSR: an exact reduction on the phone, the network on the server.

Bundles with the same LR contract (sizes, reduction, coder tables) read each other's payloads, so an LR may be sent once
and restored by either network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from codec_contract.bundle.controls import LARGEST_STRENGTH, SMALLEST_STRENGTH, STRENGTH
from codec_contract.errors import BundleError, ExportError, ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import run_reference
from edgegrain.papers.face_sr.reductions import REDUCTIONS
from edgegrain.papers.face_sr.weights import (
    GCFSR_WEIGHTS,
    GLEAN_WEIGHTS,
    load_gcfsr,
    load_glean,
    read_config,
    read_training,
)
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig, GCFSRUpscaler
from edgegrain.papers.gcfsr.network import KIND as GCFSR_KIND
from edgegrain.papers.glean.network import GLEAN
from edgegrain.papers.glean.network import KIND as GLEAN_KIND
from export.bundle.card import bundle_card, usual_licence
from export.bundle.writer import (
    COMPARED,
    FIRST_VERSION,
    BundleParts,
    WrittenBundle,
    exact_encoder,
    manifest_fields,
    refuse_to_replace,
    require_bundle_formats,
    tables_in,
    write_bundle,
)
from export.decoder.comparison import compare_decoder
from export.decoder.decoder_graph import add_optional_input, decoder_graph, round_weights, store_half
from export.decoder.sources import described_prior
from export.encoder.graph import FORMATS
from export.proof.proof_inputs import smooth_pictures
from server_decoder.prior_store import DEFAULT_PRIOR, prior_licence

USUAL_FACTOR = 16
"""From the picture's side to a GCFSR bundle's LR, unless another is chosen."""


@dataclass(frozen=True)
class Restorer:
    """A network that restores squares of ``hr`` from LRs of ``lr``.

    Attributes:
        codec: ``"glean"`` or ``"gcfsr"``.
        network: LR ``[B, 3, lr, lr]`` in [-1, 1] -> ``[B, 3, hr, hr]``; a second argument for every control.
        architecture: its configuration, plain JSON values.
        controls: name of an optional input -> its description in the manifest.
    """

    codec: str
    network: nn.Module
    hr: int
    lr: int
    architecture: Mapping[str, Any]
    controls: Mapping[str, Any] = field(default_factory=dict)


def glean_restorer(network: GLEAN) -> Restorer:
    """The restorer of a GLEAN with its bank."""
    config = network.config
    return Restorer(GLEAN_KIND, network, config.prior.size, config.lr, config.as_dict())


def gcfsr_restorer(network: GCFSR, lr: int) -> Restorer:
    """The restorer of a GCFSR for one size of LRs. Except in the blind form it has the control ``strength``.

    Raises:
        BundleError: ``lr`` is no power of two that is a 4th to a 64th of the picture.
    """
    config = network.config
    if lr < 1 or lr & (lr - 1) or not SMALLEST_STRENGTH <= config.size / lr <= LARGEST_STRENGTH:
        raise BundleError(f"LRs of this network are {max(1, config.size / LARGEST_STRENGTH):g} to "
                          f"{config.size / SMALLEST_STRENGTH:g} pixels wide, a power of two, got {lr}")
    described = {"range": [SMALLEST_STRENGTH, LARGEST_STRENGTH], "default": config.size / lr}
    return Restorer(GCFSR_KIND, GCFSRUpscaler(network, lr), config.size, lr, config.as_dict(),
                    {} if config.blind else {STRENGTH: described})


def write_face_sr_bundle(
    weights: Path, folder: Path, *, lr: int | None = None, prior: str | Path | None = None,
    reduction: str | None = None, version: str = FIRST_VERSION, domain: str = "faces",
    licence: Mapping[str, str] | None = None, formats: Sequence[str] = tuple(FORMATS), force: bool = False,
) -> WrittenBundle:
    """Write the bundle of a ``glean.safetensors`` or ``gcfsr.safetensors``, or of a folder that holds one and perhaps a
    ``coder.json``.

    Args:
        weights: the file or folder.
        folder: of the bundle; its name becomes the id.
        lr: side of a GCFSR bundle's LRs; None for a `USUAL_FACTOR`-th of the picture's.
        prior: GLEAN's bank, as `load_prior` takes it; None for the published one.
        reduction: a key of `REDUCTIONS`; None for the one that the network was trained on.
        version, domain: for the manifest.
        licence: of weights and data, by default `usual_licence`; the bank's is added.
        formats: of the encoder.
        force: replace a bundle that exists.

    Raises:
        ExistsError: the folder exists and ``force`` is false.
        ModelError: the weights are missing or damaged, or GLEAN's bank is missing or another.
        ExportError: a conversion fails, or the export differs from torch.
        BundleError: id or version is not valid, or the sizes do not fit.
    """
    refuse_to_replace(folder, force, version=version)
    path = find_face_sr_weights(weights)
    training = read_training(path)
    reduction = reduction or (training.get("config") or {}).get("reduction", "area")
    if reduction not in REDUCTIONS:
        raise ExportError(f"unknown reduction {reduction!r}; expected one of {', '.join(REDUCTIONS)}")
    require_bundle_formats(formats)
    licence = dict(licence or usual_licence(domain))
    restorer = _restorer(path, lr, prior)
    if restorer.codec == GLEAN_KIND:
        licence["prior"] = prior_licence(prior or DEFAULT_PRIOR)
    return write_restorer_bundle(folder, restorer, reduction, training=training, licence=licence, domain=domain,
                                 version=version, tables=tables_in(path.parent), formats=formats, force=force)


def write_restorer_bundle(
    folder: Path, restorer: Restorer, reduction: str, *, training: Mapping[str, Any], licence: Mapping[str, str],
    domain: str, tables: CoderTables, formats: Sequence[str], version: str = FIRST_VERSION,
    remarks: Sequence[str] = (), force: bool = False,
) -> WrittenBundle:
    """Export a restorer, compare it with torch and write its bundle.

    Args:
        folder: of the bundle; its name becomes the id.
        restorer: its network's weights are rounded to float16.
        reduction: a key of `REDUCTIONS`, the encoder.
        training, licence, domain, version: for the manifest.
        tables, formats: as in `BundleParts`.
        remarks: paragraphs of the model card.
        force: replace a bundle that exists.

    Raises:
        ExistsError: the folder exists and ``force`` is false.
        ExportError: a conversion fails, or the export differs from torch.
        BundleError: the name is no valid id.
    """
    refuse_to_replace(folder, force)
    encoder = REDUCTIONS[reduction](restorer.hr, restorer.lr)
    decoder = restorer.network.eval().requires_grad_(False)
    round_weights(decoder, compact=False)
    graph = store_half(decoder_graph(decoder, restorer.lr))
    for name in restorer.controls:
        add_optional_input(graph, name, [f"{name}_batch"])
    model = bytes(graph.SerializeToString())
    lrs = run_reference(encoder, np.stack(smooth_pictures(COMPARED, restorer.hr)))
    comparison = compare_decoder(model, decoder, lrs)
    fields = manifest_fields(
        folder.name, restorer.codec, architecture=restorer.architecture, training=training, licence=licence,
        domain=domain, version=version, controls=tuple(restorer.controls), inputs=restorer.controls)
    card = bundle_card(folder.name, _summary(restorer, reduction), training, licence, remarks)
    parts = BundleParts(exact_encoder(encoder), model, tables, fields, card, formats)
    return WrittenBundle(write_bundle(folder, parts, force=force), comparison)


def find_face_sr_weights(path: Path) -> Path:
    """The file itself, or the one in a folder.

    Raises:
        ModelError: the folder holds none, or both.
    """
    if not path.is_dir():
        return path
    found = [path / name for name in (GLEAN_WEIGHTS, GCFSR_WEIGHTS) if (path / name).is_file()]
    if len(found) != 1:
        raise ModelError(f"{path} holds {len(found)} of {GLEAN_WEIGHTS} and {GCFSR_WEIGHTS}, expected one of them")
    return found[0]


def _summary(restorer: Restorer, reduction: str) -> str:
    strength = " `strength`, 4 to 64, controls how much detail is hallucinated." if restorer.controls else ""
    return (f"{restorer.codec.upper()}, {restorer.hr} x {restorer.hr} from an exact {reduction} reduction to "
            f"{restorer.lr} x {restorer.lr}.{strength}")


def _restorer(path: Path, lr: int | None, prior: str | Path | None) -> Restorer:
    config = read_config(path)
    if isinstance(config, GCFSRConfig):
        if prior is not None:
            raise ExportError(f"{path} holds a GCFSR, which takes no --prior")
        return gcfsr_restorer(load_gcfsr(path), lr or config.size // USUAL_FACTOR)
    if lr not in (None, config.lr):
        raise ExportError(f"this GLEAN takes LRs of {config.lr}; leave lr out")
    return glean_restorer(load_glean(path, described_prior(config.prior, prior or DEFAULT_PRIOR)))
