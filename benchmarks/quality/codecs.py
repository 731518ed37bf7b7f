"""Codecs side by side: bundles on the same pictures, bicubic and classical codecs at the same bytes.

    python -m benchmarks.quality.codecs --bundles faces,photos-x4 --pictures FACES --weights METRICS \
        --out results/codecs.json --write docs/codecs.md

Bundles that send LRs of one size are a group. Beside each group stand the bicubic LR of that size, sent in the same
payload and enlarged bicubically, and the classical codecs, which may use as many bytes as the group's largest payload
of each picture. All goes into a cache: when a bundle joins later, only what it changes is measured.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.quality.page_sections import require_section, write_section
from benchmarks.quality.rescaling import BICUBIC, bicubic_pair
from codec_contract.bundle.manifest import load_manifest
from codec_contract.cache_folder import cache_folder
from codec_contract.errors import EdgegrainError
from codec_contract.files import write_atomically
from codec_contract.payload import encode_payload
from edgegrain.evaluation.classical_codecs import Thoroughness, library_versions
from edgegrain.evaluation.evaluator import EvaluationConfig, Evaluator, metrics_key, original_of, weights_id
from edgegrain.evaluation.result_cache import ResultCache
from edgegrain.evaluation.results import (
    CLASSICAL_BY_LPIPS,
    CLASSICAL_BY_PSNR,
    PictureResult,
    Row,
    described_pictures,
    equal_means,
    packed,
    row_from,
)
from edgegrain.metrics.metric_weights import find_weights
from edgegrain.metrics.picture_metrics import Metrics
from edgegrain.metrics.psnr_ssim import Picture
from edgegrain.pictures.packed import list_pictures
from edgegrain.publishing.model_card import COLUMNS
from edgegrain.training.console import errors_on_one_line, progress_bar
from edgegrain.training.grain.stages import FACES
from sdk import Codec
from sdk.payload import coder_tables

SECTION = "codecs"
"""Of the page, between ``<!-- codecs -->`` and ``<!-- /codecs -->``."""
NAMES = {"grain": "GRAIN", "glean": "GLEAN", "gcfsr": "GCFSR", "irn": "IRN", "irn_plus": "IRN+"}
"""A manifest's codec -> how people write it."""
USES = {
    "grain": "one narrow domain, such as aligned faces, in some hundred bytes",
    "glean": "the same domain where the LR is a plain reduction that others make or keep",
    "gcfsr": "likewise; `strength` weighs the picture's own detail against invented detail",
    "irn": "any photograph, where the small picture itself is wanted",
    "irn_plus": "likewise, sharper and less faithful",
    BICUBIC: "the control: no learned part at either end",
    CLASSICAL_BY_LPIPS: "any picture, where bytes are all that counts",
    CLASSICAL_BY_PSNR: "likewise",
}
"""A manifest's codec, or a method of everybody's -> what to take it for."""
_SHOWN = tuple(column for column in COLUMNS if column[0] != "kid")


@dataclass(frozen=True)
class Group:
    """Bundles that send LRs of one size.

    Attributes:
        lr: side of the LR, in pixels.
        codecs: their bundles, opened; at least one.
    """

    lr: int
    codecs: tuple[Codec, ...]


