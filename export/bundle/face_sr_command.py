"""``python -m export.bundle.face_sr_command``: a bundle made of the trained weights of a GLEAN or a GCFSR.

    python -m export.bundle.face_sr_command --weights zoo/glean-faces-256-lr16 --out bundles/glean-faces-256-lr16
    python -m export.bundle.face_sr_command --weights zoo/gcfsr-faces-256 --lr 16 --out bundles/gcfsr-faces-256-lr16

The phone's half is the exact reduction that the network was trained on. Bundles with the same LR contract (sizes,
reduction, coder tables) read each other's payloads, so an LR may be sent once and restored by either network.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import EdgegrainError, ExportError, ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from export.bundle.face_sr_bundle import Description, Restorer, gcfsr_restorer, glean_restorer, write_restorer_bundle
from export.bundle.licences import UNSTATED, usual_licence
from export.bundle.reductions import REDUCTIONS
from export.bundle.writer import CODER
from export.decoder.command import Comparison
from export.decoder.sources import described_prior
from export.proof.runtimes import FORMATS
from server_decoder.face_sr.gcfsr import GCFSRConfig
from server_decoder.face_sr.weights import (
    GCFSR_WEIGHTS,
    GLEAN_WEIGHTS,
    load_gcfsr,
    load_glean,
    read_config,
    read_training,
)
from server_decoder.prior_store import DEFAULT_PRIOR, prior_licence

USUAL_FACTOR = 16
"""Of a GCFSR bundle's LRs."""


@dataclass(frozen=True)
class Options:
    """What the command can be told.

    Attributes:
        lr: side of a GCFSR bundle's LRs; None for a `USUAL_FACTOR`-th of the picture's.
        prior: GLEAN's bank, as `load_prior` takes it.
        reduction: a key of `REDUCTIONS`; None for the one that the network was trained on.
        version: of the bundle.
        domain: what the network was trained for.
        licence: of weights and data, by default `usual_licence`; the bank's is added.
        formats: of the encoder.
        force: replace a bundle that exists.
    """

    lr: int | None = None
    prior: str | Path = DEFAULT_PRIOR
    reduction: str | None = None
    version: str = "1.0.0"
    domain: str = "faces"
    licence: Mapping[str, str] | None = None
    formats: Sequence[str] = tuple(FORMATS)
    force: bool = False


def write_face_sr_bundle(weights: Path, folder: Path, options: Options = Options()) -> tuple[Manifest, Comparison]:
    """Write the bundle of a ``glean.safetensors`` or ``gcfsr.safetensors``, or of a folder that holds one and perhaps a
    ``coder.json``.

    Args:
        weights: the file or folder.
        folder: of the bundle; its name becomes the id.
        options: see there.

    Returns:
        The manifest, and the exported decoder beside torch.

    Raises:
        FileExistsError: the folder exists and is not to be replaced.
        ModelError: the weights are missing or damaged, or GLEAN's bank is missing or another.
        ExportError: a conversion fails, or the export differs from torch.
        BundleError: the name makes no id, or the sizes do not fit.
    """
    path = find_weights(weights)
    training = read_training(path)
    reduction = options.reduction or (training.get("config") or {}).get("reduction", "area")
    if reduction not in REDUCTIONS:
        raise ExportError(f"unknown reduction {reduction!r}; expected one of {', '.join(REDUCTIONS)}")
    if "onnx" not in options.formats:
        raise ExportError("a bundle needs the encoder as onnx; add it to the formats")
    licence = dict(options.licence or usual_licence(options.domain))
    restorer = _restorer(path, options)
    if restorer.codec == "glean":
        licence["prior"] = prior_licence(options.prior)
    tables_file = path.parent / CODER
    tables = CoderTables.from_json(tables_file.read_bytes()) if tables_file.is_file() else CoderTables.default()
    card = _card(folder.name, restorer, reduction, training, licence)
    description = Description(options.domain, card, licence, training, options.version, options.formats, tables,
                              options.force)
    return write_restorer_bundle(folder, restorer, REDUCTIONS[reduction](restorer.hr, restorer.lr), description)


def find_weights(path: Path) -> Path:
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


def _restorer(path: Path, options: Options) -> Restorer:
    config = read_config(path)
    if isinstance(config, GCFSRConfig):
        return gcfsr_restorer(load_gcfsr(path), options.lr or config.size // USUAL_FACTOR)
    if options.lr not in (None, config.lr):
        raise ExportError(f"this GLEAN takes LRs of {config.lr}; leave lr out")
    return glean_restorer(load_glean(path, described_prior(config.prior, options.prior)))


def _card(name: str, restorer: Restorer, reduction: str, training: Mapping[str, Any], licence: Mapping[str, str]
          ) -> str:
    seen = training.get("pictures_seen")
    steered = " `strength`, 4 to 64, chooses how much is made up." if restorer.controls else ""
    return "\n".join([
        f"# {name}", "",
        f"{restorer.codec.upper()}, {restorer.hr} x {restorer.hr} from an exact {reduction} reduction to "
        f"{restorer.lr} x {restorer.lr}.{steered}", "",
        f"**{licence['weights']}**", "",
        *([f"Training: {seen:,} pictures seen."] if isinstance(seen, int) else []), f"Data: {licence['data']}", "",
        *([f"Generator inside: {licence['prior']}.", ""] if "prior" in licence else []),
        "What a restored picture shows beyond its LR is plausible, not evidence.", ""])


def main(
    weights: Annotated[Path, typer.Option(exists=True, help="glean.safetensors or gcfsr.safetensors, or the folder of "
                                          "a run or of the zoo that holds one.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; its name becomes the bundle's id.")],
    lr: Annotated[int | None, typer.Option(min=1, help="gcfsr: side of the LRs [default: a 16th of the picture's].")
                  ] = None,
    prior: Annotated[str, typer.Option(help="glean: its bank, a fetched prior or a file.")] = DEFAULT_PRIOR,
    reduction: Annotated[str | None, typer.Option(
        help=f"The phone's half: {', '.join(REDUCTIONS)} [default: what the network was trained on].")] = None,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1.0.0",
    domain: Annotated[str, typer.Option(help="What the network was trained for.")] = "faces",
    data_licence: Annotated[str, typer.Option(
        help="For the manifest: what binds whoever uses the training pictures [default: as of our own faces, or not "
             "stated].")] = "",
    formats: Annotated[str, typer.Option(help="Of the encoder, comma-separated: tflite, coreml, onnx.")] = ",".join(
        FORMATS),
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle.")] = False,
) -> None:
    """Write the bundle of a trained GLEAN or GCFSR: encoder, decoder, coder tables, manifest."""
    chosen = tuple(part.strip() for part in formats.split(",") if part.strip())
    licence = {**UNSTATED, "data": data_licence} if data_licence else None
    options = Options(lr, prior, reduction, version, domain, licence, chosen, force)
    try:
        manifest, comparison = write_face_sr_bundle(weights, out, options)
    except (EdgegrainError, FileExistsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    size = sum(entry.size for entry in manifest.files.values())
    typer.echo(f"{out}: {size:,} bytes, {datetime.date.today().isoformat()}; LR contract "
               f"{manifest.lr_contract_id.hex()[:8]}; the decoder differs from torch by at most "
               f"{comparison.largest_difference:.1e}")


if __name__ == "__main__":
    typer.run(main)
