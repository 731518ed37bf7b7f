"""Antialiased bicubic reduction as an integer network; GLEAN, GCFSR and others define their LR by this reduction.

Pillow's filter for an integer factor f: taps of Keys' kernel, stretched by f and cut at the edge, with weights that sum
to 1; first along the rows, rounded to integers, then along the columns. A convolution has the same weights everywhere,
but the first two and the last two samples of a line, where the edge cuts taps off, need others. So all five kinds are
computed for every sample, with zeros outside, and one is selected:

    kinds    conv [5 x 3, 4f], stride f     inner, first, second, last but one, last
    white    conv with no weights           255 everywhere
    choice   depthwise 5 taps of white, + kinds
                                            the taps give 0 where a kind applies, else -255 or less, so that the
                                            clamp gives 0; white ends at the edge, which reveals a sample's position
    row      1 x 1                          the sum over kinds

Weights are int8 over a power of two, so a level may differ by one from Pillow's, whose weights have 22 bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codec_contract.errors import BundleError
from codec_contract.resize import cubic
from edge_encoder.integer_network import INPUT, IntegerConv, IntegerNetwork

SMALLEST_LR = 4
"""With less, a sample would be near both edges."""
SMALLEST_FACTOR, LARGEST_FACTOR = 2, 64
RGB = 3
_WHITE = 255
_WEIGHT_MAX = 127
# (near, far) at the left and at the right: the neighbour at that distance must exist (1), must not exist (0), or does
# not matter (None), for a kind to apply; inner, first, second, last but one, last.
_KINDS = (((None, 1), (None, 1)), ((0, None), (None, None)), ((1, 0), (None, None)), ((None, None), (1, 0)),
          ((None, None), (0, None)))


def bicubic_network(hr: int, lr: int) -> IntegerNetwork:
    """The reduction from ``hr`` to ``lr``."""
    factor = hr // lr if lr else 0
    if lr < SMALLEST_LR or hr % lr or factor % 2 or not SMALLEST_FACTOR <= factor <= LARGEST_FACTOR:
        raise BundleError(f"the exact bicubic reduction makes LRs of at least {SMALLEST_LR} pixels by an even factor "
                          f"from {SMALLEST_FACTOR} to {LARGEST_FACTOR}, got {hr} to {lr}")
    across = _pass("across", INPUT, factor, vertical=False)
    down = _pass("down", across[-1].name, factor, vertical=True)
    return IntegerNetwork(f"bicubic-{hr}-{lr}", hr, lr, (*across, *down))


def reduction_weights(factor: int) -> npt.NDArray[np.float64]:
    """``[5, 4 * factor]``: the weights of every kind of sample; each row sums to 1."""
    taps = 4 * factor
    weights = np.tile(cubic((np.arange(taps) + 0.5) / factor - 2), (len(_KINDS), 1))
    for kind, (left, right) in ((1, (3, 0)), (2, (1, 0)), (3, (0, 1)), (4, (0, 3))):  # removed taps, in half factors
        weights[kind, : left * factor // 2] = 0
        weights[kind, taps - right * factor // 2 :] = 0
    result: npt.NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return result


def quantized(weights: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int8], int]:
    """int8 weights and the largest possible shift; their sum is 2^shift, so that constant areas are preserved.

    Rounding errors are assigned to the weights that lost most.
    """
    shift = int(np.floor(np.log2((_WEIGHT_MAX + 1) / weights.max())))
    exact = weights * 2.0**shift
    whole = np.round(exact).clip(-_WEIGHT_MAX, _WEIGHT_MAX)
    while missing := round(2.0**shift - whole.sum()):
        step = np.sign(missing)
        room = (np.abs(whole + step) <= _WEIGHT_MAX) & (exact != 0)
        whole[np.argmax(np.where(room, step * (exact - whole), -np.inf))] += step
    return whole.astype(np.int8), shift


def _pass(name: str, source: str, factor: int, *, vertical: bool) -> list[IntegerConv]:
    """One direction: kinds, white, choice and their sum."""
    kinds = len(_KINDS)
    weight = np.zeros((kinds, RGB, RGB, 4 * factor), np.int8)
    shift = np.zeros((kinds, RGB), np.int32)
    for kind, row in enumerate(reduction_weights(factor)):
        taps, shift[kind] = quantized(row)
        weight[kind, range(RGB), range(RGB)] = taps
    beyond = 3 * factor // 2  # taps of the first and the last sample outside
    channels = kinds * RGB
    presence = np.zeros((kinds, RGB, 5), np.int8)
    bias = np.zeros((kinds, RGB), np.int32)
    for kind, (left, right) in enumerate(_KINDS):
        for tap, wanted in zip((1, 0, 3, 4), (*left, *right), strict=True):
            if wanted is not None:  # a neighbour that does not meet the condition costs 255; in halves
                presence[kind, :, tap] = 2 if wanted else -2
                bias[kind] -= 2 * _WHITE * wanted
    none, one = np.zeros(channels, np.int32), np.ones(channels, np.int32)
    chosen = np.zeros((RGB, kinds, RGB, 1, 1), np.int8)
    chosen[range(RGB), :, range(RGB)] = 2
    return [
        IntegerConv(f"{name}.kinds", source, _along(weight.reshape(channels, RGB, -1), vertical), none, shift.ravel(),
                    stride=(factor, 1) if vertical else (1, factor), padding=_around(beyond, vertical)),
        IntegerConv(f"{name}.white", f"{name}.kinds", np.zeros((channels, 1, 1, 1), np.int8), one * 2 * _WHITE, one,
                    groups=channels),
        IntegerConv(f"{name}.choice", f"{name}.white", _along(presence.reshape(channels, 1, -1), vertical),
                    bias.ravel(), one, padding=_around(2, vertical), groups=channels, skip=f"{name}.kinds"),
        IntegerConv(name, f"{name}.choice", chosen.reshape(RGB, channels, 1, 1), none[:RGB], one[:RGB]),
    ]


def _along(weight: npt.NDArray[np.int8], vertical: bool) -> npt.NDArray[np.int8]:
    """``[O, I, taps]`` -> ``[O, I, taps, 1]`` or ``[O, I, 1, taps]``."""
    return np.ascontiguousarray(weight[..., None] if vertical else weight[..., None, :])


def _around(zeros: int, vertical: bool) -> tuple[int, int, int, int]:
    return (zeros, 0, zeros, 0) if vertical else (0, zeros, 0, zeros)
