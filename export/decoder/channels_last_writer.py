"""The graph that `export.decoder.channels_last` writes: its nodes, constants, and the forms of the source's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from export.decoder.graph_values import constant, is_vector, sizes
from server_decoder.cuda_ops.fused_ops import VERSION
from server_decoder.cuda_ops.library import DOMAIN

Attributes = dict[str, Any]
Shape = Sequence[int | ir.SymbolicDim | None]


class ChannelsLastWriter:
    """Writes the nodes of a new graph, and maps the values of the source graph to values of the new one.

    Attributes:
        graph: the new graph.
        forms: value of the source -> form -> value of the new graph. Forms are ``first``, the exported shape (maps
            channels-first); ``last``, a channels-last map; ``vector``, one number per picture and channel, ``[B, C]``.
    """

    def __init__(self, opset: int) -> None:
        self.graph = ir.Graph([], [], nodes=[], name="decoder", opset_imports={"": opset, DOMAIN: VERSION})
        self.forms: dict[ir.Value, dict[str, ir.Value]] = {}
        self._names: set[str] = set()

    def get(self, value: ir.Value, form: str) -> ir.Value:
        """A value of the source in one of its forms."""
        array = constant(value)
        forms = self.forms.setdefault(value, {})
        if form in forms:
            return forms[form]
        if array is not None:
            if form == "last":
                array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
            elif form == "vector":
                array = array.reshape(array.shape[:2])
            forms[form] = self.constant(array, value.name)
            return forms[form]
        if form == "first" and is_vector(value):
            found = self.get(value, "vector")
            forms[form] = found if len(sizes(value)) == 2 else self.reshape(found, value.shape)
        elif form == "vector":
            found = forms.get("first") or forms.get("last")
            forms[form] = found if len(sizes(value)) == 2 else self.reshape(found, value.shape[:2])
        elif is_vector(value):
            found = forms.get("vector") or forms["first"]
            forms[form] = self.reshape(found, last_shape(value))
        elif sizes(value)[1] == 1:  # a transpose of one channel moves nothing
            forms[form] = self.reshape(next(iter(forms.values())), last_shape(value) if form == "last"
                                       else value.shape)
        elif form == "last":
            forms[form] = self.node("Transpose", [forms["first"]], {"perm": [0, 2, 3, 1]}, last_shape(value),
                                    value.dtype)
        else:
            forms[form] = self.node("Transpose", [forms["last"]], {"perm": [0, 3, 1, 2]}, value.shape, value.dtype)
        return forms[form]

    def set(self, value: ir.Value, form: str, new: ir.Value) -> None:
        """Record the new graph's value for a value of the source in one of its forms."""
        self.forms.setdefault(value, {})[form] = new

    def noise(self, value: ir.Value) -> ir.Value:
        """``[1 or B, H, W, 1]``."""
        array = constant(value)
        if array is None:
            return self.get(value, "last")
        return self.constant(array.reshape(1, *array.shape[-2:], 1), value.name)

    def constant(self, array: np.ndarray, name: str | None) -> ir.Value:
        """An initializer; equal arrays of one name are one initializer."""
        unique = base = name or "constant"
        count = 0
        while unique in self._names:
            held = self.graph.initializers[unique].const_value.numpy()
            if held.dtype == array.dtype and held.shape == array.shape and np.array_equal(held, array):
                return self.graph.initializers[unique]
            count += 1
            unique = f"{base}.{count}"
        self._names.add(unique)
        tensor = ir.tensor(np.ascontiguousarray(array) if array.ndim else array, name=unique)
        value = ir.Value(name=unique, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def reshape(self, value: ir.Value, shape: Shape) -> ir.Value:
        """``value`` in a shape with at most one unknown size."""
        wanted = np.array([size if isinstance(size, int) else -1 for size in shape], np.int64)
        name = "shape." + ".".join(str(size) for size in wanted)
        return self.node("Reshape", [value, self.constant(wanted, name)], {}, shape, value.dtype)

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """``value`` in another type."""
        return self.node("Cast", [value], {"to": int(dtype)}, value.shape, dtype)

    def node(self, name: str, inputs: Sequence[ir.Value | None], attributes: Attributes, shape: Shape,
             dtype: ir.DataType, domain: str = "") -> ir.Value:
        """Append a node; returns its only output, of this shape and type."""
        new = ir.node(name, inputs, attributes, domain=domain, version=VERSION if domain else None)
        self.graph.append(new)
        return described(new.outputs[0], shape, dtype)

    def own(self, name: str, inputs: Sequence[ir.Value | None], attributes: Attributes, shape: Shape,
            dtype: ir.DataType) -> ir.Value:
        """`node` of an op of ``com.edgegrain``."""
        return self.node(name, inputs, attributes, shape, dtype, DOMAIN)

    def name_values(self) -> None:
        """Name values after those of the source, where they are the same."""
        names = {new: value.name for value, forms in self.forms.items() for new in forms.values()}
        used = {value.name for value in (*self.graph.inputs, *self.graph.outputs, *self.graph.initializers.values())}
        for index, node in enumerate(self.graph):
            for place, value in enumerate(node.outputs):
                if not value.is_graph_output():
                    name = names.get(value)
                    value.name = name if name and name not in used else f"{node.op_type}.{index}.{place}"
                    used.add(value.name)


def shape_of(value: ir.Value, form: str) -> Shape:
    """The shape of a value of the source in one of its forms."""
    return last_shape(value) if form == "last" else value.shape[:2] if form == "vector" else value.shape


def last_shape(value: ir.Value) -> list[int | ir.SymbolicDim | None]:
    """The shape of a map channels-last, ``[B, H, W, C]``."""
    batch, channels, height, width = value.shape
    return [batch, height, width, channels]


def described(value: ir.Value, shape: Shape | None, dtype: ir.DataType | None) -> ir.Value:
    """``value`` with this shape and type; None for unknown ones."""
    value.shape = None if shape is None else ir.Shape(list(shape))
    value.type = None if dtype is None else ir.TensorType(dtype)
    return value
