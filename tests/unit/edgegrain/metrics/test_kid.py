"""KID: zero for one distribution, growing with the difference, an interval that holds what it promises."""

import numpy as np
import pytest

from edgegrain.metrics.kid import distance_change, kernel_distance


def draw(seed: int, count: int = 60, shift: float = 0.0, width: int = 16) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((count, width)) + shift).astype(np.float32)


def test_equals_the_definition_on_two_pictures() -> None:
    """Written out: means of the kernel over different pictures, minus twice the mean over all pairs."""
    x, y = np.array([[1.0, 2], [0, 1]], np.float32), np.array([[2.0, 0], [1, 1]], np.float32)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 2 + 1) ** 3)

    expected = kernel(x[0], x[1]) + kernel(y[0], y[1]) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    found = kernel_distance(x, y)
    assert found is not None
    assert found.value == pytest.approx(expected)


def test_is_zero_on_average_for_one_distribution_and_grows_with_the_shift() -> None:
    same = [kernel_distance(draw(2 * seed), draw(2 * seed + 1)).value for seed in range(30)]  # type: ignore[union-attr]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(len(same))
    assert min(same) < 0 < max(same)
    values = [kernel_distance(draw(0), draw(1, shift=shift)).value for shift in (0, 0.3, 0.6)]  # type: ignore[union-attr]
    assert values[0] < values[1] < values[2]


def test_the_interval_lies_around_the_value_and_narrows_with_more_pictures() -> None:
    """A bootstrap that compared a picture with its own copy would lie above the value altogether."""
    widths = []
    for count in (30, 300):
        found = kernel_distance(draw(0, count), draw(1, count, shift=0.4))
        assert found is not None
        assert found.low < found.value < found.high
        middle = (found.low + found.high) / 2
        assert abs(middle - found.value) < 0.25 * (found.high - found.low)
        widths.append(found.high - found.low)
    assert widths[1] < 0.5 * widths[0]


def test_pairs_are_resampled_together() -> None:
    """Restored pictures that equal their originals have the same distance, below zero, in every resample of all."""
    x = draw(3)
    found = kernel_distance(x, x)
    assert found is not None
    assert found.low < found.high < 0


def test_the_same_pictures_give_the_same_interval() -> None:
    first, again, other = (kernel_distance(draw(0), draw(1), seed=seed) for seed in (0, 0, 1))
    assert first is not None and again is not None and other is not None
    assert [again.value, again.low, again.high] == pytest.approx([first.value, first.low, first.high], abs=1e-9)
    assert abs(other.low - first.low) > 1e-6


def test_one_picture_has_no_distance() -> None:
    assert kernel_distance(draw(0, 1), draw(1, 1)) is None


def test_samples_of_a_picture_are_resampled_together() -> None:
    x, y = draw(0, 80).reshape(40, 2, 16), draw(1, 80, shift=0.4).reshape(40, 2, 16)
    together, flat = kernel_distance(x, y), kernel_distance(x.reshape(80, 16), y.reshape(80, 16))
    assert together is not None and flat is not None
    assert together.value == pytest.approx(flat.value) and together.low < together.value < together.high
    # Two equal samples of a picture say no more than one of them.
    twice = kernel_distance(x[:, :1].repeat(2, 1), y[:, :1].repeat(2, 1))
    once = kernel_distance(x[:, 0], y[:, 0])
    assert twice is not None and once is not None
    assert twice.high - twice.low > 0.9 * (once.high - once.low)
    change = distance_change(x, y, y)
    assert change is not None and change.low < change.value < change.high
    assert kernel_distance(x[:1], y[:1]) is None


def test_a_change_is_the_difference_of_two_distances_with_a_narrower_interval() -> None:
    originals = draw(0)
    noise = draw(2)
    new, old = originals + 0.5 * noise, originals + 0.6 * noise
    change, one, other = (distance_change(new, old, originals), kernel_distance(new, originals),
                          kernel_distance(old, originals))
    assert change is not None and one is not None and other is not None
    assert change.value == pytest.approx(one.value - other.value)
    assert change.low < change.value < change.high < 0
    assert change.high - change.low < 0.5 * (other.high - other.low)
    assert distance_change(new[:1], old[:1], originals[:1]) is None
