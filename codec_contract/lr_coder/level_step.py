"""The step of an LR's levels: payloads store multiples of it, which take fewer bytes.

The coder codes indices: levels divided by the step, halves rounded up. With step 1 they are the levels themselves.
"""

from __future__ import annotations

import numpy as np

from codec_contract.rgb import Rgb

MAX_STEP = 16


def to_indices(lr: Rgb, step: int) -> Rgb:
    """Indices of levels, uint8 of any shape."""
    return lr if step == 1 else ((lr.astype(np.uint16) + step // 2) // step).astype(np.uint8)


def to_levels(indices: Rgb, step: int) -> Rgb:
    """Levels of indices, uint8 of any shape; the largest index may stand for 255."""
    return indices if step == 1 else np.minimum(indices.astype(np.uint16) * step, 255).astype(np.uint8)


def rounded(lr: Rgb, step: int) -> Rgb:
    """The LR as its payload stores it, uint8 of any shape: levels rounded to multiples of the step."""
    return to_levels(to_indices(lr, step), step)
