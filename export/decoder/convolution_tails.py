"""The nodes around a convolution that one ``FusedConv`` or ``DenseBlock`` computes, found in a graph of NCHW maps."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from export.decoder.graph_values import (
    constant,
    integer,
    integers,
    is_map,
    is_op,
    is_own_op,
    is_vector,
    number,
    only_reader,
    other_input,
    scalar,
    sizes,
)


@dataclass
class Tail:
    """The steps after a convolution.

    Attributes:
        end: the last value; the outputs of the fused node take its place.
        nodes: those that the fused node computes, without the convolution.
        demodulation, noise, style, residual, outer: as in ``FusedConv``.
        biases: added to each channel, before the activation.
        residual_first: the residual is added before the activation.
        plain: the value before the multiplication with ``style``, if something reads it.
        slope, gain, clamp, scale, outer_scale: as in ``FusedConv``.
    """

    end: ir.Value
    nodes: list[ir.Node] = field(default_factory=list)
    demodulation: ir.Value | None = None
    noise: ir.Value | None = None
    biases: list[np.ndarray] = field(default_factory=list)
    style: ir.Value | None = None
    residual: ir.Value | None = None
    residual_first: bool = False
    outer: ir.Value | None = None
    plain: ir.Value | None = None
    slope: float = 1.0
    gain: float = 1.0
    clamp: float = 0.0
    scale: float = 1.0
    outer_scale: float = 1.0


@dataclass(frozen=True)
class DenseBlockNodes:
    """A residual dense block: its nodes, and the values it reads.

    Attributes:
        x: its input.
        outer: the input of the residual connection around it, or None.
        end: its output.
        nodes: all of them.
        convolutions: in order.
        slope, scale, outer_scale: as in ``DenseBlock``.
    """

    x: ir.Value
    outer: ir.Value | None
    end: ir.Value
    nodes: list[ir.Node]
    convolutions: list[ir.Node]
    slope: float
    scale: float
    outer_scale: float


def find_tail(convolution: ir.Node, taken: Set[ir.Node], ready: Set[ir.Value]) -> Tail:
    """The longest chain of nodes after a convolution that ``FusedConv`` computes.

    Args:
        convolution: a Conv or ConvTranspose.
        taken: nodes of other fused nodes.
        ready: values that are computed before the convolution; a style must be one of them.
    """
    return _TailFinder(convolution, taken, ready).tail


def find_dense_block(first: ir.Node, taken: Set[ir.Node]) -> DenseBlockNodes | None:
    """The residual dense block that begins with this convolution."""
    x = first.inputs[0]
    slope = _slope(only_reader(first.outputs[0]))
    if x is None or not slope or not _is_plain_3x3(first):
        return None
    nodes, convolutions = [first], [first]
    features = [x]
    activation = only_reader(first.outputs[0])
    while activation is not None:
        nodes.append(activation)
        features.append(activation.outputs[0])
        concat = next((use.node for use in features[-1].uses() if is_op(use.node, "Concat")
                       and list(use.node.inputs) == features and integer(use.node, "axis") == 1), None)
        convolution = None if concat is None else only_reader(concat.outputs[0])
        if concat is None or convolution is None or not _is_plain_3x3(convolution):
            return None
        nodes += [concat, convolution]
        convolutions.append(convolution)
        activation = only_reader(convolution.outputs[0])
        found = _slope(activation)
        if found is None:
            break
        if found != slope:
            return None
    step = _find_residual(convolutions[-1].outputs[0])
    if step is None or step.other is not x:
        return None
    nodes += step.nodes
    inside = set(nodes)
    if taken & inside or any(use.node not in inside for value in features[1:] for use in value.uses()):
        return None
    growth = {sizes(value)[1] for value in features[1:]}
    if len(growth) != 1:
        return None
    end, outer, outer_scale = nodes[-1].outputs[0], None, 1.0
    around = _find_residual(end)
    if around is not None and not taken & set(around.nodes):
        nodes += around.nodes
        end, outer, outer_scale = nodes[-1].outputs[0], around.other, around.factor
    return DenseBlockNodes(x, outer, end, nodes, convolutions, slope, step.factor, outer_scale)


class _TailFinder:
    """Takes the nodes after a convolution, one by one."""

    def __init__(self, convolution: ir.Node, taken: Set[ir.Node], ready: Set[ir.Value]) -> None:
        self.tail = tail = Tail(convolution.outputs[0])
        self.taken = taken
        bias = constant(convolution.inputs[2]) if len(convolution.inputs) > 2 else None
        if bias is not None and bias.any():
            tail.biases.append(bias)
        node = self._following()
        if is_own_op(node, "DemodBiasAct") and node.inputs[0] is tail.end and not tail.biases:
            self._take_demod_bias_act(node)
        else:
            self._take_sum()
            self._take_activation()
        if tail.style is None:
            self._take_residual()
            self._take_outer()
            self._take_style(ready)

    def _following(self) -> ir.Node | None:
        node = only_reader(self.tail.end)
        return None if node in self.taken else node

    def _take(self, *nodes: ir.Node) -> None:
        self.tail.nodes.extend(nodes)
        self.tail.end = nodes[-1].outputs[-1]

    def _take_demod_bias_act(self, node: ir.Node) -> None:
        tail = self.tail
        _, tail.demodulation, tail.noise, bias, tail.style = (*node.inputs, *(None,) * 4)[:5]
        array = constant(bias)
        if array is not None:
            tail.biases.append(array)
        tail.slope, tail.gain = number(node, "slope", 0.2), number(node, "gain", 1)
        tail.clamp = number(node, "clamp", 0)
        if tail.style is not None and len(node.outputs) == 2:
            tail.plain = node.outputs[0]
        self._take(node)

    def _take_sum(self) -> None:
        """Demodulation, noise, biases, and a residual if an activation follows."""
        tail = self.tail
        while is_op(node := self._following(), "Mul", "Add") and is_map(node.outputs[0]):
            other = other_input(node, tail.end)
            array = constant(other)
            if is_op(node, "Mul"):
                if tail.demodulation is not None or tail.noise is not None or tail.biases or not (
                        is_vector(other) and len(sizes(other)) == 4):
                    return
                tail.demodulation = other
            elif array is not None and (channels := _per_channel(array, sizes(tail.end)[1])) is not None:
                tail.biases.append(channels)
            elif tail.noise is None and _is_noise(other, tail.end):
                tail.noise = other
            elif tail.residual is None and _is_like(other, tail.end) and _slope(
                    only_reader(node.outputs[0])) is not None:
                tail.residual, tail.residual_first = other, True
            else:
                return
            self._take(node)

    def _take_activation(self) -> None:
        tail = self.tail
        node = self._following()
        slope = _slope(node)
        if node is None or slope is None:
            return
        tail.slope = slope
        self._take(node)
        while is_op(node := self._following(), "Mul") and (gain := scalar(other_input(node, tail.end)) or 0) > 0:
            tail.gain *= gain
            self._take(node)

    def _take_residual(self) -> None:
        step = None if self.tail.residual is not None else self._residual()
        if step is not None:
            self.tail.residual, self.tail.scale = step

    def _take_outer(self) -> None:
        step = None if self.tail.residual is None else self._residual()
        if step is not None:
            self.tail.outer, self.tail.outer_scale = step

    def _residual(self) -> tuple[ir.Value, float] | None:
        step = _find_residual(self.tail.end)
        if step is None or self.taken & set(step.nodes):
            return None
        self._take(*step.nodes)
        return step.other, step.factor

    def _take_style(self, ready: Set[ir.Value]) -> None:
        node = self._following()
        if is_op(node, "Mul") and is_map(node.outputs[0]):
            style = other_input(node, self.tail.end)
            if is_vector(style) and len(sizes(style)) == 4 and style in ready:
                self.tail.style = style
                self._take(node)


class _Residual(NamedTuple):
    """``other + factor * value``."""

    nodes: list[ir.Node]
    other: ir.Value
    factor: float


def _find_residual(value: ir.Value) -> _Residual | None:
    """The addition of another map to a value, perhaps after a factor."""
    node, factor = only_reader(value), 1.0
    nodes: list[ir.Node] = []
    if is_op(node, "Mul") and (found := scalar(other_input(node, value))) is not None:
        factor, nodes, value = found, [node], node.outputs[0]
        node = only_reader(value)
    if is_op(node, "Sub") and node.inputs[1] is value:
        factor = -factor
    elif not is_op(node, "Add"):
        return None
    other = other_input(node, value)
    return _Residual([*nodes, node], other, factor) if _is_like(other, value) else None


def _is_plain_3x3(node: ir.Node | None) -> bool:
    return is_op(node, "Conv") and (
        integers(node, "kernel_shape") == (3, 3) and integers(node, "pads") == (1, 1, 1, 1)
        and integers(node, "strides", (1, 1)) == (1, 1) and integer(node, "group", 1) == 1
        and integers(node, "dilations", (1, 1)) == (1, 1))


def _slope(node: ir.Node | None) -> float | None:
    """The slope of a leaky ReLU or ReLU."""
    if is_op(node, "Relu"):
        return 0.0
    return number(node, "alpha", 0.01) if is_op(node, "LeakyRelu") else None


def _per_channel(array: np.ndarray, channels: int | None) -> np.ndarray | None:
    """``[C, 1, 1]`` or ``[1, C, 1, 1]`` as ``[C]``."""
    shape = array.shape[1:] if array.ndim == 4 and array.shape[0] == 1 else array.shape
    if len(shape) == 3 and shape[0] == channels and shape[1:] == (1, 1):
        return array.reshape(-1)
    return np.full(channels or 1, array.item()) if array.size == 1 else None


def _is_noise(other: ir.Value, value: ir.Value) -> bool:
    """True for ``[1 or B, 1, H, W]``, also without its first dimensions of one."""
    shape, wanted = sizes(other), sizes(value)
    array = constant(other)
    if array is not None:
        return array.shape[-2:] == wanted[2:] and array.size == array.shape[-1] * array.shape[-2]
    return len(shape) == 4 and shape[1:] == (1, *wanted[2:])


def _is_like(other: ir.Value, value: ir.Value) -> bool:
    """True for another map of the same size, for every picture."""
    return constant(other) is None and is_map(value) and sizes(other) == sizes(value) and other is not value
