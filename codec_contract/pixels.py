"""`Rgb`, the one form of a picture outside of networks; and conversion between levels 0...255 and values -1...1.

    value = level / 127.5 - 1            level = floor((value + 1) * 127.5 + 0.5), clipped to 0...255

``dequantize`` and ``unit_to_levels`` use operators only, so they work on numpy arrays and torch tensors. Only
``quantize`` rounds. Every level survives the round trip in float32 and float64; float16 has too few digits, and
``quantize`` widens it. ``network_input`` and ``pictures_of`` also change the order of the axes.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ModelError

Rgb = npt.NDArray[np.uint8]
"""A picture: uint8 ``[H, W, 3]``, sRGB."""


def is_rgb(array: Any) -> bool:
    """True for uint8 arrays of shape ``[H, W, 3]``, of any H and W."""
    return isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3


def describe_array(array: Any) -> str:
    """Type and shape of an array for an error message, the type's name of anything else."""
    return f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__


HALF_RANGE = 127.5  # levels per unit: 0...255 spans two units

Array = TypeVar("Array", bound=Any)


def dequantize(levels: Array) -> Array:
    """Map levels [0, 255] to values [-1, 1]: a numpy array or torch tensor of any shape."""
    values: Array = levels / HALF_RANGE - 1
    return values


def unit_to_levels(values: Array) -> Array:
    """Map values [-1, 1] to levels [0, 255] without rounding or clipping; inverse of ``dequantize``."""
    levels: Array = (values + 1) * HALF_RANGE
    return levels


def quantize(values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Round values [-1, 1] of any shape to uint8 levels: half a level rounds up, excess is clipped."""
    array = np.asarray(values)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if np.isnan(array).any():
        raise ModelError("cannot quantize NaN: the values come from a computation that failed")
    return np.clip(np.floor(unit_to_levels(array) + 0.5), 0, 255).astype(np.uint8)


def network_input(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Pictures or LRs, uint8 ``[B, H, W, 3]``, as networks take them: float32 ``[B, 3, H, W]`` in [-1, 1]."""
    return np.ascontiguousarray(dequantize(pictures.astype(np.float32)).transpose(0, 3, 1, 2))


def pictures_of(values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Pictures of a network, ``[B, 3, H, W]`` in [-1, 1], as levels: uint8 ``[B, H, W, 3]``."""
    return np.ascontiguousarray(quantize(values).transpose(0, 2, 3, 1))
