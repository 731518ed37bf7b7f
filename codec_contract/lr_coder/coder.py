"""The lossless codings of an LR's body: coding 1, a range coder (docs/lr_coder.md), and coding 2, deflate.

**Coding 1** predicts every sample and codes it as eight binary decisions. For each sample the tables' network predicts
a mean and a scale, whose logistic distribution assigns every level a mass. The level is found by halving 0...255 eight
times; each decision is coded with the share of the upper half's mass. The encoder, which knows all samples, computes
all predictions and probabilities first; the decoder those of a line's channel at a time.

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
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
import numpy.typing as npt

from codec_contract.errors import PayloadError
from codec_contract.lr_coder import context
from codec_contract.lr_coder.coder_tables import (
    ACTIVATION_MAX,
    ChannelNetwork,
    CoderTables,
    Layer,
    to_indices,
    to_levels,
)
from codec_contract.lr_coder.context import CONTEXT_SIZES, MEAN_BITS, MEAN_MAX, MIDDLE, SCALE_MAX, IntArray, cumulative
from codec_contract.pixels import Rgb

FloatArray = npt.NDArray[np.floating]
LevelArray = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

# Columns of the inputs: the neighbours' samples, the references of the three channels, positions, 1, and the pixel's
# own samples.
_AROUND = 3 * len(context.NEIGHBOURS)
_ONE = _AROUND + 3 + context.POSITION_INPUTS
_OWN = _ONE + 1
# Pixels that the encoder predicts at a time. OpenBLAS multiplies larger blocks in several threads, which on a machine
# with few cores wait for those of the encoder's network: compressing took twice as long.
_BLOCK = 16
# As arrays, because turning a Python number into one takes longer than the arithmetic on a line.
_ZERO, _HALF, _ACTIVATION_MAX = (np.array(value, np.float32) for value in (0, 0.5, ACTIVATION_MAX))
_OUTPUT_MAX = np.array((MEAN_MAX, SCALE_MAX), np.float32)


class Predictor:
    """The networks of the three channels, prepared once for LRs of any size.

    Sums are exact: weights are integers times the powers of two of the shifts, in float32 if its 24 bits hold every
    partial sum of the layer, else in float64.
    """

    def __init__(self, channels: Sequence[ChannelNetwork]) -> None:
        self._networks = []
        for channel, (network, size) in enumerate(zip(channels, CONTEXT_SIZES, strict=True)):
            (first, *later), output = network.hidden, network.output
            first_sum, last_sum = largest_sum(first, size), largest_sum(output, size)
            inputs = _exact(_first_layers(network, channel), max(first_sum, last_sum))
            weights = [_exact(_scaled(layer.weight, layer), largest_sum(layer, 0)) for layer in later]
            biases = [_bias(layer).astype(weight.dtype) for layer, weight in zip(later, weights, strict=True)]
            last = _exact(_scaled(output.weight[:, size:], output), last_sum)
            self._networks.append((inputs, list(zip(weights, biases, strict=True)), last))

    def known(self, levels: Rgb, width: int, height: int) -> LevelArray:
        """The predictions for an LR that is known, uint8 [h * w, 3]: int64 [2, 3, h * w]."""
        pixels = np.append(levels, [[MIDDLE] * 3], axis=0).astype(np.float32)
        neighbours, places, _ = _grid(width, height)
        predictions = np.empty((2, 3, len(levels)), np.int64)
        for first in range(0, len(levels), _BLOCK):
            block = slice(first, first + _BLOCK)
            inputs = _inputs(pixels, neighbours[block], places[block])
            inputs[:, _OWN:] = levels[block]
            for channel in range(3):
                predictions[:, channel, block] = self.predict(inputs, channel)
        return predictions

    def lines(self, pixels: FloatArray, width: int, height: int) -> Iterator[FloatArray]:
        """The inputs of an LR's lines in coding order, of which the caller fills the last three columns: the line's
        samples, which go to ``pixels`` before the next one is taken."""
        for where, neighbours, places in _grid(width, height)[2]:
            inputs = _inputs(pixels, neighbours, places)
            yield inputs
            pixels[where] = inputs[:, _OWN:]

    def predict(self, inputs: FloatArray, channel: int) -> LevelArray:
        """Means in sixteenths of a level and scale indices of a channel, int64 [2, n]; previous ones are filled in."""
        first, later, last = self._networks[channel]
        sums = inputs[:, : _OWN + channel].dot(first)
        values = _activate(sums[:, :-2])
        for weight, bias in later:
            values = _activate(values.dot(weight) + bias)
        output = values.dot(last)
        output += sums[:, -2:]
        return _between(output, _OUTPUT_MAX).T.astype(np.int64)  # rounds down


def _activate(sums: FloatArray) -> FloatArray:
    values = _between(sums, _ACTIVATION_MAX)
    return np.floor(values, out=values)


def _between(values: FloatArray, most: FloatArray) -> FloatArray:
    values = np.maximum(values, _ZERO)  # np.clip takes longer
    return np.minimum(values, most, out=values)


def _inputs(pixels: FloatArray, neighbours: LevelArray, places: IntArray) -> FloatArray:
    """The inputs, float32 [n, 45], of pixels with these neighbours [n, 10] and positions [n, 9]; not their samples."""
    inputs = np.empty((len(neighbours), _OWN + 3), np.float32)
    inputs[:, :_AROUND] = around = pixels.take(neighbours, axis=0).reshape(-1, _AROUND)
    references = (around[:, :3] + around[:, 3:6]) * _HALF + _HALF  # of the left and the upper one
    np.floor(references, out=inputs[:, _AROUND : _AROUND + 3])
    inputs[:, _AROUND + 3 : _OWN] = places
    return inputs


@lru_cache(maxsize=2)
def _grid(width: int, height: int) -> tuple[LevelArray, IntArray, list[tuple[LevelArray, LevelArray, IntArray]]]:
    """Neighbours [h * w, 10] and positions with a 1 [h * w, 9]; of each coding line its pixels and theirs."""
    neighbours = context.neighbour_indices(width, height).astype(np.int64)
    places = np.append(context.positions(width, height), np.ones((width * height, 1), np.int32), axis=1)
    lines = context.coding_lines(width, height)
    order = np.argsort(lines, kind="stable")
    ends = np.flatnonzero(np.diff(lines[order])) + 1
    return neighbours, places, [(where, neighbours[where], places[where]) for where in np.split(order, ends)]


def largest_sum(layer: Layer, size: int) -> int:
    """Bound of a layer's partial sums, for any order of the terms: of ``size`` inputs, which reach `_first_layers` as
    samples and references, of activations, which are not negative, of the bias and of the mean's reference."""
    inputs = 2 * context.INPUT_LIMIT * np.abs(layer.weight[:, :size]).sum(axis=1)
    positive, negative = (np.maximum(sign * layer.weight[:, size:], 0).sum(axis=1) for sign in (1, -1))
    sums = inputs + ACTIVATION_MAX * np.maximum(positive, negative) + np.abs(layer.bias) + (1 << layer.shift)
    sums[0] += MEAN_MAX << int(layer.shift[0])
    return int(sums.max())


