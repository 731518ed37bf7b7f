"""The exact encoder's weights as int8 times a power of two per channel: a quarter of float32's bytes."""

from __future__ import annotations

import numpy as np


def int8_parts(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """int8 ``[O, I, kh, kw]`` and float32 powers of two ``[O, 1, 1, 1]`` whose product is ``weight``, or None.

    The product is exact in float32 however a runtime computes it: the scale only moves the exponent.
    """
    peak = np.abs(weight).max((1, 2, 3), keepdims=True)
    # The largest weight of a channel as 64...127 times a power of two; 1 for a channel of zeros.
    scale = np.ldexp(np.float32(1), np.where(peak > 0, np.frexp(peak)[1] - 7, 0)).astype(np.float32)
    integers = weight / scale
    if (integers != np.round(integers)).any():
        return None
    return integers.astype(np.int8), scale
