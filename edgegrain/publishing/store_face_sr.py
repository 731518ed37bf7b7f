"""From a run of GLEAN or GCFSR to a folder of the zoo, of which `edgegrain export bundle` makes bundles.

    python -m edgegrain.publishing.store_face_sr --weights runs/glean --data FACES --out zoo/glean-faces-256-lr16

The weights are stored as int8 where they are large; the coder's tables are fitted to reductions of the training
pictures. Tables fitted to the same reductions of the same pictures are equal, so that both networks can share an LR
contract: ``--coder`` takes those of another folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from codec_contract.bundle.file_names import CODER_TABLES as CODER
from codec_contract.files import write_atomically
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import run_reference
from edgegrain.pictures.packed import read_square, stored_pictures
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.training.console import errors_on_one_line
from export.bundle.face_sr_bundle import USUAL_FACTOR, find_weights
from export.bundle.reductions import REDUCTIONS
from export.decoder.sources import described_prior
from server_decoder.face_sr.gcfsr import GCFSRConfig
from server_decoder.face_sr.weights import (
    GCFSR_WEIGHTS,
    GLEAN_WEIGHTS,
    load_gcfsr,
    load_glean,
    read_config,
    read_training,
    save_gcfsr,
    save_glean,
)
from server_decoder.prior_store import DEFAULT_PRIOR


def store(weights: Path, folder: Path, *, prior: str | Path = DEFAULT_PRIOR, force: bool = False) -> Path:
    """Write a compact copy of a ``glean.safetensors`` or ``gcfsr.safetensors``, or of the one in a folder.

    Raises:
        FileExistsError: the folder holds one and ``force`` is false.
        ModelError: the weights are missing or damaged, or GLEAN's bank is missing or another.
    """
    path = find_weights(weights)
    config, training = read_config(path), read_training(path)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(config, GCFSRConfig):
        return save_gcfsr(load_gcfsr(path), folder / GCFSR_WEIGHTS, training=training, compact=True, force=force)
    network = load_glean(path, described_prior(config.prior, prior))
    return save_glean(network, folder / GLEAN_WEIGHTS, training=training, compact=True, force=force)


def fit_coder(weights: Path, data: Path, *, exclude: tuple[str, ...] = (), count: int = 4000, steps: int = 6000
              ) -> CoderTables:
    """Coder tables for the reductions that a network was trained on, GCFSR's to a 16th.

    Args:
        weights: as for `store`.
        data: training pictures.
        exclude: name patterns left out, as in training.
        count: pictures that the tables are fitted to.
        steps: of fitting, for each channel.

    Raises:
        ModelError: the weights are missing or damaged.
        EdgegrainError: there are no pictures.
    """
    path = find_weights(weights)
    config = read_config(path)
    hr, lr = ((config.size, config.size // USUAL_FACTOR) if isinstance(config, GCFSRConfig)
              else (config.prior.size, config.lr))
    reduce = REDUCTIONS[(read_training(path).get("config") or {}).get("reduction", "area")](hr, lr)
    stored = stored_pictures(data, exclude)
    chosen = np.sort(np.random.default_rng(0).permutation(len(stored))[:count])
    lrs = [run_reference(reduce, read_square(stored[index], hr)[None])[0]
           for index in track(chosen, description="reducing")]
    return fit_tables(lrs, steps=steps)


def main(
    weights: Annotated[Path, typer.Option(exists=True, help="The run's folder, or its weights.")],
    out: Annotated[Path, typer.Option(help="Folder of the zoo.")],
    data: Annotated[Path | None, typer.Option(
        help="Training pictures: fit the coder's tables to their LRs.")] = None,
    coder: Annotated[Path | None, typer.Option(
        exists=True, dir_okay=False, help="Take these tables instead of fitting some.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Name patterns left out, as in training.")] = None,
    prior: Annotated[str, typer.Option(help="glean: its bank, a fetched prior or a file.")] = DEFAULT_PRIOR,
    force: Annotated[bool, typer.Option("--force", help="Replace the files.")] = False,
) -> None:
    """Store the weights of a trained GLEAN or GCFSR, and the coder's tables for its LRs."""
    with errors_on_one_line():
        if (out / CODER).exists() and not force:
            raise FileExistsError(f"{out / CODER} exists; pass --force to replace it")
        written = store(weights, out, prior=prior, force=force)
        tables: CoderTables | None = None
        if coder is not None:
            tables = CoderTables.from_json(coder.read_bytes())
        elif data is not None:
            tables = fit_coder(weights, data, exclude=tuple(exclude or ()))
        if tables is not None:
            write_atomically(out / CODER, tables.to_json(), force=force)
    typer.echo(f"{written}: {written.stat().st_size:,} bytes")


if __name__ == "__main__":
    typer.run(main)
