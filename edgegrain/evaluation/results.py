"""Results of an evaluation: rows, their means, and their files (TSV for all rows, JSON for the means)."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from codec_contract import __version__
from codec_contract.files import printable_name
from edgegrain.evaluation.classical_codecs import Setting, library_versions
from edgegrain.metrics.kid import FEATURE_NETWORK, KIDS, Features, FeatureSets, kernel_distance, mean_interval
from edgegrain.metrics.picture_metrics import Scores
from sdk import BundleInfo

CLASSICAL = "classical"
BY_LPIPS, BY_PSNR, FULL_SIZE = "best LPIPS-Alex", "best PSNR", "full size"
CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR = f"{CLASSICAL}, {BY_LPIPS}", f"{CLASSICAL}, {BY_PSNR}"
SCORES = tuple(score.name for score in fields(Scores))
COLUMNS = ("picture", "method", "budget", "bytes", *SCORES, "setting")


REFINEMENT = {"refinement": "refined", "refinement_size": "at", "refinement_max_bytes": "to"}
"""Options of a search (`edgegrain.refinement.RefiningCodec`) in a summary -> their words in names of files; an option
that was left out is absent, and all of them without a search."""


@dataclass(frozen=True)
class Row:
    """The scores of one picture and one method."""

    picture: str  # file name, as `printable_name`
    method: str  # id of the bundle; or ``classical, best PSNR`` (any codec), ``WebP, best PSNR``, ``WebP, full size``
    budget: int  # bytes that the method may use; for the bundle, those of its payload
    nbytes: int
    scores: Scores
    setting: Setting | None = None
    features: Mapping[str, str] = field(default_factory=dict)  # for KID, as `packed`; empty on the curves


@dataclass(frozen=True)
class PictureResult:
    """All results of one picture."""

    ours: Row
    payload: bytes
    equal: Sequence[Row]  # classical methods at the bundle's bytes
    curve: Sequence[Row]  # classical methods at fixed budgets
    lr_bytes: Mapping[str, int]  # format -> size of the LR in lossless formats, and of the payload
    original_features: Mapping[str, str]
    lr_saturation: tuple[float, float]  # mean saturation of the LR and of the area mean, 0...1


def row_from(data: Mapping[str, Any]) -> Row:
    """The row from its plain data (`dataclasses.asdict`)."""
    setting = Setting(**data["setting"]) if data["setting"] else None
    return Row(**{**data, "scores": Scores(**data["scores"]), "setting": setting})


def refinement_suffix(options: Mapping[str, Any]) -> str:
    """End of the names of an evaluation's files, by its summary or the `REFINEMENT` in it: ``-refined-40-at-512``."""
    return "".join(f"-{word}-{options[key]}" for key, word in REFINEMENT.items() if key in options)


def packed(features: FeatureSets) -> dict[str, str]:
    """Features ``[S, D]`` as ``S`` and base64 of little-endian float32; plain JSON data."""
    texts = {name: base64.b64encode(found.astype("<f4").tobytes()).decode() for name, found in features.items()}
    return {name: f"{len(features[name])} {text}" for name, text in texts.items()}


def unpacked(text: str) -> Features:
    """The features of a value of `packed`."""
    samples, values = text.split()
    return np.frombuffer(base64.b64decode(values), "<f4").reshape(int(samples), -1)


def equal_means(results: Sequence[PictureResult]) -> dict[str, dict[str, float | None]]:
    """Method -> means at the bundle's bytes, with KID and the bounds ``SCORE_low`` and ``SCORE_high``; ours first."""
    originals = {result.ours.picture: result.original_features for result in results}
    means = {}
    for method, rows in _by_method([row for result in results for row in (result.ours, *result.equal)]).items():
        mean = means[method] = _means(rows)
        for score in SCORES:
            values = [getattr(row.scores, score) for row in rows]
            bounds = None if None in values else mean_interval(values)
            mean[f"{score}_low"], mean[f"{score}_high"] = bounds or (None, None)
        of_originals = [originals[row.picture] for row in rows]
        for kid in KIDS:
            distance = None
            if all(kid in features for features in of_originals):
                sets = [row.features for row in rows], of_originals
                found, expected = (np.array([unpacked(features[kid]) for features in each]) for each in sets)
                distance = kernel_distance(found, expected)
            mean[kid], mean[f"{kid}_low"], mean[f"{kid}_high"] = astuple(distance) if distance else (None, None, None)
    return means


