"""From a training run to a bundle.

    python -m edgegrain.training.publish --checkpoint runs/faces/last.safetensors --data FACES --id faces-256-lr16

Lowers the averaged encoder to its integers, fits the payload's coder tables to the LRs of training pictures, exports
every format and the decoder (compared with torch on those LRs), and writes the bundle. Afterwards
`edgegrain.evaluation.bundle_report` evaluates it and `edgegrain.training.model_card` enters the result.

A published encoder is frozen: publishing another one makes another LR contract, and stored payloads keep needing the
first.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from edge_encoder.lowering import box_network, lower
from edge_encoder.twin import EncoderTwin
from edgegrain.contract.errors import EdgegrainError
from edgegrain.training.fit_coder import fit_tables
from edgegrain.training.model_card import card_text
from edgegrain.training.pictures import list_pictures, pack
from edgegrain.training.stage1 import Autoencoder, load_run
from export.bundle import DECODER, assemble_bundle
from export.server import Weights, compare_decoder, export_decoder

LICENCE = {
    "weights": "Non-commercial research only, because of the data; the code is Apache-2.0.",
    "data": "FFHQ: CC BY-NC-SA 4.0. CelebA-HQ / CelebAMask-HQ: non-commercial research. "
            "Portraits of members of the United States Congress: mostly public domain.",
}


@torch.no_grad()
def encode(model: Autoencoder, pictures: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """uint8 ``[count, lr, lr, 3]``: the LRs of a random choice of training pictures."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pictures))[:count])
    lrs = []
    for start in range(0, len(chosen), 8):
        x = torch.from_numpy(np.stack([pictures[index] for index in chosen[start : start + 8]]))
        levels, _ = model.encoder(x.permute(0, 3, 1, 2).float())
        lrs.append(levels.permute(0, 2, 3, 1).numpy().astype(np.uint8))
    return np.concatenate(lrs)


def publish(checkpoint: Path, data: Path, folder: Path, *, bundle_id: str, version: str, domain: str,
            exclude: tuple[str, ...] = (), coder_pictures: int = 4000, licence: Mapping[str, str] = LICENCE,
            force: bool = False) -> dict[str, Any]:
    """Write the bundle of a checkpoint; returns a summary. Errors as in `assemble_bundle`."""
    _, average, config, seen = load_run(checkpoint)
    shard = pack(list_pictures(data, exclude), config.encoder.hr, checkpoint.parent.parent / "packed")
    lrs = encode(average, shard, coder_pictures)
    encoder = average.encoder
    network = lower(encoder) if isinstance(encoder, EncoderTwin) else box_network(config.encoder)
    tables = fit_tables(lrs)
    decoder = average.decoder.eval()
    graph = export_decoder(decoder, config.encoder.lr, Weights.float16)
    comparison = compare_decoder(graph, decoder, lrs[:8])
    training = {"stage": 1, "pictures_seen": seen, "pictures_in_set": len(shard), "data": _sources(data, exclude),
                "commit": _commit(), "learned_correction": config.correction}
    fields = {
        "id": bundle_id, "version": version, "codec": "grain", "domain": domain,
        "decoder": {"file": DECODER, "input": "lr", "output": "hr", "controls": [],
                    "architecture": config.as_dict()["decoder"]},
        "training": training, "evaluation": {}, "licence": dict(licence),
    }
    manifest = assemble_bundle(folder, network, graph, tables, fields, force=force,
                               card=card_text(bundle_id, training, {}, licence))
    return {"bundle": str(folder), "lr_contract_id": manifest.lr_contract_id.hex(), "pictures_seen": seen,
            "decoder_difference_from_torch": comparison.largest_difference,
            "bytes": sum(entry.size for entry in manifest.files.values())}


def _sources(data: Path, exclude: tuple[str, ...]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for path in list_pictures(data, exclude):
        source = path.name.split("_")[0]
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
    checkpoint: Annotated[Path, typer.Option(help="The run's last.safetensors.")],
    data: Annotated[Path, typer.Option(help="Training pictures; the coder's tables are fitted to their LRs.")],
    bundle_id: Annotated[str, typer.Option("--id", help="Id of the bundle.")],
    out: Annotated[Path, typer.Option(help="Folder of bundles.")] = Path("bundles"),
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1.0.0",
    domain: Annotated[str, typer.Option(help="What the pictures show.")] = "faces",
    exclude: Annotated[list[str] | None, typer.Option(help="Name patterns left out, as in training.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle.")] = False,
) -> None:
    """Turn a training run into a bundle."""
    try:
        summary = publish(checkpoint, data, out / bundle_id, bundle_id=bundle_id, version=version, domain=domain,
                          exclude=tuple(exclude or ()), force=force)
    except (EdgegrainError, FileExistsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(summary, indent=2))


if __name__ == "__main__":
    typer.run(main)
