"""`CoderTables`: the trained part of the LR coder, three small integer networks, one per channel.

A network maps the context of a sample (``context``) to a mean and a scale (``logistic``). Its layers are
``y = clamp((W x + b + 2**(shift - 1)) >> shift, 0, 4095)`` with 8-bit weights and one shift per output. The last layer
takes the context and the last hidden layer, is not clamped, and has two outputs: the mean as a difference from the
reference in sixteenths of a level, and the scale index. The tables are part of the LR contract: they are fitted once
per encoder (``edgegrain.publishing.fit_coder``), frozen with it, and kept as ``coder.json`` in its bundle.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_contract.errors import BundleError
from codec_contract.lr_coder.context import CONTEXT_SIZES, INPUT_LIMIT, IntArray
from codec_contract.pixels import Rgb

# The step of an LR's levels: payloads store multiples of it, which take fewer bytes. The coder codes indices: levels
# divided by the step, halves rounded up. With step 1 they are the levels themselves.
MAX_STEP = 64


def to_indices(lr: Rgb, step: int) -> Rgb:
    """Indices of levels, uint8 of any shape."""
    return lr if step == 1 else ((lr.astype(np.uint16) + step // 2) // step).astype(np.uint8)


def to_levels(indices: Rgb, step: int) -> Rgb:
    """Levels of indices, uint8 of any shape; the largest index may stand for 255."""
    return indices if step == 1 else np.minimum(indices.astype(np.uint16) * step, 255).astype(np.uint8)


def rounded(lr: Rgb, step: int) -> Rgb:
    """The LR as its payload stores it, uint8 of any shape: levels rounded to multiples of the step."""
    return to_levels(to_indices(lr, step), step)


# Of tables with step 1, and with others: readers of the first format would ignore the step.
FORMATS = ("edgegrain coder tables 1", "edgegrain coder tables 2")
ACTIVATION_MAX = 4095
ACCUMULATOR_LIMIT = 1 << 30  # leaves one bit of 32 for adding the reference to the result
MAX_HIDDEN_LAYERS = 4
MAX_WIDTH = 256
MAX_SHIFT = 24
MAX_WEIGHT = 127


@dataclass(frozen=True, eq=False)
class Layer:
    """An integer layer: weights in -127...127, int32 [outputs, inputs], biases and shifts int32 [outputs]."""

    weight: IntArray
    bias: IntArray
    shift: IntArray


@dataclass(frozen=True, eq=False)
class ChannelNetwork:
    """The network of one channel."""

    hidden: tuple[Layer, ...]
    output: Layer


@dataclass(frozen=True, eq=False)
class CoderTables:
    """The coder's tables; construction checks every shape and proves that no accumulator overflows."""

    channels: tuple[ChannelNetwork, ChannelNetwork, ChannelNetwork]  # for red, green and blue
    step: int = 1  # of the LR's levels, 1...64

    def __post_init__(self) -> None:
        if type(self.step) is not int or not 1 <= self.step <= MAX_STEP:
            raise BundleError(
                f"coder tables: the step of levels must be an integer of 1 to {MAX_STEP}, got {self.step!r}"
            )
        for channel, network in enumerate(self.channels):
            _check_network(network, channel)

    @staticmethod
    @cache
    def default() -> CoderTables:
        """Generic tables for any LR, fitted to box means of faces with and without texture."""
        return CoderTables.from_json(Path(__file__).with_name("default_coder.json").read_bytes())

    @classmethod
    def from_json(cls, data: bytes | str) -> CoderTables:
        """Parse the JSON of ``to_json``; see the class for errors."""
        try:
            source = json.loads(data)
            if (found := source["format"]) not in FORMATS:
                raise BundleError(f"coder tables of format {found!r} are unknown, expected {' or '.join(FORMATS)}")
            first, second, third = map(_read_network, source["channels"])
            return cls((first, second, third), 1 if found == FORMATS[0] else source["step"])
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BundleError(f"coder tables are malformed: {error!r}") from error

    def to_json(self) -> bytes:
        """Canonical JSON: equal tables give equal bytes."""
        record = {"format": FORMATS[0]} if self.step == 1 else {"format": FORMATS[1], "step": self.step}
        channels = [
            {"hidden": [*map(_layer_record, network.hidden)], "output": _layer_record(network.output)}
            for network in self.channels
        ]
        return json.dumps({**record, "channels": channels}, separators=(",", ":")).encode("ascii")

    def digest(self) -> bytes:
        """SHA-256 of ``to_json``, which is part of the LR contract."""
        return hashlib.sha256(self.to_json()).digest()


def _layer_record(layer: Layer) -> dict[str, Any]:
    return {
        "bias": layer.bias.tolist(),
        "shift": layer.shift.tolist(),
        # Row by row, one two's complement byte a weight.
        "weight": base64.b64encode(layer.weight.astype(np.int8).tobytes()).decode("ascii"),
    }


def _read_network(source: Any) -> ChannelNetwork:
    return ChannelNetwork(tuple(map(_read_layer, source["hidden"])), _read_layer(source["output"]))


def _read_layer(source: Any) -> Layer:
    bias, shift = (np.array(source[name], np.int32).reshape(-1) for name in ("bias", "shift"))
    weight = np.frombuffer(base64.b64decode(source["weight"], validate=True), np.int8).astype(np.int32)
    return Layer(weight.reshape(len(bias), -1), bias, shift)


def _check_network(network: ChannelNetwork, channel: int) -> None:
    if not network.hidden:
        raise BundleError(f"coder tables: channel {channel} has no hidden layer, expected at least one")
    values = context = np.full(CONTEXT_SIZES[channel], INPUT_LIMIT, dtype=np.int64)
    for index, layer in enumerate(network.hidden):
        _check_layer(layer, values, f"channel {channel}, hidden layer {index}")
        values = np.full(len(layer.weight), ACTIVATION_MAX, dtype=np.int64)
    _check_layer(network.output, np.concatenate([context, values]), f"channel {channel}, output layer")
    if (outputs := len(network.output.weight)) != 2:
        raise BundleError(f"coder tables: channel {channel} has {outputs} outputs, expected mean and scale")


def _check_layer(layer: Layer, inputs: npt.NDArray[np.int64], where: str) -> None:
    weight = layer.weight
    if weight.shape[1:] != inputs.shape or not layer.bias.shape == layer.shift.shape == weight.shape[:1]:
        found = f"weights {list(weight.shape)}, {layer.bias.size} biases and {layer.shift.size} shifts"
        expected = f"{len(inputs)} inputs, a bias and a shift an output"
        raise BundleError(f"coder tables: {where} has {found}, expected {expected}")
    if np.abs(weight).max() > MAX_WEIGHT:
        raise BundleError(f"coder tables: {where} must have weights of magnitude at most {MAX_WEIGHT}")
    if not 0 <= layer.shift.min() <= layer.shift.max() <= MAX_SHIFT:
        raise BundleError(f"coder tables: {where} has a shift outside 0 to {MAX_SHIFT}")
    sums = np.abs(weight.astype(np.int64)) @ inputs + np.abs(layer.bias.astype(np.int64))
    bound = (sums + (1 << layer.shift.astype(np.int64))).max()  # of the accumulator's magnitude
    if bound >= ACCUMULATOR_LIMIT:
        raise BundleError(f"coder tables: {where} can reach {bound}, above {ACCUMULATOR_LIMIT}; shrink its weights")
