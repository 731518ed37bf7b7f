"""Bicubic enlargement as a matrix product, the same in torch and in any runtime.

torch's own kernel has a = -0.75; Matlab's and Pillow's, which the papers reduce and enlarge with, have -0.5.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from codec_contract.cubic import cubic


def enlargement_matrix(small: int, large: int) -> npt.NDArray[np.float64]:
    """``[large, small]``: every row holds the weights of one sample of the larger line; rows sum to 1.

    Samples beyond the edge are those at the edge.

    Raises:
        ValueError: ``large`` is smaller than ``small``.
    """
    if not 0 < small <= large:
        raise ValueError(f"enlargement goes from a smaller to a larger size, got {small} and {large}")
    centres = (np.arange(large) + 0.5) * small / large - 0.5
    first = np.floor(centres).astype(int) - 1
    matrix = np.zeros((large, small))
    for tap in range(4):
        position = first + tap
        np.add.at(matrix, (np.arange(large), position.clip(0, small - 1)), cubic(centres - position))
    return matrix


class BicubicEnlargement(nn.Module):
    """``[B, C, s, s]`` -> ``[B, C, S, S]``, in the input's type."""

    matrix: Tensor

    def __init__(self, small: int, large: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.from_numpy(enlargement_matrix(small, large)).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.matrix.to(x.dtype)
        return matrix @ (x @ matrix.T)
