"""KID, the kernel distance between two sets of pictures (Binkowski et al., ICLR 2018), with a bootstrap interval.

The squared maximum mean discrepancy of feature vectors under the kernel (x . y / d + 1)^3, as an unbiased estimate: 0
on average for two samples of one distribution, so slightly negative values occur. It measures whether the restored
pictures as a set look like photographs, which single pictures cannot show.

The features are those of VGG16 instead of Inception as in the paper, because no training loss of this project uses
VGG16. So values compare methods and releases of this project; they are not comparable with published figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgegrain.metrics.bootstrap import Matrix, interval, multiplicities

FEATURE_NETWORK = "VGG16 relu5_3 (ImageNet), mean over places, 512 values, pictures at 256x256"

Features = npt.NDArray[np.float32]
FeatureSets = Mapping[str, Features]
"""Score -> a picture's features ``[S, D]`` for it; S is 1, 2 for both eyes, or the number of crops."""
KIDS = ("kid", "kid_crops", "kid_eyes", "kid_mouth")
"""Distances of whole pictures, of their crops of 256x256, of eyes and of mouths."""


@dataclass(frozen=True)
class KernelDistance:
    """A distance, and its bootstrap interval (`edgegrain.metrics.bootstrap`)."""

    value: float
    low: float
    high: float


def kernel_distance(features: Features, originals: Features, seed: int = 0) -> KernelDistance | None:
    """KID of restored pictures against their originals; None for fewer than two pictures.

    The interval measures how much the value depends on the choice of pictures: pictures are resampled with replacement,
    each together with its original. A picture that is drawn twice is not compared with its copy, which would count as a
    second, identical photograph.

    Args:
        features: ``[N, D]`` of the restored pictures; or ``[N, S, D]``, S samples of each picture, which are resampled
            together.
        originals: of their originals, in the same order.
        seed: seed of the resampling.
    """
    if len(features) < 2:
        return None
    x, y = _samples(features), _samples(originals)
    kernels, each = (_kernel(x, x), _kernel(y, y), _kernel(x, y)), len(x) // len(features)
    (value,) = _distances(np.ones((1, len(x))), *kernels)
    return KernelDistance(float(value), *interval(_distances(_draws(len(features), seed, each), *kernels)))


def distance_change(new: Features, old: Features, originals: Features, seed: int = 0) -> KernelDistance | None:
    """KID of ``new`` minus that of ``old``, two restorations of the same originals; None for fewer than two pictures.

    The interval is paired: both are resampled together.
    """
    if len(new) < 2:
        return None
    x, before, y = _samples(new), _samples(old), _samples(originals)
    of_originals = _kernel(y, y)

    def distances(weights: Matrix) -> Matrix:
        return (_distances(weights, _kernel(x, x), of_originals, _kernel(x, y))
                - _distances(weights, _kernel(before, before), of_originals, _kernel(before, y)))

    (value,) = distances(np.ones((1, len(x))))
    return KernelDistance(float(value), *interval(distances(_draws(len(new), seed, len(x) // len(new)))))


def _samples(features: Features) -> Features:
    """``[N, D]`` or ``[N, S, D]`` -> ``[N S, D]``."""
    return features.reshape(-1, features.shape[-1])


def _draws(count: int, seed: int, samples: int) -> Matrix:
    """Multiplicities of the samples, which are those of their pictures."""
    draws = multiplicities(count, seed)
    return draws[draws.max(1) < count].repeat(samples, 1)  # a single picture has no distance


def _kernel(x: Features, y: Features) -> Matrix:
    products: Matrix = x.astype(np.float64) @ y.astype(np.float64).T
    return (products / x.shape[1] + 1) ** 3


def _distances(weights: Matrix, xx: Matrix, yy: Matrix, xy: Matrix) -> npt.NDArray[np.float64]:
    """One distance for each row of ``weights`` ``[R, N]``, the multiplicities of the samples."""
    result: npt.NDArray[np.float64] = (
        _mean(weights, xx, with_diagonal=False) + _mean(weights, yy, with_diagonal=False)
        - 2 * _mean(weights, xy, with_diagonal=True))
    return result


def _mean(weights: Matrix, kernel: Matrix, *, with_diagonal: bool) -> npt.NDArray[np.float64]:
    """Weighted mean over pairs of different samples; with the diagonal, also over each sample and its original."""
    squares = weights**2
    total = ((weights @ kernel) * weights).sum(1) - squares @ kernel.diagonal()
    pairs = weights.sum(1) ** 2 - squares.sum(1)
    if with_diagonal:
        total, pairs = total + weights @ kernel.diagonal(), pairs + weights.sum(1)
    result: npt.NDArray[np.float64] = total / pairs
    return result
