"""Write the mean scores of a bundle by the data set of the pictures, from the TSV files of `edgegrain evaluate`.

    python benchmarks/quality/by_data_set.py none=results/faces-256-lr16-small-1.2.0-1024.tsv \
        "40 steps=results/faces-256-lr16-small-1.1.0-1024-refined-40-at-1024-to-400.tsv" \
        "120 steps=results/faces-256-lr16-small-1.1.0-1024-refined-120-at-1024-to-400.tsv" \
        --set "CelebA-HQ=celebahq_*" --set "FFHQ=ffhq_*" --write docs/qualities.md

A set is named by the pattern of its file names.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from benchmarks.quality.page_sections import write_section
from codec_contract.errors import EdgegrainError
from edgegrain.cli.output import errors_to_exit_codes
from edgegrain.metrics.kid import mean_interval
from edgegrain.metrics.score_names import column_titles, formatted

SECTION = "table by data set"
COLUMNS = ("bytes", "psnr", "lpips_alex", "lpips_vgg", "dists")
"""Scores of the table."""
WITH_INTERVAL = "lpips_alex"
"""The score whose bootstrap interval the table has."""

Scores = Mapping[str, Mapping[str, float]]
"""Picture -> score -> value."""


def read_scores(path: Path) -> Scores:
    """The scores of the evaluated bundle, whose rows come first in a TSV file.

    Raises:
        EdgegrainError: the file is no TSV file of `edgegrain evaluate`.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        bundle = rows[0]["method"]
        return {row["picture"]: {score: float(row[score]) for score in COLUMNS} for row in rows
                if row["method"] == bundle and row["picture"] != "mean"}
    except (OSError, IndexError, KeyError, TypeError, ValueError) as error:
        raise EdgegrainError(f"{path} is no TSV file of `edgegrain evaluate`: {error!r}") from error


def table(evaluations: Mapping[str, Scores], sets: Mapping[str, str]) -> list[str]:
    """Markdown: a row per data set and evaluation.

    Args:
        evaluations: of the same pictures, by their names.
        sets: pattern of the file names of a data set's pictures, by its name.

    Raises:
        EdgegrainError: the evaluations are of different pictures, or a set has fewer than two.
    """
    pictures, *others = map(set, evaluations.values())
    if any(other != pictures for other in others):
        raise EdgegrainError("the evaluations are of different pictures; run `edgegrain evaluate` with the same --data")
    titles = column_titles(COLUMNS)
    lines = [f"| data | search | {' | '.join(titles)} |", "|---|---|" + "---:|" * len(titles)]
    for name, pattern in sets.items():
        members = sorted(picture for picture in pictures if fnmatch(picture, pattern))
        if len(members) < 2:
            raise EdgegrainError(f"{len(members)} pictures match {pattern!r}; an interval needs two or more")
        for index, (search, scores) in enumerate(evaluations.items()):
            cells = [_cell(score, [scores[picture][score] for picture in members]) for score in COLUMNS]
            first = f"| {name}, {len(members)} |" if index == 0 else "| |"
            lines.append(f"{first} {search} | {' | '.join(cells)} |")
    return lines


@errors_to_exit_codes()
def main(
    evaluations: Annotated[list[str], typer.Argument(help="NAME=TSV of `edgegrain evaluate`, in the order of rows.")],
    sets: Annotated[list[str], typer.Option("--set", help="NAME=PATTERN of the file names of a data set; repeatable.")],
    write: Annotated[Path, typer.Option(help="Page whose table is replaced.")],
) -> None:
    """Write the table of scores by data set."""
    files = _named(evaluations, "NAME=TSV")
    lines = table({name: read_scores(Path(path)) for name, path in files.items()}, _named(sets, "NAME=PATTERN"))
    write_section(write, SECTION, lines)


def _cell(score: str, values: Sequence[float]) -> str:
    text = _short(score, float(np.mean(values)))
    bounds = mean_interval(values) if score == WITH_INTERVAL else None
    return text if bounds is None else f"{text} ({' to '.join(_short(score, bound) for bound in bounds)})"


def _short(score: str, value: float) -> str:
    return formatted(score, value).removeprefix("0")


def _named(texts: Sequence[str], form: str) -> dict[str, str]:
    named = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise EdgegrainError(f"expected {form}, got {text!r}")
        named[name] = value
    return named


if __name__ == "__main__":
    typer.run(main)
