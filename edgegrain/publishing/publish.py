"""Publish a training run of GRAIN as a bundle, or store its trained weights in the zoo.

A published encoder is frozen: another encoder makes another LR contract, and stored payloads keep needing the first. A
run that kept it (all stages after the first do) is published with that bundle's encoder, coder tables and golden
vectors, byte for byte (``encoder_of``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from codec_contract.bundle.manifest import CODER_TABLES, ENCODER_WEIGHTS, Manifest, load_manifest
from codec_contract.errors import BundleError, EdgegrainError, ExistsError, ModelError
from codec_contract.files import printable_name, write_atomically
from edge_encoder.integer_network import IntegerNetwork, integer_digest, load_integer_network, save_integer_network
from edge_encoder.twin import BoxMean, EncoderTwin, box_network, lower, raise_twin
from edgegrain.pictures.stored_pictures import list_pictures
from edgegrain.pictures.writing import Progress
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.publishing.model_card import CODEC, card_text
from edgegrain.training.checkpoint import checkpoint_path
from edgegrain.training.data import packed_pictures
from edgegrain.training.grain.model import Autoencoder, GrainRun, load_run, read_recipe
from edgegrain.training.grain.start import recipe_prior
from edgegrain.training.super_resolution.trainer import FAMILY as SUPER_RESOLUTION
from export import papers
from export.bundle import writer
from export.decoder import DecoderOptions, WeightStorage
from export.decoder.export import TRAINED, bundle_decoder, compare_decoder, export_decoder
from export.proof.report import clone_commit
from sdk.payload import coder_tables
from server_decoder.grain.grain import Grain, GrainConfig, save_trained
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.prior_store import DEFAULT_PRIOR, prior_licence
from server_decoder.weight_file import read_header

CODER_PICTURES = 10_000  # pictures whose LRs, and whose mirror images' LRs, the coder's tables are fitted to
MOST_SOURCES, OTHER_SOURCES = 50, "other"
"""Most prefixes of file names that a manifest counts by name, and the name of the rest."""
COMPARED = 8  # LRs on which the exported decoder is compared with torch
KEPT_FIT = "coder_fit.json"  # file in a run's folder that keeps fitted tables, also of an interrupted publication
_AT_ONCE = 8  # pictures that are encoded together


def publish_run(
    checkpoint: Path,
    data: Path,
    folder: Path,
    *,
    bundle_id: str,
    version: str,
    domain: str = "",
    exclude: tuple[str, ...] = (),
    coder_pictures: int = CODER_PICTURES,
    licence: Mapping[str, str] | None = None,
    prior: str | Path | None = None,
    encoder_of: Path | None = None,
    mix: float = 1.0,
    storage: WeightStorage | None = None,
    force: bool = False,
    report: Progress | None = None,
) -> dict[str, Any]:
    """Write the bundle of a run, given by its folder or checkpoint, and return a summary.

    ``licence`` is by default `usual_licence`; with ``encoder_of``, the folder of a bundle, it is added to that of the
    bundle, for the decoder. The prior's is added too. ``mix`` is the run's part in a `mixed` decoder, which the
    manifest states with the last stage.
    """
    writer.refuse_to_replace(folder, force, bundle_id, version)
    run = open_run(checkpoint, prior)
    recipe, encoder = run.recipe, run.average.encoder
    hr, lr, domain = recipe.encoder.hr, recipe.encoder.lr, domain or recipe.domain
    pictures = packed_pictures(run_folder(checkpoint), data, exclude, hr, report)
    source = kept_encoder(run, encoder_of) if encoder_of is not None else None
    lrs = encode(run.average, pictures, COMPARED if source else coder_pictures, mirrored=source is None, report=report)
    if source is None:
        tables = fit_tables(lrs, level_step=recipe.lr_step, kept=run_folder(checkpoint) / KEPT_FIT, report=report)
    else:
        licence = writer.with_kept(source.licence, licence or {}, "Decoder")
    if report is not None:
        report(1.0, "exporting encoder and decoder")
    licence = licence or writer.usual_licence(domain)
    decoder, stages = run.average.decoder.eval(), list(run.stages)
    if source is not None and mix < 1:
        decoder = mixed(bundle_decoder(source), decoder, mix)
        stages[-1] = {**stages[-1], "mix": mix}
    if isinstance(decoder, Grain):
        licence = {**licence, "prior": prior_licence(prior or DEFAULT_PRIOR)}
    usual = WeightStorage.compact if isinstance(decoder, Grain) else WeightStorage.float16
    graph = export_decoder(decoder, lr, DecoderOptions(storage or usual))
    comparison = compare_decoder(graph, decoder, lrs[:COMPARED])
    training = {
        "stages": stages,
        "pictures_seen": sum(stage["pictures"] for stage in stages),
        "pictures_in_set": len(pictures),
        "data": picture_sources(data, exclude),
        "commit": (clone_commit() or "unknown").split()[0],
        "learned_correction": isinstance(encoder, EncoderTwin),
    }
    architecture = decoder.config.as_dict() if isinstance(decoder, Grain) else asdict(decoder.config)
    stated: dict[str, Any] = {"domain": domain, "version": version, "licence": licence}
    fields = writer.manifest_fields(bundle_id, CODEC, training=training, architecture=architecture, **stated)
    card = card_text({**fields, "hr": hr, "lr": lr})
    if source is not None:
        if source.further_rates:
            fields["finest_step"] = min(recipe.lr_step, *recipe.lr_steps)
        manifest = writer.replace_decoder(source, folder, graph, fields, card, force=force)
    else:
        network: Any = integer_encoder(run) if isinstance(encoder, BoxMean | EncoderTwin) else None
        part = encoder.bundle_part() if network is None else writer.exact_encoder(network)  # type: ignore[operator]
        manifest = writer.write_bundle(folder, part, graph, tables, fields, card, force=force)
    size, difference = sum(entry.size for entry in manifest.files.values()), comparison.largest_difference
    summary = {"bundle": str(folder), "lr_contract_id": manifest.lr_contract_id.hex(), "stages": training["stages"]}
    return {**summary, "decoder_difference_from_torch": difference, "bytes": size}


def store_trained(
    checkpoint: Path,
    folder: Path,
    prior: str | Path | None = None,
    *,
    data: Path | None = None,
    exclude: tuple[str, ...] = (),
    encoder_of: Path | None = None,
    force: bool = False,
    report: Progress | None = None,
) -> Path:
    """Write a run's trained weights, integer encoder and coder tables into a folder of the zoo.

    Weights are float16; those of a decoder without generator are int8 where they are large, as in its bundle. The
    tables are fitted to the LRs of ``data``; without it those in the folder stay. With ``encoder_of``, the folder of a
    bundle, its encoder and tables are taken.
    """
    for name in (TRAINED, ENCODER_WEIGHTS, CODER_TABLES):  # before the work, which takes minutes
        if (folder / name).exists() and not force:
            raise ExistsError(folder / name)
    run = open_run(checkpoint, prior)
    model, invertible = run.average.decoder, run.recipe.stage == "1"
    files: dict[str, bytes] = {}
    if isinstance(model, RRDBDecoder):  # GRAIN without generator, codes and fusion ([GRAIN] Table 2)
        trained, model = model, Grain(GrainConfig(model.config))
        model.decoder.load_state_dict(trained.state_dict())
    network = None
    if encoder_of is not None:
        kept = kept_encoder(run, encoder_of)
        files = {name: kept.open_file(name) for name in (ENCODER_WEIGHTS, CODER_TABLES)}
    else:
        network = integer_encoder(run) if run.recipe.correction else None
        if data is not None:
            pictures = packed_pictures(run_folder(checkpoint), data, exclude, run.recipe.encoder.hr, report)
            lrs = encode(run.average, pictures, CODER_PICTURES, mirrored=True, report=report)
            kept_fit = run_folder(checkpoint) / KEPT_FIT
            tables = fit_tables(lrs, level_step=run.recipe.lr_step, kept=kept_fit, report=report)
            files[CODER_TABLES] = tables.to_json()
        elif writer.tables_in(folder).step != run.recipe.lr_step:
            stated = f"the run's levels have a step of {run.recipe.lr_step}, which the coder's tables state"
            raise EdgegrainError(f"{stated}; pass the training pictures (--data), to which they are fitted")
        elif (folder / CODER_TABLES).exists():
            files[CODER_TABLES] = (folder / CODER_TABLES).read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    path = save_trained(model, folder / TRAINED, history=run.stages, compact=invertible, force=force)
    for name in (ENCODER_WEIGHTS, CODER_TABLES):
        if name in files:
            write_atomically(folder / name, files[name], force=force)
        else:  # of another run
            (folder / name).unlink(missing_ok=True)
    if network is not None:
        save_integer_network(network, folder / ENCODER_WEIGHTS)
    return path


@torch.no_grad()
def mixed(kept: RRDBDecoder | Grain, trained: RRDBDecoder | Grain, part: float) -> RRDBDecoder:
    """``kept`` with its weights moved by ``part`` of the way to those of ``trained`` (Wortsman et al. 2022, "Robust
    Fine-Tuning of Zero-Shot Models", 3). Branches for other steps that ``trained`` lacks stay."""
    weights, others = kept.state_dict(), trained.state_dict()
    if isinstance(kept, Grain) or any(
        name not in weights or weights[name].shape != tensor.shape for name, tensor in others.items()
    ):
        raise BundleError("weights can be mixed with those of a bundle whose decoder has the same shape, and no prior")
    for name, tensor in others.items():
        weights[name].lerp_(tensor, part)
    return kept


@torch.no_grad()
def encode(
    model: Autoencoder, pictures: np.ndarray, count: int, *, mirrored: bool, report: Progress | None = None
) -> np.ndarray:
    """LRs of a random choice of pictures, ``mirrored``: and of their mirror images, uint8 ``[N, lr, lr, 3]``."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(pictures))[:count])
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
    """Number of training pictures per prefix of the file name, up to its first ``_``; rare ones count as ``other``: a
    manifest names sources, not pictures."""
    counts: Counter[str] = Counter()
    for picture in list_pictures(data, exclude):
        prefix, underscore, _ = printable_name(picture.name).partition("_")
        counts[prefix if underscore else OTHER_SOURCES] += 1
    named = dict(counts.most_common(MOST_SOURCES))
    if rest := counts.total() - sum(named.values()):
        named[OTHER_SOURCES] = named.get(OTHER_SOURCES, 0) + rest
    return named


def open_run(checkpoint: Path, prior: str | Path | None = None) -> GrainRun:
    """A run, given by its folder or checkpoint, with its generator: a file, a name, or the published one."""
    return load_run(checkpoint, recipe_prior(read_recipe(checkpoint), prior))


def run_folder(checkpoint: Path) -> Path:
    """The folder of a run, given by its folder or checkpoint."""
    return checkpoint_path(checkpoint).resolve().parent


def integer_encoder(run: GrainRun) -> IntegerNetwork:
    """The averaged encoder as integers; the box mean for a run without learned correction."""
    encoder = run.average.encoder
    if isinstance(encoder, BoxMean):
        return box_network(encoder.hr, encoder.lr)
    if isinstance(encoder, EncoderTwin):
        return lower(encoder)
    found = "the encoder of this run is the paper's float network, which has no integers"
    raise BundleError(f"{found}; publish the run as a bundle, without --trained-only and --encoder-of")


def kept_encoder(run: GrainRun, encoder_of: Path) -> Manifest:
    """The bundle whose encoder a run kept, with the step of its levels."""
    source = load_manifest(encoder_of)
    step, advice = coder_tables(source).step, "publish it without --encoder-of, under an id of its own"
    if step != run.recipe.lr_step:
        steps = f"bundle {source.id} stores LR levels in steps of {step}, the run had lr_step={run.recipe.lr_step}"
        raise BundleError(f"{steps}; {advice}")
    if not has_encoder(run.average, load_integer_network(source.open_file(ENCODER_WEIGHTS))):
        other = f"the run's encoder is not that of bundle {source.id}: its weights moved, or it began with another"
        raise BundleError(f"{other}; {advice}")
    return source


def has_encoder(model: Autoencoder, network: IntegerNetwork) -> bool:
    """True if a model's encoder is the published one: if it lowers to the same integers, or was raised from them."""
    # A raised twin may lower to weights of another scale, where the published ones left a bit unused.
    twin = model.encoder
    if isinstance(twin, BoxMean):
        return integer_digest(box_network(twin.hr, twin.lr)) == integer_digest(network)
    if not isinstance(twin, EncoderTwin) or twin.config.name != network.architecture:
        return False
    raised = raise_twin(network, twin.config).state_dict()
    return integer_digest(lower(twin)) == integer_digest(network) or all(
        torch.equal(tensor, raised[name]) for name, tensor in twin.state_dict().items()
    )


def run_family(run: Path) -> str:
    """The family of a run, given by its folder, its checkpoint or its weights: `CODEC`, or one of `papers.WEIGHTS`."""
    path = checkpoint_path(run)
    if run.is_dir():
        path = next((run / name for name in papers.WEIGHTS if (run / name).is_file()), path)
    try:
        header = read_header(path)
        config = json.loads(header.get("config", "{}"))
        kind = config.get("kind") or config.get("network", {}).get("kind")
    except (OSError, SafetensorError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is not a checkpoint of a training run ({error})") from error
    by_kind = {weights.name.lower(): weights.family for weights in papers.WEIGHTS.values()}
    family = header.get("family") or by_kind.get("irn" if "irn" in header else kind, CODEC)
    if family == SUPER_RESOLUTION:
        advice = "add it to a bundle with 'edgegrain export enlarger'"
        raise ModelError(f"{path} is a checkpoint of an enlarger, not of a codec; {advice}")
    if family not in (CODEC, *by_kind.values()):
        raise ModelError(f"{path} is a checkpoint of {family}, not of a codec; its weights are a prior for --prior")
    return family
