"""Write the table of the qualities and draw their curve, next to classical and published learned codecs.

    S=results/faces-256-lr16-small M=results/faces-256-lr32 L=results/faces-256-lr64 R=$S-2.4.0
    python benchmarks/quality/qualities.py 120=$R-to-120.json 140=$R-to-140.json tiny=$R-tiny.json 180=$R-to-180.json \
        250=$R-to-250.json small=$R.json 500=$S-2.5.0-to-500.json 620=$M-5.2.0-to-620.json 700=$M-5.2.0-to-700.json \
        medium=$M-5.2.0.json 1300=$M-5.3.0-to-1300.json 2000=$L-2.4.0-to-2000.json large=$L-2.4.0.json \
        4000=$L-2.4.0-to-4000.json small=$S-2.5.0-1024.json medium=$M-5.3.0-1024.json large=$L-2.4.2-1024.json \
        --image docs/images/qualities.png --write docs/qualities.md

Reads the JSON files of `edgegrain evaluate`, which must be of the same pictures for each size (``--size``), each with
its quality or its ``--max-bytes``.
"""

import io
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import typer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from benchmarks.speed.measurement import page_section, write_section
from codec_contract.bundle.find import QUALITIES
from codec_contract.errors import EdgegrainError
from codec_contract.files import write_atomically
from edgegrain.cli.output import errors_to_exit_codes
from edgegrain.evaluation.report import OURS, STYLE
from edgegrain.evaluation.results import CLASSICAL_BY_LPIPS
from edgegrain.metrics.score_names import NOTE, SCORE_NAMES, column_titles, formatted

SECTION = "table of the qualities"
SIDE = 256  # of the pictures in evaluations that name no size, in pixels
COLUMNS = ("bytes", "psnr", "lpips_alex", "lpips_vgg", "dists", "identity", "identity_mobileface")
PANELS = {"lpips_alex": 1, "dists": 2}  # scores of the figure, and their positions in the points of `PUBLISHED`
PUBLISHED = {
    # projects/illm/results.csv of github.com/facebookresearch/NeuralCompression; decoder of 174 M parameters
    "MS-ILLM": ((0.0443, 0.1576, 0.1346), (0.0806, 0.1100, 0.1085), (0.1532, 0.0732, 0.0809)),
    # results/results.txt of github.com/LuizScarlet/StableCodec; 985 M
    "StableCodec": (
        (0.0058, 0.3097, 0.1518),
        (0.0078, 0.2734, 0.1382),
        (0.0108, 0.2444, 0.1246),
        (0.0171, 0.2069, 0.1079),
        (0.0250, 0.1821, 0.0981),
        (0.0341, 0.1664, 0.0917),
    ),
    # read from CoD_Lite/assets/RD.png of github.com/microsoft/GenCodec, to about 0.005; 52 M
    "CoD-Lite": (
        (0.0039, 0.338, 0.209),
        (0.0078, 0.281, 0.172),
        (0.0156, 0.225, 0.139),
        (0.0312, 0.160, 0.113),
        (0.125, 0.095, 0.071),
    ),
}
"""Codec -> bits per pixel, LPIPS and DISTS that its authors publish on Kodak, photographs of 768x512 or 512x512 pixels.
Networks of LPIPS and versions of DISTS differ between publications."""
FILLS = (OURS, "white", "#f0b8bd")  # of the stars of our sizes, from the smallest on
OTHERS = (("#0072B2", "o"), ("#E69F00", "^"), ("#009E73", "D"))  # Okabe and Ito's colours
Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class Evaluation:
    """The JSON file of `edgegrain evaluate` for one bundle, restored at one size."""

    quality: str
    side: int
    summary: Mapping[str, Any]

    @property
    def ours(self) -> Scores:
        """Mean scores of the bundle."""
        return self.summary["means"][self.summary["bundle"]["id"]]

    @property
    def classical(self) -> Scores:
        """Mean scores of the best classical codec at the same bytes; empty if none was measured."""
        return self.summary["means"].get(CLASSICAL_BY_LPIPS, {})


