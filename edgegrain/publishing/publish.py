"""Publish a training run of GRAIN as a bundle, or store its trained weights in a folder of the zoo.

A published encoder is frozen: another encoder makes another LR contract, and stored payloads keep needing the first. A
run that kept the encoder of a bundle (all stages after the first do) is published with ``encoder_of``: encoder, coder
and golden vectors are then that bundle's files, byte for byte.
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

from codec_contract.bundle.file_names import CODER_TABLES, ENCODER_WEIGHTS
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError, EdgegrainError, ExistsError
from codec_contract.files import write_atomically
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import IntegerNetwork, integer_digest, load_integer_network, save_integer_network
from edge_encoder.lowering import box_network, lower, raise_twin
from edge_encoder.twin import BoxMean, EncoderTwin
from edgegrain.pictures.packed import pack, stored_pictures
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.publishing.model_card import card_text
from edgegrain.publishing.run_source import encoder_part, final_decoder, integer_encoder, open_run
from edgegrain.training.grain.autoencoder import Autoencoder
from edgegrain.training.grain.checkpoint import GrainRun, checkpoint_path
from edgegrain.training.training_pictures import packed_folder
from export.bundle.licences import usual_licence
from export.bundle.writer import (
    BundleParts,
    manifest_fields,
    refuse_to_replace,
    replace_decoder,
    tables_in,
    write_bundle,
)
from export.decoder.command import compare_decoder, export_decoder
from export.decoder.decoder_options import Weights
from export.decoder.sources import TRAINED, decoder_hash, invertible_decoder
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.grain.weights import KeptDecoder, save_trained
from server_decoder.prior_store import DEFAULT_PRIOR, prior_licence

CODER_PICTURES = 10_000
"""Pictures whose LRs, and whose mirror images' LRs, the coder's tables are fitted to."""
MOST_SOURCES, OTHER_SOURCES = 50, "other"
"""Most prefixes of file names that a manifest counts by name, and the name of the rest."""
COMPARED = 8
"""LRs on which the exported decoder is compared with torch."""


def publish(checkpoint: Path, data: Path, folder: Path, *, bundle_id: str, version: str, domain: str = "",
            exclude: tuple[str, ...] = (), coder_pictures: int = CODER_PICTURES,
            licence: Mapping[str, str] | None = None, prior: str | Path | None = None, encoder_of: Path | None = None,
            storage: Weights | None = None, force: bool = False) -> dict[str, Any]:
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
        licence: ``weights`` and ``data`` for the manifest, which adds the prior's; by default `usual_licence`.
        prior: the generator's file or name, if the run has one.
        encoder_of: folder of the bundle whose encoder and coder are kept.
        storage: storage of the decoder's weights; by default compact (large ones as int8) with a generator, else
            float16.
        force: replace a bundle that exists.

    Raises:
        BundleError: the run's encoder is not that of ``encoder_of``.
        EdgegrainError: as `write_bundle`, and if the prior is missing or another one.
    """
    refuse_to_replace(folder, force, bundle_id)
    run = open_run(checkpoint, prior)
    config = run.config
    domain = domain or config.domain
    licence = licence or usual_licence(domain)
    shard = _packed(checkpoint, data, exclude, config.encoder.hr)
    lrs = encode(run.average, shard, COMPARED) if encoder_of is not None else encode(
        run.average, shard, coder_pictures, mirrored=True)
    source = _kept_encoder(run, encoder_of) if encoder_of is not None else None
    decoder = final_decoder(run)
    if isinstance(decoder, Grain):
        architecture, usual = decoder.config.as_dict(), Weights.compact
        licence = {**licence, "prior": prior_licence(prior or DEFAULT_PRIOR)}
    else:
        architecture, usual = asdict(decoder.config), Weights.float16
    graph = export_decoder(decoder, config.encoder.lr, storage or usual)
    comparison = compare_decoder(graph, decoder, lrs[:COMPARED])
    stages = list(run.stages)
    training = {"stages": stages, "pictures_seen": sum(stage["pictures"] for stage in stages),
                "pictures_in_set": len(shard), "data": picture_sources(data, exclude), "commit": _commit(),
                "learned_correction": isinstance(run.average.encoder, EncoderTwin)}
    fields = manifest_fields(bundle_id, "grain", architecture=architecture, training=training, licence=licence,
                             domain=domain, version=version)
    card = card_text(bundle_id, training, {}, licence, domain=domain, sizes=(config.encoder.hr, config.encoder.lr))
    if source is None:
        parts = BundleParts(encoder_part(run), graph, fit_tables(lrs, level_step=config.lr_step), fields, card)
        manifest = write_bundle(folder, parts, force=force)
    else:
        manifest = replace_decoder(source, folder, graph, fields, card=card, force=force)
    return {"bundle": str(folder), "lr_contract_id": manifest.lr_contract_id.hex(), "stages": stages,
            "decoder_difference_from_torch": comparison.largest_difference,
            "bytes": sum(entry.size for entry in manifest.files.values())}


