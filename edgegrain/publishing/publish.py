"""From a training run to a bundle.

    python -m edgegrain.publishing.publish --checkpoint runs/faces --data FACES --id faces-256-lr16
    python -m edgegrain.publishing.publish --checkpoint runs/final --data FACES --id faces-256-lr16 --prior PRIOR \
        --encoder-of faces --version 0.2.0 --if-better UNSEEN

Lowers the averaged encoder to its integers, fits the payload's coder tables to the LRs of training pictures, exports
every format and the decoder (compared with torch on those LRs), and writes the bundle. Afterwards
`edgegrain evaluate` measures it and `edgegrain.publishing.model_card` enters the result.

A published encoder is frozen: publishing another one makes another LR contract, and stored payloads keep needing the
first. A run that kept the encoder of a bundle (all stages after the first do) is published with ``--encoder-of``:
encoder, coder and golden vectors are then that bundle's files, byte for byte.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer

from codec_contract.bundle.file_names import CODER_TABLES as CODER
from codec_contract.bundle.file_names import DECODER_ONNX as DECODER
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import BundleError
from codec_contract.files import write_atomically
from edge_encoder.integer_network import IntegerNetwork, digest, load, save
from edge_encoder.lowering import box_network, lower, raise_twin
from edge_encoder.twin import EncoderTwin
from edgegrain.metrics.metric_weights import find_weights
from edgegrain.metrics.picture_metrics import Metrics
from edgegrain.pictures.packed import list_pictures, pack, read_square, stored_pictures
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.publishing.improvement import measure, shortcomings
from edgegrain.publishing.model_card import card_text
from edgegrain.publishing.run_source import run_source
from edgegrain.training.console import errors_on_one_line
from edgegrain.training.grain.autoencoder import Autoencoder
from edgegrain.training.grain.checkpoint import checkpoint_path, load_run, read_config
from edgegrain.training.prior_files import load_prior
from export.bundle.licences import UNSTATED, usual_licence
from export.bundle.writer import assemble_bundle, replace_decoder
from export.decoder.command import Weights, compare_decoder, export_decoder
from export.decoder.sources import ENCODER, TRAINED, find_decoder
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.grain.weights import save_trained
from server_decoder.prior_store import DEFAULT_PRIOR, prior_licence

KEPT = 3  # exit status: the published bundle stays
CODER_PICTURES = 10_000  # whose LRs, and whose mirror images' LRs, the coder's tables are fitted to
COMPARED = 8  # LRs on which the exported decoder is compared with torch


@torch.no_grad()
def encode(model: Autoencoder, pictures: np.ndarray, count: int, seed: int = 0, *, mirrored: bool = False
           ) -> np.ndarray:
    """uint8 ``[count, lr, lr, 3]``: the LRs of a random choice of training pictures.

    With ``mirrored`` twice as many: those of the mirror images too, which are no mirrored LRs.
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
    """Whether a model's encoder is a published one.

    It is if it lowers to the same integers, or if it was raised from them: a raised twin computes the same LRs, but
    lowers to weights of another scale where the published ones left a bit unused.
    """
    twin = model.encoder
    if not isinstance(twin, EncoderTwin):
        return digest(box_network(twin.config)) == digest(network)
    if twin.config.name != network.architecture:
        return False
    raised = raise_twin(network, twin.config).state_dict()
    return digest(lower(twin)) == digest(network) or all(
        torch.equal(tensor, raised[name]) for name, tensor in twin.state_dict().items())