class SideBySide:
    """Groups of bundles and their metrics.

    Args:
        codecs: the bundles.
        metrics: opened on the weights that ``weights_id`` stands for.
        weights_id: as for `Evaluator`.
        cache: where results are kept.
        thoroughness: of the search among classical codecs.
        side: of the originals, in pixels; 0: the first bundle's.

    Raises:
        EdgegrainError: no bundle, or a side that an LR does not divide.
    """

    def __init__(self, codecs: Sequence[Codec], metrics: Metrics, weights_id: str, cache: ResultCache,
                 thoroughness: Thoroughness = "fast", side: int = 0) -> None:
        if not codecs:
            raise EdgegrainError("name at least one bundle")
        self.side = side or codecs[0].bundle.hr
        self._metrics, self._cache, self._metrics_key = metrics, cache, metrics_key(metrics, weights_id)
        alone, contest = EvaluationConfig(None, side=self.side), EvaluationConfig(thoroughness, side=self.side)
        self._alone = {codec.bundle.id: Evaluator(codec, metrics, weights_id, cache, alone) for codec in codecs}
        self.groups = tuple(_groups(codecs, self.side))
        self._contests = {group.lr: Evaluator(group.codecs[0], metrics, weights_id, cache, contest)
                          for group in self.groups}

    def picture(self, path: Path) -> dict[int, PictureResult]:
        """Side of the LR -> the first bundle of the group, and in ``equal`` all that stands beside it.

        Raises:
            ImageError: the picture cannot be read.
        """
        original, found = original_of(path, self.side), {}
        for group in self.groups:
            ours = [self._alone[codec.bundle.id].picture(path).ours for codec in group.codecs]
            budget = max(row.nbytes for row in ours)
            result = self._contests[group.lr].picture(path, budget)
            bicubic = replace(self._bicubic(original, group), picture=path.name)
            found[group.lr] = replace(result, equal=(*ours[1:], bicubic, *result.equal))
        return found

    def _bicubic(self, original: Picture, group: Group) -> Row:
        manifest = load_manifest(group.codecs[0].bundle.folder)
        key = {"kind": "bicubic", "lr": group.lr, "contract": manifest.lr_contract_id.hex(),
               "pixels": hashlib.sha256(original.tobytes()).hexdigest(), **self._metrics_key}

        def measure() -> dict[str, Any]:
            lr, restored = bicubic_pair(original, self.side // group.lr)
            payload = encode_payload(lr, contract_id=manifest.lr_contract_id, tables=coder_tables(manifest),
                                     original_size=(self.side, self.side))
            scores, features = self._metrics.against(original).scores(np.ascontiguousarray(restored))
            return Row("", BICUBIC, len(payload), len(payload), scores, features=packed(features)).as_dict()

        return row_from(self._cache.get_or_compute(key, measure))


def summary(side_by_side: SideBySide, results: Sequence[Mapping[int, PictureResult]], pictures: Sequence[Path],
            baselines: str) -> dict[str, Any]:
    """Means by group and method, and what they were made from; plain JSON data."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "pictures": described_pictures(pictures),
        "side": side_by_side.side,
        "baselines": baselines,
        "groups": [{
            "lr": group.lr,
            "bundles": {codec.bundle.id: {"codec": codec.bundle.codec, "version": codec.bundle.version,
                                          "lr_contract_id": codec.bundle.lr_contract_id} for codec in group.codecs},
            "means": {method: {key: None if value is None else round(value, 6) for key, value in mean.items()}
                      for method, mean in equal_means([result[group.lr] for result in results]).items()},
        } for group in side_by_side.groups],
        "versions": {"torch": torch.__version__.split("+")[0], **library_versions()},
    }


def section(summary: Mapping[str, Any], command: str) -> list[str]:
    """Markdown lines: a table of bundles, bicubic and the best of the classical codecs, and where it comes from."""
    methods = [mean for group in summary["groups"] for mean in group["means"].values()]
    columns = [column for column in _SHOWN if any(mean.get(column[0]) is not None for mean in methods)]
    lines = ["| codec | use it for | LR | " + " | ".join(title for _, title, _ in columns) + " |",
             "|---" * 3 + "|---:" * len(columns) + "|"]
    for group in summary["groups"]:
        bundles = group["bundles"]
        for method in (*bundles, BICUBIC, CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR):
            if method not in group["means"]:
                continue
            mean, bundle = group["means"][method], bundles.get(method)
            name, use = (method, method) if bundle is None else (
                f"**{NAMES[bundle['codec']]}**, `{method}` {bundle['version']}", bundle["codec"])
            if mean["pictures"] < summary["pictures"]["count"]:
                name += f" ({mean['pictures']} pictures; the others do not fit)"
            lr = "" if method in (CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR) else f"{group['lr']}²"
            cells = ["–" if mean.get(key) is None else format(mean[key], form) for key, _, form in columns]
            lines.append(f"| {name} | {USES[use]} | {lr} | " + " | ".join(cells) + " |")
    pictures = summary["pictures"]
    return [*lines, "", f"Means over {pictures['count']} pictures of `{pictures['folder']}` at {summary['side']}×"
            f"{summary['side']}, measured {summary['date']}:", "", "```sh", command, "```"]


def _groups(codecs: Sequence[Codec], side: int) -> Iterator[Group]:
    by_lr: dict[int, list[Codec]] = {}
    for codec in codecs:
        lr = load_manifest(codec.bundle.folder).lr_size((side, side))[0]
        if side % lr:
            raise EdgegrainError(f"pictures of {side}x{side} are no multiple of the LR of bundle {codec.bundle.id}, "
                                 f"{lr}x{lr}; choose another --side")
        by_lr.setdefault(lr, []).append(codec)
    for lr, own in by_lr.items():
        yield Group(lr, tuple(own))


def main(
    bundles: Annotated[str, typer.Option(help="Names or folders of bundles, comma-separated; the first one's size is "
                                         "the pictures'.")],
    pictures: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of pictures that none was "
                                           "trained on; the centre square of each is taken.")],
    weights: Annotated[Path | None, typer.Option(
        exists=True, file_okay=False, help="Folder of the metrics' weights [default: those of 'edgegrain metrics "
        "fetch'].")] = None,
    out: Annotated[Path, typer.Option(help="JSON file for the means.")] = Path("codecs.json"),
    write: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help=f"Page whose section '{SECTION}' is "
                                               "replaced by the table.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Only the first pictures; 0: all.")] = 0,
    side: Annotated[int, typer.Option(min=0, help="Side of the pictures; 0: as the first bundle's.")] = 0,
    thorough: Annotated[bool, typer.Option("--thorough", help="Search the classical codecs as 'edgegrain evaluate "
                                           "--baselines full' does.")] = False,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the networks; 0: all.")] = 0,
    cache: Annotated[Path | None, typer.Option(
        file_okay=False, help="Folder for what is already computed [default: edgegrain's cache folder].")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the JSON file.")] = False,
) -> None:
    """Measure bundles side by side, with bicubic and classical codecs at the same bytes.

    Interrupted, it continues where it was when it is started again.
    """
    if threads:
        torch.set_num_threads(threads)
    with errors_on_one_line():
        if out.exists() and not force:
            raise FileExistsError(f"{out} exists; choose another name or pass --force to replace it")
        if write is not None:
            require_section(write, SECTION)
        codecs = [Codec(name.strip(), threads=threads or None) for name in bundles.split(",") if name.strip()]
        faces = any(codec.bundle.domain == FACES for codec in codecs)
        folder = find_weights(weights, faces=faces)
        baselines: Thoroughness = "full" if thorough else "fast"
        side_by_side = SideBySide(codecs, Metrics(folder, faces=faces), weights_id(folder),
                                  ResultCache(cache or cache_folder() / "evaluation"), baselines, side)
        paths, results = list_pictures(pictures)[: limit or None], []
        with progress_bar() as report:
            for index, path in enumerate(paths):
                report(index / len(paths), path.name)
                results.append(side_by_side.picture(path))
        means = summary(side_by_side, results, paths, baselines)
        write_atomically(out, (json.dumps(means, indent=1, allow_nan=False) + "\n").encode(), force=force)
        names = ",".join(codec.bundle.id for codec in codecs)
        options = f" --limit {limit}" * bool(limit) + f" --side {side}" * bool(side) + " --thorough" * thorough
        lines = section(means, f"python -m benchmarks.quality.codecs --bundles {names} --pictures PICTURES "
                        f"--weights METRICS{options} \\\n    --out {out.as_posix()} --write docs/codecs.md --force")
        if write is not None:
            write_section(write, SECTION, lines)
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
