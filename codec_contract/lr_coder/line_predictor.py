"""`LinePredictor`: the tables' networks on all pixels of a slanted line at once, for speed.

The results equal those of `all_contexts` and `ChannelNetwork.predict`. Float64 is used for its fast matrix products,
and the computation is exact: every input is an integer, every weight an integer times its output's power of two, and
the tables' bound keeps all sums (a mean's reference included) below 2**37 such units, far from the 2**53 where float64
begins to round. So neither the order of a summation nor a fused operation can change a result.

References are separated from the contexts, W (x - reference) = W x - reference (sum of W's row), so the inputs of all
three channels of a line are one matrix of 42 columns, and the first layer of all three networks is one product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from codec_contract.lr_coder.coder_tables import ACTIVATION_MAX, ChannelNetwork, Layer
from codec_contract.lr_coder.context import (
    CONTEXT_SIZES,
    MEAN_BITS,
    MEAN_MAX,
    MIDDLE,
    NEIGHBOURS,
    POSITION_INPUTS,
    SCALE_MAX,
    IntArray,
    coding_order,
    neighbour_indices,
    positions,
)

FloatArray = npt.NDArray[np.float64]
Predictions = tuple[list[int], list[int]]
"""Means in sixteenths of a level, and scale indices."""

# Columns of a line's inputs: the neighbours' samples, the references of the three channels, positions, and 1.
_AROUND = 3 * len(NEIGHBOURS)
_REFERENCES = slice(_AROUND, _AROUND + 3)
_POSITIONS = slice(_AROUND + 3, _AROUND + 3 + POSITION_INPUTS)
_ONE = _AROUND + 3 + POSITION_INPUTS
# As arrays, because turning a Python number into one takes longer than the arithmetic on a line.
_ZERO = np.array(0.0)
_ACTIVATION_MAX = np.array(float(ACTIVATION_MAX))
_OUTPUT_MAX = np.array([[MEAN_MAX], [SCALE_MAX]], dtype=np.int32)
_OUTPUT_MIN = np.array(0, dtype=np.int32)


class LinePredictor:
    """The networks of the three channels, prepared once for LRs of any size."""

    def __init__(self, channels: Sequence[ChannelNetwork]) -> None:
        firsts = [_first_layers(network, channel) for channel, network in enumerate(channels)]
        self._first = np.concatenate([inputs for inputs, _ in firsts], axis=1)  # [42, outputs of all channels]
        ends = np.cumsum([inputs.shape[1] for inputs, _ in firsts]).tolist()
        self._columns = [slice(low, high) for low, high in zip([0, *ends], ends, strict=False)]
        self._own = [own for _, own in firsts]
        self._later = [[(_scaled(layer.weight, layer), _bias(layer)) for layer in network.hidden[1:]]
                       for network in channels]
        self._output = [_scaled(network.output.weight[:, size:], network.output)
                        for size, network in zip(CONTEXT_SIZES, channels, strict=True)]

    def lines(self, width: int, height: int) -> Iterator[Line]:
        """The lines of an LR in coding order; a line's three channels must be filled before the next one is taken."""
        pixels = np.full((width * height + 1, 3), MIDDLE, dtype=np.float64)
        for where, neighbours, places in _grid(width, height):
            inputs = np.empty((len(where), _ONE + 1))
            around = inputs[:, :_AROUND]
            around[:] = pixels[neighbours].reshape(len(where), _AROUND)
            np.floor((around[:, :3] + around[:, 3:6] + 1) * 0.5, out=inputs[:, _REFERENCES])  # left and upper one
            inputs[:, _POSITIONS] = places
            inputs[:, _ONE] = 1
            samples = np.empty((len(where), 3))
            yield Line(where, samples, partial(self._predict, inputs @ self._first, samples))
            pixels[where] = samples

    def _predict(self, sums: FloatArray, samples: FloatArray, channel: int) -> Predictions:
        """Predictions of one channel from the first product [n, all outputs] and the line's samples [n, 3]."""
        sums = sums[:, self._columns[channel]]
        if channel:
            sums = sums + samples[:, :channel] @ self._own[channel]
        values = _activate(sums[:, :-2])
        for weight, bias in self._later[channel]:
            values = _activate(values @ weight + bias)
        output = values @ self._output[channel]
        output += sums[:, -2:]
        integers = np.floor(output).T.astype(np.int32)
        means, scales = np.minimum(np.maximum(integers, _OUTPUT_MIN), _OUTPUT_MAX).tolist()
        return means, scales


@dataclass(frozen=True, eq=False)
class Line:
    """A line of pixels with predictions for one channel at a time, in the order 0, 1, 2."""

    where: IntArray
    """Index of each pixel in reading order."""
    samples: FloatArray
    """float64 [n, 3], to be filled in; a prediction needs the previous channels."""
    predict: Callable[[int], Predictions]


@lru_cache(maxsize=2)
def _grid(width: int, height: int) -> list[tuple[IntArray, IntArray, IntArray]]:
    """Of each line of an LR of this size: its pixels, their neighbours and their positions."""
    neighbours, places = neighbour_indices(width, height), positions(width, height)
    return [(where, neighbours[where], places[where]) for where in coding_order(width, height)]


def _first_layers(network: ChannelNetwork, channel: int) -> tuple[FloatArray, FloatArray]:
    """Weights on the context, of the first hidden layer next to the output layer's part: of a line's inputs
    [42, outputs], and of the previous samples of the same pixel [channel, outputs]."""
    size = CONTEXT_SIZES[channel]
    layers = network.hidden[0], network.output
    weight = np.concatenate([_scaled(layer.weight[:, :size], layer) for layer in layers], axis=1)
    around, own, middle, places = np.split(weight, [_AROUND, _AROUND + channel, _AROUND + channel + 1])
    inputs = np.zeros((_ONE + 1, weight.shape[1]))
    inputs[:_AROUND] = around
    inputs[_AROUND + channel] = middle - around.sum(axis=0) - own.sum(axis=0)
    inputs[_AROUND + channel, -2] += 1 << MEAN_BITS  # a mean is predicted as a difference from the reference
    inputs[_POSITIONS] = places
    inputs[_ONE] = np.concatenate([_bias(layer) for layer in layers]) - MIDDLE * middle
    return inputs, own


def _scaled(weight: npt.NDArray[np.int32], layer: Layer) -> FloatArray:
    """A layer's weights [outputs, inputs] with the shifts of the outputs applied, as [inputs, outputs]."""
    return np.ascontiguousarray(np.ldexp(weight.T.astype(np.float64), -layer.shift))


def _bias(layer: Layer) -> FloatArray:
    """A layer's biases and rounding offsets with the shifts of the outputs applied."""
    return np.ldexp((layer.bias + ((1 << layer.shift) >> 1)).astype(np.float64), -layer.shift)


def _activate(sums: FloatArray) -> FloatArray:
    values: FloatArray = np.floor(sums)
    np.maximum(values, _ZERO, out=values)
    np.minimum(values, _ACTIVATION_MAX, out=values)
    return values
