"""Compare bundles on the same pictures, with bicubic rescaling and with classical codecs at equal bytes.

    python benchmarks/quality/codecs.py --bundles faces,photos-x4 --data FACES --weights METRICS \
        --out results/codecs.json --write docs/codecs.md

Bundles with LRs of one size form a group. Each group is compared with the bicubic LR of that size, sent losslessly in a
payload and upscaled bicubically, and with the classical codecs, which may use as many bytes as the group's largest
payload of each picture. Results are cached: after adding a bundle, only what depends on it is measured.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from benchmarks.quality.page_sections import require_section, write_section
from benchmarks.quality.rescaling import BICUBIC, bicubic_pair
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import EdgegrainError, ExistsError
from codec_contract.files import cache_folder, printable_name, write_atomically
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import encode_payload
from codec_contract.pixels import Rgb
from edgegrain.cli.output import errors_to_exit_codes, with_progress
from edgegrain.evaluation.classical_codecs import Thoroughness, library_versions
from edgegrain.evaluation.evaluator import EvaluationConfig, Evaluator, ResultCache, crops_key, metrics_key, weights_id
from edgegrain.evaluation.results import (
    CLASSICAL_BY_LPIPS,
    CLASSICAL_BY_PSNR,
    PictureResult,
    Row,
    described_pictures,
    equal_means,
    packed,
    rounded,
    row_from,
)
from edgegrain.metrics.picture_metrics import PictureMetrics
from edgegrain.metrics.score_names import NOTE, column_titles, losses_at
from edgegrain.metrics.weights import find_metric_weights
from edgegrain.pictures.stored_pictures import list_pictures, original_of
from edgegrain.publishing.model_card import measured_columns, score_cells
from sdk import Codec
from sdk.payload import coder_tables

SECTION = "codecs"
"""Section of the page, between ``<!-- codecs -->`` and ``<!-- /codecs -->``."""
NAMES = {"grain": "GRAIN", "glean": "GLEAN", "gcfsr": "GCFSR", "irn": "IRN", "irn_plus": "IRN+"}
"""A manifest's codec -> display name."""


@dataclass(frozen=True)
class Group:
    """Bundles with LRs of one size.

    Attributes:
        lr: side of the LR, in pixels.
        codecs: the opened bundles; at least one.
    """

    lr: int
    codecs: tuple[Codec, ...]


