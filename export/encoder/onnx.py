"""The encoder as ONNX: ``image`` uint8 ``[N, hr, hr, 3]`` in, ``lr`` uint8 ``[N, lr, lr, 3]`` out, any N.

Written with ONNX's own helpers, so no converter can change a number between the graph and the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_encoder.integer_network import INPUT
from export.encoder import graph as g
from export.encoder.graph import OUTPUT, EncoderGraph, int8_parts


def onnx_model(graph: EncoderGraph, *, batch: int | str = "n", int8: bool = True) -> onnx.ModelProto:
    """The model, with a transposition at both ends, for ``batch`` pictures (a number, or the name of any).

    With ``int8`` weights are stored as int8 where that is exact.
    """
    writer = _Writer(int8)
    planes = writer.op("Transpose", [INPUT], f"{INPUT}.planes", perm=[0, 3, 1, 2])
    names = {INPUT: writer.op("Cast", [planes], f"{INPUT}.float", to=TensorProto.FLOAT)}
    for node in graph.nodes:
        names[node.name] = writer.node(node, [names[source] for source in node.inputs])
    last = writer.op("Cast", [names[graph.nodes[-1].name]], f"{OUTPUT}.planes", to=TensorProto.UINT8)
    writer.op("Transpose", [last], OUTPUT, perm=[0, 2, 3, 1])
    image = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [batch, graph.hr, graph.hr, 3])
    lr = helper.make_tensor_value_info(OUTPUT, TensorProto.UINT8, [batch, graph.lr, graph.lr, 3])
    written = helper.make_graph(writer.nodes, graph.name, [image], [lr], writer.constants)
    opset = helper.make_opsetid("", 18)  # of IR version 8, which every ONNX Runtime since 1.14 reads
    model = helper.make_model(written, opset_imports=[opset], ir_version=8, producer_name="edgegrain")
    onnx.checker.check_model(model, full_check=True)
    return model


class _Writer:
    """Collects ONNX nodes and constants."""

    def __init__(self, int8: bool) -> None:
        self.int8 = int8
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._scalars: dict[float, str] = {}

    def op(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def scalar(self, value: float) -> str:
        if value not in self._scalars:
            self._scalars[value] = self.constant(f"scalar.{value:g}", np.array(value, np.float32))
        return self._scalars[value]

    def weight(self, name: str, weight: np.ndarray) -> str:
        # In a quarter of the bytes where that is exact; ONNX Runtime computes the product when it loads the file.
        parts = int8_parts(weight) if self.int8 else None
        if parts is None:
            return self.constant(name, weight)
        integers, scale = self.constant(f"{name}.int8", parts[0]), self.constant(f"{name}.scale", parts[1])
        return self.op("Mul", [self.op("Cast", [integers], f"{name}.float", to=TensorProto.FLOAT), scale], name)

    def node(self, node: g.Node, sources: list[str]) -> str:
        match node:
            case g.Conv():
                weight = self.weight(f"{node.name}.weight", node.weight)
                inputs = [*sources, weight, self.constant(f"{node.name}.bias", node.bias)]
                layout = {"strides": list(node.strides), "pads": list(node.padding), "group": node.groups}
                return self.op("Conv", inputs, node.name, kernel_shape=list(node.weight.shape[2:]), **layout)
            case g.Add() | g.Floor() | g.Sigmoid() | g.Exp():  # ONNX has the same names
                return self.op(type(node).__name__, sources, node.name)
            case g.Multiply():
                return self.op("Mul", sources, node.name)
            case g.Clip():
                return self.op("Clip", [*sources, self.scalar(0.0), self.scalar(node.high)], node.name)
            case g.Scale():
                name = f"{node.name}.scaled" if node.offset else node.name
                scaled = self.op("Mul", [*sources, self.scalar(node.factor)], name)
                return self.op("Add", [scaled, self.scalar(node.offset)], node.name) if node.offset else scaled
            case g.LeakyRelu():
                return self.op("LeakyRelu", sources, node.name, alpha=node.slope)
            case g.Concat():
                return self.op("Concat", sources, node.name, axis=1)
