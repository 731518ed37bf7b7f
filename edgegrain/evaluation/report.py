"""The report of an evaluation: a table for the terminal, and a page with plots and sheets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from codec_contract.pixels import Rgb
from edgegrain.evaluation import results as evaluated
from edgegrain.evaluation.classical_codecs import CODECS, ClassicalCodec
from edgegrain.evaluation.results import BY_LPIPS, BY_PSNR, CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR, PictureResult, Row
from edgegrain.metrics import score_names
from edgegrain.metrics.kid import KIDS
from edgegrain.metrics.score_names import MEANS, formatted
from edgegrain.pictures.sheets import Tile, draw_sheet, encode_sheet
from edgegrain.pictures.stored_pictures import original_of
from sdk import BundleInfo, Codec

SHEET_ROWS, SHEET_SIDE = 6, 256
PAGE = "report.html"
PICTURES = ("rate_distortion.png", "rate_perception.png", "sheet.png", "sheet_worst.png")
"""The pictures that a report may have."""
LR_FORMATS = {"payload": "payload", "png": "PNG, optimised", "webp": "WebP, lossless", "jpeg-xl": "JPEG XL, lossless"}

# Okabe and Ito's colours, which colour-blind readers can distinguish; each codec also has its own marker.
STYLES = {"JPEG": ("#999999", "s"), "WebP": ("#0072B2", "o"), "AVIF": ("#E69F00", "^"), "JPEG XL": ("#009E73", "D")}
OURS = "#B22234"
STYLE: Any = {"font.family": "DejaVu Sans", "font.size": 10, "lines.linewidth": 1.6, "lines.markersize": 5}
STYLE |= {"axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "figure.dpi": 150}
STYLE |= {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E5E5E5"}

# Score, label of the axis, choice of each codec that is drawn.
DISTORTION = (("psnr", "dB", BY_PSNR), ("ssim", "index, at most 1", BY_PSNR))
PERCEPTION = (
    ("lpips_alex", "distance", BY_LPIPS),
    ("identity", "distance of face descriptors", BY_PSNR),
    ("identity_mobileface", "1 − cosine", BY_PSNR),
)


@dataclass(frozen=True)
class TableRow:
    """The means of a method as text, a cell for each of `table_columns`."""

    method: str  # its name, with the number of pictures if they are not all
    cells: tuple[str, ...]
    intervals: tuple[str, ...]  # half the width of each cell's 95 % interval, such as ``± 0.006``; empty for none
    ours: bool
    rule: bool  # a new group begins: all codecs together, then each codec


def measured_details(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of `DETAILS` that were measured: eyes and mouth for faces only, grids for pictures of suitable sizes."""
    ours = summary["means"][summary["bundle"]["id"]]
    return tuple(score for score in score_names.DETAILS if ours.get(score) is not None)


def table_columns(summary: Mapping[str, Any], scores: Sequence[str] = MEANS) -> list[str]:
    """Titles of a table's columns after the method, those of training losses marked."""
    return score_names.column_titles(("bytes", *scores), summary["training_losses"], arrows=True)


def table(summary: Mapping[str, Any], scores: Sequence[str] = MEANS) -> list[TableRow]:
    """The rows of a table, one per method, the bundle first."""
    count = summary["pictures"]["count"]
    rows, group = [], ""
    for method, mean in summary["means"].items():
        before, group = group, method.split(",")[0]
        cells = [_cell(score, mean) for score in ("bytes", *scores)]
        intervals = ["" if score in KIDS else _half_width(score, mean) for score in ("bytes", *scores)]
        title = method if mean["pictures"] == count else f"{method} ({mean['pictures']} of {count})"
        ours, rule = method == summary["bundle"]["id"], before not in ("", group)
        rows.append(TableRow(title, tuple(cells), tuple(intervals), ours, rule))
    return rows


def report_files(
    codec: Codec, results: Sequence[PictureResult], paths: Sequence[Path], summary: Mapping[str, Any], name: str
) -> dict[str, bytes]:
    """Name -> content of all files of the report on ``paths``; equal results give equal bytes."""
    plots = {}
    if summary["curves"]:
        text = "Rate and distortion: classical codecs at the scale with the best PSNR"
        plots["rate_distortion.png"] = text, _plot(summary, DISTORTION)
        text = (
            "Rate and perception: classical codecs at the scale with the best LPIPS-Alex (for identity: the best PSNR)"
        )
        plots["rate_perception.png"] = text, _plot(summary, PERCEPTION)
    sheets = dict(_sheets(codec, results, paths, summary))
    count, scores = summary["pictures"]["count"], filter(None, (MEANS, measured_details(summary)))
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    templates = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    page = templates.get_template("report.html.jinja").render(
        title=_title(summary),
        summary=summary,
        compared=CLASSICAL_BY_PSNR in summary["means"],
        partial=any(mean["pictures"] < count for mean in summary["means"].values()),
        tables=[(table_columns(summary, each), table(summary, each)) for each in scores],
        note=score_names.NOTE if summary["training_losses"] else "",
        photographs=score_names.photographs_in_words(summary["photographs"]) if "photographs" in summary else "",
        lr_bytes=[(LR_FORMATS[kind], size) for kind, size in summary["lr_bytes"].items()],
        plots=[{"file": file, "text": text} for file, (text, _) in plots.items()],
        sheets=[{"file": file, "text": text} for file, (text, _) in sheets.items()],
        tsv=f"{name}.tsv",
        json=f"{name}.json",
    )
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    files = {f"{name}.tsv": evaluated.tsv(results).encode(), f"{name}.json": text.encode(), PAGE: page.encode()}
    return files | {file: png for file, (_, png) in (plots | sheets).items()}


