"""The running mean of a quantity over the steps of a training."""

from __future__ import annotations

import torch
from torch import Tensor


def running_mean(mean: Tensor | None, value: Tensor, decay: float) -> Tensor:
    """The running mean after one more value, of which the latest counts by ``1 - decay``.

    Elements of the value that are not finite do not count: `descend` skips the step that they come from.

    Args:
        mean: before; None for none yet.
        value: of any shape, without a gradient.
        decay: 0...1.
    """
    latest = value if mean is None else torch.lerp(value, mean, decay)
    return torch.where(value.isfinite(), latest, torch.zeros_like(value) if mean is None else mean)
