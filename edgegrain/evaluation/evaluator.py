"""A bundle on pictures it has not seen, beside classical codecs at the same bytes and at fixed budgets.

Every picture goes through the SDK and the bundle's own files, exactly as a user's would; its centre square at the
bundle's size is the original. Then JPEG, WebP, AVIF and JPEG XL get the same number of bytes, with all the downscaling
they like, and the budgets of the curves.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_encoder.preprocessing import fit_picture, load_picture
from edgegrain.contract.payload import FIT_CROP
from edgegrain.evaluation.baselines import (
    CODECS,
    BaselineResult,
    Opponent,
    Thoroughness,
    encode_lossless,
    library_versions,
)
from edgegrain.evaluation.journal import Journal
from edgegrain.evaluation.judge import Comparison, Judge, Scores
from edgegrain.evaluation.metrics import Picture
from edgegrain.evaluation.results import (
    BY_LPIPS,
    BY_PSNR,
    CLASSICAL,
    FULL_SIZE,
    PictureResult,
    Row,
    packed,
    row_from,
)
from sdk import Codec

BUDGETS = (200, 300, 450, 600, 900, 1300, 2000, 3000, 4500, 7000, 10000, 15000)
"""Bytes at which curves may have points; those between half and four times a bundle's mean are taken."""
REVISION = 1
"""Raised when the same key would no longer give the same record."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to compare with.

    Attributes:
        baselines: how thoroughly to search the classical codecs; None for no comparison.
        budgets: bytes of the curves' points; empty for no curves.
    """

    baselines: Thoroughness | None = "fast"
    budgets: tuple[int, ...] = ()


def curve_budgets(payload_bytes: Sequence[int]) -> tuple[int, ...]:
    """The budgets around a bundle's payloads."""
    mean = float(np.mean(payload_bytes))
    return tuple(budget for budget in BUDGETS if mean / 2 <= budget <= 4 * mean)


def original_of(path: Path, hr: int) -> Picture:
    """uint8 ``[hr, hr, 3]``: the centre square of a picture file.

    Raises:
        ImageError: the file cannot be read as a picture.
    """
    return fit_picture(load_picture(path), hr, FIT_CROP)


class Evaluator:
    """A bundle and its judge; `picture` does the work.

    Args:
        codec: the bundle, opened.
        judge: opened on the same weights as ``weights_id`` stands for.
        weights_id: changes whenever the metrics' weights do, see `weights_id`.
        journal: where results are kept.
        config: what to compare with.
    """

    def __init__(self, codec: Codec, judge: Judge, weights_id: str, journal: Journal, config: EvaluationConfig) -> None:
        self._codec = codec
        self._judge = judge
        self._journal = journal
        self._config = config
        manifest = (codec.bundle.folder / "manifest.json").read_bytes()
        self._judged_by = {"revision": REVISION, "weights": weights_id, "faces": judge.identity is not None}
        self._bundle_key = {"bundle": codec.bundle.id, "manifest": hashlib.sha256(manifest).hexdigest()}

    def picture(self, path: Path) -> PictureResult:
        """Everything about one picture, from the journal as far as it goes.

        Raises:
            ImageError: the picture cannot be read.
        """
        original = original_of(path, self._codec.bundle.hr)
        comparison = functools.cache(lambda: self._judge.against(original))
        opponent = functools.cache(lambda codec: Opponent(original, codec, self._config.baselines or "fast"))
        pixels = hashlib.sha256(original.tobytes()).hexdigest()

        ours = self._recall(
            {"kind": "bundle", "pixels": pixels, **self._bundle_key}, lambda: self._restored(original, comparison()))
        row = row_from({**ours["row"], "picture": path.name})
        equal, curve = [], []
        if self._config.baselines is not None:
            key = {"pixels": pixels, "search": self._config.baselines, "codecs": list(CODECS), **library_versions()}
            equal = self._recall({"kind": "equal", "budget": row.nbytes, **key},
                                 lambda: list(_at_equal_bytes(opponent, comparison(), row.nbytes)))
            for budget in self._config.budgets:
                make = functools.partial(_on_curve, opponent, comparison, budget)
                curve += self._recall({"kind": "curve", "budget": budget, **key}, make)
        rows = [tuple(row_from({**data, "picture": path.name}) for data in found) for found in (equal, curve)]
        return PictureResult(row, rows[0], rows[1], ours["lr_bytes"], ours["original_features"])

    def _recall(self, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        return self._journal.recall({**key, **self._judged_by}, make)

    def _restored(self, original: Picture, comparison: Comparison) -> dict[str, Any]:
        payload = self._codec.compress(original)
        scores, features = comparison.scores(np.asarray(self._codec.restore(payload)))
        row = Row("", self._codec.bundle.id, len(payload), len(payload), scores, features=packed(features))
        sizes = {"payload": len(payload)} | {
            kind: len(encode_lossless(payload.lr, kind)) for kind in ("png", "webp", "jpeg-xl")}
        return {"row": row.as_dict(), "lr_bytes": sizes, "original_features": packed(comparison.features)}


def weights_id(folder: Path) -> str:
    """A hash over the metrics' weight files in a folder, 64 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".npz")):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _at_equal_bytes(opponent: Callable[[str], Opponent], comparison: Comparison,
                    budget: int) -> Iterator[dict[str, Any]]:
    """Rows with all scores: over all codecs, then of each codec."""
    lpips, scores = _cached_lpips(comparison), functools.cache(lambda result: comparison.scores(result.rgb))

    def row(method: str, result: BaselineResult) -> dict[str, Any]:
        values, features = scores(result)
        return _row(method, budget, result, values, packed(features))

    found = {
        codec: (opponent(codec).best(budget, lpips), opponent(codec).best(budget), opponent(codec).at_full_size(budget))
        for codec in CODECS}
    by_lpips = [result for result, _, _ in found.values() if result is not None]
    by_psnr = [(opponent(codec).minus_psnr(result), result) for codec, (_, result, _) in found.items()
               if result is not None]
    if not by_lpips or not by_psnr:
        return
    yield row(f"{CLASSICAL}, {BY_LPIPS}", min(by_lpips, key=lpips))
    yield row(f"{CLASSICAL}, {BY_PSNR}", min(by_psnr, key=lambda pair: pair[0])[1])
    for codec, results in found.items():
        for choice, result in zip((BY_LPIPS, BY_PSNR, FULL_SIZE), results, strict=True):
            if result is not None:
                yield row(f"{CODECS[codec]}, {choice}", result)


def _on_curve(opponent: Callable[[str], Opponent], against: Callable[[], Comparison],
              budget: int) -> list[dict[str, Any]]:
    """Rows of each codec with the quick scores."""
    comparison, rows = against(), []
    lpips = _cached_lpips(comparison)
    for codec in CODECS:
        for choice, score in ((BY_LPIPS, lpips), (BY_PSNR, None)):
            result = opponent(codec).best(budget, score)
            if result is not None:
                scores = comparison.quick_scores(result.rgb)
                rows.append(_row(f"{CODECS[codec]}, {choice}", budget, result, scores))
    return rows


def _cached_lpips(comparison: Comparison) -> Callable[[BaselineResult], float]:
    return functools.cache(lambda result: comparison.lpips_alex(result.rgb))


def _row(method: str, budget: int, result: BaselineResult, scores: Scores, features: str = "") -> dict[str, Any]:
    return Row("", method, budget, result.nbytes, scores, result.setting, features).as_dict()

