"""Payload size and quality of training runs with different rate weights: one curve for each LR size.

    for rate in 0.002 0.01 0.05; do
        edgegrain train stage1-faces-256-lr16 --set loss.rate=$rate --data FACES --run runs/lr16-$rate ...
    done
    python benchmarks/quality/rate_curves.py runs/lr16-* runs/lr32-* --data FACES --validation UNSEEN --out curves.tsv

Bytes are those of whole payloads: the coder's tables are fitted to each run's own LRs of training pictures, as for a
bundle. Only runs that were trained on equally many pictures can be compared.
"""

from __future__ import annotations

import csv
import io
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from codec_contract.errors import ExistsError
from codec_contract.files import write_atomically
from codec_contract.payload import encode_payload
from codec_contract.rgb import Rgb
from edgegrain.cli.output import errors_to_exit_codes, with_progress
from edgegrain.evaluation.report import STYLE
from edgegrain.metrics.picture_metrics import PictureMetrics
from edgegrain.metrics.weights import find_metric_weights
from edgegrain.pictures.packed import pack
from edgegrain.pictures.stored_pictures import list_pictures, original_of, stored_pictures
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.publishing.improvement import measure
from edgegrain.publishing.publish_grain import encode
from edgegrain.publishing.run_source import run_folder, source_of
from edgegrain.training.grain.checkpoint import load_run, read_recipe
from edgegrain.training.training_pictures import packed_folder

COLOURS = ("#B22234", "#0072B2", "#E69F00", "#009E73")  # the accent colour of the reports, then Okabe and Ito's
PANELS = {"lpips_alex": "LPIPS-Alex (a training loss): lower is better", "lpips_vgg": "LPIPS-VGG: lower is better",
          "psnr": "PSNR (dB): higher is better"}


@dataclass(frozen=True)
class Point:
    """A run on the curve of its LR size.

    Attributes:
        run: name of its folder.
        lr: side of its LRs.
        rate: weight of the expected bits per LR sample in the loss.
        pictures_seen: number of training pictures.
        bytes: mean size of a payload, header and trailer included.
        psnr: dB.
        lpips_alex, lpips_vgg, identity: as in `edgegrain.metrics.picture_metrics.Scores`.
    """

    run: str
    lr: int
    rate: float
    pictures_seen: int
    bytes: float
    psnr: float
    lpips_alex: float
    lpips_vgg: float
    identity: float


def measure_run(folder: Path, training: np.ndarray, unseen: Sequence[Rgb], metrics: PictureMetrics, *,
                coder_pictures: int = 2000, steps: int = 6000) -> Point:
    """Fit the coder to a stage 1 run's LRs, then measure payloads and restored pictures.

    Args:
        folder: of the run.
        training: uint8 ``[N, S, S, 3]``; the coder's tables are fitted to their LRs.
        unseen: uint8 ``[S, S, 3]``, the pictures that are measured.
        metrics: with the identity network.
        coder_pictures: how many of ``training`` are used.
        steps: of fitting, for each channel.

    Raises:
        EdgegrainError: the folder holds no run, or its generator is missing.
    """
    run = load_run(folder)
    source = source_of(run, folder.name)
    side = run.recipe.encoder.hr
    tables = fit_tables(encode(run.average, training, min(coder_pictures, len(training)), mirrored=True),
                        steps=steps, level_step=source.step)
    lrs = [source.encode(picture[None])[0] for picture in unseen]
    payloads = [encode_payload(lr, contract_id=bytes(4), tables=tables, original_size=(side, side)) for lr in lrs]
    scores = measure(source, unseen, metrics).scores
    return Point(folder.name, run.recipe.encoder.lr, run.recipe.loss.rate, run.pictures,
                 round(statistics.fmean(map(len, payloads)), 1), round(scores["psnr"], 3),
                 *(round(scores[name], 4) for name in ("lpips_alex", "lpips_vgg", "identity")))


def table(points: Sequence[Point]) -> str:
    """TSV with a line per run, sorted by LR size and bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Point)], delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(point) for point in sorted(points, key=lambda point: (point.lr, point.bytes)))
    return text.getvalue()


def draw(points: Sequence[Point]) -> bytes:
    """PNG: scores against bytes, a curve per LR size, each point labelled with its rate weight."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(PANELS), 3.9), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (score, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
            for colour, side in zip(COLOURS, sorted({point.lr for point in points}), strict=False):
                own = sorted((point for point in points if point.lr == side), key=lambda point: point.bytes)
                axes.plot([point.bytes for point in own], [getattr(point, score) for point in own], marker="o",
                          color=colour, label=f"LR {side}x{side}")
                for point in own:
                    axes.annotate(f"{point.rate:g}", (point.bytes, getattr(point, score)), (4, 4),
                                  textcoords="offset points", color=colour, fontsize=8)
            axes.set(xscale="log", title=title, xlabel="bytes per payload")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 4, 6)))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@errors_to_exit_codes()
def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of stage 1 runs.")],
    data: Annotated[Path, typer.Option(help="Training pictures; the coder's tables are fitted to their LRs.")],
    validation: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Pictures that no run was trained "
                                             "on.")],
    out: Annotated[Path, typer.Option(help="TSV file to write; the plot is written next to it as PNG.")],
    weights: Annotated[Path | None, typer.Option(
        exists=True, file_okay=False, help="Folder of the metric weights [default: those of 'edgegrain metrics "
        "fetch'].")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Name patterns to leave out, as in training.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of pictures to measure.")] = 60,
    coder_pictures: Annotated[int, typer.Option(min=1, help="Number of pictures to fit the coder's tables to.")] = 2000,
    force: Annotated[bool, typer.Option("--force", help="Replace the files.")] = False,
) -> None:
    """Measure runs that were trained with different rate weights (loss.rate) or LR sizes."""
    for path in (out, out.with_suffix(".png")):
        if path.exists() and not force:
            raise ExistsError(path)
    metrics = PictureMetrics(find_metric_weights(weights))
    stored = stored_pictures(data, tuple(exclude or ()))
    points = []
    for run in with_progress(runs, "runs"):
        side = read_recipe(run).encoder.hr
        training = pack(stored, side, packed_folder(run_folder(run)))
        unseen = [original_of(path, side) for path in list_pictures(validation)[:count]]
        points.append(measure_run(run, training, unseen, metrics, coder_pictures=coder_pictures))
    write_atomically(out, table(points).encode(), force=force)
    write_atomically(out.with_suffix(".png"), draw(points), force=force)
    typer.echo(table(points), nl=False)


if __name__ == "__main__":
    typer.run(main)
