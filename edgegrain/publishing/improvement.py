"""Compare a newly trained decoder with the published one that it would replace.

The judges are `JUDGES`, less those that are training losses. The decoder may replace the published one if most judges
are better and none is worse beyond its interval, on pictures that neither has seen. Its generator, if it has one, must
contribute: without it LPIPS-Alex must be at least 5 % worse. A better picture from larger LRs is no improvement: as PNG
they may take 2 % more bytes at most. docs/training.md states the rule.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codec_contract.errors import BundleError
from codec_contract.pixels import Rgb
from edgegrain.evaluation.classical_codecs import encode_lossless
from edgegrain.metrics.kid import KIDS, Features, distance_change, kernel_distance, mean_interval
from edgegrain.metrics.picture_metrics import PictureMetrics, Scores, first_picture, unit_batch
from edgegrain.metrics.score_names import SCORE_NAMES, training_losses
from edgegrain.metrics.weights import find_metric_weights
from edgegrain.pictures.stored_pictures import list_pictures, original_of
from edgegrain.publishing.model_card import CODEC
from edgegrain.publishing.publish import decoder_storage, open_run, source_of
from edgegrain.training.grain.model import GrainRun
from export.decoder import WeightStorage
from export.decoder.export import DecoderSource, find_decoder
from export.decoder.graph import round_weights
from server_decoder.grain.grain import Grain

JUDGES = ("lpips_vgg", "dists", "identity_mobileface", "kid", "lpips_eyes", "lpips_mouth", "kid_eyes", "kid_mouth",
          "chroma_eyes", "chroma_mouth", "grid_2", "grid_4", "grid_8", "grid_16")
"""Scores that decide; lower is better for all of them."""
PRIOR_MATTERS = 1.05
"""Smallest allowed ratio of LPIPS-Alex without the generator to LPIPS-Alex with it."""
MORE_BYTES = 1.02
"""Largest allowed ratio of the LRs' sizes."""


@dataclass(frozen=True, eq=False)
class Figures:
    """Scores of a decoder on pictures."""

    rows: tuple[Scores, ...]  # one per picture
    features: Mapping[str, Features]  # of the restored pictures for each KID, float32 [N, S, D]
    original_features: Mapping[str, Features]
    lpips_alex_off_grid: float  # mean of `Reference.lpips_alex_off_grid`
    lpips_without_prior: float | None = None  # LPIPS-Alex with f_gen set to zero; None without a generator
    lr_bytes: float = 0.0  # mean size of the LRs as PNG: a run has no tables for payloads yet

    @property
    def scores(self) -> dict[str, float]:
        """Means of the scores that were measured, and KIDs."""
        means = {field.name: statistics.fmean(getattr(row, field.name) for row in self.rows) for field in fields(Scores)
                 if getattr(self.rows[0], field.name) is not None}
        distances = {kid: kernel_distance(found, self.original_features[kid]) for kid, found in self.features.items()}
        return {**means, "lpips_alex_off_grid": self.lpips_alex_off_grid} | {
            kid: distance.value for kid, distance in distances.items() if distance is not None}

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data: the means."""
        return {"scores": self.scores, "lpips_without_prior": self.lpips_without_prior, "lr_bytes": self.lr_bytes}


@dataclass(frozen=True)
class Change:
    """The mean change of a score from the published decoder to the new one, with its paired 95 % interval."""

    value: float
    low: float
    high: float


@torch.no_grad()
def measure(source: DecoderSource, originals: Iterable[Rgb], metrics: PictureMetrics) -> Figures:
    """Scores of the pictures that a decoder restores from its own encoder's LRs, as payloads store them."""
    rows, features, original_features, off_grid, without_prior, sizes = [], [], [], [], [], []
    for original in originals:
        lr = source.encode(np.ascontiguousarray(original)[None])[0]
        sizes.append(len(encode_lossless(lr, "png")))
        x = unit_batch(lr)
        against = metrics.against(original)
        picture = first_picture(source.decoder(x))
        scores, found = against.scores(picture)
        rows.append(scores)
        features.append(found)
        original_features.append(against.features)
        off_grid.append(against.lpips_alex_off_grid(picture))
        if isinstance(source.decoder, Grain) and source.decoder.fusion is not None:
            final = source.decoder.forward_all(x, prior_gain=0.0).final
            without_prior.append(against.lpips_alex(first_picture(final)))
    stacked, stacked_originals = ({kid: np.array([one[kid] for one in found]) for kid in found[0]}
                                  for found in (features, original_features))
    return Figures(tuple(rows), stacked, stacked_originals, statistics.fmean(off_grid),
                   statistics.fmean(without_prior) if without_prior else None, statistics.fmean(sizes))


