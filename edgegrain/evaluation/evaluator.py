"""Measure a bundle on unseen pictures and compare it with classical codecs at equal bytes and at fixed budgets.

Every picture goes through the SDK and the bundle's own files, as a user's would; the original is its centre square at
the bundle's size, or at another one, at which it is then restored. JPEG, WebP, AVIF and JPEG XL get the same number of
bytes, each at the downscaling that is best for it, and the budgets of the rate curves.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image

from codec_contract.bundle.manifest import MANIFEST, load_manifest
from codec_contract.errors import ImageError
from codec_contract.exact_square import cut_square
from codec_contract.files import printable_name, write_atomically
from codec_contract.payload import VERSION
from codec_contract.pixels import Rgb
from edge_encoder.preprocessing import load_picture
from edgegrain.evaluation import classical_codecs, results
from edgegrain.evaluation.classical_codecs import CODECS, ClassicalCodec, ClassicalResult, encode_lossless
from edgegrain.evaluation.results import BY_LPIPS, BY_PSNR, CLASSICAL, FULL_SIZE, PictureResult, Row, packed, row_from
from edgegrain.metrics.identity import FaceIdentity, MobileFace
from edgegrain.metrics.picture_metrics import FEATURE_SIZE, PictureMetrics, Reference, mean_saturation, unit_batch
from edgegrain.metrics.pixel_scores import psnr
from edgegrain.metrics.score_names import OTHER_PERSON
from edgegrain.metrics.weights import FILES
from edgegrain.pictures.stored_pictures import original_of
from sdk import Codec, Payload, find_faces
from sdk.api import compress_within
from sdk.payload import decode_payload_lr

BUDGETS = (200, 300, 450, 600, 900, 1300, 2000, 3000, 4500, 7000, 10000, 15000)
"""Bytes of the curves' points; a curve uses those between half and four times the bundle's mean."""
REVISION = 4
"""Version of the records; increased when the same key would give another record.

`classical_codecs.SEARCH_REVISION` does this for records of classical codecs alone.
"""


@dataclass(frozen=True)
class EvaluationConfig:
    """Options of a comparison."""

    baselines: bool = True  # compare with classical codecs
    budgets: tuple[int, ...] = ()  # bytes of the curves' points; empty for no curves
    side: int = 0  # of the originals and restored pictures, in pixels; 0: the bundle's
    quality: str | None = None  # rate of the payloads, and their limit, as for `sdk.compress`
    max_bytes: int | None = None
    refinement: str = ""  # steps and revision of the codec's search (`edgegrain.refinement`), for the cache's key


def curve_budgets(payload_bytes: Sequence[int]) -> tuple[int, ...]:
    """The members of `BUDGETS` near a bundle's payload sizes."""
    mean = float(np.mean(payload_bytes))
    return tuple(budget for budget in BUDGETS if mean / 2 <= budget <= 4 * mean)