def _exact(weight: FloatArray, largest: int) -> FloatArray:
    return weight.astype(np.float32 if largest < 1 << 24 else np.float64)


def _first_layers(network: ChannelNetwork, channel: int) -> FloatArray:
    """Weights on the inputs, [42 + channel, outputs], of the first hidden layer next to the output layer's part."""
    size = CONTEXT_SIZES[channel]
    layers = network.hidden[0], network.output
    weight = np.concatenate([_scaled(layer.weight[:, :size], layer) for layer in layers], axis=1)
    around, own, middle, places = np.split(weight, [_AROUND, _AROUND + channel, _AROUND + channel + 1])
    inputs = np.zeros((_OWN + channel, weight.shape[1]))
    inputs[:_AROUND] = around
    inputs[_AROUND + channel] = middle - around.sum(axis=0) - own.sum(axis=0)
    inputs[_AROUND + channel, -2] += 1 << MEAN_BITS  # a mean is predicted as a difference from the reference
    inputs[_AROUND + 3 : _ONE] = places
    inputs[_ONE] = np.concatenate([_bias(layer) for layer in layers]) - MIDDLE * middle
    inputs[_OWN:] = own
    return inputs


def _scaled(weight: npt.NDArray[np.int32], layer: Layer) -> FloatArray:
    """A layer's weights [outputs, inputs] with the shifts of the outputs applied, as [inputs, outputs]."""
    return np.ldexp(weight.T.astype(np.float64), -layer.shift)


def _bias(layer: Layer) -> FloatArray:
    """A layer's biases and rounding offsets with the shifts of the outputs applied."""
    return np.ldexp((layer.bias + ((1 << layer.shift) >> 1)).astype(np.float64), -layer.shift)


_STEPS = 128, 64, 32, 16, 8, 4, 2, 1  # halving the 256 levels