def changes(new: Figures, published: Figures, losses: Collection[str] = ()) -> dict[str, Change]:
    """Judge -> how its score changes; judges in ``losses`` or without a score on both sides are left out."""
    found = {}
    for judge in JUDGES:
        if judge in losses:
            continue
        if judge in KIDS:
            if judge not in new.features:
                continue
            distance = distance_change(new.features[judge], published.features[judge], new.original_features[judge])
            if distance is not None:
                found[judge] = Change(distance.value, distance.low, distance.high)
            continue
        pairs = [(getattr(a, judge), getattr(b, judge)) for a, b in zip(new.rows, published.rows, strict=True)]
        if any(None in pair for pair in pairs):
            continue
        differences = [a - b for a, b in pairs]
        value = statistics.fmean(differences)
        found[judge] = Change(value, *(mean_interval(differences) or (value, value)))
    return found


def losses_of(run: GrainRun, domain: str, published: Mapping[str, Any]) -> frozenset[str]:
    """The scores that a run or the bundle of a training record that it would replace was trained on, in any stage."""
    stages = [*(published.get("stages") or ()), *run.stages]
    return training_losses(CODEC, domain, {**published, "stages": stages, "config": asdict(run.recipe)})


def shortcomings(found: Mapping[str, Change], new: Figures, published: Figures, name: str) -> list[str]:
    """Reasons against replacing the bundle ``name``, given the `changes` to it; empty if there are none."""
    reasons = [f"{SCORE_NAMES[judge].name}: worse than that of {name} by {change.value:.4f} (95 % interval "
               f"{change.low:.4f} to {change.high:.4f})" for judge, change in found.items() if change.low > 0]
    better = [judge for judge, change in found.items() if change.value < 0]
    if 2 * len(better) <= len(found):
        reasons.append(f"only {len(better)} of {len(found)} judges are better than {name}"
                       + (f" ({'; '.join(SCORE_NAMES[judge].name for judge in better)})" if better else ""))
    without = new.lpips_without_prior
    with_prior = new.scores["lpips_alex"]
    if without is not None and without < PRIOR_MATTERS * with_prior:
        reasons.append(f"without its generator LPIPS-Alex is {without:.4f}, hardly worse than the "
                       f"{with_prior:.4f} with it")
    if new.lr_bytes > MORE_BYTES * published.lr_bytes:
        reasons.append(f"its LRs need more bytes: {new.lr_bytes:.0f} on average as PNG, those of {name} "
                       f"{published.lr_bytes:.0f}")
    return reasons


def compare(checkpoint: Path, published: Path, unseen: Path, weights: Path | None = None,
            prior: str | Path | None = None, storage: WeightStorage | None = None
            ) -> tuple[dict[str, Any], list[str]]:
    """Scores of a run and of the bundle that it would replace, their changes, and the reasons against replacing it.

    Both are measured with their weights as bundles store them, on ``unseen`` pictures that neither was trained on.
    """
    run = open_run(checkpoint, prior)
    after, before = source_of(run, checkpoint.name), find_decoder(published)
    side = after.network.hr
    if before.network.hr != side:
        raise BundleError(f"{published} makes pictures of {before.network.hr}x{before.network.hr}, the run of "
                          f"{side}x{side}: they cannot be compared")
    stored = decoder_storage(after.decoder, storage)
    if stored is not WeightStorage.float32:
        round_weights(after.decoder, compact=stored is WeightStorage.compact)
    domain, training = ("faces", {}) if before.manifest is None else (before.manifest.domain, before.manifest.training)
    metrics = PictureMetrics(find_metric_weights(weights, faces=domain == "faces"), faces=domain == "faces")
    originals = [original_of(path, side) for path in list_pictures(unseen)]
    new = measure(after, originals, metrics)
    old = measure(before, originals, metrics)
    found = changes(new, old, losses_of(run, domain, training))
    return ({"pictures_compared": len(originals), "new": new.as_dict(), "published": old.as_dict(),
             "changes": {judge: asdict(change) for judge, change in found.items()}},
            shortcomings(found, new, old, before.name))
