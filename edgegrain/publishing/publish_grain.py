"""Publish a training run of GRAIN as a bundle, or store its trained weights in the zoo.

A run that kept the encoder of a bundle is published with ``encoder_of``: encoder, coder and golden vectors are then
that bundle's files, byte for byte (`edgegrain.publishing.run_source`).
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from codec_contract.bundle.manifest import CODER_TABLES, ENCODER_WEIGHTS
from codec_contract.errors import EdgegrainError, ExistsError
from codec_contract.files import printable_name, write_atomically
from edge_encoder.integer_network import save_integer_network
from edge_encoder.twin import EncoderTwin
from edgegrain.pictures.stored_pictures import stored_pictures
from edgegrain.pictures.writing import Progress
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.publishing.model_card import card_text
from edgegrain.publishing.run_source import (
    decoder_storage,
    encoder_part,
    final_decoder,
    integer_encoder,
    kept_decoder,
    kept_encoder,
    open_run,
    run_folder,
)
from edgegrain.training.data import packed_pictures
from edgegrain.training.grain.model import Autoencoder, GrainRun
from export.bundle.card import usual_licence, with_kept
from export.bundle.writer import (
    BundleParts,
    manifest_fields,
    refuse_to_replace,
    replace_decoder,
    tables_in,
    write_bundle,
)
from export.decoder import DecoderOptions, WeightStorage
from export.decoder.export import TRAINED, compare_decoder, export_decoder
from server_decoder.grain.grain import Grain, GrainConfig, save_trained
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.prior_store import DEFAULT_PRIOR, prior_licence

CODER_PICTURES = 10_000
"""Pictures whose LRs, and whose mirror images' LRs, the coder's tables are fitted to."""
MOST_SOURCES, OTHER_SOURCES = 50, "other"
"""Most prefixes of file names that a manifest counts by name, and the name of the rest."""
COMPARED = 8
"""LRs on which the exported decoder is compared with torch."""
_AT_ONCE = 8  # pictures that are encoded together


def publish_run(checkpoint: Path, data: Path, folder: Path, *, bundle_id: str, version: str, domain: str = "",
                exclude: tuple[str, ...] = (), coder_pictures: int = CODER_PICTURES,
                licence: Mapping[str, str] | None = None, prior: str | Path | None = None,
                encoder_of: Path | None = None, storage: WeightStorage | None = None, force: bool = False,
                report: Progress | None = None) -> dict[str, Any]:
    """Write the bundle of a run and return a summary.

    Lowers the averaged encoder to its integers, fits the coder's tables to the LRs of training pictures, exports every
    format and the decoder, and compares the exported decoder with torch.

    Args:
        checkpoint: the run's folder or checkpoint.
        data: training pictures; the coder's tables are fitted to their LRs.
        folder: of the bundle.
        bundle_id: id in the manifest.
        version: version in the manifest.
        domain: subject of the pictures; by default that of the run's recipe.
        exclude: name patterns left out, as in training.
        coder_pictures: number of pictures that, with their mirror images, the coder's tables are fitted to.
        licence: ``weights`` and ``data`` for the manifest, which adds the prior's; by default `usual_licence`. With
            ``encoder_of`` they are added to that bundle's, for the decoder.
        prior: the generator's file or name, if the run has one.
        encoder_of: folder of the bundle whose encoder and coder are kept.
        storage: storage of the decoder's weights; by default `decoder_storage`.
        force: replace a bundle that exists.
        report: called while pictures are read and encoded, and before the exports.
    """
    refuse_to_replace(folder, force, bundle_id, version)
    run = open_run(checkpoint, prior)
    recipe = run.recipe
    domain = domain or recipe.domain
    shard = packed_pictures(run_folder(checkpoint), data, exclude, recipe.encoder.hr, report)
    lrs = encode(run.average, shard, COMPARED, report=report) if encoder_of is not None else encode(
        run.average, shard, coder_pictures, mirrored=True, report=report)
    if report is not None:
        report(1.0, "exporting encoder and decoder")
    source = kept_encoder(run, encoder_of) if encoder_of is not None else None
    if source is not None:
        licence = with_kept(source.licence, licence or {}, "Decoder")
    licence = licence or usual_licence(domain)
    decoder = final_decoder(run)
    if isinstance(decoder, Grain):
        architecture = decoder.config.as_dict()
        licence = {**licence, "prior": prior_licence(prior or DEFAULT_PRIOR)}
    else:
        architecture = asdict(decoder.config)
    graph = export_decoder(decoder, recipe.encoder.lr, DecoderOptions(decoder_storage(decoder, storage)))
    comparison = compare_decoder(graph, decoder, lrs[:COMPARED])
    training = _training_record(run, len(shard), picture_sources(data, exclude))
    fields = manifest_fields(bundle_id, "grain", architecture=architecture, training=training, licence=licence,
                             domain=domain, version=version)
    card = card_text(bundle_id, training, {}, licence, domain=domain, sizes=(recipe.encoder.hr, recipe.encoder.lr))
    if source is None:
        parts = BundleParts(encoder_part(run), graph, fit_tables(lrs, level_step=recipe.lr_step), fields, card)
        manifest = write_bundle(folder, parts, force=force)
    else:
        manifest = replace_decoder(source, folder, graph, fields, card=card, force=force)
    return {"bundle": str(folder), "lr_contract_id": manifest.lr_contract_id.hex(), "stages": training["stages"],
            "decoder_difference_from_torch": comparison.largest_difference,
            "bytes": sum(entry.size for entry in manifest.files.values())}


@torch.no_grad()
def encode(model: Autoencoder, pictures: np.ndarray, count: int, seed: int = 0, *, mirrored: bool = False,
           report: Progress | None = None) -> np.ndarray:
    """LRs of a random choice of training pictures, uint8 ``[count, lr, lr, 3]``.

    ``mirrored`` adds the LRs of the mirror images, which differ from mirrored LRs, and doubles the count. ``report`` is
    called after every batch.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pictures))[:count])
    lrs = []
    for start in range(0, len(chosen), _AT_ONCE):
        x = torch.from_numpy(np.stack([pictures[index] for index in chosen[start : start + _AT_ONCE]]))
        x = x.permute(0, 3, 1, 2).float()
        levels, _ = model.encoder(torch.cat([x, x.flip(3)]) if mirrored else x)
        lrs.append(levels.permute(0, 2, 3, 1).numpy().astype(np.uint8))
        if report is not None:
            report(min(1.0, (start + _AT_ONCE) / len(chosen)), f"encoding {len(chosen):,} pictures")
    return np.concatenate(lrs)


