"""The kernel of bicubic resampling in Matlab's imresize and Pillow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

A = -0.5
"""Keys 1981; torch's own bicubic kernel has -0.75."""


def cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel at distances ``x``, float64 of any shape, in samples; 0 from 2 on."""
    x = np.abs(x)
    inner = ((A + 2) * x - (A + 3)) * x * x + 1
    outer = ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))
