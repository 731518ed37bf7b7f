"""A bundle on a folder of pictures, beside the best classical codec at the same bytes.

    python -m edgegrain.evaluation.bundle_report --bundle faces --pictures FACES --weights METRICS --out faces.tsv

Every picture goes through the SDK and the bundle's own files, exactly as a user's would. Then JPEG, WebP and AVIF
get the same number of bytes, with all the downscaling they like (`edgegrain.evaluation.baselines`). The TSV has a row
per picture and method and a mean row per method; a JSON file beside it holds the means and what they were made from.
Equal input gives equal files.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path

import numpy as np
import typer

import edgegrain
from edge_encoder.preprocessing import fit_picture, load_picture
from edgegrain.contract.errors import EdgegrainError
from edgegrain.contract.files import write_atomically
from edgegrain.contract.payload import FIT_CROP
from edgegrain.evaluation.baselines import CODECS, candidates
from edgegrain.evaluation.judge import Judge, Scores
from edgegrain.evaluation.metrics import Picture, psnr
from edgegrain.training.pictures import list_pictures
from sdk import Codec

CLASSICAL_BY_LPIPS = "classical, best LPIPS-Alex"
CLASSICAL_BY_PSNR = "classical, best PSNR"
SCORES = tuple(field.name for field in fields(Scores))


@dataclass(frozen=True)
class Row:
    """One picture by one method.

    Attributes:
        picture: file name.
        method: id of the bundle, or one of the two classical choices.
        nbytes: size of the payload or file.
        setting: how the classical codec did it; empty for the bundle.
    """

    picture: str
    method: str
    nbytes: int
    scores: Scores
    setting: str = ""


def evaluate(codec: Codec, pictures: Sequence[Path], judge: Judge) -> Iterator[list[Row]]:
    """The rows of one picture after the other.

    The centre square of each picture at the bundle's HR size is the original.

    Raises:
        ImageError: a picture cannot be read.
    """
    for path in pictures:
        original = fit_picture(load_picture(path), codec.bundle.hr, FIT_CROP)
        payload = codec.compress(original)
        restored = np.asarray(codec.restore(payload))
        rows = [Row(path.name, codec.bundle.id, len(payload), judge.scores(restored, original))]
        yield rows + _classical(path.name, original, len(payload), judge)


def _classical(name: str, original: Picture, max_bytes: int, judge: Judge) -> list[Row]:
    found = [result for codec in CODECS for result in candidates(original, codec, max_bytes)]
    if not found:
        return []
    choices: tuple[tuple[str, Callable[[Picture], float]], ...] = (
        (CLASSICAL_BY_LPIPS, lambda rgb: judge.lpips_alex(rgb, original)),
        (CLASSICAL_BY_PSNR, lambda rgb: -psnr(rgb, original)),
    )
    rows = []
    for method, score in choices:
        best = min(found, key=lambda result: score(result.rgb))
        rows.append(Row(name, method, best.nbytes, judge.scores(best.rgb, original), best.description))
    return rows


def means(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Method -> mean of every score over its pictures, their number and the mean of bytes."""
    result = {}
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        result[method] = {
            "pictures": len(own),
            "bytes": float(np.mean([row.nbytes for row in own])),
            **{score: float(np.mean([getattr(row.scores, score) for row in own])) for score in SCORES},
        }
    return result


def tsv(rows: Sequence[Row]) -> str:
    """A header, a row per picture and method, a mean row per method."""
    lines = ["\t".join(["picture", "method", "bytes", *SCORES, "setting"])]
    for row in rows:
        values = [f"{getattr(row.scores, score):.4f}" for score in SCORES]
        lines.append("\t".join([row.picture, row.method, str(row.nbytes), *values, row.setting]))
    for method, mean in means(rows).items():
        values = [f"{mean['bytes']:.1f}", *(f"{mean[score]:.4f}" for score in SCORES)]
        lines.append("\t".join(["mean", method, *values, f"{mean['pictures']:g} pictures"]))
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Row], codec: Codec, pictures: Sequence[Path]) -> dict[str, object]:
    """The means, rounded, and what they were made from."""
    digest = hashlib.sha256()
    for path in pictures:
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    bundle = codec.bundle
    versions = {name: version(name).split("+")[0] for name in ("numpy", "onnxruntime", "pillow", "torch")}
    return {
        "bundle": {"id": bundle.id, "version": bundle.version, "lr_contract_id": bundle.lr_contract_id},
        "pictures": {"folder": pictures[0].parent.name, "count": len(pictures), "sha256": digest.hexdigest()},
        "means": {method: {name: _rounded(value) for name, value in mean.items()}
                  for method, mean in means(rows).items()},
        "versions": {"edgegrain": edgegrain.__version__, **versions},
    }


def _rounded(value: float) -> float | None:
    """Four digits; JSON has no infinity."""
    return round(value, 4) if math.isfinite(value) else None


def main(
    pictures: Path = typer.Option(..., exists=True, file_okay=False, help="Folder of pictures."),
    weights: Path = typer.Option(..., exists=True, file_okay=False, help="Folder of the LPIPS and identity weights."),
    out: Path = typer.Option(..., help="TSV to write; the summary goes beside it as .json."),
    bundle: str = typer.Option("faces", help="Id, alias or folder of the bundle."),
    limit: int = typer.Option(0, min=0, help="Only the first pictures; 0: all."),
    threads: int = typer.Option(0, min=0, help="CPU threads; 0: all."),
    force: bool = typer.Option(False, help="Replace files that exist."),
) -> None:
    """Evaluate a bundle beside classical codecs at the same bytes."""
    import torch
    from rich.progress import track

    if threads:
        torch.set_num_threads(threads)
    targets = out, out.with_suffix(".json")
    try:
        for target in targets:
            if target.exists() and not force:
                raise EdgegrainError(f"{target} exists; choose another name or pass --force to replace it")
        paths = list_pictures(pictures)[: limit or None]
        codec = Codec(bundle, threads=threads or None)
        steps = track(evaluate(codec, paths, Judge(weights)), f"{codec.bundle.id} on {len(paths)} pictures",
                      total=len(paths))
        rows = [row for group in steps for row in group]
        report = json.dumps(summary(rows, codec, paths), indent=2) + "\n"
        for target, text in zip(targets, (tsv(rows), report), strict=True):
            write_atomically(target, text.encode(), force=force)
    except EdgegrainError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    for method, mean in means(rows).items():
        typer.echo(f"{method}: {mean['bytes']:.0f} bytes, {mean['psnr']:.2f} dB, LPIPS {mean['lpips_alex']:.3f}")
    typer.echo(f"written: {targets[0]}, {targets[1]}")


if __name__ == "__main__":
    typer.run(main)
