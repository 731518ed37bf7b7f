"""KID: zero for one distribution, growing with the difference, an interval that holds what it promises."""

import itertools
import math
from dataclasses import astuple

import numpy as np
import pytest

from edgegrain.metrics.kid import kernel_distance, mean_interval


def draw(seed: int, count: int = 60, shift: float = 0.0, width: int = 16) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((count, width)) + shift).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 3), (6, 2, 3)])
def test_equals_the_definition_over_pairs_of_different_pictures(shape: tuple[int, ...]) -> None:
    x, y = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        samples = [each.reshape(len(each), -1, 3).astype(np.float64) for each in (a, b)]
        pairs = itertools.product(enumerate(samples[0]), enumerate(samples[1]))
        kernels = [(picture @ another.T / 3 + 1) ** 3 for (i, picture), (j, another) in pairs if i != j]
        return float(np.mean(kernels))

    found = kernel_distance(x, y)
    assert found.value == pytest.approx(mean(x, x) + mean(y, y) - 2 * mean(x, y))


def test_the_interval_lies_around_the_value_and_narrows_with_more_pictures() -> None:
    """A bootstrap that compared a picture with its own copy would lie above the value altogether."""
    widths = []
    for count in (30, 300):
        found = kernel_distance(draw(0, count), draw(1, count, shift=0.4))
        assert found.low < found.value < found.high
        assert kernel_distance(draw(0, count), draw(1, count, shift=0.4)) == found  # always the same resamples
        middle = (found.low + found.high) / 2
        assert abs(middle - found.value) < 0.25 * (found.high - found.low)
        widths.append(found.high - found.low)
    assert widths[1] < 0.5 * widths[0]


@pytest.mark.parametrize("shape", [(60, 16), (30, 2, 16)])
def test_restored_pictures_that_equal_their_originals_have_distance_zero(shape: tuple[int, ...]) -> None:
    x = draw(3).reshape(shape)
    assert astuple(kernel_distance(x, x)) == pytest.approx([0, 0, 0], abs=1e-9)


def test_few_pictures_have_no_distance_and_one_or_an_infinite_score_no_interval() -> None:
    assert kernel_distance(draw(0, 4), draw(1, 4)) is None and kernel_distance(draw(0, 5), draw(1, 5)) is not None
    assert mean_interval([1.0]) is None and mean_interval([1.0, math.inf]) is None


def test_samples_of_a_picture_are_resampled_together() -> None:
    x, y = draw(0, 80).reshape(40, 2, 16), draw(1, 80, shift=0.4).reshape(40, 2, 16)
    together = kernel_distance(x, y)
    assert together is not None and together.low < together.value < together.high
    # Two equal samples of a picture say no more than one of them.
    twice = kernel_distance(x[:, :1].repeat(2, 1), y[:, :1].repeat(2, 1))
    once = kernel_distance(x[:, 0], y[:, 0])
    assert astuple(twice) == pytest.approx(astuple(once))


def test_the_interval_of_a_mean_is_about_two_standard_errors_to_each_side() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = mean_interval(values.tolist())
    error = values.std() / math.sqrt(400)
    assert found == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error * 2)
