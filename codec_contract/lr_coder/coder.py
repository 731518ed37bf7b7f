"""The lossless codings of an LR's body: coding 1, a range coder (docs/lr_coder.md), and coding 2, deflate.

**Coding 1** predicts every sample and codes it as eight binary decisions. For each sample the tables' network predicts
a mean and a scale, whose logistic distribution assigns every level a mass. The level is found by halving 0...255 eight
times; each decision is coded with the share of the upper half's mass. Encoder and decoder run the same loop over the
samples: the encoder's ``code`` writes the given level, the decoder's ignores it and returns the level that it reads.

The decisions are coded in 32-bit integers, without carries. Encoder and decoder keep the same interval ``[low, high]``
of 32-bit numbers. A decision with 16-bit probability p of a yes splits it at ``low + range * p / 2**16``; leading bytes
that both ends share are shifted out. This is the arithmetic coder of Mahoney's PAQ/lpaq (public description: "Data
Compression Explained", section 3.2), with 16-bit probabilities and a shortest ending:

    The body is the shortest byte string that, continued with zero bytes, is in the final interval; of several, the
    smallest.

So a body never ends in a zero byte, and there is exactly one body per sequence of decisions. The decoder, which knows
the interval too, checks this.

**Coding 2**, for large LRs (docs/payload.md), takes a hundredth of that time, and about a seventh more bytes. Red and
blue are stored as their difference to green, and each sample as its difference to a prediction from its neighbours (the
predictor of LOCO-I, Weinberger et al. 2000), both modulo 256; the three planes are deflated together.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from codec_contract.errors import PayloadError
from codec_contract.lr_coder.coder_tables import (
    ACTIVATION_MAX,
    ChannelNetwork,
    CoderTables,
    Layer,
    to_indices,
    to_levels,
)
from codec_contract.lr_coder.context import (
    CONTEXT_SIZES,
    MEAN_BITS,
    MEAN_MAX,
    MIDDLE,
    NEIGHBOURS,
    POSITION_INPUTS,
    SCALE_MAX,
    SCALE_STEPS,
    IntArray,
    coding_order,
    cumulative_row,
    neighbour_indices,
    positions,
    row_start,
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


_STEPS = tuple(1 << (bit + MEAN_BITS) for bit in range(7, -1, -1))
"""Halving the 256 levels, in places of a row."""


def encode_lr(lr: npt.NDArray[np.uint8], tables: CoderTables) -> bytes:
    """Code an LR, uint8 [h, w, 3], into a body, with its levels rounded to multiples of ``tables.step``."""
    height, width = lr.shape[:2]
    encoder = RangeEncoder()
    _code_samples(encoder, to_indices(lr, tables.step).reshape(-1, 3), width, height, tables)
    return encoder.finish()


def decode_lr(body: bytes, width: int, height: int, tables: CoderTables) -> npt.NDArray[np.uint8]:
    """Decode a body from ``encode_lr`` to the LR, uint8 [height, width, 3]."""
    decoder = RangeDecoder(body)
    indices = _code_samples(decoder, np.zeros((height * width, 3), np.uint8), width, height, tables)
    decoder.finish()
    if indices.max() > to_indices(np.array([255], np.uint8), tables.step)[0]:
        raise PayloadError(f"the payload is corrupt: level {tables.step} x {indices.max()} is above 255")
    return to_levels(indices, tables.step).reshape(height, width, 3)


@lru_cache(maxsize=SCALE_STEPS)
def _masses(scale: int) -> array[int]:
    """Sixteen times (a place is a sixteenth of a level) the mass below each place of ``cumulative_row``, and a part in
    2**20 for every level in it."""
    row = np.array(cumulative_row(scale), dtype=np.int64)
    return array("i", ((row << MEAN_BITS) + np.arange(len(row))).tolist())


_predictor = lru_cache(maxsize=8)(LinePredictor)


def _code_samples(
    coder: RangeEncoder | RangeDecoder, levels: npt.NDArray[np.uint8], width: int, height: int, tables: CoderTables
) -> npt.NDArray[np.uint8]:
    """Encode ``levels``, uint8 [height * width, 3]; or decode and return levels, ignoring the given ones."""
    coded = np.empty_like(levels)
    for line in _predictor(tables.channels).lines(width, height):
        given = levels[line.where].T.tolist()
        for channel in range(3):
            found = []
            for mean, scale, level in zip(*line.predict(channel), given[channel], strict=True):
                start = row_start(mean)
                place = coder.code(_masses(scale), start, _STEPS, start + (level << MEAN_BITS))
                found.append((place - start) >> MEAN_BITS)
            line.samples[:, channel] = found
        coded[line.where] = line.samples
    return coded


PROBABILITY_BITS = 16
PROBABILITY_ONE = 1 << PROBABILITY_BITS
"""A probability is an integer in 1...PROBABILITY_ONE - 1."""

_TOP = 0xFFFFFFFF
_LEADING = 0x01000000
"""Two ends share their leading byte if their exclusive or is smaller than this."""


class RangeEncoder:
    """Encodes values; ``finish`` returns the body."""

    def __init__(self) -> None:
        self._low = 0
        self._high = _TOP
        self._output = bytearray()

    def code(self, masses: Sequence[int], place: int, steps: Sequence[int], value: int) -> int:
        """Append the decisions of a binary search for ``value`` and return the place at which they end.

        ``masses[k]`` is the mass below place k, strictly ascending from ``place`` to ``place + 2 * steps[0]``. From a
        place, each step, half of the previous one, decides if the value is at least that much further. The loop takes
        most of the time of an LR and therefore calls no functions.
        """
        low, high = self._low, self._high
        below, whole = masses[place], masses[place + 2 * steps[0]]
        for step in steps:
            middle = masses[place + step]
            # Never PROBABILITY_ONE: there is mass below the middle.
            probability = ((whole - middle) << PROBABILITY_BITS) // (whole - below) or 1
            split = low + ((high - low) * probability >> PROBABILITY_BITS)
            if value >= place + step:
                place += step
                below, high = middle, split
            else:
                whole, low = middle, split + 1
            while low ^ high < _LEADING:
                self._output.append(high >> 24)
                low = (low << 8) & _TOP
                high = ((high << 8) & _TOP) | 0xFF
        self._low, self._high = low, high
        return place

    def finish(self) -> bytes:
        """The body of all decisions so far."""
        return bytes(self._output + _shortest_ending(self._low, self._high)).rstrip(b"\0")


class RangeDecoder:
    """Decodes the values of a body, in the order and with the masses of the encoder."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._low = 0
        self._high = _TOP
        self._value = int.from_bytes(body[:4].ljust(4, b"\0"), "big")
        self._position = 4  # of the next byte to read; zeros follow the body

    def code(self, masses: Sequence[int], place: int, steps: Sequence[int], value: int) -> int:
        """The place of the next decisions, which exists for any body; as the encoder's, but ``value`` is ignored."""
        low, high, read = self._low, self._high, self._value
        below, whole = masses[place], masses[place + 2 * steps[0]]
        for step in steps:
            middle = masses[place + step]
            probability = ((whole - middle) << PROBABILITY_BITS) // (whole - below) or 1
            split = low + ((high - low) * probability >> PROBABILITY_BITS)
            if read <= split:
                place += step
                below, high = middle, split
            else:
                whole, low = middle, split + 1
            while low ^ high < _LEADING:
                low = (low << 8) & _TOP
                high = ((high << 8) & _TOP) | 0xFF
                position = self._position
                following = self._body[position] if position < len(self._body) else 0
                read = ((read << 8) & _TOP) | following
                self._position = position + 1
        self._low, self._high, self._value = low, high, read
        return place

    def finish(self) -> None:
        """Check that the encoder writes this body for the decisions that were read."""
        settled = self._position - 4  # bytes shifted out of the interval
        expected = self._body[:settled].ljust(settled, b"\0") + _shortest_ending(self._low, self._high)
        if expected.rstrip(b"\0") != self._body:
            raise PayloadError(
                f"the coded body of {len(self._body)} bytes does not end as an encoder would have ended it; "
                "it is corrupt or was written with other coder tables"
            )


