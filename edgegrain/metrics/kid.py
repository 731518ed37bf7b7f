"""KID, the kernel distance between two sets of pictures (Binkowski et al., ICLR 2018), with a bootstrap interval.

The squared maximum mean discrepancy of feature vectors under the kernel (x . y / d + 1)^3, as an unbiased estimate: 0
on average for two samples of one distribution, so slightly negative values occur. It measures whether the restored
pictures as a set look like photographs, which single pictures cannot show.

The two samples are paired here: each restored picture has its original among the others. Pairs within a picture, be it
with its own original or between its crops or eyes, are left out of all three means, so that every mean is over
independent pictures. With the usual means, which keep a picture's own original, restored pictures that equal their
originals would have a distance below zero.

The features are those of VGG16 instead of Inception as in the paper, because no training loss of GRAIN uses VGG16.
So values compare methods and releases of this project; they are not comparable with published figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FEWEST = 5
"""Number of pictures below which there is no distance: almost all resamples of so few are of two or three pictures."""
FEATURE_NETWORK = "VGG16 relu5_3 (ImageNet), mean over places, 512 values, pictures at 256x256"

Features = npt.NDArray[np.float32]
FeatureSets = Mapping[str, Features]
"""Score -> a picture's features ``[S, D]`` for it; S is 1, 2 for both eyes, or the number of crops."""
KIDS = ("kid", "kid_crops", "kid_eyes", "kid_mouth")
"""Distances of whole pictures, of their crops of 256x256, of eyes and of mouths."""
RESAMPLES = 1000
LEVEL = 0.95  # confidence level of the intervals

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value, and its bootstrap interval over pictures (Efron, 1979)."""

    value: float
    low: float
    high: float


def kernel_distance(features: Features, originals: Features) -> Estimate | None:
    """KID of restored pictures against their originals; None for fewer than `FEWEST` pictures.

    The interval measures how much the value depends on the choice of pictures: pictures are resampled with replacement,
    each together with its original. A picture that is drawn twice is not compared with its copy, which would count as a
    second, identical photograph. Features are ``[N, D]``, or ``[N, S, D]``: S samples of each picture.
    """
    count = len(features)
    if count < FEWEST:
        return None
    # k(x, x') + k(y, y') - 2 k(x, y') for every two pictures, [N, N]; KID is its mean off the diagonal.
    contrast = _kernel(features, features) + _kernel(originals, originals) - 2 * _kernel(features, originals)
    draws = multiplicities(count)
    draws = draws[draws.max(1) < count]  # a single picture has no distance
    (value,) = _means(np.ones((1, count)), contrast)
    return Estimate(float(value), *interval(_means(draws, contrast)))


def multiplicities(count: int) -> Matrix:
    """How often each of ``count`` pictures is drawn in every resample, ``[RESAMPLES, count]``, always the same."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)


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


def _kernel(x: Features, y: Features) -> Matrix:
    """The kernel of every two pictures ``[N, D]`` or ``[N, S, D]``, mean over their samples, ``[N, N]``."""
    a, b = (each.reshape(-1, each.shape[-1]).astype(np.float64) for each in (x, y))
    kernel = (a @ b.T / x.shape[-1] + 1) ** 3
    return kernel.reshape(len(x), len(a) // len(x), len(y), len(b) // len(y)).mean((1, 3))


def _means(weights: Matrix, contrast: Matrix) -> npt.NDArray[np.float64]:
    """Mean over pairs of different pictures for each row of ``weights`` ``[R, N]``, the multiplicities of pictures."""
    squares = weights**2
    total = ((weights @ contrast) * weights).sum(1) - squares @ contrast.diagonal()
    return total / (weights.sum(1) ** 2 - squares.sum(1))
