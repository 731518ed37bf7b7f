"""The nodes around a convolution that one ``FusedConv`` or ``DenseBlock`` computes, found in a graph of NCHW maps."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

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
    tail = Tail(convolution.outputs[0])
    own_bias = constant(convolution.inputs[2]) if len(convolution.inputs) > 2 else None
    if own_bias is not None and own_bias.any():
        tail.biases.append(own_bias)

    def following() -> ir.Node | None:
        node = only_reader(tail.end)
        return None if node in taken else node

    def take(node: ir.Node) -> None:
        tail.nodes.append(node)
        tail.end = node.outputs[-1]

    node = following()
    if is_own_op(node, "DemodBiasAct") and node.inputs[0] is tail.end and not tail.biases:
        _take_demod_bias_act(tail, node)
        if tail.style is not None:
            return tail
    else:
        _take_linear(tail, following, take)
    _take_residuals(tail, following, take)
    node = following()
    if is_op(node, "Mul") and is_vector(style := other_input(node, tail.end)) and len(sizes(style)) == 4 and (
            style in ready and is_map(node.outputs[0])):
        tail.style = style
        take(node)
    return tail


def _take_demod_bias_act(tail: Tail, node: ir.Node) -> None:
    _, demodulation, noise, bias, style = (*node.inputs, *(None,) * 4)[:5]
    tail.nodes.append(node)
    tail.demodulation, tail.noise, tail.style = demodulation, noise, style
    array = constant(bias)
    if array is not None:
        tail.biases.append(array)
    tail.slope, tail.gain, tail.clamp = number(node, "slope", 0.2), number(node, "gain", 1), number(node, "clamp", 0)
    tail.end = node.outputs[-1]
    if style is not None and len(node.outputs) == 2:
        tail.plain = node.outputs[0]


def _take_linear(tail: Tail, following, take) -> None:  # type: ignore[no-untyped-def]
    """Demodulation, noise, bias, a residual before the activation, and the activation."""
    while node := following():
        if len(node.inputs) == 2 and not is_map(node.outputs[0]):
            return
        if is_op(node, "Mul") and tail.demodulation is None and tail.noise is None and not tail.biases and (
                is_vector(factor := other_input(node, tail.end)) and len(sizes(factor)) == 4):
            tail.demodulation = factor
        elif is_op(node, "Add"):
            other = other_input(node, tail.end)
            array = constant(other)
            if array is not None and (channels := _per_channel(array, sizes(tail.end)[1])) is not None:
                tail.biases.append(channels)
            elif tail.noise is None and _is_noise(other, tail.end):
                tail.noise = other
            elif _is_like(other, tail.end) and _activation(only_reader(node.outputs[0])) is not None:
                tail.residual, tail.residual_first = other, True
            else:
                return
        elif (slope := _activation(node)) is not None:
            tail.slope = slope
            take(node)
            while is_op(following := following_node(tail), "Mul") and (
                    (gain := scalar(other_input(following, tail.end))) is not None and gain > 0):
                tail.gain *= gain
                take(following)
            return
        else:
            return
        take(node)


def following_node(tail: Tail) -> ir.Node | None:
    """The only reader of a tail's last value."""
    return only_reader(tail.end)


def _take_residuals(tail: Tail, following, take) -> None:  # type: ignore[no-untyped-def]
    """A factor and an addition of another map, twice."""
    for outer in (False, True):
        if (tail.residual is not None and not outer) or (outer and tail.residual is None):
            continue
        step = _residual(tail.end, following)
        if step is None:
            return
        nodes, other, factor = step
        for node in nodes:
            take(node)
        if not outer:
            tail.residual, tail.scale = other, factor
        elif tail.residual_first:
            return
        else:
            tail.outer, tail.outer_scale = other, factor


def _residual(value: ir.Value, following) -> tuple[list[ir.Node], ir.Value, float] | None:  # type: ignore[no-untyped-def]
    """``other + factor * value``: its nodes, the other value and the factor."""
    node, factor, nodes = following(), 1.0, []
    if is_op(node, "Mul") and (found := scalar(other_input(node, value))) is not None:
        factor, nodes, value = found, [node], node.outputs[0]
        node = only_reader(value)
    if is_op(node, "Sub") and node.inputs[1] is value:
        factor = -factor
    elif not is_op(node, "Add"):
        return None
    other = other_input(node, value)
    return ([*nodes, node], other, factor) if _is_like(other, value) else None


def find_dense_block(first: ir.Node, taken: Set[ir.Node]) -> DenseBlockNodes | None:
    """The residual dense block that begins with this convolution."""
    x = first.inputs[0]
    slope = _activation(only_reader(first.outputs[0]))
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
        found = _activation(activation)
        if found is None:
            break
        if found != slope:
            return None
    step = _residual(convolutions[-1].outputs[0], lambda: only_reader(convolutions[-1].outputs[0]))
    if step is None or step[1] is not x:
        return None
    nodes += step[0]
    inside = set(nodes)
    if taken & inside or any(use.node not in inside for value in features[1:] for use in value.uses()):
        return None
    growth = {sizes(value)[1] for value in features[1:]}
    if len(growth) != 1:
        return None
    end, outer, outer_scale = nodes[-1].outputs[0], None, 1.0
    around = _residual(end, lambda: only_reader(end))
    if around is not None and not taken & set(around[0]):
        nodes += around[0]
        end, outer, outer_scale = nodes[-1].outputs[0], around[1], around[2]
    return DenseBlockNodes(x, outer, end, nodes, convolutions, slope, step[2], outer_scale)


def _is_plain_3x3(node: ir.Node | None) -> bool:
    return is_op(node, "Conv") and (
        integers(node, "kernel_shape") == (3, 3) and integers(node, "pads") == (1, 1, 1, 1)
        and integers(node, "strides", (1, 1)) == (1, 1) and integer(node, "group", 1) == 1
        and integers(node, "dilations", (1, 1)) == (1, 1))


def _activation(node: ir.Node | None) -> float | None:
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
