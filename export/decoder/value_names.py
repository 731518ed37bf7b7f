"""Renaming the values of an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping

import onnx


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
