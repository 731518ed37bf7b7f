"""Rate-distortion and rate-perception curves: classical codecs over budgets, the bundle as a point."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from edgegrain.evaluation.classical_codecs import CODECS
from edgegrain.evaluation.results import BY_LPIPS, BY_PSNR
from edgegrain.metrics.score_names import SCORE_NAMES, formatted
from edgegrain.metrics.training_losses import marked

# Okabe and Ito's colours, which colour-blind readers can distinguish; each codec also has its own marker.
STYLES = {"JPEG": ("#999999", "s"), "WebP": ("#0072B2", "o"), "AVIF": ("#E69F00", "^"), "JPEG XL": ("#009E73", "D")}
OURS = "#B22234"
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#E5E5E5", "axes.titlesize": 11, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "figure.dpi": 150, "lines.linewidth": 1.6, "lines.markersize": 5,
}

# Score, label of the axis, choice of each codec that is drawn.
DISTORTION = (("psnr", "dB", BY_PSNR), ("ssim", "index, at most 1", BY_PSNR))
PERCEPTION = (("lpips_alex", "distance", BY_LPIPS), ("identity", "distance of face descriptors", BY_PSNR),
              ("identity_mobileface", "1 − cosine", BY_PSNR))


def rate_distortion(summary: Mapping[str, Any]) -> bytes:
    """Plot PSNR and SSIM against bytes as PNG, each codec at the scale with the best PSNR."""
    return _plot(summary, DISTORTION)


def rate_perception(summary: Mapping[str, Any]) -> bytes:
    """Plot LPIPS-Alex and, for faces, both identity distances against bytes as PNG."""
    return _plot(summary, PERCEPTION)


def _plot(summary: Mapping[str, Any], panels: Sequence[tuple[str, str, str]]) -> bytes:
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


def _draw(axes: Axes, summary: Mapping[str, Any], ours: Mapping[str, float], score: str, label: str, choice: str
          ) -> None:
    ticks = set()
    for name in CODECS.values():
        curve = [point for point in summary["curves"].get(f"{name}, {choice}", []) if point[score] is not None]
        if curve:
            color, marker = STYLES[name]
            ticks |= {point["budget"] for point in curve}
            axes.plot([point["bytes"] for point in curve], [point[score] for point in curve], color=color,
                      marker=marker, label=name)
    bundle = summary["bundle"]
    axes.plot(ours["bytes"], ours[score], color=OURS, marker="*", markersize=15, linestyle="", zorder=3,
              label=f"{bundle['id']} {bundle['version']}")
    title = marked(SCORE_NAMES[score].plot_title, score, summary["training_losses"])
    axes.set(xscale="log", title=title, xlabel="bytes per picture", ylabel=label)
    axes.set_title(f"★ {formatted(score, ours[score])}", loc="right", color=OURS)
    axes.xaxis.set_major_locator(FixedLocator(sorted(ticks) or [round(ours["bytes"])]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
