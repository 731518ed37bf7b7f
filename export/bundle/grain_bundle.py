"""``python -m export.bundle.grain_bundle``: a bundle made of a GRAIN's trained weights.

    python -m export.bundle.grain_bundle --weights zoo/faces-256-lr32 --out bundles/faces-256-lr32
    python -m export.bundle.grain_bundle --invertible-of faces --out bundles/faces-invertible

The folder of weights holds what `edgegrain.publishing.publish` writes with ``--trained-only``: ``grain.safetensors``, the
integer encoder and the coder's tables. The generator, where the weights need one, is added.

The second command takes the invertible decoder out of a bundle: payloads are the same, restoring takes a fraction of
the time, and what the generator added is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import BundleError, EdgegrainError, ExportError, ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import run_reference
from export.bundle.irn_bundle import made_tiles
from export.bundle.licences import usual_licence
from export.bundle.writer import CODER, DECODER, assemble_bundle, refuse_to_replace, replace_decoder
from export.decoder.command import Comparison, Weights, compare_decoder, export_decoder
from export.decoder.sources import TRAINED, find_decoder, zoo_decoder
from export.proof.runtimes import FORMATS
from server_decoder.decoder_session import INPUT, OUTPUT
from server_decoder.grain.grain import KIND, Grain
from server_decoder.grain.weights import read_history
from server_decoder.prior_store import DEFAULT_PRIOR, prior_licence

COMPARED = 4
"""LRs on which the exported decoder is compared with torch."""


def write_trained_bundle(weights: Path, folder: Path, *, prior: str | Path = DEFAULT_PRIOR, version: str = "1.0.0",
                         domain: str = "faces", formats: Sequence[str] = tuple(FORMATS), force: bool = False
                         ) -> tuple[Manifest, Comparison]:
    """Write the bundle of a folder that holds ``grain.safetensors`` and perhaps ``encoder.safetensors`` (else the plain
    area mean is the encoder) and ``coder.json`` (else the general tables).

    Args:
        weights: the folder.
        folder: of the bundle; its name becomes the id.
        prior: the generator, as `load_prior` takes it, for weights that were trained with one.
        version, domain: for the manifest.
        formats: of the encoder.
        force: replace a bundle that exists.

    Returns:
        The manifest, and the exported decoder beside torch.

    Raises:
        FileExistsError: the folder exists and ``force`` is false.
        ModelError: the weights are missing or damaged, or the generator is missing or another.
        ExportError: a conversion fails, or the export differs from torch.
        BundleError: the name makes no id.
    """
    refuse_to_replace(folder, force)
    if not (weights / TRAINED).is_file():
        raise ModelError(f"{weights} holds no {TRAINED}; 'publish --trained-only' writes such a folder")
    source, history = zoo_decoder(weights, prior), list(read_history(weights / TRAINED))
    decoder, network = source.decoder, source.network
    lrs = run_reference(network, np.stack(made_tiles(COMPARED, network.hr)))
    whole = isinstance(decoder, Grain)
    graph = export_decoder(decoder, network.lr, Weights.compact if whole else Weights.float16)
    comparison = compare_decoder(graph, decoder, lrs)
    architecture = decoder.config.as_dict() if isinstance(decoder, Grain) else asdict(decoder.config)
    licence = usual_licence(domain) | ({"prior": prior_licence(prior)} if whole else {})
    training = {"stages": history, "pictures_seen": sum(int(stage["pictures"]) for stage in history)}
    tables_file = weights / CODER
    tables = CoderTables.from_json(tables_file.read_bytes()) if tables_file.is_file() else CoderTables.default()
    fields = {
        "id": folder.name, "version": version, "codec": KIND, "domain": domain,
        "decoder": {"file": DECODER, "input": INPUT, "output": OUTPUT, "controls": [],
                    "architecture": architecture},
        "training": training, "evaluation": {}, "licence": licence,
    }
    card = _card(folder.name, (network.hr, network.lr), training, licence)
    manifest = assemble_bundle(folder, network, graph, tables, fields, card=card, formats=formats, force=force)
    return manifest, comparison


def write_invertible_bundle(bundle: str | Path, folder: Path, *, force: bool = False) -> tuple[Manifest, Comparison]:
    """Write a bundle with the invertible decoder of a GRAIN alone. Its LR contract is the other's, so it restores the
    same payloads.

    Args:
        bundle: id, alias or folder of the GRAIN.
        folder: of the new bundle; its name becomes the id.
        force: replace a bundle that exists.

    Returns:
        The manifest, and the exported decoder beside torch.

    Raises:
        FileExistsError: the folder exists and ``force`` is false.
        BundleError: there is no such bundle, or no invertible picture that training judged: the bundle has no
            generator, or its fusion adds to the generator's picture.
        ExportError: the export differs from torch.
    """
    refuse_to_replace(folder, force)
    source = find_decoder(bundle)
    grain, manifest = source.decoder, source.manifest
    if manifest is None:
        raise BundleError(f"{bundle} is no bundle; make one of it with --weights first")
    if not isinstance(grain, Grain) or grain.fusion is None or grain.fusion.config.base != "invertible":
        raise BundleError(f"{manifest.id} has no invertible picture of its own: " + (
            "its fusion adds to the generator's picture" if isinstance(grain, Grain) else "it has no generator at all"))
    decoder = grain.decoder
    lrs = run_reference(source.network, np.stack(made_tiles(COMPARED, source.network.hr)))
    graph = export_decoder(decoder, source.network.lr, Weights.compact)
    comparison = compare_decoder(graph, decoder, lrs)
    licence = {name: text for name, text in manifest.licence.items() if name != "prior"}
    training = {**manifest.training, "part_of": f"{manifest.id} {manifest.version}"}
    fields = {
        "id": folder.name, "version": manifest.version, "training": training, "evaluation": {}, "licence": licence,
        "decoder": {"file": DECODER, "input": INPUT, "output": OUTPUT, "controls": [],
                    "architecture": asdict(decoder.config)}}
    card = _card(folder.name, (manifest.hr, manifest.lr), training, licence)
    return replace_decoder(manifest, folder, graph, fields, card=card, force=force), comparison


def _card(name: str, sizes: tuple[int, int], training: Mapping[str, Any], licence: Mapping[str, str]) -> str:
    hr, lr = sizes
    seen = f"Training: {training['pictures_seen']:,} pictures seen. " if "pictures_seen" in training else ""
    return "\n".join([
        f"# {name}", "", f"GRAIN, {hr} x {hr} as a viewable LR of {lr} x {lr} and back.", "",
        f"**{licence.get('weights', 'Licence unknown.')}**", "",
        f"{seen}Data: {licence.get('data', 'unknown')}", "",
        *([f"Generator inside: {licence['prior']}.", ""] if "prior" in licence else []),
        "What a restored picture shows beyond its LR is plausible, not evidence.", ""])


def main(
    out: Annotated[Path, typer.Option(help="Folder of the bundle; its name becomes the bundle's id.")],
    weights: Annotated[Path | None, typer.Option(
        exists=True, file_okay=False, help="Folder with grain.safetensors.")] = None,
    invertible_of: Annotated[str, typer.Option(
        help="Instead: a bundle (name or folder) whose invertible decoder is to restore alone, faster.")] = "",
    prior: Annotated[str, typer.Option(help="Generator, if there is one: a fetched prior or a file.")] = DEFAULT_PRIOR,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1.0.0",
    domain: Annotated[str, typer.Option(help="What the pictures show.")] = "faces",
    formats: Annotated[str, typer.Option(help="Of the encoder, comma-separated: tflite, coreml, onnx.")] = ",".join(
        FORMATS),
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle.")] = False,
) -> None:
    """Write the bundle of a trained GRAIN: encoder in all formats, decoder, coder tables, manifest."""
    chosen = tuple(part.strip() for part in formats.split(",") if part.strip())
    try:
        if (weights is None) != bool(invertible_of):
            raise ExportError("a bundle is made of --weights, a folder with grain.safetensors, or of --invertible-of, "
                              "another bundle; pass one of the two")
        if weights is None:
            manifest, comparison = write_invertible_bundle(invertible_of, out, force=force)
        else:
            manifest, comparison = write_trained_bundle(weights, out, prior=prior, version=version, domain=domain,
                                                        formats=chosen, force=force)
    except (EdgegrainError, FileExistsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    size = sum(entry.size for entry in manifest.files.values())
    typer.echo(f"{out}: {size:,} bytes; LR contract {manifest.lr_contract_id.hex()[:8]}; the decoder differs from "
               f"torch by at most {comparison.largest_difference:.1e}")


if __name__ == "__main__":
    typer.run(main)