def picture_sources(data: Path, exclude: tuple[str, ...]) -> dict[str, int]:
    """Number of training pictures per prefix of the file name, up to its first ``_``.

    Pictures without one, and those of all but the most frequent prefixes, count as ``other``: a manifest names sources,
    not pictures.
    """
    counts: Counter[str] = Counter()
    for picture in stored_pictures(data, exclude):
        prefix, underscore, _ = printable_name(picture.name).partition("_")
        counts[prefix if underscore else OTHER_SOURCES] += 1
    named = dict(counts.most_common(MOST_SOURCES))
    if rest := counts.total() - sum(named.values()):
        named[OTHER_SOURCES] = named.get(OTHER_SOURCES, 0) + rest
    return named


def _training_record(run: GrainRun, pictures: int, sources: Mapping[str, int]) -> dict[str, Any]:
    """The manifest's ``training``; ``pictures`` is the number of training pictures."""
    stages = list(run.stages)
    return {"stages": stages, "pictures_seen": sum(stage["pictures"] for stage in stages), "pictures_in_set": pictures,
            "data": sources, "commit": _commit(), "learned_correction": isinstance(run.average.encoder, EncoderTwin)}


def _commit() -> str:
    """The commit of the clone that this file belongs to; an installed package may lie in another project's clone."""
    file = Path(__file__)
    try:
        for command in (["ls-files", "--error-unmatch", file.name], ["rev-parse", "HEAD"]):
            result = subprocess.run(["git", *command], cwd=file.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()


def store_trained(checkpoint: Path, folder: Path, prior: str | Path | None = None, *, data: Path | None = None,
                  exclude: tuple[str, ...] = (), encoder_of: Path | None = None, force: bool = False,
                  report: Progress | None = None) -> Path:
    """Write a run's trained weights, integer encoder and coder tables into a folder of the zoo.

    Weights are float16; those of a decoder without generator are int8 where they are large, as in its bundle.

    Args:
        checkpoint: the run's folder or checkpoint.
        folder: the folder to write, usually in ``zoo/``.
        prior: the generator's file or name, if the run has one.
        data: training pictures whose LRs the coder's tables are fitted to; None leaves the tables out, or those in the
            folder as they are.
        exclude: name patterns left out, as in training.
        encoder_of: folder of the bundle whose encoder and coder are taken.
        force: replace the files, and remove those that the run does not have.
        report: called while pictures are read and encoded.
    """
    _refuse_to_replace(folder, force)
    run = open_run(checkpoint, prior)
    model, compact = run.average.decoder, run.recipe.stage == "1"
    if compact:
        model = _invertible_only(model.decoder if isinstance(model, Grain) else model)
    kept = kept_encoder(run, encoder_of) if encoder_of is not None else None
    network = integer_encoder(run) if run.recipe.correction and kept is None else None
    tables = None
    if data is None and kept is None and tables_in(folder).step != run.recipe.lr_step:
        raise EdgegrainError(f"the run's levels have a step of {run.recipe.lr_step}, which the coder's tables state; "
                             "pass the training pictures (--data), to which they are fitted")
    if data is not None and kept is None:
        pictures = packed_pictures(run_folder(checkpoint), data, exclude, run.recipe.encoder.hr, report)
        tables = fit_tables(encode(run.average, pictures, CODER_PICTURES, mirrored=True, report=report),
                            level_step=run.recipe.lr_step)
    folder.mkdir(parents=True, exist_ok=True)
    path = save_trained(cast(Grain, model), folder / TRAINED, history=run.stages, compact=compact, force=force)
    if kept is not None:
        for name in (ENCODER_WEIGHTS, CODER_TABLES):
            write_atomically(folder / name, kept.open_file(name), force=force)
        return path
    if network is not None:
        save_integer_network(network, folder / ENCODER_WEIGHTS, force=force)
    else:  # of a run that had an encoder
        (folder / ENCODER_WEIGHTS).unlink(missing_ok=True)
    if tables is not None:
        write_atomically(folder / CODER_TABLES, tables.to_json(), force=force)
    return path


def store_around(checkpoint: Path, folder: Path, decoder_of: Path, prior: str | Path | None = None, *,
                 force: bool = False) -> Path:
    """Write the codes and the fusion of a run that was trained around the decoder of a bundle into a folder of the zoo.

    The file names the bundle, whose encoder, coder and invertible decoder are used. Large weights are int8.

    Args:
        checkpoint: the run's folder or checkpoint.
        folder: the folder to write, usually in ``zoo/``.
        decoder_of: folder of the bundle whose encoder and invertible decoder the run kept.
        prior: the generator's file or name.
        force: replace the files, and remove encoder and tables of another run.
    """
    _refuse_to_replace(folder, force)
    run = open_run(checkpoint, prior)
    kept = kept_decoder(run, decoder_of)
    folder.mkdir(parents=True, exist_ok=True)
    path = save_trained(cast(Grain, run.average.decoder), folder / TRAINED, history=run.stages, kept=kept,
                        compact=True, force=force)
    for name in (ENCODER_WEIGHTS, CODER_TABLES):  # of another decoder, in place of which the bundle's count now
        (folder / name).unlink(missing_ok=True)
    return path


def _refuse_to_replace(folder: Path, force: bool) -> None:
    """Raise `ExistsError` before the work, which takes minutes."""
    for name in (TRAINED, ENCODER_WEIGHTS, CODER_TABLES):
        if (folder / name).exists() and not force:
            raise ExistsError(folder / name)


def _invertible_only(decoder: RRDBDecoder) -> Grain:
    """GRAIN without generator, codes and fusion ([GRAIN] Table 2)."""
    model = Grain(GrainConfig(decoder.config))
    model.decoder.load_state_dict(decoder.state_dict())
    return model
