"""The exact resize in numpy integers: the page ``docs/exact_resize.md``, executed.

Slow next to ``resize.exact_resize`` and equal to it in every byte. It exists to prove that the page is
right and as the text to port. The arithmetic is that of Pillow's ``src/libImaging/Resample.c``
(``precompute_coeffs``, ``normalize_coeffs_8bpc``, ``ImagingResampleHorizontal_8bpc``).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edgegrain.contract.resize import check_resize

PRECISION_BITS = 22
"""Fraction bits of a filter weight (Pillow: 32 - 8 - 2)."""


def filter_weights(size_in: int, size_out: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Fixed-point triangle-filter weights of one axis.

    Returns ``first``, int64 [size_out], the first input position each output position reads, and
    ``weights``, int64 [size_out, taps], what it multiplies them by, in units of 2**-22. Rows that need
    fewer taps end in zeros. The divisions and products are IEEE-754 binary64, in the order written.
    """
    scale = size_in / size_out
    support = max(scale, 1.0)  # the triangle's half width: 1, stretched when shrinking
    inverse_support = 1.0 / support
    first = np.zeros(size_out, dtype=np.int64)
    weights = np.zeros((size_out, 2 * math.ceil(support) + 1), dtype=np.int64)
    for position in range(size_out):
        centre = (position + 0.5) * scale
        start = max(int(centre - support + 0.5), 0)
        stop = min(int(centre + support + 0.5), size_in)
        row = []
        for x in range(start, stop):
            distance = abs((x - centre + 0.5) * inverse_support)
            row.append(1.0 - distance if distance < 1.0 else 0.0)
        total = 0.0
        for weight in row:  # left to right, not pairwise: the order is part of the contract
            total += weight
        if total != 0.0:
            # Pillow multiplies by the reciprocal; dividing directly would differ in the last bit.
            reciprocal = 1.0 / total
            row = [weight * reciprocal for weight in row]
        first[position] = start
        weights[position, : len(row)] = [int(0.5 + weight * (1 << PRECISION_BITS)) for weight in row]
    return first, weights


def resize_axis(levels: npt.NDArray[np.uint8], size_out: int) -> npt.NDArray[np.uint8]:
    """Resample the second axis of uint8 [rows, size_in, channels] to ``size_out`` positions."""
    rows, size_in, channels = levels.shape
    if size_in == size_out:
        return levels.copy()
    first, weights = filter_weights(size_in, size_out)
    output = np.empty((rows, size_out, channels), dtype=np.uint8)
    for position in range(size_out):
        taps = weights[position, : size_in - first[position]]
        window = levels[:, first[position] : first[position] + len(taps)].astype(np.int64)
        total = (1 << (PRECISION_BITS - 1)) + np.einsum("rtc,t->rc", window, taps[: window.shape[1]])
        output[:, position] = np.clip(total >> PRECISION_BITS, 0, 255)
    return output


def reference_resize(rgb: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """``resize.exact_resize`` in integers: uint8 [H, W, 3] to ``size = (width, height)``, same errors."""
    check_resize(rgb, size)
    width, height = int(size[0]), int(size[1])
    narrowed = resize_axis(rgb, width)  # [H, width, 3]
    return np.ascontiguousarray(resize_axis(narrowed.transpose(1, 0, 2), height).transpose(1, 0, 2))
