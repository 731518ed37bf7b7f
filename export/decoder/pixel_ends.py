"""Quantization inside a plain graph: LRs and pictures as levels, in ONNX's own operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from codec_contract.errors import ExportError
from codec_contract.pixels import HALF_RANGE
from server_decoder.decoder_session import INPUT, OUTPUT

_HALF, _ONE, _ROUND = "pixels.half_range", "pixels.one", "pixels.half"


def add_pixel_ends(model: onnx.ModelProto, outputs: Sequence[str] = (OUTPUT,)) -> None:
    """Let the graph take ``lr`` uint8 ``[B, h, w, 3]`` and give pictures uint8 ``[B, H, W, 3]``; changed in place.

    The arithmetic is that of `codec_contract.pixels`. Levels are transposed, not values: they have fewer bytes.

    Args:
        model: the graph.
        outputs: names of the outputs that are pictures; others stay as they are.
    """
    graph = model.graph
    ends = [_find(graph.input, INPUT), *(_find(graph.output, name) for name in outputs)]
    values = {end.name: _values_of(end.name) for end in ends}
    rename_in_nodes(model, values)
    graph.initializer.extend(numpy_helper.from_array(np.array(value, np.float32), name)
                             for name, value in ((_HALF, HALF_RANGE), (_ONE, 1), (_ROUND, 0.5), ("pixels.least", 0),
                                                 ("pixels.largest", 255)))
    first = _chain(INPUT, values[INPUT], [
        ("Transpose", (), {"perm": [0, 3, 1, 2]}), ("Cast", (), {"to": TensorProto.FLOAT}), ("Div", (_HALF,), {}),
        ("Sub", (_ONE,), {})])
    nodes = [*first, *graph.node]
    for name in outputs:
        nodes += _chain(values[name], name, [
            ("Add", (_ONE,), {}), ("Mul", (_HALF,), {}), ("Add", (_ROUND,), {}), ("Floor", (), {}),
            ("Clip", ("pixels.least", "pixels.largest"), {}), ("Cast", (), {"to": TensorProto.UINT8}),
            ("Transpose", (), {"perm": [0, 2, 3, 1]})])
    del graph.node[:]
    graph.node.extend(nodes)
    for value in ends:
        batch, channels, height, width = value.type.tensor_type.shape.dim
        sides = [size.dim_param or size.dim_value for size in (batch, height, width, channels)]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.UINT8, sides))
    onnx.checker.check_model(model)


def _values_of(picture: str) -> str:
    """The name of a picture's values in [-1, 1], in a graph with pixel ends."""
    return f"{picture}.values"


def _find(values: Sequence[onnx.ValueInfoProto], name: str) -> onnx.ValueInfoProto:
    found = next((value for value in values if value.name == name), None)
    kind = None if found is None else found.type.tensor_type
    if kind is None or found is None or kind.elem_type != TensorProto.FLOAT or len(kind.shape.dim) != 4:
        raise ExportError(f"the graph has no {name!r} of float32 [batch, 3, height, width]")
    return found


def _chain(value: str, end: str, steps: Sequence[tuple[str, Sequence[str], dict[str, Any]]]) -> list[onnx.NodeProto]:
    """Nodes from one value to another."""
    nodes = []
    for number, (name, others, attributes) in enumerate(steps):
        result = end if number == len(steps) - 1 else f"{end}.{number}"
        nodes.append(helper.make_node(name, [value, *others], [result], name=f"{name}.{result}", **attributes))
        value = result
    return nodes


def rename_values(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give inputs, outputs and intermediate values of the graph other names, in place: ``names`` old -> new."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)
    rename_in_nodes(model, names)


def rename_in_nodes(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Rename values where nodes read and write them, in place; inputs and outputs of the graph keep their names."""
    for node in model.graph.node:
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                values[place] = names.get(name, name)
