"""`Rgb`: the one form of a picture outside of networks, and the check that an array has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]
"""A picture: uint8 ``[H, W, 3]``, sRGB."""


def is_rgb(array: Any) -> bool:
    """True for uint8 arrays of shape ``[H, W, 3]``, of any H and W."""
    return isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3


def describe_array(array: Any) -> str:
    """Type and shape of an array for an error message, the type's name of anything else."""
    return f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
