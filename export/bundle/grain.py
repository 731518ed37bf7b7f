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
from export.bundle import writer
from export.bundle.writer import WrittenBundle
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
    version: str = writer.FIRST_VERSION,
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
    writer.refuse_to_replace(folder, force, version=version)
    if not (weights / TRAINED).is_file():
        raise ModelError(f"{weights} holds no {TRAINED}; 'edgegrain publish run --trained-only' writes such a folder")
    kept = kept_bundle(weights)
    if kept is not None and formats is not None:
        raise ExportError(f"{weights} takes the encoder of bundle {kept.id}, file by file; leave --formats out")
    formats = tuple(FORMATS) if formats is None else formats
    writer.require_bundle_formats(formats)
    source, history = zoo_decoder(weights, prior), list(read_history(weights / TRAINED))
    decoder, network, side, lr = source.decoder, source.network, source.network.hr, source.network.lr
    whole = isinstance(decoder, Grain)
    storage = WeightStorage.compact if whole or is_compact(weights / TRAINED) else WeightStorage.float16
    model = export_decoder(decoder, lr, DecoderOptions(storage))
    pictures = np.stack(smooth_pictures(writer.COMPARED, side))
    comparison = compare_decoder(model, decoder, run_reference(network, pictures))
    domain = domain or ("faces" if kept is None else kept.domain)
    licence = dict(licence or writer.usual_licence(domain))
    if kept is not None:
        licence = writer.with_kept(kept.licence, licence, "Codes and fusion")
    if whole:
        licence["prior"] = prior_licence(prior)
    training = {"stages": history, "pictures_seen": sum(int(stage["pictures"]) for stage in history)}
    architecture = decoder.config.as_dict() if isinstance(decoder, Grain) else asdict(decoder.config)
    fields = writer.manifest_fields(
        folder.name, KIND, architecture=architecture, training=training, licence=licence, domain=domain, version=version
    )
    card = writer.bundle_card(fields, f"GRAIN, {side} x {side} as a viewable LR of {lr} x {lr} and back.")
    if kept is not None:
        return WrittenBundle(writer.replace_decoder(kept, folder, model, fields, card, force=force), comparison)
    encoder, tables = writer.exact_encoder(network), writer.tables_in(weights)
    manifest = writer.write_bundle(folder, encoder, model, tables, fields, card, formats, force=force)
    return WrittenBundle(manifest, comparison)


def write_zoo_bundle(weights: Path, folder: Path, *, force: bool = False, **options: Any) -> WrittenBundle:
    """Write the bundle of a folder of the zoo or of a run, or of the weight file in it.

    ``options`` are arguments of its family's writer; those that are None are left to it.
    """
    path = weight_file(weights)
    source, name, write = path.parent, "GRAIN", write_trained_bundle
    if family := papers.WEIGHTS.get(path.name):
        source, name, write = path, family.name, papers.load(family.writer)
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
