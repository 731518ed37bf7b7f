"""Compare a newly trained decoder with the published one that it would replace.

The decoder may replace it if no perceptual score is worse on pictures that neither has seen, and if its generator, if
it has one, contributes: without it LPIPS-Alex must be at least 5 % worse.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codec_contract.errors import BundleError
from codec_contract.rgb import Rgb
from edge_encoder.integer_network import run_reference
from edgegrain.metrics.metric_weights import find_weights
from edgegrain.metrics.picture_metrics import Metrics, first_picture, unit_batch
from edgegrain.pictures.packed import list_pictures, read_square
from edgegrain.publishing.run_source import run_source
from export.decoder.sources import DecoderSource, find_decoder
from server_decoder.grain.grain import Grain

JUDGED = {"lpips_alex": "LPIPS-Alex", "lpips_alex_off_grid": "LPIPS-Alex off its grid",
          "lpips_vgg": "LPIPS-VGG", "identity": "identity distance"}
"""Score -> its name in messages; lower is better for all of them."""
PRIOR_MATTERS = 1.05
"""Smallest allowed ratio of LPIPS-Alex without the generator to LPIPS-Alex with it."""


@dataclass(frozen=True)
class Figures:
    """Mean scores of a decoder.

    Attributes:
        scores: ``psnr`` and those scores of `JUDGED` that were measured.
        lpips_without_prior: LPIPS-Alex with f_gen set to zero; None for a decoder without a generator.
    """

    scores: dict[str, float]
    lpips_without_prior: float | None = None


@torch.no_grad()
def measure(source: DecoderSource, originals: Iterable[Rgb], metrics: Metrics) -> Figures:
    """Mean scores of the pictures that a decoder restores from its own encoder's LRs.

    Args:
        source: encoder and decoder.
        originals: uint8 ``[S, S, 3]`` of the encoder's size.
        metrics: networks and measures.
    """
    rows, off_grid, without_prior = [], [], []
    for original in originals:
        lr = run_reference(source.network, np.ascontiguousarray(original)[None])[0]
        x = unit_batch(lr)
        against = metrics.against(original)
        picture = first_picture(source.decoder(x))
        rows.append(against.scores(picture)[0])
        off_grid.append(against.lpips_alex_off_grid(picture))
        if isinstance(source.decoder, Grain) and source.decoder.fusion is not None:
            final = source.decoder.forward_all(x, prior_gain=0.0).final
            without_prior.append(against.lpips_alex(first_picture(final)))
    means = {name: statistics.fmean(getattr(row, name) for row in rows)
             for name in ("psnr", *JUDGED) if getattr(rows[0], name, None) is not None}
    means["lpips_alex_off_grid"] = statistics.fmean(off_grid)
    return Figures(means, statistics.fmean(without_prior) if without_prior else None)


def shortcomings(new: Figures, published: Figures, name: str) -> list[str]:
    """Reasons against replacing ``published``, the bundle ``name``, by ``new``; empty if there are none."""
    reasons = [f"its {title} of {new.scores[key]:.4f} is worse than the {published.scores[key]:.4f} of {name}"
               for key, title in JUDGED.items() if key in new.scores and new.scores[key] > published.scores[key]]
    without = new.lpips_without_prior
    if without is not None and without < PRIOR_MATTERS * new.scores["lpips_alex"]:
        reasons.append(f"without its generator LPIPS-Alex is {without:.4f}, hardly worse than the "
                       f"{new.scores['lpips_alex']:.4f} with it")
    return reasons


def compare(checkpoint: Path, published: Path, unseen: Path, weights: Path | None = None,
            prior: str | Path | None = None) -> tuple[dict[str, Any], list[str]]:
    """Mean scores of a run and of the bundle that it would replace, and the reasons against replacing it.

    Args:
        checkpoint: the run's folder or checkpoint.
        published: folder of the bundle.
        unseen: folder of pictures that neither was trained on.
        weights: folder of the metrics' weights; None for the fetched ones.
        prior: the generator's file or name, if the run has one.

    Raises:
        BundleError: there is no such bundle, or its pictures have another size.
        EdgegrainError: metrics' weights or pictures are missing.
    """
    after, before = run_source(checkpoint, prior), find_decoder(published)
    side = after.network.hr
    if before.network.hr != side:
        raise BundleError(f"{published} makes pictures of {before.network.hr}x{before.network.hr}, the run of "
                          f"{side}x{side}: they cannot be compared")
    domain = before.manifest.domain if before.manifest is not None else "faces"
    metrics = Metrics(find_weights(weights, faces=domain == "faces"), faces=domain == "faces")
    originals = [read_square(path, side) for path in list_pictures(unseen)]
    new = measure(after, originals, metrics)
    old = measure(before, originals, metrics)
    return ({"pictures_compared": len(originals), "new": asdict(new), "published": asdict(old)},
            shortcomings(new, old, before.name))