def publish(checkpoint: Path, data: Path, folder: Path, *, bundle_id: str, version: str, domain: str = "",
            exclude: tuple[str, ...] = (), coder_pictures: int = CODER_PICTURES,
            licence: Mapping[str, str] | None = None, prior: str | Path | None = None, encoder_of: Path | None = None,
            storage: Weights | None = None, force: bool = False) -> dict[str, Any]:
    """Write the bundle of a run; returns a summary.

    Args:
        checkpoint: the run's folder or checkpoint.
        data: training pictures; the coder's tables are fitted to their LRs.
        folder: of the bundle.
        bundle_id, version: for the manifest.
        domain: what the pictures show; by default as the run's recipe says.
        exclude: name patterns left out, as in training.
        coder_pictures: pictures that, with their mirror images, the coder's tables are fitted to.
        licence: ``weights`` and ``data``, for the manifest, which adds the prior's; by default `usual_licence`.
        prior: the generator's file or name, if the run has one.
        encoder_of: folder of the bundle whose encoder and coder are kept.
        storage: of the decoder's weights; by default float16, or compact (large ones as int8) with a generator.
        force: replace a bundle that exists.

    Raises:
        BundleError: the run's encoder is not that of ``encoder_of``.
        EdgegrainError: as `assemble_bundle`, and if the prior is absent or another.
    """
    run = load_run(checkpoint, load_prior(read_config(checkpoint), prior))
    config, average = run.config, run.average
    domain = domain or config.domain
    licence = licence or usual_licence(domain)
    shard = pack(stored_pictures(data, exclude), config.encoder.hr, checkpoint_path(checkpoint).parents[1] / "packed")
    lrs = encode(average, shard, COMPARED) if encoder_of is not None else encode(
        average, shard, coder_pictures, mirrored=True)
    encoder = average.encoder
    network = lower(encoder) if isinstance(encoder, EncoderTwin) else box_network(config.encoder)
    source = _kept_encoder(average, encoder_of) if encoder_of is not None else None
    decoder = average.decoder.eval()
    if isinstance(decoder, Grain) and config.stage == "1":  # it had the generator for its pictures
        decoder = decoder.decoder
    if isinstance(decoder, Grain):
        architecture, usual = decoder.config.as_dict(), Weights.compact
        licence = {**licence, "prior": prior_licence(prior or DEFAULT_PRIOR)}
    else:
        architecture, usual = asdict(decoder.config), Weights.float16
    graph = export_decoder(decoder, config.encoder.lr, storage or usual)
    comparison = compare_decoder(graph, decoder, lrs[:COMPARED])
    stages = [*run.history, {"stage": config.stage, "pictures": run.pictures}]
    training = {"stages": stages, "pictures_seen": sum(stage["pictures"] for stage in stages),
                "pictures_in_set": len(shard), "data": _sources(data, exclude), "commit": _commit(),
                "learned_correction": config.correction}
    fields = {
        "id": bundle_id, "version": version, "codec": "grain", "domain": domain,
        "decoder": {"file": DECODER, "input": "lr", "output": "hr", "controls": [],
                    "architecture": architecture},
        "training": training, "evaluation": {}, "licence": dict(licence),
    }
    card = card_text(bundle_id, training, {}, licence, domain=domain, sizes=(config.encoder.hr, config.encoder.lr))
    if source is None:
        manifest = assemble_bundle(folder, network, graph, fit_tables(lrs), fields, card=card, force=force)
    else:
        manifest = replace_decoder(source, folder, graph, fields, card=card, force=force)
    return {"bundle": str(folder), "lr_contract_id": manifest.lr_contract_id.hex(), "stages": stages,
            "decoder_difference_from_torch": comparison.largest_difference,
            "bytes": sum(entry.size for entry in manifest.files.values())}


def compare(checkpoint: Path, published: Path, unseen: Path, weights: Path | None = None,
            prior: str | Path | None = None) -> tuple[dict[str, Any], list[str]]:
    """Mean scores of a run and of the bundle it would replace, and the reasons not to.

    Raises:
        BundleError: there is no such bundle.
        EdgegrainError: metrics' weights or pictures are missing.
    """
    after, before = run_source(checkpoint, prior), find_decoder(published)
    side = after.network.hr
    if before.network.hr != side:
        raise BundleError(f"{published} makes pictures of {before.network.hr}x{before.network.hr}, the run of "
                          f"{side}x{side}: they cannot be compared")
    domain = before.manifest.domain if before.manifest is not None else "faces"
    judge = Metrics(find_weights(weights, faces=domain == "faces"), faces=domain == "faces")
    originals = [read_square(path, side) for path in list_pictures(unseen)]
    new = measure(after, originals, judge)
    old = measure(before, originals, judge)
    return ({"pictures_compared": len(originals), "new": asdict(new), "published": asdict(old)},
            shortcomings(new, old, before.name))


def store_trained(checkpoint: Path, folder: Path, prior: str | Path | None = None, *, data: Path | None = None,
                  exclude: tuple[str, ...] = (), encoder_of: Path | None = None, force: bool = False) -> Path:
    """Write a run's trained weights, its integer encoder and the coder's tables into a folder of the zoo, of which
    `export.bundle.grain_bundle` makes a bundle with the generator, and with which a later run can begin.

    Weights are float16, those of a decoder without generator int8 where they are large, as bundles keep them too.

    Args:
        checkpoint: the run's folder or checkpoint.
        folder: in the zoo.
        prior: the generator's file or name, if the run has one.
        data: training pictures, to whose LRs the coder's tables are fitted; None leaves them out.
        exclude: name patterns left out, as in training.
        encoder_of: folder of the bundle whose encoder and coder are taken.
        force: replace the files.

    Raises:
        BundleError: the run's encoder is not that of ``encoder_of``.
        FileExistsError: the folder holds such files and ``force`` is false.
    """
    run = load_run(checkpoint, load_prior(read_config(checkpoint), prior))
    encoder, model = run.average.encoder, run.average.decoder
    if run.config.stage == "1":
        model = _invertible_only(model.decoder if isinstance(model, Grain) else model)
    history = [*run.history, {"stage": run.config.stage, "pictures": run.pictures}]
    kept = _kept_encoder(run.average, encoder_of) if encoder_of is not None else None
    folder.mkdir(parents=True, exist_ok=True)
    path = save_trained(cast(Grain, model), folder / TRAINED, history=history, compact=run.config.stage == "1",
                        force=force)
    if kept is not None:
        for name in (ENCODER, CODER):
            write_atomically(folder / name, kept.open_file(name), force=force)
        return path
    if isinstance(encoder, EncoderTwin):
        save(lower(encoder), folder / ENCODER, force=force)
    if data is not None:
        shard = pack(stored_pictures(data, exclude), run.config.encoder.hr,
                     checkpoint_path(checkpoint).parents[1] / "packed")
        tables = fit_tables(encode(run.average, shard, CODER_PICTURES, mirrored=True))
        write_atomically(folder / CODER, tables.to_json(), force=force)
    return path


