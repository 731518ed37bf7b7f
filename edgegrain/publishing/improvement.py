"""Whether a newly trained decoder may take the place of a published one.

It may if none of the perceptual figures got worse on pictures that neither has seen, and if its generator, where it has
one, really works: without it LPIPS must be at least 5 % worse.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from codec_contract.quantization import dequantize, quantize
from edge_encoder.integer_network import run_reference
from edgegrain.metrics.picture_metrics import Metrics
from edgegrain.metrics.psnr_ssim import Picture
from export.decoder.sources import DecoderSource
from server_decoder.grain.grain import Grain

JUDGED = {"lpips_alex": "LPIPS-Alex", "lpips_alex_off_grid": "LPIPS-Alex off its grid",
          "lpips_vgg": "LPIPS-VGG", "identity": "identity distance"}
"""Score -> its name in sentences; of all, lower is better."""
PRIOR_MATTERS = 1.05
"""Least LPIPS-Alex without the generator, in multiples of LPIPS-Alex with it."""


@dataclass(frozen=True)
class Figures:
    """Mean scores of a decoder.

    Attributes:
        scores: ``psnr`` and, as far as they are measured, the scores of `JUDGED`.
        lpips_without_prior: LPIPS-Alex with f_gen set to zero; None for a decoder without a generator.
    """

    scores: dict[str, float]
    lpips_without_prior: float | None = None


@torch.no_grad()
def measure(source: DecoderSource, originals: Iterable[Picture], judge: Metrics) -> Figures:
    """Mean scores of what a decoder restores from its own encoder's LRs.

    Args:
        originals: uint8 ``[S, S, 3]`` of the encoder's size.
    """
    rows, off_grid, mute = [], [], []
    for original in originals:
        lr = run_reference(source.network, np.ascontiguousarray(original)[None])[0]
        x = dequantize(torch.from_numpy(lr.astype(np.float32)).permute(2, 0, 1)[None])
        against = judge.against(original)
        picture = quantize(source.decoder(x)[0].permute(1, 2, 0).numpy())
        rows.append(against.scores(picture)[0])
        off_grid.append(against.lpips_alex_off_grid(picture))
        if isinstance(source.decoder, Grain) and source.decoder.fusion is not None:
            silent = source.decoder.forward_all(x, prior_gain=0.0).final
            mute.append(against.lpips_alex(quantize(silent[0].permute(1, 2, 0).numpy())))
    means = {name: statistics.fmean(getattr(row, name) for row in rows)
             for name in ("psnr", *JUDGED) if getattr(rows[0], name, None) is not None}
    means["lpips_alex_off_grid"] = statistics.fmean(off_grid)
    return Figures(means, statistics.fmean(mute) if mute else None)


def shortcomings(new: Figures, published: Figures, name: str) -> list[str]:
    """Why ``new`` may not replace ``published``, which is called ``name``; nothing if it may."""
    reasons = [f"its {title} of {new.scores[key]:.4f} is worse than the {published.scores[key]:.4f} of {name}"
               for key, title in JUDGED.items() if key in new.scores and new.scores[key] > published.scores[key]]
    without = new.lpips_without_prior
    if without is not None and without < PRIOR_MATTERS * new.scores["lpips_alex"]:
        reasons.append(f"without its generator LPIPS-Alex is {without:.4f}, hardly worse than the "
                       f"{new.scores['lpips_alex']:.4f} with it")
    return reasons