def curve_means(results: Sequence[PictureResult]) -> dict[str, list[dict[str, float | None]]]:
    """Method -> means with their ``budget``, ascending; only budgets that every picture fits into."""
    curves: dict[str, list[dict[str, float | None]]] = {}
    for method, rows in _by_method([row for result in results for row in result.curve]).items():
        for budget in sorted({row.budget for row in rows}):
            own = [row for row in rows if row.budget == budget]
            if len(own) == len(results):  # a mean over the easy pictures only would be too good
                curves.setdefault(method, []).append({"budget": budget, **_means(own)})
    return curves


def tsv(results: Sequence[PictureResult]) -> str:
    """The TSV file: rows of each picture and method at equal bytes."""
    lines = [COLUMNS]
    for row in (row for result in results for row in (result.ours, *result.equal)):
        scores = ["" if value is None else format(value, ".4f") for value in astuple(row.scores)]
        setting = row.setting.description if row.setting else ""
        lines.append((row.picture, row.method, str(row.budget), str(row.nbytes), *scores, setting))
    return "".join("\t".join(line) + "\n" for line in lines)


def summary(
    results: Sequence[PictureResult],
    bundle: BundleInfo,
    pictures: Sequence[Path],
    baselines: str,
    training_losses: Collection[str] = (),
    side: int = 0,
    refinement: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The rounded means, with bundle, pictures, versions and the `REFINEMENT`; plain JSON data."""
    versions = {library.__name__: library.__version__.split("+")[0] for library in (np, onnxruntime, torch)}
    of_lr, of_area = np.mean([result.lr_saturation for result in results], axis=0)
    lr_bytes = {kind: float(np.mean([result.lr_bytes[kind] for result in results])) for kind in results[0].lr_bytes}
    found = {
        "bundle": {"id": bundle.id, "version": bundle.version, "lr_contract_id": bundle.lr_contract_id},
        "pictures": described_pictures(pictures),
        "size": side or bundle.hr,
        "means": equal_means(results),
        "curves": curve_means(results),
        "lr_saturation": float(of_lr / of_area) if of_area else None,  # of grey pictures
        "lr_bytes": lr_bytes,
        "baselines": baselines,
        "training_losses": sorted(training_losses),
        "kid_features": FEATURE_NETWORK,
        "versions": {"edgegrain": __version__, **versions, **library_versions()},
    }
    return rounded({**found, **(refinement or {})})


def described_pictures(pictures: Sequence[Path]) -> dict[str, Any]:
    """Name of the folder, which may hold links, count, and a SHA-256 over names and contents; plain JSON data."""
    folder = printable_name(pictures[0].parent.resolve().name)
    return {"folder": folder, "count": len(pictures), "sha256": files_sha256(pictures)}


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files in the order given, 64 hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        line = f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    methods = dict.fromkeys(row.method for row in rows)
    return {method: [row for row in rows if row.method == method] for method in methods}


def _means(rows: Sequence[Row]) -> dict[str, float | None]:
    mean: dict[str, float | None] = {"pictures": len(rows), "bytes": float(np.mean([row.nbytes for row in rows]))}
    for score in SCORES:
        values = [getattr(row.scores, score) for row in rows]
        mean[score] = None if None in values else float(np.mean(values))
    return mean


def rounded(value: Any) -> Any:
    """The data with numbers rounded to six decimals, and None for infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
