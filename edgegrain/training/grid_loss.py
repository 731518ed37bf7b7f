"""A loss against grids: patterns that a network adds to every picture at the same places.

The detail of one batch hides a grid of a tenth of a level, so the loss keeps a running mean over steps.
"""

from __future__ import annotations

from torch import Tensor

from edgegrain.training.running_mean import running_mean

GRID_PERIOD = 16
"""Pixels after which a grid in a restored picture repeats; grids of 2, 4 and 8 do so too. Corners of windows are
multiples of it, so that a grid has one place in them."""
DECAY = 0.97
"""Decay of the running mean."""


class GridLoss:
    """The part of pictures or windows that repeats with a period and that their originals lack."""

    def __init__(self) -> None:
        self._means: dict[int, Tensor] = {}  # by period

    def __call__(self, restored: Tensor, target: Tensor, period: int = GRID_PERIOD) -> tuple[Tensor, Tensor]:
        """The loss of a batch, a scalar, and the mean absolute height of the running mean, detached.

        The gradient is that of the mean absolute height of the batch's grid, but with the signs of the running mean.

        Args:
            restored, target: pictures or windows ``[N, 3, s, s]`` in [-1, 1].
            period: in pixels.
        """
        found = repeated(restored, period) - repeated(target, period)
        self._means[period] = mean = running_mean(self._means.get(period), found.detach(), DECAY)
        return (found * mean.sign()).mean(), mean.abs().mean()


def repeated(windows: Tensor, period: int) -> Tensor:
    """The part of windows ``[N, 3, s, s]`` that repeats every ``period`` pixels: ``[3, period, period]``, of mean 0.

    Mean over windows and cells. Sides that are no multiple of the period lose their last rows and columns.
    """
    count = windows.shape[-1] // period
    cells = windows[..., : count * period, : count * period].unflatten(-1, (count, period)).unflatten(
        -3, (count, period))
    mean = cells.mean((0, 2, 4))
    return mean - mean.mean((1, 2), keepdim=True)