def _invertible_only(decoder: RRDBDecoder) -> Grain:
    """GRAIN without generator, codes and fusion ([GRAIN] Table 2)."""
    model = Grain(GrainConfig(decoder.config))
    model.decoder.load_state_dict(decoder.state_dict())
    return model


def _kept_encoder(average: Autoencoder, encoder_of: Path) -> Manifest:
    """The bundle whose encoder a run kept."""
    source = load_manifest(encoder_of)
    if not has_encoder(average, load(source.open_file(ENCODER))):
        raise BundleError(f"the run's encoder is not that of bundle {source.id}: its weights moved, or it began with "
                          "another; publish it without --encoder-of, under an id of its own")
    return source


def _sources(data: Path, exclude: tuple[str, ...]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for picture in stored_pictures(data, exclude):
        source = picture.name.split("_")[0]
        counts[source] = counts.get(source, 0) + 1
    return counts


def _commit() -> str:
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True,
                                check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()


def main(
    checkpoint: Annotated[Path, typer.Option(help="The run's folder, or its last.safetensors.")],
    data: Annotated[Path, typer.Option(help="Training pictures; the coder's tables are fitted to their LRs.")],
    bundle_id: Annotated[str, typer.Option("--id", help="Id of the bundle.")],
    out: Annotated[Path, typer.Option(help="Folder of bundles.")] = Path("bundles"),
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1.0.0",
    domain: Annotated[str, typer.Option(help="What the pictures show [default: as the run's recipe says].")] = "",
    data_licence: Annotated[str, typer.Option(
        help="What binds whoever uses the training pictures [default: that of our faces, for the domain faces].")] = "",
    exclude: Annotated[list[str] | None, typer.Option(help="Name patterns left out, as in training.")] = None,
    prior: Annotated[str, typer.Option(
        help="Generator, if the run has one: a fetched prior's name, or a file; by default the published one.")] = "",
    storage: Annotated[Weights | None, typer.Option(
        help="Of the decoder's weights; by default float16, or compact (large ones as int8) with a generator.")] = None,
    trained_only: Annotated[bool, typer.Option(
        "--trained-only", help="Write what was trained instead, for the zoo: no generator, no exports.")] = False,
    encoder_of: Annotated[str, typer.Option(
        help="Bundle (name or folder) whose encoder the run kept; its encoder and coder files are reused.")] = "",
    if_better: Annotated[Path | None, typer.Option(
        exists=True, file_okay=False, help="Folder of pictures that neither has seen: publish only if LPIPS and "
        "identity on them are no worse than those of the bundle that is replaced, and the generator matters.")] = None,
    weights: Annotated[Path | None, typer.Option(
        exists=True, file_okay=False, help="For --if-better: folder of the metrics' weights [default: those of "
        "'edgegrain metrics fetch'].")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle.")] = False,
) -> None:
    """Turn a training run into a bundle.

    Exit status 3 says that --if-better kept the bundle that was there.
    """
    with errors_on_one_line():
        kept = find_bundle(encoder_of) if encoder_of else None
        if trained_only:
            typer.echo(store_trained(checkpoint, out / bundle_id, prior or None, data=data,
                                     exclude=tuple(exclude or ()), encoder_of=kept, force=force))
            return
        comparison: dict[str, Any] = {}
        if if_better is not None:
            comparison, reasons = compare(checkpoint, out / bundle_id, if_better, weights, prior or None)
            if reasons:
                typer.echo(f"not published: {'; '.join(reasons)}", err=True)
                typer.echo(json.dumps(comparison, indent=2))
                raise typer.Exit(KEPT)
        summary = publish(checkpoint, data, out / bundle_id, bundle_id=bundle_id, version=version, domain=domain,
                          exclude=tuple(exclude or ()), prior=prior or None, storage=storage, force=force,
                          encoder_of=kept, licence={**UNSTATED, "data": data_licence} if data_licence else None)
    typer.echo(json.dumps({**summary, **comparison}, indent=2))


if __name__ == "__main__":
    typer.run(main)
