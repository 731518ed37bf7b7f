"""Bootstrap intervals have the width that theory gives, and exist only where they mean something."""

import math

import numpy as np
import pytest

from edgegrain.metrics.bootstrap import RESAMPLES, mean_interval, multiplicities


def test_every_resample_draws_as_many_pictures_as_there_are() -> None:
    draws = multiplicities(7)
    assert draws.shape == (RESAMPLES, 7) and (draws.sum(1) == 7).all() and draws.max() > 1


def test_the_interval_of_a_mean_is_about_two_standard_errors_to_each_side() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = mean_interval(values.tolist())
    assert found is not None
    error = values.std() / math.sqrt(400)
    assert found == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error * 2)


def test_one_picture_or_an_infinite_score_has_no_interval() -> None:
    assert mean_interval([1.0]) is None and mean_interval([1.0, math.inf]) is None