def encode_lr(lr: Rgb, tables: CoderTables) -> bytes:
    """Code an LR, uint8 [h, w, 3], into a body, with its levels rounded to multiples of ``tables.step``."""
    height, width = lr.shape[:2]
    indices = to_indices(lr, tables.step).reshape(-1, 3)
    means, scales = _predictor(tables.channels).known(indices, width, height)
    # Line by line, and in a line channel by channel.
    order = np.argsort(np.tile(context.coding_lines(width, height), 3), kind="stable")
    values = (values.reshape(-1, 1)[order] for values in (indices.T.astype(np.int64), means, scales))
    return range_encoded(chain.from_iterable(_decisions(*values)))


def decode_lr(body: bytes, width: int, height: int, tables: CoderTables) -> Rgb:
    """Decode a body from ``encode_lr`` to the LR, uint8 [height, width, 3]."""
    decoder = RangeDecoder(body)
    predictor = _predictor(tables.channels)
    pixels = np.full((width * height + 1, 3), MIDDLE, np.float32)  # the last one stands for those outside
    for inputs in predictor.lines(pixels, width, height):
        for channel in range(3):
            means, scales = predictor.predict(inputs, channel).tolist()
            inputs[:, _OWN + channel] = decoder.code(map(_masses, scales), map(_STARTS.__getitem__, means), _STEPS)
    decoder.finish()
    indices = pixels[:-1].astype(np.uint8)
    if indices.max() > to_indices(np.array([255], np.uint8), tables.step)[0]:
        raise PayloadError(f"the payload is corrupt: level {tables.step} x {indices.max()} is above 255")
    return to_levels(indices, tables.step).reshape(height, width, 3)


_predictor = lru_cache(maxsize=8)(Predictor)


