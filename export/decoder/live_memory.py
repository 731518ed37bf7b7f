"""The memory that the values of an ONNX graph need, from their shapes and lifetimes."""

from __future__ import annotations

import math

import onnx


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of a graph's weights as float32, the type that they are computed in."""
    return sum(4 * math.prod(tensor.dims) for tensor in model.graph.initializer)


def largest_live_bytes(model: onnx.ModelProto) -> int:
    """Bytes of the values that exist at the same time, at most, when the nodes run in the graph's order.

    Weights are not counted, and neither is what is computed from weights alone, as float32 from stored int8: it is
    computed once, and `weight_bytes` counts it. Dimensions that the graph leaves open count as 1, values without a
    known shape as nothing.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    weights = {tensor.name for tensor in graph.initializer} - {value.name for value in graph.input}
    for node in graph.node:
        if node.input and weights.issuperset(filter(None, node.input)):
            weights.update(node.output)
    sizes = {value.name: _size(value) for value in [*graph.input, *graph.value_info, *graph.output]
             if value.name not in weights}
    last = {name: index for index, node in enumerate(graph.node) for name in node.input}
    live = largest = sum(sizes.get(value.name, 0) for value in graph.input)
    for index, node in enumerate(graph.node):
        live += sum(sizes.get(name, 0) for name in node.output)
        largest = max(largest, live)
        live -= sum(sizes.get(name, 0) for name in set(node.input) if last[name] == index)
        live -= sum(sizes.get(name, 0) for name in node.output if name not in last)
    return largest


def _size(value: onnx.ValueInfoProto) -> int:
    tensor = value.type.tensor_type
    width = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize if tensor.elem_type else 0
    return width * math.prod(
        dimension.dim_value if dimension.HasField("dim_value") else 1 for dimension in tensor.shape.dim)
