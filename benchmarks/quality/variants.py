"""Draw and score the output of each part of a trained GRAIN decoder ([GRAIN] Fig. 7 and Table 2).

    python benchmarks/quality/variants.py --bundle faces --data FACES --out variants.png --weights METRICS

One decoder gives the invertible picture alone (Fig. 7b), the generator's picture of the predicted codes (7d), the fused
picture with the generator's features set to zero, and the complete result (7g). The paper's other variants are separate
trained models; ``--compare TITLE=NAME`` adds a column for one of them. The generator's picture needs its RGB head,
which a bundle's graph does not contain; it is read from the generator's own file.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import torch
import typer

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from codec_contract.errors import ExistsError, ModelError
from codec_contract.rgb import Rgb
from edgegrain.cli.output import errors_to_exit_codes
from edgegrain.metrics.picture_metrics import PictureMetrics, Scores, first_picture, unit_batch
from edgegrain.pictures.sheets import Tile, draw_sheet, write_sheet
from edgegrain.pictures.stored_pictures import list_pictures, original_of
from edgegrain.publishing.run_source import run_source
from edgegrain.training.checkpoint import checkpoint_path
from export.decoder.sources import DecoderSource, find_decoder
from server_decoder.grain.grain import Grain
from server_decoder.prior_store import DEFAULT_PRIOR, load_prior

INVERTIBLE, CODES, WITHOUT, WHOLE = "invertible only", "codes only", "fused, f_gen = 0", "GRAIN"


@torch.no_grad()
def restore_variants(source: DecoderSource, lr: Rgb) -> dict[str, Rgb]:
    """The pictures of a decoder's parts for an LR: uint8 ``[h, w, 3]`` -> title -> uint8 ``[S, S, 3]``.

    A decoder without a prior has the invertible picture only. One without fusion has no fused pictures.
    """
    x, decoder = unit_batch(lr), source.decoder
    if not isinstance(decoder, Grain):
        return {INVERTIBLE: first_picture(decoder(x))}
    output = decoder.forward_all(x)
    pictures = {INVERTIBLE: output.invertible}
    if output.style is not None:
        pictures[CODES] = output.style
    if decoder.fusion is not None:
        pictures |= {WITHOUT: decoder.forward_all(x, prior_gain=0.0).final, WHOLE: output.final}
    return {title: first_picture(picture) for title, picture in pictures.items()}


def with_head(source: DecoderSource, prior: str | Path = DEFAULT_PRIOR) -> DecoderSource:
    """The same decoder, with the parts of the generator that its bundle omits read from the generator's file.

    Raises:
        ModelError: the file is missing, or holds another generator than the bundle.
    """
    decoder = source.decoder
    if not isinstance(decoder, Grain) or decoder.prior is None or decoder.config.prior is None:
        return source
    whole = load_prior(prior, decoder.config.prior.network, size=decoder.prior.size).state_dict()
    for name, held in decoder.prior.state_dict().items():
        if held.isnan().any():
            held.copy_(whole[name])
        # int8 stores a weight within half a step of 1/127 of its channel's largest.
        elif (held - whole[name]).abs().max() > whole[name].abs().max() / 127:
            raise ModelError(f"the generator in {source.name} is not the one in {prior} (weight {name}); pass --prior "
                             "with the file it was trained with")
    return source


def mean_scores(scores: Mapping[str, Sequence[Scores]]) -> dict[str, dict[str, float]]:
    """Variant -> mean of every measured score, four digits."""
    return {title: {field.name: round(statistics.fmean(getattr(score, field.name) for score in own), 4)
                    for field in fields(Scores) if getattr(own[0], field.name) is not None}
            for title, own in scores.items()}


@errors_to_exit_codes()
def main(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of pictures.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    bundle: Annotated[str, typer.Option(help="Bundle, folder of the zoo, or training run.")] = "faces",
    prior: Annotated[str, typer.Option(help="The generator: name of a fetched prior, or a file.")] = DEFAULT_PRIOR,
    compare: Annotated[list[str] | None, typer.Option(
        help="TITLE=NAME: add a column with the picture of another bundle, folder of the zoo or training run.")] = None,
    weights: Annotated[Path | None, typer.Option(
        exists=True, file_okay=False, help="Folder of the metric weights: also print mean scores.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Rows of the sheet.")] = 6,
    scored: Annotated[int, typer.Option(min=0, help="Number of pictures to score; 0: all.")] = 16,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Draw the output of each part of a GRAIN decoder; with --weights, also score it (JSON on stdout)."""
    if out.exists() and not force:
        raise ExistsError(out)
    columns = [_parse(column) for column in compare or []]
    source = with_head(_find(bundle, prior), prior)
    others = {title: _find(name, prior) for title, name in columns}
    metrics = PictureMetrics(weights) if weights is not None else None
    paths = list_pictures(data)
    rows, scores = [], dict[str, list[Scores]]()
    for index, path in enumerate(paths[:max(count, (scored or len(paths)) if metrics else 0)]):
        original = original_of(path, source.network.hr)
        lr = source.encode(original[None])[0]
        restored = restore_variants(source, lr)
        for title, other in others.items():
            its_own = other.encode(original[None])[0]
            restored[title] = list(restore_variants(other, its_own).values())[-1]
        if index < count:
            rows.append({"original": original, "LR": lr, **restored})
        if metrics is not None:
            reference = metrics.against(original)
            for title, picture in restored.items():
                scores.setdefault(title, []).append(reference.scores(picture)[0])
    sheet = draw_sheet([[Tile(picture) for picture in row.values()] for row in rows], titles=list(rows[0]))
    write_sheet(sheet, out, force=force)
    if scores:
        typer.echo(json.dumps({"decoder": source.name, "pictures": len(next(iter(scores.values()))),
                               "variants": mean_scores(scores)}, indent=2))
    typer.echo(f"written: {out}", err=True)


def _find(name: str, prior: str) -> DecoderSource:
    if checkpoint_path(Path(name)).is_file():
        return run_source(Path(name), prior)
    return find_decoder(name, prior)


def _parse(column: str) -> tuple[str, str]:
    title, equals, name = column.partition("=")
    if not (title and equals and name):
        raise typer.BadParameter(f"--compare is TITLE=NAME, got {column!r}")
    return title, name


if __name__ == "__main__":
    typer.run(main)