def recorded(folder: Path, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """The value recorded for ``key`` in a folder, plain JSON data; if there is none, that of ``compute``, recorded.

    The key holds everything the value depends on (pixels, budget, encoder versions, weights...), so a stale record is
    never returned, and bundles share the results of the classical codecs.
    """
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = folder / f"{name[:32]}.json"
    try:
        record = json.loads(path.read_bytes())
        if record["key"] == key:
            return record["value"]
    except (OSError, ValueError, KeyError, TypeError):  # missing or damaged
        pass
    value = compute()
    write_atomically(path, json.dumps({"key": key, "value": value}).encode(), force=True)
    return value


class Evaluator:
    """Measures a bundle, one call of `picture` per picture; results are `recorded` in the folder ``cache``."""

    def __init__(
        self, codec: Codec, metrics: PictureMetrics, weights_id: str, cache: Path, config: EvaluationConfig
    ) -> None:
        self._codec, self._metrics, self._cache, self._config = codec, metrics, cache, config
        self._manifest = load_manifest(codec.bundle.folder)
        manifest = hashlib.sha256((codec.bundle.folder / MANIFEST).read_bytes()).hexdigest()
        faces = metrics.identity is not None
        self._metrics_key = {"revision": REVISION, "weights": weights_id, "faces": faces}
        if metrics.device.type != "cpu":
            self._metrics_key["metrics_device"] = metrics.device.type
        self._bundle_key = {"bundle": codec.bundle.id, "manifest": manifest, "payload": VERSION}
        self._bundle_key |= {"device": codec.device, "onnxruntime": onnxruntime.__version__}
        self._bundle_key["libraries"] = classical_codecs.library_versions()
        if config.quality or config.max_bytes:
            self._bundle_key |= {"quality": config.quality, "max_bytes": config.max_bytes}
        if config.refinement:
            self._bundle_key |= {"refinement": config.refinement, "torch": torch.__version__}
        running = codec.running_decoder
        if codec.device != "cpu":  # which form of the decoder runs there depends on the library of fused ops
            self._bundle_key["decoder"] = str(running)
        elif running.file != self._manifest.decoder.get("file"):
            self._bundle_key["decoder"] = running.file

    def picture(self, path: Path) -> PictureResult:
        """All results of one picture; the classical codecs may use as many bytes as the payload has."""
        original = original_of(path, self._config.side or self._codec.bundle.hr)
        search = _ClassicalSearch(self._metrics, original)
        picture_key: dict[str, Any] = {"pixels": hashlib.sha256(original.tobytes()).hexdigest()}
        if max(original.shape) > FEATURE_SIZE:  # older records of such pictures are without crops
            picture_key["crops"] = FEATURE_SIZE
        key = {**picture_key, **self._bundle_key}
        text = self._cached("payload", key, lambda: compressed(self._codec, original, self._config).text())
        payload = Payload.from_text(text)  # kept, since a refined one takes minutes
        ours = self._cached("bundle", key, lambda: self._restored(search, payload))
        name, equal, curve = printable_name(path.name), [], []
        row = row_from({**ours["row"], "picture": name})
        if len(self._codec.bundle.sides) > 1 and self._config.side > self._codec.bundle.hr:  # an enlarger takes part
            equal.append(self._cached("bundle, bicubic", key, lambda: self._enlarged_bicubically(search, payload)))
        if self._config.baselines:
            key = {**picture_key, **classical_codecs.library_versions(), "codecs": list(CODECS)}
            key |= {"search": "fast", "search_revision": classical_codecs.SEARCH_REVISION}
            of_payload = {"budget": row.nbytes, **key}
            equal += self._cached("equal", of_payload, lambda: search.at_equal_bytes(row.nbytes))
            for budget in self._config.budgets:
                found = functools.partial(search.on_curve, budget)
                curve += self._cached("curve", {"budget": budget, **key}, found)
        equal, curve = ([row_from({**data, "picture": name}) for data in found] for found in (equal, curve))
        further = ours["lr_bytes"], ours["original_features"], tuple(ours["lr_saturation"])
        return PictureResult(row, payload, equal, curve, *further)

    def _cached(self, kind: str, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        return recorded(self._cache, {"kind": kind, **key, **self._metrics_key}, compute)

    def _enlarged_bicubically(self, search: _ClassicalSearch, payload: Payload) -> dict[str, Any]:
        """The row of the picture that the decoder restores, enlarged without the bundle's enlarger."""
        side = (self._config.side, self._config.side)
        picture = self._codec.restore(payload, size="native").resize(side, Image.Resampling.BICUBIC)
        return _row(search, f"{self._codec.bundle.id}, bicubic", payload, picture)

    def _restored(self, search: _ClassicalSearch, payload: Payload) -> dict[str, Any]:
        row = _row(search, self._codec.bundle.id, payload, self._codec.restore(payload))
        lr = decode_payload_lr(payload.parsed, self._manifest)  # `payload.lr` needs an installed bundle
        sizes = {kind: len(encode_lossless(lr, kind)) for kind in ("png", "webp", "jpeg-xl")}
        features, saturation = packed(search.reference.features), lr_saturation(lr, search.original)
        of_lr = {"lr_bytes": {"payload": len(payload), **sizes}, "lr_saturation": saturation}
        return {"row": row, "original_features": features, **of_lr}


def _row(search: _ClassicalSearch, method: str, payload: Payload, picture: Image.Image) -> dict[str, Any]:
    """The row of a picture that was restored from a payload."""
    scores, features = search.reference.scores(np.asarray(picture))
    return asdict(Row("", method, len(payload), len(payload), scores, features=packed(features)))


def compressed(codec: Codec, original: Rgb, config: EvaluationConfig) -> Payload:
    """The payload of a whole picture at the rate of an evaluation."""
    return compress_within([codec], config.quality, config.max_bytes, original, align=False)


def weights_id(folder: Path) -> str:
    """A hash over the metric weight files in a folder, 64 hex digits."""
    return results.files_sha256(sorted(folder / name for name in FILES if (folder / name).is_file()))


def lr_saturation(lr: Rgb, original: Rgb) -> tuple[float, float]:
    """Mean saturation of an LR, and of its original reduced to the same size by the area mean."""
    height, width = lr.shape[:2]
    mean = Image.fromarray(original).resize((width, height), Image.Resampling.BOX)
    return mean_saturation(unit_batch(lr)).item(), mean_saturation(unit_batch(np.asarray(mean))).item()


EMPTY = "no_faces"  # folder of pictures without faces, within that of the photographs


@torch.inference_mode()
def evaluate_photographs(
    codec: Codec, photographs: Iterable[Path], empty: Sequence[Path], dlib: FaceIdentity, mobileface: MobileFace
) -> dict[str, float]:
    """Compress the largest face of each photograph and compare it with what is restored, at the decoder's size.

    ``empty`` are pictures without faces. Returns plain JSON data, as `photographs_in_words` takes them: in ``missed``
    photographs no face was found, in ``invented`` ones of the ``empty`` pictures one was; ``above`` is the share of
    faces whose ``identity`` is above `OTHER_PERSON`.
    """
    side, count, measured = codec.bundle.hr, 0, list[tuple[float, float, float]]()
    for path in photographs:
        rgb, count = load_picture(path), count + 1
        try:
            payload = codec.compress(rgb)
        except ImageError:
            continue
        square = payload.header.square
        before = codec.fit(rgb, "pad").rgb if square is None else cut_square(rgb, square, side)
        restored = codec.restore(payload, size="native", mark=False).resize((side, side), Image.Resampling.LANCZOS)
        pair = unit_batch(before), unit_batch(np.asarray(restored))
        measured.append((len(payload), dlib.distance(*pair).item(), mobileface.distance(*pair).item()))
    if not measured:
        raise ImageError("no face was found in any of the photographs; choose another folder")
    values = dict(zip(("bytes", "identity", "identity_mobileface"), np.array(measured).T, strict=True))
    means = {name: float(each.mean()) for name, each in values.items()}
    above, missed = float((values["identity"] > OTHER_PERSON).mean()), count - len(measured)
    invented = sum(bool(find_faces(path).faces) for path in empty)
    counts = {"photographs": count, "missed": missed, "empty": len(empty), "invented": invented}
    return {**means, "above": above, **counts}


class _ClassicalSearch:
    """All classical codecs on one picture; nothing is encoded or scored twice."""

    def __init__(self, metrics: PictureMetrics, original: Rgb) -> None:
        self.original, self._metrics = original, metrics
        self._measured: dict[tuple[str, ClassicalResult], Any] = {}

    @functools.cached_property
    def reference(self) -> Reference:
        return self._metrics.against(self.original)

    @functools.cached_property
    def _codecs(self) -> dict[str, ClassicalCodec]:
        return {codec: ClassicalCodec(self.original, codec) for codec in CODECS}

    def at_equal_bytes(self, budget: int) -> list[dict[str, Any]]:
        """Rows with all scores: the best over all codecs, then the best of each codec."""
        found = {(codec, choice): result for codec in CODECS for choice, result in self._choices(codec, budget)}
        rows = []
        for choice, score in ((BY_LPIPS, self._lpips), (BY_PSNR, lambda result: -psnr(result.rgb, self.original))):
            if chosen := [result for (_, own), result in found.items() if own == choice]:
                rows.append(self._row(f"{CLASSICAL}, {choice}", budget, min(chosen, key=score)))
        for codec in CODECS:
            if (full := self._codecs[codec].at_full_size(budget)) is not None:
                found[codec, FULL_SIZE] = full
            rows += [
                self._row(f"{CODECS[codec]}, {choice}", budget, found[codec, choice])
                for choice in (BY_LPIPS, BY_PSNR, FULL_SIZE)
                if (codec, choice) in found
            ]
        return rows

    def on_curve(self, budget: int) -> list[dict[str, Any]]:
        """Rows of each codec with the quick scores."""
        rows = []
        for codec in CODECS:
            for choice, result in self._choices(codec, budget):
                scores = self._once("quick_scores", result)
                rows.append(Row("", f"{CODECS[codec]}, {choice}", budget, result.nbytes, scores, result.setting))
        return list(map(asdict, rows))

    def _choices(self, codec: str, budget: int) -> Iterator[tuple[str, ClassicalResult]]:
        """The best by LPIPS-Alex and the best by PSNR, if anything fits."""
        for choice, score in ((BY_LPIPS, self._lpips), (BY_PSNR, None)):
            if (result := self._codecs[codec].best(budget, score)) is not None:
                yield choice, result

    def _lpips(self, result: ClassicalResult) -> float:
        return float(self._once("lpips_alex", result))

    def _row(self, method: str, budget: int, result: ClassicalResult) -> dict[str, Any]:
        scores, features = self._once("scores", result)
        return asdict(Row("", method, budget, result.nbytes, scores, result.setting, packed(features)))

    def _once(self, measure: str, result: ClassicalResult) -> Any:
        """The reference's measure; `functools.cache` would make a cycle that keeps hundreds of pictures in memory."""
        if (measure, result) not in self._measured:
            self._measured[measure, result] = getattr(self.reference, measure)(result.rgb)
        return self._measured[measure, result]