def store_trained(checkpoint: Path, folder: Path, prior: str | Path | None = None, *, data: Path | None = None,
                  exclude: tuple[str, ...] = (), encoder_of: Path | None = None, decoder_of: Path | None = None,
                  force: bool = False) -> Path:
    """Write a run's trained weights, integer encoder and coder tables into a folder of the zoo.

    `export.bundle.grain_bundle` makes a bundle of the folder and a generator, and a later run can start from it.
    Weights are float16; those of a decoder without generator, and those trained around the decoder of a bundle, are
    int8 where they are large, as in their bundles.

    Args:
        checkpoint: the run's folder or checkpoint.
        folder: the folder to write, usually in ``zoo/``.
        prior: the generator's file or name, if the run has one.
        data: training pictures whose LRs the coder's tables are fitted to; None leaves the tables out, or those in the
            folder as they are.
        exclude: name patterns left out, as in training.
        encoder_of: folder of the bundle whose encoder and coder are taken.
        decoder_of: folder of the bundle whose encoder and invertible decoder the run kept; only codes and fusion are
            written, and the name of the bundle.
        force: replace the files, and remove those that the run does not have.

    Raises:
        EdgegrainError: without ``data`` there are no tables for the step of the run's levels.
        BundleError: the run's encoder is not that of ``encoder_of``, or encoder or decoder are not those of
            ``decoder_of``.
        ExistsError: the folder holds such files and ``force`` is false.
    """
    for name in (TRAINED, ENCODER_WEIGHTS, CODER_TABLES):
        if (folder / name).exists() and not force:  # before the work, which takes minutes
            raise ExistsError(folder / name)
    run = open_run(checkpoint, prior)
    model, compact = run.average.decoder, run.config.stage == "1"
    if decoder_of is not None:
        kept_decoder = _kept_decoder(run, decoder_of)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (ENCODER_WEIGHTS, CODER_TABLES):  # of another decoder, in place of which the bundle's count now
            (folder / name).unlink(missing_ok=True)
        return save_trained(cast(Grain, model), folder / TRAINED, history=run.stages, kept=kept_decoder,
                            compact=True, force=force)
    if compact:
        model = _invertible_only(model.decoder if isinstance(model, Grain) else model)
    kept = _kept_encoder(run, encoder_of) if encoder_of is not None else None
    network = integer_encoder(run) if run.config.correction and kept is None else None
    tables = None
    if data is None and kept is None and tables_in(folder).step != run.config.lr_step:
        raise EdgegrainError(f"the run's levels have a step of {run.config.lr_step}, which the coder's tables state; "
                             "pass the training pictures (--data), to which they are fitted")
    if data is not None and kept is None:
        tables = fit_tables(encode(run.average, _packed(checkpoint, data, exclude, run.config.encoder.hr),
                                   CODER_PICTURES, mirrored=True), level_step=run.config.lr_step)
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