def _shortest_ending(low: int, high: int) -> bytes:
    """The shortest, then smallest, byte string whose zero continuation is in ``[low, high]``."""
    for length in range(4):
        unit = 1 << (32 - 8 * length)
        value = -(-low // unit) * unit  # low rounded up to a multiple of unit
        if value <= high:
            return value.to_bytes(4, "big")[:length]
    return low.to_bytes(4, "big")


def deflate_lr(lr: npt.NDArray[np.uint8]) -> bytes:
    """Code an LR, uint8 ``[h, w, 3]``, into a body of coding 2."""
    green = lr[..., 1]
    packer = zlib.compressobj(9)
    body = [packer.compress(_differences(plane).tobytes()) for plane in (green, lr[..., 0] - green, lr[..., 2] - green)]
    return b"".join(body) + packer.flush()


def inflate_lr(body: bytes, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Decode a body from `deflate_lr` to the LR, uint8 ``[height, width, 3]``, in at most three times its memory."""
    size = 3 * width * height
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(body, size + 1)
    except zlib.error as error:
        raise PayloadError(f"the payload's body is corrupt: {error}") from None
    if len(data) != size or not stream.eof or stream.unused_data:
        raise PayloadError(f"the payload's body does not hold the {size} samples of an LR of {width} x {height}")
    planes = np.frombuffer(bytearray(data), np.uint8).reshape(3, height, width)
    del data
    _undo(planes)
    lr = np.empty((height, width, 3), np.uint8)
    lr[..., 1] = green = planes[0]
    np.add(planes[1], green, out=lr[..., 0])  # modulo 256
    np.add(planes[2], green, out=lr[..., 2])
    return lr


def median_prediction(
    left: npt.NDArray[np.uint8], upper: npt.NDArray[np.uint8], corner: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """The smaller neighbour under a brighter corner, the one above the left, the larger under a darker one, else
    left + upper - corner."""
    low, high = np.minimum(left, upper), np.maximum(left, upper)
    return np.where(corner >= high, low, np.where(corner <= low, high, left + upper - corner))  # the sum modulo 256


def _differences(plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The samples of a plane, ``[h, w]``, minus their predictions, modulo 256."""
    rest = plane.copy()
    rest[0, 1:] -= plane[0, :-1]
    rest[1:, 0] -= plane[:-1, 0]
    rest[1:, 1:] -= median_prediction(plane[1:, :-1], plane[:-1, 1:], plane[:-1, :-1])
    return rest


def _undo(planes: npt.NDArray[np.uint8]) -> None:
    """Turn differences into samples, in place, diagonal by diagonal: a sample's neighbours are on the two before it."""
    count, height, width = planes.shape
    np.add.accumulate(planes[:, 0], axis=1, dtype=np.uint8, out=planes[:, 0])
    np.add.accumulate(planes[:, :, 0], axis=1, dtype=np.uint8, out=planes[:, :, 0])
    if width == 1:
        return
    flat, step = planes.reshape(count, height * width), width - 1  # from a sample to the one below on its left
    for line in range(2, height + width - 1):
        first, last = max(1, line - width + 1), min(height, line)  # its rows, without the edges
        start, stop = line + first * step, line + (last - 1) * step + 1
        here, left, upper, corner = (
            flat[:, start - back : stop - back : step] for back in (0, 1, width, width + 1))
        here += median_prediction(left, upper, corner)