def _decisions(levels: LevelArray, means: LevelArray, scales: LevelArray) -> Iterator[Iterable[tuple[int, int]]]:
    """The eight decisions of each level, 0 or 1, with the probabilities of 1, of levels [n, 1] block by block."""
    halves = np.array(_STEPS)
    for first in range(0, len(levels), 6 * _BLOCK):
        block = slice(first, first + 6 * _BLOCK)
        start = levels[block] & -2 * halves  # of the range that a decision halves
        edges = np.stack([start, start + halves, start + 2 * halves])
        distances = (edges << MEAN_BITS) - (1 << (MEAN_BITS - 1)) - means[block]
        below, middle, whole = cumulative(distances, scales[block]) + edges
        # Never PROBABILITY_ONE: there is mass below the middle.
        probabilities = np.maximum((whole - middle << PROBABILITY_BITS) // (whole - below), 1)
        decisions = (levels[block] & halves) != 0
        yield zip(decisions.ravel().tolist(), probabilities.ravel().tolist(), strict=True)


_PHASES = 1 << MEAN_BITS
_EDGES = 2 * 256 + 1  # of levels on both sides of a mean
_PLACES = (divmod(256 * _PHASES - _PHASES // 2 - mean, _PHASES) for mean in range(MEAN_MAX + 1))
_STARTS = [phase * _EDGES + edge for edge, phase in _PLACES]
"""Of each mean, the place of level 0's lower edge in ``_masses``, where the edges of the other levels follow."""


@lru_cache(maxsize=SCALE_MAX + 1)
def _masses(scale: int) -> array[int]:
    """The mass below each edge, with a part in 2**20 for every level, for each of 16 fractions of the mean."""
    edges = np.arange(_EDGES)
    distance = np.arange(_PHASES)[:, None] + (edges - 256) * _PHASES
    return array("i", (cumulative(distance, np.array(scale)) + edges).astype(np.int32).tobytes())


PROBABILITY_BITS = 16
PROBABILITY_ONE = 1 << PROBABILITY_BITS  # a probability is an integer in 1...PROBABILITY_ONE - 1

_TOP = 0xFFFFFFFF
_LEADING = 0x01000000  # two ends share their leading byte if their exclusive or is smaller than this


def range_encoded(decisions: Iterable[tuple[int, int]]) -> bytes:
    """The body of decisions, 0 or 1, each with the probability of 1."""
    low, span, output = 0, _TOP, bytearray()  # span: high - low
    for decision, probability in decisions:
        share = span * probability >> PROBABILITY_BITS
        if decision:
            span = share
        else:
            low += share + 1
            span -= share + 1
        if span < _LEADING:  # else low and high differ in their leading bytes
            high = low + span
            while low ^ high < _LEADING:
                output.append(high >> 24)
                low = (low << 8) & _TOP
                high = ((high << 8) & _TOP) | 0xFF
            span = high - low
    return bytes(output + _shortest_ending(low, low + span)).rstrip(b"\0")


class RangeDecoder:
    """Decodes the values of a body, in the order and with the masses of the encoder."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._low = 0
        self._span = _TOP
        self._read = int.from_bytes(body[:4].ljust(4, b"\0"), "big")
        self._position = 4  # of the next byte to read; zeros follow the body

    def code(self, rows: Iterable[Sequence[int]], starts: Iterable[int], steps: Sequence[int]) -> list[int]:
        """The results of binary searches, one for each row, which exist for any body.

        ``masses[k]`` is the mass below place k of a row, strictly ascending from ``start`` to ``start + 2 * steps[0]``.
        From a place, each step, half of the previous one, decides if the value is at least that much further. Results
        are distances from the start. The loop takes most of the time of an LR and therefore calls no functions.
        """
        span, read = self._span, self._read
        offset, leading, bits, width, found = read - self._low, _LEADING, PROBABILITY_BITS, 2 * steps[0], []
        for masses, start in zip(rows, starts, strict=True):
            place, whole = start, masses[start + width]
            total = whole - masses[start]
            for step in steps:
                above = whole - masses[place + step]
                # Never PROBABILITY_ONE: there is mass below the middle.
                share = span * ((above << bits) // total or 1) >> bits
                if offset <= share:
                    place += step
                    total, span = above, share
                else:
                    whole -= above
                    total -= above
                    share += 1
                    span -= share
                    offset -= share
                if span < leading:  # else low and high differ in their leading bytes
                    low = read - offset
                    high = low + span
                    while low ^ high < leading:
                        low = (low << 8) & _TOP
                        high = ((high << 8) & _TOP) | 0xFF
                        following = self._body[self._position] if self._position < len(self._body) else 0
                        read = ((read << 8) & _TOP) | following
                        self._position += 1
                    span, offset = high - low, read - low
            found.append(place - start)
        self._low, self._span, self._read = read - offset, span, read
        return found

    def finish(self) -> None:
        """Check that the encoder writes this body for the decisions that were read."""
        settled = self._position - 4  # bytes shifted out of the interval
        expected = self._body[:settled].ljust(settled, b"\0") + _shortest_ending(self._low, self._low + self._span)
        if expected.rstrip(b"\0") != self._body:
            problem = f"the coded body of {len(self._body)} bytes does not end as an encoder would have ended it"
            raise PayloadError(f"{problem}; it is corrupt or was written with other coder tables")


def _shortest_ending(low: int, high: int) -> bytes:
    """The shortest, then smallest, byte string whose zero continuation is in ``[low, high]``."""
    for length in range(4):
        unit = 1 << (32 - 8 * length)
        value = -(-low // unit) * unit  # low rounded up to a multiple of unit
        if value <= high:
            return value.to_bytes(4, "big")[:length]
    return low.to_bytes(4, "big")


def deflate_lr(lr: Rgb) -> bytes:
    """Code an LR, uint8 ``[h, w, 3]``, into a body of coding 2."""
    green = lr[..., 1]
    packer = zlib.compressobj(9)
    body = [packer.compress(_differences(plane).tobytes()) for plane in (green, lr[..., 0] - green, lr[..., 2] - green)]
    return b"".join(body) + packer.flush()


def inflate_lr(body: bytes, width: int, height: int) -> Rgb:
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


def median_prediction(left: Bytes, upper: Bytes, corner: Bytes) -> Bytes:
    """The smaller neighbour beside a brighter corner, the larger beside a darker one, else left + upper - corner."""
    low, high = np.minimum(left, upper), np.maximum(left, upper)
    return np.where(corner >= high, low, np.where(corner <= low, high, left + upper - corner))  # the sum modulo 256


def _differences(plane: Bytes) -> Bytes:
    """The samples of a plane, ``[h, w]``, minus their predictions, modulo 256."""
    rest = plane.copy()
    rest[0, 1:] -= plane[0, :-1]
    rest[1:, 0] -= plane[:-1, 0]
    rest[1:, 1:] -= median_prediction(plane[1:, :-1], plane[:-1, 1:], plane[:-1, :-1])
    return rest


def _undo(planes: Bytes) -> None:
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
        here, left, upper, corner = (flat[:, start - back : stop - back : step] for back in (0, 1, width, width + 1))
        here += median_prediction(left, upper, corner)