def read_evaluations(named: Sequence[str]) -> list[Evaluation]:
    """Evaluations, given as ``QUALITY=JSON`` or ``MAX_BYTES=JSON``, by rising size and bytes."""
    found = []
    for each in named:
        quality, _, path = each.partition("=")
        if quality not in QUALITIES and not quality.isdecimal():
            raise EdgegrainError(f"expected QUALITY=JSON or BYTES=JSON, one of {', '.join(QUALITIES)}, got {each!r}")
        try:
            summary = json.loads(Path(path).read_text())
            found.append(Evaluation(quality, summary.get("size", SIDE), summary))
            found[-1].ours["bytes"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EdgegrainError(f"{path} is no JSON file of `edgegrain evaluate`: {error!r}") from error
    for side in {evaluation.side for evaluation in found}:
        if len({one.summary["pictures"]["sha256"] for one in found if one.side == side}) > 1:
            raise EdgegrainError(
                f"the evaluations at {side}x{side} are of different pictures; run `edgegrain evaluate` with one --data"
            )
    return sorted(found, key=lambda one: (one.side, one.ours["bytes"]))


def table(evaluations: Sequence[Evaluation]) -> list[str]:
    """Markdown: a row per evaluation, and one of the best classical codec at the same bytes."""
    losses = sorted({name for each in evaluations for name in each.summary.get("training_losses") or ()})
    titles = column_titles(COLUMNS, losses)
    lines = [f"| quality | size | bundle | {' | '.join(titles)} |", "|---|---|---|" + "---:|" * len(titles)]
    for each in evaluations:
        bundle = each.summary["bundle"]
        name = f"≤ {each.quality} bytes" if each.quality.isdecimal() else f"`{each.quality}`"
        size, version = f"{each.side}×{each.side}", f"`{bundle['id']}` {bundle['version']}"
        lines.append(f"| {name} | {size} | {version} | {_cells(each.ours)} |")
        if each.classical:
            lines.append(f"| | | best classical codec | {_cells(each.classical)} |")
    return lines


def section(evaluations: Sequence[Evaluation]) -> list[str]:
    """The section's lines."""
    counts = {f"{each.side}×{each.side}": each.summary["pictures"]["count"] for each in evaluations}
    pictures = ", ".join(f"{count} at {size}" for size, count in counts.items())
    text = (
        f"Means over unseen faces ({pictures}); {NOTE}. The best classical codec is the one with the lowest "
        "LPIPS-Alex at no more bytes, each at the downscaling that is best for it ([search]("
        "evaluation.md#classical-codecs))."
    )
    return [*table(evaluations), "", *textwrap.wrap(text, 120, break_on_hyphens=False)]


def draw(evaluations: Sequence[Evaluation]) -> bytes:
    """PNG: scores against bits per pixel, a curve for each size; published codecs dashed, on other pictures."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8 * len(PANELS), 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (score, published) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
            for (name, points), (colour, marker) in zip(PUBLISHED.items(), OTHERS, strict=True):
                x, y = [point[0] for point in points], [point[published] for point in points]
                axes.plot(x, y, linestyle="--", color=colour, marker=marker, label=f"{name}, Kodak")
            sides = sorted({each.side for each in evaluations})
            for index, side in enumerate(sides):
                own = [each for each in evaluations if each.side == side]
                grey = {"color": "#999999", "marker": "s", "label": f"best classical codec, faces {side}×{side}"}
                _curve(axes, score, {each.quality: each.classical for each in own}, side, **grey)
                star = {"color": OURS, "marker": "*", "markersize": 13, "markerfacecolor": FILLS[index % len(FILLS)]}
                of_ours = {each.quality: each.ours for each in own}
                rows = _curve(axes, score, of_ours, side, **star, label=f"edgegrain, faces {side}×{side}")
                if index == 0:  # the same order on every curve
                    for quality in (name for name in QUALITIES if name in rows):
                        axes.annotate(quality, rows[quality], (7, 7), textcoords="offset points", color=OURS)
            axes.set(xscale="log", ylim=(0, None), title=SCORE_NAMES[score].plot_title, xlabel="bits per pixel")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@errors_to_exit_codes()
def main(
    evaluations: Annotated[list[str], typer.Argument(help="QUALITY=JSON or MAX_BYTES=JSON of `edgegrain evaluate`.")],
    image: Annotated[Path, typer.Option(help="PNG file to draw.")],
    write: Annotated[Path, typer.Option(help="Page whose table is replaced.")],
) -> None:
    """Write the table and draw the curve of the qualities."""
    found = read_evaluations(evaluations)
    page_section(write, SECTION)
    write_atomically(image, draw(found), force=True)
    write_section(write, section(found), SECTION)


def _cells(means: Scores) -> str:
    texts = []
    for score in COLUMNS:
        value = means.get(score)
        texts.append("–" if value is None else formatted(score, value).removeprefix("0"))
    return " | ".join(texts)


def _curve(axes: Axes, score: str, means: Mapping[str, Scores], side: int, **style: Any) -> Mapping[str, Any]:
    """Draw a score against bits per pixel where it was measured; returns the places by quality."""
    places = {}
    for quality, row in means.items():
        value, nbytes = row.get(score), row.get("bytes")
        if value is not None and nbytes is not None:
            places[quality] = (8 * nbytes / side**2, value)
    if places:
        axes.plot(*zip(*places.values(), strict=True), **style)
    return places


if __name__ == "__main__":
    typer.run(main)
