"""The running mean, and values that are not finite."""

from __future__ import annotations

import torch

from edgegrain.papers.stylegan.training import PathLength
from edgegrain.training.grain.rate import BELOW_TARGET, RateTarget
from edgegrain.training.running_mean import running_mean

NAN = torch.tensor(float("nan"))


def test_the_latest_value_counts_by_the_rest_of_the_decay() -> None:
    first = running_mean(None, torch.tensor([4.0, 8.0]), 0.75)
    torch.testing.assert_close(first, torch.tensor([4.0, 8.0]))
    torch.testing.assert_close(running_mean(first, torch.tensor([8.0, 0.0]), 0.75), torch.tensor([5.0, 6.0]))


def test_values_that_are_not_finite_do_not_count() -> None:
    mean = torch.tensor([1.0, 2.0])
    changed = running_mean(mean, torch.tensor([float("nan"), 4.0]), 0.5)
    torch.testing.assert_close(changed, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(running_mean(None, torch.tensor([float("inf"), 4.0]), 0.5), torch.tensor([0.0, 4.0]))


def test_a_skipped_step_leaves_targets_and_path_lengths_as_they_were() -> None:
    target = RateTarget(100.0)
    assert [float(target.factor(size)) for size in (torch.tensor(200.0), NAN, torch.tensor(200.0))] == [1, 1, 1]
    assert float(RateTarget(300.0).factor(torch.tensor(200.0))) == BELOW_TARGET
    lengths = PathLength(2.0)
    lengths.penalty(NAN.repeat(2))
    assert float(lengths.mean) == 2.0
