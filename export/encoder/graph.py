"""An encoder as a short list of float32 operations, which every emitter writes and every check reads.

The exact encoder needs four kinds (`Conv`, `Add`, `Floor`, `Clip`); float encoders add `Scale`, `LeakyRelu` and
`Concat`, IRN also `Multiply`, `Sigmoid` and `Exp`. Tensors are ``float32 [N, C, H, W]``; the picture enters as whole
numbers 0...255 under the name ``"image"`` and the last node holds the LR as whole numbers 0...255.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from codec_contract.bundle.manifest import ENCODER_COREML, ENCODER_ONNX, ENCODER_TFLITE
from edge_encoder.integer_network import INPUT, IntegerNetwork, convolved

Tensor = TypeVar("Tensor")
OUTPUT = "lr"
"""Name of the LR in every exported file; `edge_encoder.integer_network.INPUT` is the picture's."""
FORMATS = {"tflite": ENCODER_TFLITE, "coreml": ENCODER_COREML, "onnx": ENCODER_ONNX}
"""Format -> file name, in the order of reports."""


class TfliteConverter(enum.StrEnum):
    """Program that writes the TFLite file."""

    direct = "direct"
    onnx2tf = "onnx2tf"
    tensorflow = "tensorflow"


@dataclass(frozen=True)
class Unary:
    """A node with one input."""

    name: str
    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Binary:
    """A node with two inputs of equal shape."""

    name: str
    first: str
    second: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.first, self.second)


@dataclass(frozen=True)
class Conv(Unary):
    """Convolution with float32 ``weight [O, I / groups, kh, kw]`` and ``bias [O]``; zeros at (top, left, bottom,
    right)."""

    weight: np.ndarray
    bias: np.ndarray
    stride: int | tuple[int, int] = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    @property
    def strides(self) -> tuple[int, int]:
        """(vertical, horizontal)."""
        return (self.stride, self.stride) if isinstance(self.stride, int) else self.stride


class Add(Binary):
    """Sum of two tensors."""


class Multiply(Binary):
    """Product of two tensors."""


class Floor(Unary):
    """Largest whole number not above the value."""


@dataclass(frozen=True)
class Clip(Unary):
    """Values limited to 0...``high``."""

    high: float = 255.0


@dataclass(frozen=True)
class Scale(Unary):
    """``x * factor + offset``."""

    factor: float
    offset: float = 0.0


@dataclass(frozen=True)
class LeakyRelu(Unary):
    """``x`` where positive, ``slope * x`` elsewhere."""

    slope: float


class Sigmoid(Unary):
    """``1 / (1 + e^-x)``."""


class Exp(Unary):
    """``e^x``."""


@dataclass(frozen=True)
class Concat:
    """Tensors stacked along the channels."""

    name: str
    inputs: tuple[str, ...]


Node = Conv | Add | Floor | Clip | Scale | LeakyRelu | Concat | Multiply | Sigmoid | Exp


@dataclass(frozen=True)
class EncoderGraph:
    """``nodes`` in the order they run; the last one is the LR. ``exact`` claims equal bytes on every runtime."""

    name: str
    hr: int
    lr: int
    nodes: tuple[Node, ...]
    exact: bool

    def run(self, picture: Tensor, compute: Callable[[Node, list[Tensor]], Tensor]) -> Tensor:
        """The last node's tensor, of a runtime's own tensor type; ``compute`` maps a node and its inputs to its output.

        Tensors are released after their last use: at 1024 x 1024 the first ones take most of the memory.
        """
        last_use = {source: node.name for node in self.nodes for source in node.inputs}
        tensors = {INPUT: picture}
        del picture
        for node in self.nodes:
            tensors[node.name] = compute(node, [tensors[source] for source in node.inputs])
            for source in set(node.inputs):
                if last_use[source] == node.name:
                    del tensors[source]
        return tensors[self.nodes[-1].name]

    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """Name of every tensor -> (channels, height, width)."""
        shapes = {INPUT: (3, self.hr, self.hr)}
        for node in self.nodes:
            channels, height, width = shapes[node.inputs[0]]
            if isinstance(node, Conv):
                channels, _, *kernel = node.weight.shape
                height, width = convolved((height, width), (kernel[0], kernel[1]), node.strides, node.padding)
            elif isinstance(node, Concat):
                channels = sum(shapes[part][0] for part in node.inputs)
            shapes[node.name] = channels, height, width
        return shapes

    def flops(self) -> int:
        """Floating-point operations of the convolutions for one picture: two per multiply-add."""
        pixels = {name: height * width for name, (_, height, width) in self.shapes().items()}
        return sum(2 * node.weight.size * pixels[node.name] for node in self.nodes if isinstance(node, Conv))

    def parameters(self) -> int:
        return sum(node.weight.size + node.bias.size for node in self.nodes if isinstance(node, Conv))


def exact_graph(network: IntegerNetwork) -> EncoderGraph:
    """The integer encoder in float32: per layer Conv [-> Add] -> Floor -> Clip."""
    nodes: list[Node] = []
    for layer in network.layers:
        weights = layer.exported_weight(), layer.exported_bias()
        nodes.append(Conv(f"{layer.name}.conv", layer.input, *weights, layer.stride, layer.padding, layer.groups))
        if layer.skip:
            nodes.append(Add(f"{layer.name}.add", nodes[-1].name, layer.skip))
        nodes.append(Floor(f"{layer.name}.floor", nodes[-1].name))
        nodes.append(Clip(layer.name, nodes[-1].name))
    return EncoderGraph(network.architecture, network.hr, network.lr, tuple(nodes), exact=True)


def rounding_nodes(source: str, factor: float = 1.0, offset: float = 0.0) -> tuple[Node, ...]:
    """The last nodes of a float encoder: floor(value * factor + offset + 1/2), limited to 0...255."""
    return Scale("levels", source, factor, offset + 0.5), Floor("rounded", "levels"), Clip("quantized", "rounded")


def int8_parts(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """int8 ``[O, I, kh, kw]`` and float32 powers of two ``[O, 1, 1, 1]`` whose product is ``weight``, or None; a power
    of two only moves the exponent, so all runtimes compute it exactly."""
    peak = np.abs(weight).max((1, 2, 3), keepdims=True)
    # The largest weight of a channel as 64...127 times a power of two; 1 for a channel of zeros.
    scale = np.ldexp(np.float32(1), np.where(peak > 0, np.frexp(peak)[1] - 7, 0)).astype(np.float32)
    integers = weight / scale
    if (integers != np.round(integers)).any():
        return None
    return integers.astype(np.int8), scale