class CodecComparison:
    """Compares groups of bundles, one call of `picture` per picture.

    Args:
        codecs: the bundles.
        metrics: opened on the weights that ``weights_id`` identifies.
        weights_id: as for `Evaluator`.
        cache: stores the results.
        thoroughness: effort of the search among classical codecs.
        side: of the originals, in pixels; 0: the first bundle's.
    """

    def __init__(self, codecs: Sequence[Codec], metrics: PictureMetrics, weights_id: str, cache: ResultCache,
                 thoroughness: Thoroughness = "fast", side: int = 0) -> None:
        if not codecs:
            raise EdgegrainError("name at least one bundle")
        ids = [codec.bundle.id for codec in codecs]
        if repeated := sorted({name for name in ids if ids.count(name) > 1}):
            raise EdgegrainError(f"several bundles have the id {', '.join(repeated)}, which names their results; name "
                                 "each bundle once, and give versions to compare ids of their own")
        self.side = side or codecs[0].bundle.hr
        self._metrics, self._cache, self._metrics_key = metrics, cache, metrics_key(metrics, weights_id)
        alone, against = EvaluationConfig(None, side=self.side), EvaluationConfig(thoroughness, side=self.side)
        self._alone = {codec.bundle.id: Evaluator(codec, metrics, weights_id, cache, alone) for codec in codecs}
        self.groups = tuple(_groups(codecs, self.side))
        self._with_classical = {group.lr: Evaluator(group.codecs[0], metrics, weights_id, cache, against)
                                for group in self.groups}

    def picture(self, path: Path) -> dict[int, PictureResult]:
        """Results by side of the LR: the first bundle of the group, and in ``equal`` everything it is compared with.
        """
        original, found = original_of(path, self.side), {}
        for group in self.groups:
            ours = [self._alone[codec.bundle.id].picture(path).ours for codec in group.codecs]
            budget = max(row.nbytes for row in ours)
            result = self._with_classical[group.lr].picture(path, budget)
            bicubic = replace(self._bicubic(original, group), picture=printable_name(path.name))
            found[group.lr] = replace(result, equal=(*ours[1:], bicubic, *result.equal))
        return found

    def _bicubic(self, original: Rgb, group: Group) -> Row:
        manifests = [load_manifest(codec.bundle.folder) for codec in group.codecs]
        contracts = sorted(each.lr_contract_id.hex() for each in manifests)
        key = {"kind": "bicubic", "lr": group.lr, "contracts": contracts, **library_versions(),
               "pixels": hashlib.sha256(original.tobytes()).hexdigest(), **crops_key(original), **self._metrics_key}

        def measure() -> dict[str, Any]:
            lr, restored = bicubic_pair(original, self.side // group.lr)
            nbytes = min(len(encode_payload(lr, contract_id=manifests[0].lr_contract_id, tables=tables,
                                            original_size=(self.side, self.side)))
                         for tables in _lossless_tables(manifests))
            scores, features = self._metrics.against(original).scores(np.ascontiguousarray(restored))
            return Row("", BICUBIC, nbytes, nbytes, scores, features=packed(features)).as_dict()

        return row_from(self._cache.get_or_compute(key, measure))


def summary(comparison: CodecComparison, results: Sequence[Mapping[int, PictureResult]], pictures: Sequence[Path],
            baselines: str) -> dict[str, Any]:
    """Means by group and method, with pictures and versions; plain JSON data."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "pictures": described_pictures(pictures),
        "side": comparison.side,
        "baselines": baselines,
        "groups": [{
            "lr": group.lr,
            "bundles": {codec.bundle.id: {"codec": codec.bundle.codec, "version": codec.bundle.version,
                                          "lr_contract_id": codec.bundle.lr_contract_id,
                                          "training_losses": _losses(codec, comparison.side)}
                        for codec in group.codecs},
            "means": rounded(equal_means([result[group.lr] for result in results])),
        } for group in comparison.groups],
        "versions": {"torch": torch.__version__.split("+")[0], **library_versions()},
    }


def section(summary: Mapping[str, Any], command: str) -> list[str]:
    """Markdown lines: a table of bundles, bicubic and the best of the classical codecs, and the command."""
    methods = [mean for group in summary["groups"] for mean in group["means"].values()]
    columns = [score for score in measured_columns(methods) if score != "kid"]
    lines = ["| codec | LR | " + " | ".join(column_titles(columns)) + " |",
             "|---" * 2 + "|---:" * len(columns) + "|"]
    for group in summary["groups"]:
        bundles = group["bundles"]
        for method in (*bundles, BICUBIC, CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR):
            if method not in group["means"]:
                continue
            mean, bundle = group["means"][method], bundles.get(method)
            name = f"**{NAMES[bundle['codec']]}**, `{method}` {bundle['version']}" if bundle else method
            if mean["pictures"] < summary["pictures"]["count"]:
                name += f" ({mean['pictures']} pictures; the others do not fit)"
            lr = "" if method in (CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR) else f"{group['lr']}²"
            lines.append(f"| {name} | {lr} | " + " | ".join(
                score_cells(mean, columns, bundle["training_losses"] if bundle else ())) + " |")
    pictures = summary["pictures"]
    return [*lines, "", f"{NOTE}. ±: 95 % bootstrap interval over pictures.", "",
            f"Means over {pictures['count']} pictures of `{pictures['folder']}` at {summary['side']}×"
            f"{summary['side']}, measured {summary['date']}:", "",
            "<!-- not run: needs other weights -->", "```sh", command, "```"]


@errors_to_exit_codes()
def main(
    bundles: Annotated[str, typer.Option(help="Names or folders of bundles, comma-separated; the first one's size is "
                                         "the pictures'.")],
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of pictures that no bundle was "
                                       "trained on; the centre square of each is used.")],
    weights: Annotated[Path | None, typer.Option(
        exists=True, file_okay=False, help="Folder of the metric weights [default: those of 'edgegrain metrics "
        "fetch'].")] = None,
    out: Annotated[Path, typer.Option(help="JSON file of the means.")] = Path("codecs.json"),
    write: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help=f"Page whose section '{SECTION}' is "
                                               "replaced by the table.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Number of pictures; 0: all.")] = 0,
    side: Annotated[int, typer.Option(min=0, help="Side of the pictures; 0: that of the first bundle.")] = 0,
    thorough: Annotated[bool, typer.Option("--thorough", help="Search the classical codecs as 'edgegrain evaluate "
                                           "--baselines full' does.")] = False,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the networks; 0: all.")] = 0,
    cache: Annotated[Path | None, typer.Option(
        file_okay=False, help="Folder of results that are already computed [default: edgegrain's cache folder].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the JSON file.")] = False,
) -> None:
    """Compare bundles with each other, with bicubic rescaling and with classical codecs at equal bytes.

    After an interruption the same command continues where it stopped.
    """
    if threads:
        torch.set_num_threads(threads)
    if out.exists() and not force:
        raise ExistsError(out)
    if write is not None:
        require_section(write, SECTION)
    codecs = [Codec(name.strip(), threads=threads or None) for name in bundles.split(",") if name.strip()]
    faces = any(codec.bundle.domain == "faces" for codec in codecs)
    folder = find_metric_weights(weights, faces=faces)
    baselines: Thoroughness = "full" if thorough else "fast"
    comparison = CodecComparison(codecs, PictureMetrics(folder, faces=faces), weights_id(folder),
                                 ResultCache(cache or cache_folder() / "evaluation"), baselines, side)
    paths = list_pictures(data)[: limit or None]
    results = [comparison.picture(path) for path in with_progress(paths, "comparing")]
    means = summary(comparison, results, paths, baselines)
    write_atomically(out, (json.dumps(means, indent=1, allow_nan=False) + "\n").encode(), force=force)
    names = ",".join(codec.bundle.id for codec in codecs)
    options = f" --limit {limit}" * bool(limit) + f" --side {side}" * bool(side) + " --thorough" * thorough
    lines = section(means, f"python benchmarks/quality/codecs.py --bundles {names} \\\n    --data PICTURES --weights "
                    f"METRICS{options} \\\n    --out {out.as_posix()} --write docs/codecs.md --force")
    if write is not None:
        write_section(write, SECTION, lines)
    typer.echo("\n".join(lines))


def _lossless_tables(manifests: Sequence[Manifest]) -> list[CoderTables]:
    """The default coder tables, and those of bundles that send all levels."""
    tables = [CoderTables.default(), *(coder_tables(manifest) for manifest in manifests)]
    return [each for each in tables if each.step == 1]


def _losses(codec: Codec, side: int) -> list[str]:
    return sorted(losses_at(load_manifest(codec.bundle.folder), side))


def _groups(codecs: Sequence[Codec], side: int) -> Iterator[Group]:
    by_lr: dict[int, list[Codec]] = {}
    for codec in codecs:
        lr = load_manifest(codec.bundle.folder).lr_size((side, side))[0]
        if side % lr:
            raise EdgegrainError(f"pictures of {side}x{side} are not a multiple of the LR of bundle {codec.bundle.id}, "
                                 f"{lr}x{lr}; choose another --side")
        by_lr.setdefault(lr, []).append(codec)
    for lr, own in by_lr.items():
        yield Group(lr, tuple(own))


if __name__ == "__main__":
    typer.run(main)
