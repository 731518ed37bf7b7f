"""Bundles of GRAIN: from trained weights and their generator.

The folder of weights holds what ``edgegrain publish run --trained-only`` writes: ``grain.safetensors``, the integer
encoder and the coder's tables. The generator, if the weights need one, is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.errors import ExportError, ModelError
from edge_encoder.integer_network import run_reference
from export import papers
from export.bundle.writer import (
    COMPARED,
    FIRST_VERSION,
    WrittenBundle,
    bundle_card,
    exact_encoder,
    manifest_fields,
    refuse_to_replace,
    replace_decoder,
    require_bundle_formats,
    tables_in,
    usual_licence,
    with_kept,
    write_bundle,
)
from export.decoder import DecoderOptions, WeightStorage
from export.decoder.export import TRAINED, compare_decoder, export_decoder, kept_bundle, zoo_decoder
from export.encoder.graph import FORMATS
from export.proof.inputs import smooth_pictures
from server_decoder.grain.grain import KIND, Grain, read_history
from server_decoder.prior_store import DEFAULT_PRIOR, prior_licence
from server_decoder.weight_file import is_compact


def write_trained_bundle(
    weights: Path,
    folder: Path,
    *,
    prior: str | Path = DEFAULT_PRIOR,
    version: str = FIRST_VERSION,
    domain: str = "",
    licence: Mapping[str, str] | None = None,
    formats: Sequence[str] | None = None,
    force: bool = False,
) -> WrittenBundle:
    """Write the bundle of a folder that holds ``grain.safetensors`` and perhaps ``encoder.safetensors`` (else the plain
    area mean is the encoder) and ``coder.json`` (else the general tables).

    Weights that were trained around the decoder of a bundle give a bundle with everything else of that one, and its LR
    contract; its licence then comes first. The decoder's large weights are stored as int8 if those of the folder are,
    or if it has a generator, whose licence is added.
    """
    refuse_to_replace(folder, force, version=version)
    if not (weights / TRAINED).is_file():
        raise ModelError(f"{weights} holds no {TRAINED}; 'edgegrain publish run --trained-only' writes such a folder")
    kept = kept_bundle(weights)
    if kept is not None and formats is not None:
        raise ExportError(
            f"{weights} takes the encoder of bundle {kept.id}, file by file; leave the formats (--formats) out"
        )
    formats = tuple(FORMATS) if formats is None else formats
    require_bundle_formats(formats)
    source, history = zoo_decoder(weights, prior), list(read_history(weights / TRAINED))
    decoder, network = source.decoder, source.network
    whole = isinstance(decoder, Grain)
    compact = whole or is_compact(weights / TRAINED)
    model = export_decoder(
        decoder, network.lr, DecoderOptions(WeightStorage.compact if compact else WeightStorage.float16)
    )
    comparison = compare_decoder(
        model, decoder, run_reference(network, np.stack(smooth_pictures(COMPARED, network.hr)))
    )
    domain = domain or ("faces" if kept is None else kept.domain)
    licence = dict(licence or usual_licence(domain))
    if kept is not None:
        licence = with_kept(kept.licence, licence, "Codes and fusion")
    if whole:
        licence["prior"] = prior_licence(prior)
    training = {"stages": history, "pictures_seen": sum(int(stage["pictures"]) for stage in history)}
    architecture = decoder.config.as_dict() if isinstance(decoder, Grain) else asdict(decoder.config)
    fields = manifest_fields(
        folder.name, KIND, architecture=architecture, training=training, licence=licence, domain=domain, version=version
    )
    side, lr = network.hr, network.lr
    card = bundle_card(fields, f"GRAIN, {side} x {side} as a viewable LR of {lr} x {lr} and back.")
    if kept is not None:
        return WrittenBundle(replace_decoder(kept, folder, model, fields, card, force=force), comparison)
    return WrittenBundle(
        write_bundle(folder, exact_encoder(network), model, tables_in(weights), fields, card, formats, force=force),
        comparison,
    )


def write_zoo_bundle(weights: Path, folder: Path, *, force: bool = False, **options: Any) -> WrittenBundle:
    """Write the bundle of a folder of the zoo or of a run, or of the weight file in it.

    ``options`` are arguments of its family's writer; those that are None are left to it.
    """
    path = weight_file(weights)
    source, name, write = path.parent, "GRAIN", write_trained_bundle
    if path.name != TRAINED:
        source, name, write = path, papers.WEIGHTS[path.name].name, papers.load(papers.WEIGHTS[path.name].writer)
    given = {name: value for name, value in options.items() if value is not None}
    if foreign := sorted(set(given) - signature(write).parameters.keys()):
        raise ExportError(f"{path} holds a {name}, which takes no {', '.join(f'--{option}' for option in foreign)}")
    return write(source, folder, force=force, **given)


def weight_file(weights: Path) -> Path:
    """The weight file in a folder, or the given file if it has the name of one."""
    names = (TRAINED, *papers.WEIGHTS)
    if weights.is_file() and weights.name in names:
        return weights
    found = [weights / name for name in names if (weights / name).is_file()]
    if len(found) != 1:
        raise ModelError(f"{weights} holds {len(found)} weight files, expected one of {', '.join(names)}")
    return found[0]
