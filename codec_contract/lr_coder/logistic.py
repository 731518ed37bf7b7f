"""The logistic distribution in integers: the probability of each level around a predicted mean.

A prediction is a mean in sixteenths of a level and a scale index; index k stands for the scale 2**(k/8 - 2) levels,
from a quarter of a level to some 59 levels (the standard deviation is 1.81 times that). Level v has the mass between v
- 1/2 and v + 1/2, plus one part in 2**20, so that every level is possible. Mass outside 0...255 is removed by
normalizing, so a mean near black or white costs no bits.
"""

from __future__ import annotations

from array import array
from functools import lru_cache

import numpy as np

MEAN_BITS = 4
"""Fraction bits of a predicted mean."""
SCALE_STEPS = 64
"""Scale indices are 0...63."""
MEAN_MAX = 255 << MEAN_BITS
SCALE_MAX = SCALE_STEPS - 1
CUMULATIVE_ONE = 1 << 20

# round(2**20 / (1 + exp(-i / 8))) for i = 0...96
_SIGMOID = (
    524288, 557013, 589485, 621456, 652696, 682995, 712170, 740069, 766570, 791586, 815058, 836959, 857289, 876068,
    893337, 909153, 923583, 936703, 948595, 959343, 969033, 977748, 985571, 992579, 998846, 1004444, 1009436,
    1013883, 1017840, 1021358, 1024482, 1027256, 1029716, 1031897, 1033829, 1035540, 1037055, 1038396, 1039582,
    1040631, 1041558, 1042378, 1043102, 1043743, 1044308, 1044808, 1045249, 1045639, 1045983, 1046287, 1046556,
    1046793, 1047002, 1047187, 1047350, 1047494, 1047621, 1047733, 1047832, 1047919, 1047996, 1048064, 1048125,
    1048178, 1048224, 1048266, 1048302, 1048334, 1048363, 1048388, 1048410, 1048429, 1048447, 1048462, 1048475,
    1048487, 1048498, 1048507, 1048515, 1048522, 1048528, 1048534, 1048539, 1048543, 1048547, 1048551, 1048554,
    1048556, 1048558, 1048561, 1048562, 1048564, 1048565, 1048567, 1048568, 1048569, 1048570,
)  # fmt: skip
# round(2**16 * 2**(-i / 8)) for i = 0...7
_EIGHTH_OCTAVES = (65536, 60097, 55109, 50535, 46341, 42495, 38968, 35734)
_ARGUMENT_BITS = 12  # fraction bits of the sigmoid's argument
_STEP_BITS = 9  # of these, between two entries of _SIGMOID

_REACH = 1 << (8 + MEAN_BITS)  # largest distance from a mean to a level's edge


@lru_cache(maxsize=SCALE_STEPS)
def cumulative_row(scale: int) -> array[int]:
    """The distribution function of one scale at the distances -_REACH...+_REACH, in sixteenths of a level."""
    distance = np.arange(_REACH + 1, dtype=np.int64)
    argument = distance * _EIGHTH_OCTAVES[scale & 7] >> (16 + MEAN_BITS - 2 - _ARGUMENT_BITS + (scale >> 3))
    argument = np.minimum(argument, (len(_SIGMOID) - 1) << _STEP_BITS)
    table = np.array(_SIGMOID + (_SIGMOID[-1],), dtype=np.int64)
    index = argument >> _STEP_BITS
    rest = argument & ((1 << _STEP_BITS) - 1)
    upper = table[index] + ((table[index + 1] - table[index]) * rest >> _STEP_BITS)
    return array("i", np.concatenate([CUMULATIVE_ONE - upper[:0:-1], upper]).tolist())


def row_start(mean: int) -> int:
    """Index of the lower edge of level 0 in a row of ``cumulative_row``; that of level v is 16 v after it.

    ``mean`` is in sixteenths of a level, 0...MEAN_MAX.
    """
    return _REACH - (1 << (MEAN_BITS - 1)) - mean
