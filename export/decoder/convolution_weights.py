"""Weights of convolutions in the layout of ``FusedConv``: ``[filters, height, width, channels]``."""

from __future__ import annotations

import numpy as np


def filters(weight: np.ndarray) -> np.ndarray:
    """Weights of a convolution, ``[O, C, kh, kw]`` (depthwise ``[C, 1, kh, kw]``), with the channels last."""
    return np.ascontiguousarray(weight.transpose(0, 2, 3, 1))


def transposed_filters(weight: np.ndarray, pads: tuple[int, ...]
                       ) -> tuple[np.ndarray, dict[str, int | list[int]]] | None:
    """The phases of a transposed convolution of stride 2 as filters and the attributes of ``FusedConv``.

    Phase (a, b) makes the pixels (2y + a, 2x + b): a tap k adds input pixel i to the output pixel 2i + k - pad.

    Args:
        weight: ``[C, O, k, k]``.
        pads: of the ConvTranspose.

    Returns:
        None for sizes that no decoder has.
    """
    channels, out, height, width = weight.shape
    # For each phase: the taps at the window's rows (and columns); None where no tap meets.
    taps: tuple[tuple[int | None, ...], ...]
    attributes: dict[str, int | list[int]] = {"shuffle": 2}
    match (height, width, pads):
        case (2, 2, (0, 0, 0, 0)):
            taps = ((0,), (1,))
        case (3, 3, (0, 0, 0, 0)):
            taps = ((2, 0), (None, 1))
            attributes |= {"pads": [1] * 4, "crop": 1}
        case (4, 4, (1, 1, 1, 1)):
            taps = ((3, 1), (2, 0))
            attributes |= {"pads": [1] * 4, "shift": 1}
        case _:
            return None
    side = len(taps[0])
    result = np.zeros((2, 2, out, side, side, channels), weight.dtype)
    for (a, i), (b, j) in ((first, second) for first in np.ndindex(2, side) for second in np.ndindex(2, side)):
        row, column = taps[a][i], taps[b][j]
        if row is not None and column is not None:
            result[a, b, :, i, j] = weight[:, :, row, column].T
    return result.reshape(4 * out, side, side, channels), attributes