def report_name(bundle: BundleInfo, side: int, rate: str = "", refinement: Mapping[str, int] | None = None) -> str:
    """Name of an evaluation's files without their suffix."""
    parts = [bundle.id, bundle.version, *([str(side)] if side != bundle.hr else []), *([rate] if rate else [])]
    return "-".join(parts) + evaluated.refinement_suffix(refinement or {})


def _title(summary: Mapping[str, Any]) -> str:
    title = f"{summary['bundle']['id']} {summary['bundle']['version']} at {summary['size']}×{summary['size']}"
    return title + evaluated.refinement_suffix(summary).replace("-", " ")


def _cell(score: str, mean: Mapping[str, Any]) -> str:
    if mean[score] is None:
        return "–"
    if score not in KIDS:
        return formatted(score, mean[score])
    value, low, high = (_signed(mean[key]) for key in (score, f"{score}_low", f"{score}_high"))
    return f"{value} [{low}, {high}]"


def _half_width(score: str, mean: Mapping[str, float | None]) -> str:
    low, high = mean.get(f"{score}_low"), mean.get(f"{score}_high")
    return "" if low is None or high is None else f"± {formatted(score, (high - low) / 2)}"


def _signed(value: float) -> str:
    """Three decimals; zero has no sign."""
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")


def _sheets(
    codec: Codec, results: Sequence[PictureResult], paths: Sequence[Path], summary: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """File -> (caption, PNG): pictures from the best to the worst, and the worst ones."""
    rows = [result.ours for result in results]
    order = sorted(range(len(rows)), key=lambda index: (-rows[index].scores.lpips_alex, rows[index].picture))
    ranked = [(results[index], paths[index]) for index in order]  # the worst first
    spread = [ranked[i] for i in np.linspace(len(ranked) - 1, 0, min(SHEET_ROWS, len(ranked))).round().astype(int)]
    text = "From the best to the worst picture by LPIPS-Alex" if len(ranked) > 1 else ranked[0][0].ours.picture
    yield "sheet.png", (text, _sheet(codec, spread, summary, text))
    if len(ranked) > SHEET_ROWS:
        text = f"The {SHEET_ROWS} worst pictures by LPIPS-Alex"
        yield "sheet_worst.png", (text, _sheet(codec, ranked[:SHEET_ROWS], summary, text))


def _sheet(codec: Codec, chosen: Sequence[tuple[PictureResult, Path]], summary: Mapping[str, Any], text: str) -> bytes:
    baselines = summary["baselines"] != "none"
    titles = ["original", codec.bundle.id]
    if baselines:
        titles += ["classical, best LPIPS-Alex", "classical, best PSNR"]
    rows = [_tiles(codec, result, original_of(path, summary["size"]), baselines) for result, path in chosen]
    heading = f"{_title(summary)}    {text}".replace("×", "x")  # Pillow's font lacks the sign
    return encode_sheet(draw_sheet(rows, titles=titles, heading=heading, side=SHEET_SIDE))


def _tiles(codec: Codec, result: PictureResult, original: Rgb, baselines: bool) -> list[Tile]:
    ours = np.asarray(codec.restore(result.payload))
    tiles = [
        Tile(original, f"{original.nbytes:,} bytes of pixels", result.ours.picture),
        Tile(ours, f"{result.ours.nbytes:,} bytes", _scores(result.ours), accent=True),
    ]
    if not baselines:
        return tiles
    for method in (CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR):
        row = next((row for row in result.equal if row.method == method), None)
        if row is None or row.setting is None:
            tiles.append(Tile(None, "nothing fits", ""))
            continue
        picture = ClassicalCodec(original, row.setting.codec).result(row.setting).rgb
        size = f"{row.nbytes:,} bytes, {CODECS[row.setting.codec]}"
        size += f" at 1/{row.setting.factor:.3g}" if row.setting.factor != 1 else ""
        tiles.append(Tile(picture, size, _scores(row)))
    return tiles


def _scores(row: Row) -> str:
    return f"LPIPS-Alex {row.scores.lpips_alex:.3f}   {row.scores.psnr:.1f} dB"


def _plot(summary: Mapping[str, Any], panels: Sequence[tuple[str, str, str]]) -> bytes:
    """Scores against bytes, a panel each, as PNG."""
    ours = summary["means"][summary["bundle"]["id"]]
    panels = [panel for panel in panels if ours[panel[0]] is not None]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(panels), 3.9), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _draw(axes, summary, ours, *panel)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})  # the version would change the bytes
    return buffer.getvalue()


def _draw(
    axes: Axes, summary: Mapping[str, Any], ours: Mapping[str, float], score: str, label: str, choice: str
) -> None:
    ticks = set()
    for name in CODECS.values():
        curve = [point for point in summary["curves"].get(f"{name}, {choice}", []) if point[score] is not None]
        if curve:
            color, marker = STYLES[name]
            ticks |= {point["budget"] for point in curve}
            sizes, values = ([point[key] for point in curve] for key in ("bytes", score))
            axes.plot(sizes, values, color=color, marker=marker, label=name)
    label_of_ours = f"{summary['bundle']['id']} {summary['bundle']['version']}"
    star: Any = {"color": OURS, "marker": "*", "markersize": 15, "linestyle": "", "zorder": 3}
    axes.plot(ours["bytes"], ours[score], label=label_of_ours, **star)
    title = score_names.marked(score_names.SCORE_NAMES[score].plot_title, score, summary["training_losses"])
    axes.set(xscale="log", title=title, xlabel="bytes per picture", ylabel=label)
    axes.set_title(f"★ {formatted(score, ours[score])}", loc="right", color=OURS)
    axes.xaxis.set_major_locator(FixedLocator(sorted(ticks) or [round(ours["bytes"])]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
