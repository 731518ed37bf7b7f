"""The context of a sample: the inputs of its prediction, all known before it is coded.

Pixels are coded along slanted lines: line t holds the pixels (x, y) with x + 3 y = t, from top to bottom. All their
neighbours are on earlier lines, so the predictions of a line can be computed together. Within a line all red samples
come first, then all green, then all blue ones. The context of a sample is

    30  the three channels of ten earlier pixels around it, minus the reference
    0-2 the channels of its own pixel that came before, minus the reference
    1   the reference minus 128
    8   the position of the pixel: see ``positions``

The reference is the mean of the sample's left and upper neighbours, rounded half up. A neighbour outside the picture is
replaced by the nearest pixel inside; if that is not earlier in reading order, by the pixel to the left, else by the
pixel above, else by 128.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# The logistic distribution in integers: the probability of each level around a predicted mean. A prediction is a mean
# in sixteenths of a level and a scale index; index k stands for the scale 2**(k/8 - 2) levels, from a quarter of a
# level to some 59 levels (the standard deviation is 1.81 times that). Level v has the mass between v - 1/2 and v + 1/2,
# plus one part in 2**20, so that every level is possible. Mass outside 0...255 is removed by normalizing, so a mean
# near black or white costs no bits.
MEAN_BITS = 4  # fraction bits of a predicted mean
SCALE_STEPS = 64  # scale indices are 0...63
MEAN_MAX = 255 << MEAN_BITS
SCALE_MAX = SCALE_STEPS - 1
CUMULATIVE_ONE = 1 << 20

# round(2**20 / (1 + exp(-i / 8))) for i = 0...96, and the last once more
_SIGMOID = np.array((
    524288, 557013, 589485, 621456, 652696, 682995, 712170, 740069, 766570, 791586, 815058, 836959, 857289, 876068,
    893337, 909153, 923583, 936703, 948595, 959343, 969033, 977748, 985571, 992579, 998846, 1004444, 1009436,
    1013883, 1017840, 1021358, 1024482, 1027256, 1029716, 1031897, 1033829, 1035540, 1037055, 1038396, 1039582,
    1040631, 1041558, 1042378, 1043102, 1043743, 1044308, 1044808, 1045249, 1045639, 1045983, 1046287, 1046556,
    1046793, 1047002, 1047187, 1047350, 1047494, 1047621, 1047733, 1047832, 1047919, 1047996, 1048064, 1048125,
    1048178, 1048224, 1048266, 1048302, 1048334, 1048363, 1048388, 1048410, 1048429, 1048447, 1048462, 1048475,
    1048487, 1048498, 1048507, 1048515, 1048522, 1048528, 1048534, 1048539, 1048543, 1048547, 1048551, 1048554,
    1048556, 1048558, 1048561, 1048562, 1048564, 1048565, 1048567, 1048568, 1048569, 1048570, 1048570,
), dtype=np.int64)  # fmt: skip
# round(2**16 * 2**(-i / 8)) for i = 0...7
_EIGHTH_OCTAVES = np.array((65536, 60097, 55109, 50535, 46341, 42495, 38968, 35734), dtype=np.int64)
_ARGUMENT_BITS = 12  # fraction bits of the sigmoid's argument
_STEP_BITS = 9  # of these, between two entries of _SIGMOID


def cumulative(distance: npt.NDArray[np.int64], scale: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The distribution function of each scale index at a distance from the mean, in sixteenths of a level."""
    argument = np.abs(distance) * _EIGHTH_OCTAVES[scale & 7] >> (16 + MEAN_BITS - 2 - _ARGUMENT_BITS + (scale >> 3))
    np.minimum(argument, (len(_SIGMOID) - 2) << _STEP_BITS, out=argument)
    index = argument >> _STEP_BITS
    least = _SIGMOID[index]
    upper = least + ((_SIGMOID[index + 1] - least) * (argument & ((1 << _STEP_BITS) - 1)) >> _STEP_BITS)
    return np.where(distance < 0, CUMULATIVE_ONE - upper, upper)


# (dy, dx) of the neighbours; the first is the left one, the second the upper one.
NEIGHBOURS = (
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-1, 2), (-2, -1), (-2, 1),
)  # fmt: skip
SLANT = 3
MIDDLE = 128
POSITION_INPUTS = 8
CONTEXT_SIZES = tuple(3 * len(NEIGHBOURS) + channel + 1 + POSITION_INPUTS for channel in range(3))
"""Length of the context of a red, green and blue sample."""
INPUT_LIMIT = 255  # largest magnitude of a number in a context

IntArray = npt.NDArray[np.int32]


def neighbour_indices(width: int, height: int) -> IntArray:
    """Index of every neighbour of every pixel in reading order, int32 [height * width, 10]; height * width stands for
    the constant 128."""
    y, x = np.divmod(np.arange(height * width, dtype=np.int32), np.int32(width))
    west = np.where(x > 0, y * width + x - 1, np.where(y > 0, (y - 1) * width + x, height * width))
    columns = []
    for dy, dx in NEIGHBOURS:
        near = np.maximum(y + dy, 0) * width + np.clip(x + dx, 0, width - 1)
        columns.append(np.where(near < y * width + x, near, west))
    return np.stack(columns, axis=1).astype(np.int32)


def positions(width: int, height: int) -> IntArray:
    """Position of each pixel, int32 [height * width, 8], all in -128...128.

    The column u and row v of the pixel's centre, from -128 to 128 across the picture, u², v², uv, and flags (128 or 0)
    for the first row, first column and last column.
    """
    y, x = np.divmod(np.arange(height * width, dtype=np.int32), np.int32(width))
    u = (2 * x + 1) * 128 // width - 128
    v = (2 * y + 1) * 128 // height - 128
    flags = [128 * edge.astype(np.int32) for edge in (y == 0, x == 0, x == width - 1)]
    columns = [u, v, u * u >> 7, v * v >> 7, u * v >> 7, *flags]
    return np.stack(columns, axis=1).astype(np.int32)


def coding_lines(width: int, height: int) -> npt.NDArray[np.int32]:
    """The slanted line of each pixel, int32 [height * width]; within a line, coding order is reading order."""
    y, x = np.divmod(np.arange(height * width, dtype=np.int32), np.int32(width))
    return x + SLANT * y


def all_contexts(lr: npt.NDArray[np.uint8], channel: int) -> tuple[IntArray, IntArray]:
    """Contexts int32 [h * w, CONTEXT_SIZES[channel]] and references int32 [h * w] of one channel of an LR, uint8
    [h, w, 3], in reading order."""
    height, width = lr.shape[:2]
    pixels = np.full((height * width + 1, 3), MIDDLE, dtype=np.int32)
    pixels[:-1] = lr.reshape(-1, 3)
    around = pixels[neighbour_indices(width, height)]  # [h * w, 10, 3]
    reference = (around[:, 0, channel] + around[:, 1, channel] + 1) >> 1
    parts = (
        around.reshape(len(around), -1) - reference[:, None],
        pixels[:-1, :channel] - reference[:, None],
        reference[:, None] - MIDDLE,
        positions(width, height),
    )
    return np.concatenate(parts, axis=1), reference
