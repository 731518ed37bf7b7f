"""The styles of a generator in few nodes: one matrix product from the code predictor's features to a style, and one
``ModulationFactors`` for what a modulated convolution derives from it.

A code is an affine function of a branch's features, a style one of its code; their product is computed here, in
float64. In a predictor whose features are no wider than a code that also saves work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer

from export.decoder.batch_views import initializer
from export.decoder.graph_values import (
    constant,
    integer,
    integers,
    is_op,
    number,
    only_reader,
    other_input,
    scalar,
    sizes,
)
from server_decoder.cuda_ops.fused_ops import VERSION
from server_decoder.cuda_ops.library import DOMAIN


@dataclass(frozen=True)
class _Affine:
    """``base @ matrix.T + offset``."""

    base: ir.Value
    matrix: np.ndarray
    offset: np.ndarray


def merge_styles(model: ir.Model) -> None:
    """Replace chains of affine functions of ``[B, C]`` by one Gemm, and the factors of styles by one node each."""
    _merge_affine(model)
    onnxscript.optimizer.remove_unused_nodes(model)
    _merge_factors(model)
    onnxscript.optimizer.remove_unused_nodes(model)


def _merge_affine(model: ir.Model) -> None:
    known: dict[ir.Value, _Affine | None] = {}
    for node in list(model.graph):
        value = node.outputs[0]
        found = known[value] = _affine(node, known)
        if found is None or (is_op(node, "Gemm") and node.inputs[0] is found.base):
            continue
        inputs = [found.base, *(initializer(model.graph, array.astype(np.float32), f"{value.name}.{part}")
                                for part, array in (("matrix", found.matrix), ("offset", found.offset)))]
        merged = ir.node("Gemm", inputs, {"transB": 1})
        _replace(model.graph, node, value, merged, 0)
        known[merged.outputs[0]] = found


def _affine(node: ir.Node, known: dict[ir.Value, _Affine | None]) -> _Affine | None:
    value = node.outputs[0]
    if node.domain or len(sizes(value)) != 2:
        return None
    match node.op_type:
        case "Gemm":
            return _gemm(node, known)
        case "Mul" | "Add":
            return _pointwise(node, known)
        case "Tile":
            below, repeats = known.get(node.inputs[0]), constant(node.inputs[1])
            if below is not None and repeats is not None and repeats[0] == 1:
                count = int(repeats[1])
                return _Affine(below.base, np.tile(below.matrix, (count, 1)), np.tile(below.offset, count))
        case "Expand":
            shape = constant(node.inputs[1])
            return known.get(node.inputs[0]) if shape is not None and set(shape.tolist()) == {1} else None
        case "Gather":
            index = constant(node.inputs[1])
            if index is not None and index.ndim == 0 and integer(node, "axis") == 1:
                return _code(node.inputs[0], int(index), known)
    return None


def _gemm(node: ir.Node, known: dict[ir.Value, _Affine | None]) -> _Affine | None:
    x, matrix = node.inputs[0], constant(node.inputs[1])
    offset = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
    if matrix is None or offset is None or integer(node, "transA") or not integer(node, "transB") or (
            number(node, "alpha", 1) != 1 or number(node, "beta", 1) != 1):
        return None
    wide = matrix.astype(np.float64)
    full = np.broadcast_to(offset.astype(np.float64).reshape(-1), len(wide))
    below = known.get(x)
    if below is None or below.matrix.shape[1] > below.matrix.shape[0]:
        return _Affine(x, wide, full)
    return _Affine(below.base, wide @ below.matrix, wide @ below.offset + full)


def _pointwise(node: ir.Node, known: dict[ir.Value, _Affine | None]) -> _Affine | None:
    for value in node.inputs:
        below, factor = known.get(value), constant(other_input(node, value))
        if below is None or factor is None or factor.size not in (1, len(below.offset)):
            continue
        full = np.broadcast_to(factor.astype(np.float64).reshape(-1), len(below.offset))
        if node.op_type == "Add":
            return _Affine(below.base, below.matrix, below.offset + full)
        return _Affine(below.base, below.matrix * full[:, None], below.offset * full)
    return None


def _code(codes: ir.Value, index: int, known: dict[ir.Value, _Affine | None]) -> _Affine | None:
    """Code ``index`` of ``[B, L, code_width]``: stacked codes, perhaps with an added mean code."""
    node = codes.producer()
    if is_op(node, "Add"):
        for value in node.inputs:
            mean = constant(other_input(node, value))
            if mean is None or mean.ndim != 1:
                continue
            if (below := _code(value, index, known)) is not None:
                return _Affine(below.base, below.matrix, below.offset + mean.astype(np.float64))
    if is_op(node, "Concat") and integer(node, "axis") == 1:
        part = node.inputs[index].producer()
        if is_op(part, "Unsqueeze") and _axes(part) == (1,):
            return known.get(part.inputs[0])
    if is_op(node, "Reshape") and len(sizes(node.inputs[0])) == 2:
        below, width = known.get(node.inputs[0]), sizes(codes)[2]
        if below is not None and width is not None:
            rows = slice(index * width, (index + 1) * width)
            return _Affine(below.base, below.matrix[rows], below.offset[rows])
    return None


def _axes(node: ir.Node) -> tuple[int, ...]:
    array = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return integers(node, "axes") if array is None else tuple(int(axis) for axis in array.reshape(-1))


def _merge_factors(model: ir.Model) -> None:
    for node in list(model.graph):
        if is_op(node, "Abs") and len(sizes(node.inputs[0])) == 2:
            _merge_normalized(model, node)
    for node in list(model.graph):
        if is_op(node, "Pow") and len(sizes(node.inputs[0])) == 2 and (found := _demodulation(node)):
            squares, root, epsilon = found
            style = node.inputs[0]
            assert style is not None  # Pow has it
            factors = _factors(model, style, squares, None, epsilon, root)
            _replace(model.graph, root, root.outputs[0], factors, 1)


def _merge_normalized(model: ir.Model, magnitude: ir.Node) -> None:
    """Merge what `server_decoder.cuda_ops.half.normalized_style` and the layers make of one style."""
    style = magnitude.inputs[0]
    largest = only_reader(magnitude.outputs[0])
    clip = only_reader(largest.outputs[0]) if is_op(largest, "ReduceMax") else None
    if style is None or not is_op(clip, "Clip"):
        return
    peak = clip.outputs[0]
    readers = [use.node for use in peak.uses()]
    divided = [reader for reader in readers if is_op(reader, "Div") and reader.inputs[0] is style]
    gains = [reader for reader in readers if is_op(reader, "Mul")]
    if len(divided) != 1 or len(gains) > 1 or len(readers) != 1 + len(gains):
        return
    if not gains:  # a peak is always multiplied back
        return
    squares: np.ndarray | None = None
    epsilon, last = 0.0, gains[0]
    factor = other_input(last, peak)
    norm = constant(factor)
    if norm is None:
        found = next((found for use in style.uses() if is_op(use.node, "Pow")
                      and (found := _demodulation(use.node)) and found[1] is factor.producer()), None)
        if found is None:
            return
        squares, _, epsilon = found
        norm = np.ones(len(squares))
    following = only_reader(last.outputs[0])
    if is_op(following, "Mul") and (more := constant(other_input(following, last.outputs[0]))) is not None:
        norm, last = norm * more, following
    norm = norm.reshape(-1)
    factors = _factors(model, style, squares, norm, epsilon, divided[0])
    _replace(model.graph, divided[0], divided[0].outputs[0], factors, 0)
    _replace(model.graph, last, last.outputs[0], factors, 1)


def _demodulation(power: ir.Node) -> tuple[np.ndarray, ir.Node, float] | None:
    """``rsqrt(style^2 @ squares + epsilon)``: the squares ``[O, C]``, its last node, epsilon."""
    if scalar(power.inputs[1]) != 2:
        return None
    product = only_reader(power.outputs[0])  # `_merge_affine` gave it the epsilon
    if not is_op(product, "Gemm") or len(product.inputs) < 3 or not integer(product, "transB"):
        return None
    squares, offset = constant(product.inputs[1]), constant(product.inputs[2])
    if squares is None or offset is None or np.ptp(offset) != 0:
        return None
    epsilon, root = float(offset.flat[0]), only_reader(product.outputs[0])
    inverse = only_reader(root.outputs[0]) if is_op(root, "Sqrt") else None
    return (squares, inverse, epsilon) if is_op(inverse, "Reciprocal") else None


def _factors(model: ir.Model, style: ir.Value, squares: np.ndarray | None, norm: np.ndarray | None, epsilon: float,
             before: ir.Node) -> ir.Node:
    name = before.outputs[0].name
    inputs = [style, None if squares is None else initializer(
        model.graph, np.ascontiguousarray(squares.T, np.float32), f"{name}.squares")]
    attributes: dict[str, int | float] = {"demodulate": int(squares is not None), "normalize": int(norm is not None)}
    if squares is not None:
        attributes["epsilon"] = epsilon
    if norm is not None:
        inputs.append(initializer(model.graph, norm.astype(np.float32)[None], f"{name}.norm"))
    node = ir.node("ModulationFactors", inputs, attributes, domain=DOMAIN, num_outputs=2, version=VERSION)
    producer = style.producer()
    if producer is None:
        model.graph.insert_before(before, node)
    else:
        model.graph.insert_after(producer, node)
    node.outputs[0].shape = style.shape
    node.outputs[0].type = node.outputs[1].type = style.type
    return node


def _replace(graph: ir.Graph, node: ir.Node, value: ir.Value, by: ir.Node, index: int) -> None:
    """Let all readers of ``value``, an output of ``node``, read an output of ``by`` instead."""
    if by.graph is None:
        graph.insert_before(node, by)
    result = by.outputs[index]
    result.shape, result.type = value.shape, value.type
    value.replace_all_uses_with(result)