@torch.no_grad()
def encode(model: Autoencoder, pictures: np.ndarray, count: int, seed: int = 0, *, mirrored: bool = False
           ) -> np.ndarray:
    """LRs of a random choice of training pictures, uint8 ``[count, lr, lr, 3]``.

    ``mirrored`` adds the LRs of the mirror images, which differ from mirrored LRs, and doubles the count.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pictures))[:count])
    lrs = []
    for start in range(0, len(chosen), 8):
        x = torch.from_numpy(np.stack([pictures[index] for index in chosen[start : start + 8]]))
        x = x.permute(0, 3, 1, 2).float()
        levels, _ = model.encoder(torch.cat([x, x.flip(3)]) if mirrored else x)
        lrs.append(levels.permute(0, 2, 3, 1).numpy().astype(np.uint8))
    return np.concatenate(lrs)


def has_encoder(model: Autoencoder, network: IntegerNetwork) -> bool:
    """True if a model's encoder is the published one.

    It is if it lowers to the same integers, or if it was raised from them: a raised twin computes the same LRs, but
    lowers to weights of another scale where the published ones left a bit unused.
    """
    twin = model.encoder
    if isinstance(twin, BoxMean):
        return integer_digest(box_network(twin.hr, twin.lr)) == integer_digest(network)
    if not isinstance(twin, EncoderTwin):
        return False
    if twin.config.name != network.architecture:
        return False
    raised = raise_twin(network, twin.config).state_dict()
    return integer_digest(lower(twin)) == integer_digest(network) or all(
        torch.equal(tensor, raised[name]) for name, tensor in twin.state_dict().items())


def _kept_encoder(run: GrainRun, encoder_of: Path) -> Manifest:
    """The bundle whose encoder a run kept, with the step of its levels."""
    source = load_manifest(encoder_of)
    step = CoderTables.from_json(source.open_file(CODER_TABLES)).step
    if step != run.config.lr_step:
        raise BundleError(f"bundle {source.id} stores LR levels in steps of {step}, the run had lr_step="
                          f"{run.config.lr_step}; publish it without --encoder-of, under an id of its own")
    if not has_encoder(run.average, load_integer_network(source.open_file(ENCODER_WEIGHTS))):
        raise BundleError(f"the run's encoder is not that of bundle {source.id}: its weights moved, or it began with "
                          "another; publish it without --encoder-of, under an id of its own")
    return source


def _kept_decoder(run: GrainRun, decoder_of: Path) -> KeptDecoder:
    """The bundle whose encoder and invertible decoder a run with a generator kept."""
    source, model = _kept_encoder(run, decoder_of), run.average.decoder
    if not isinstance(model, Grain) or run.config.stage == "1":
        raise BundleError("the run trained no codes; publish it without --decoder-of")
    wanted, found = invertible_decoder(source).state_dict(), model.decoder.state_dict()
    if wanted.keys() != found.keys() or not all(torch.equal(tensor, found[name]) for name, tensor in wanted.items()):
        raise BundleError(f"the run's invertible decoder is not that of bundle {source.id}: its weights moved, or it "
                          "began with another; publish it without --decoder-of")
    return KeptDecoder(source.id, source.version, decoder_hash(source))


def _invertible_only(decoder: RRDBDecoder) -> Grain:
    """GRAIN without generator, codes and fusion ([GRAIN] Table 2)."""
    model = Grain(GrainConfig(decoder.config))
    model.decoder.load_state_dict(decoder.state_dict())
    return model


def _packed(checkpoint: Path, data: Path, exclude: tuple[str, ...], side: int) -> np.ndarray:
    """Training pictures as one array, uint8 ``[N, side, side, 3]``, stored next to the run."""
    return pack(stored_pictures(data, exclude), side, packed_folder(checkpoint_path(checkpoint).resolve().parent))


def picture_sources(data: Path, exclude: tuple[str, ...]) -> dict[str, int]:
    """Number of training pictures per prefix of the file name, up to its first ``_``.

    Pictures without one, and those of all but the most frequent prefixes, count as ``other``: a manifest names sources,
    not pictures.
    """
    counts: Counter[str] = Counter()
    for picture in stored_pictures(data, exclude):
        prefix, underscore, _ = picture.name.partition("_")
        counts[prefix if underscore else OTHER_SOURCES] += 1
    named = dict(counts.most_common(MOST_SOURCES))
    if rest := counts.total() - sum(named.values()):
        named[OTHER_SOURCES] = named.get(OTHER_SOURCES, 0) + rest
    return named


def _commit() -> str:
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True,
                                check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()
