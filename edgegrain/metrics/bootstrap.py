"""Bootstrap intervals over pictures: how much a mean depends on the choice of pictures (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
LEVEL = 0.95
"""Confidence level of the intervals."""

Matrix = npt.NDArray[np.float64]


def multiplicities(count: int, seed: int = 0) -> Matrix:
    """Number of times each of ``count`` pictures is drawn in every resample, ``[RESAMPLES, count]``."""
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return draws.astype(np.float64)


def interval(resampled: Matrix) -> tuple[float, float]:
    """The bounds between which ``LEVEL`` of the resampled values lie."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Interval of the mean of a score per picture; None for fewer than two pictures or infinite scores."""
    array = np.asarray(values, np.float64)
    if len(array) < 2 or not np.isfinite(array).all():
        return None
    return interval(multiplicities(len(array)) @ array / len(array))
