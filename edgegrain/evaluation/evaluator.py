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
from typing import Any, TypeVar

import numpy as np
import onnxruntime

from codec_contract.fit import fit_picture
from codec_contract.payload import FIT_CROP
from edge_encoder.preprocessing import load_picture
from edgegrain.evaluation.classical_codecs import (
    CODECS,
    BaselineResult,
    Opponent,
    Thoroughness,
    encode_lossless,
    library_versions,
)
from edgegrain.evaluation.result_cache import Journal
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
from edgegrain.metrics.kid import Features
from edgegrain.metrics.metric_weights import FILES
from edgegrain.metrics.picture_metrics import Comparison, Judge, Scores
from edgegrain.metrics.psnr_ssim import Picture
from sdk import Codec

Key = TypeVar("Key")
Value = TypeVar("Value")

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
        side: of the originals, in pixels; 0: as the bundle's.
    """

    baselines: Thoroughness | None = "fast"
    budgets: tuple[int, ...] = ()
    side: int = 0


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
        self._judged_by = judged_by(judge, weights_id)
        self._bundle_key = {"bundle": codec.bundle.id, "manifest": hashlib.sha256(manifest).hexdigest(),
                            "device": codec.device, "onnxruntime": onnxruntime.__version__}

    def picture(self, path: Path, budget: int = 0) -> PictureResult:
        """Everything about one picture, from the journal as far as it goes.

        Args:
            path: the picture.
            budget: bytes that the classical codecs may use; 0: as many as the bundle's payload has.

        Raises:
            ImageError: the picture cannot be read.
        """
        original = original_of(path, self._config.side or self._codec.bundle.hr)
        contest = _Contest(self._judge, original, self._config.baselines or "fast")
        pixels = hashlib.sha256(original.tobytes()).hexdigest()
        ours = self._recall({"kind": "bundle", "pixels": pixels, **self._bundle_key}, lambda: self._restored(contest))
        row = row_from({**ours["row"], "picture": path.name})
        equal, curve = [], []
        if self._config.baselines is not None:
            key = {"pixels": pixels, "search": self._config.baselines, "codecs": list(CODECS), **library_versions()}
            allowed = budget or row.nbytes
            equal = self._recall({"kind": "equal", "budget": allowed, **key}, lambda: contest.at_equal_bytes(allowed))
            for budget in self._config.budgets:
                curve += self._recall({"kind": "curve", "budget": budget, **key},
                                      functools.partial(contest.on_curve, budget))
        rows = [tuple(row_from({**data, "picture": path.name}) for data in found) for found in (equal, curve)]
        return PictureResult(row, rows[0], rows[1], ours["lr_bytes"], ours["original_features"])

    def _recall(self, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        return self._journal.recall({**key, **self._judged_by}, make)

    def _restored(self, contest: _Contest) -> dict[str, Any]:
        payload = self._codec.compress(contest.original)
        comparison = contest.comparison
        scores, features = comparison.scores(np.asarray(self._codec.restore(payload)))
        row = Row("", self._codec.bundle.id, len(payload), len(payload), scores, features=packed(features))
        sizes = {"payload": len(payload)} | {
            kind: len(encode_lossless(payload.lr, kind)) for kind in ("png", "webp", "jpeg-xl")}
        return {"row": row.as_dict(), "lr_bytes": sizes, "original_features": packed(comparison.features)}


def judged_by(judge: Judge, weights_id: str) -> dict[str, Any]:
    """What every record of a journal depends on besides pictures and codecs; plain JSON data."""
    return {"revision": REVISION, "weights": weights_id, "faces": judge.identity is not None}


def weights_id(folder: Path) -> str:
    """A hash over the metrics' weight files in a folder, 64 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(folder / name for name in FILES if (folder / name).is_file()):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


class _Contest:
    """The classical codecs on one picture; nothing is encoded or judged twice."""

    def __init__(self, judge: Judge, original: Picture, thoroughness: Thoroughness) -> None:
        self.original = original
        self._judge = judge
        self._thoroughness = thoroughness
        self._opponents: dict[str, Opponent] = {}
        self._lpips_of: dict[BaselineResult, float] = {}
        self._quick_scores_of: dict[BaselineResult, Scores] = {}
        self._scores_of: dict[BaselineResult, tuple[Scores, Features]] = {}

    @functools.cached_property
    def comparison(self) -> Comparison:
        return self._judge.against(self.original)

    def at_equal_bytes(self, budget: int) -> list[dict[str, Any]]:
        """Rows with all scores: over all codecs, then of each codec."""
        found = {(codec, choice): result for codec in CODECS for choice, result in self._choices(codec, budget)}
        rows = []
        for choice, score in ((BY_LPIPS, self._lpips), (BY_PSNR, self._minus_psnr)):
            results = [result for (_, own), result in found.items() if own == choice]
            if results:
                rows.append(self._row(f"{CLASSICAL}, {choice}", budget, min(results, key=score)))
        for codec in CODECS:
            full = self._opponent(codec).at_full_size(budget)
            if full is not None:
                found[codec, FULL_SIZE] = full
            rows += [self._row(f"{CODECS[codec]}, {choice}", budget, found[codec, choice])
                     for choice in (BY_LPIPS, BY_PSNR, FULL_SIZE) if (codec, choice) in found]
        return rows

    def on_curve(self, budget: int) -> list[dict[str, Any]]:
        """Rows of each codec with the quick scores."""
        return [
            Row("", f"{CODECS[codec]}, {choice}", budget, result.nbytes, self._quick_scores(result),
                result.setting).as_dict()
            for codec in CODECS for choice, result in self._choices(codec, budget)]

    def _choices(self, codec: str, budget: int) -> Iterator[tuple[str, BaselineResult]]:
        """The best by LPIPS-Alex and the best by PSNR, if anything fits."""
        for choice, score in ((BY_LPIPS, self._lpips), (BY_PSNR, None)):
            result = self._opponent(codec).best(budget, score)
            if result is not None:
                yield choice, result

    def _opponent(self, codec: str) -> Opponent:
        return _once(self._opponents, codec, lambda: Opponent(self.original, codec, self._thoroughness))

    def _lpips(self, result: BaselineResult) -> float:
        return _once(self._lpips_of, result, lambda: self.comparison.lpips_alex(result.rgb))

    def _quick_scores(self, result: BaselineResult) -> Scores:
        return _once(self._quick_scores_of, result, lambda: self.comparison.quick_scores(result.rgb))

    def _scores(self, result: BaselineResult) -> tuple[Scores, Features]:
        return _once(self._scores_of, result, lambda: self.comparison.scores(result.rgb))

    def _minus_psnr(self, result: BaselineResult) -> float:
        return self._opponent(result.setting.codec).minus_psnr(result)

    def _row(self, method: str, budget: int, result: BaselineResult) -> dict[str, Any]:
        scores, features = self._scores(result)
        return Row("", method, budget, result.nbytes, scores, result.setting, packed(features)).as_dict()


def _once(cache: dict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """Not `functools.cache`: that would tie a knot that keeps a picture's hundreds of candidates in memory."""
    if key not in cache:
        cache[key] = make()
    return cache[key]
