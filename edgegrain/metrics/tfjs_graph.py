"""Convert a TensorFlow.js graph model to ONNX.

Supports the operations of MobileFace and no others. Every operation keeps its channels-last layout; convolutions are
transposed before and after, which ONNX Runtime removes where two meet. A test compares a graph with TensorFlow.js.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from codec_contract.errors import ModelError

OPSET, IR_VERSION = 17, 8
Array = npt.NDArray[np.generic]

# Operation -> ONNX's with the same inputs.
_SAME = {"AddV2": "Add", "Sub": "Sub", "Mul": "Mul", "Maximum": "Max", "Minimum": "Min", "MatMul": "MatMul"}
_CONV, _DEPTHWISE = "Conv2D", "DepthwiseConv2dNative"


def to_onnx(model: Mapping[str, Any], weights: bytes, output: str) -> onnx.ModelProto:
    """The ONNX model of a ``model.json`` and its weight file, from the graph's input, in batches of any size, to the
    value ``[B, D]`` of the node ``output``."""
    return _Graph(read_weights(model, weights)).convert(model, output)


def read_weights(model: Mapping[str, Any], weights: bytes) -> dict[str, Array]:
    """Name -> array of all weights, float32 or int32."""
    found: dict[str, Array] = {}
    offset = 0
    for entry in (entry for group in model["weightsManifest"] for entry in group["weights"]):
        name, shape = entry["name"], entry["shape"]
        if "quantization" in entry or entry["dtype"] not in ("float32", "int32"):
            raise ModelError(f"weight {name} is quantized or {entry['dtype']}; expected plain float32 or int32")
        stored, count = np.dtype(entry["dtype"]).newbyteorder("<"), int(np.prod(shape, dtype=np.int64))
        if offset + count * stored.itemsize > len(weights):
            raise ModelError(f"the weight file ends after {len(weights)} bytes, inside {name}")
        found[name] = np.frombuffer(weights, stored, count, offset).reshape(shape)
        offset += count * stored.itemsize
    return found


class _Graph:
    """Nodes and constants of the ONNX graph under construction."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Array] = {}

    def convert(self, model: Mapping[str, Any], output: str) -> onnx.ModelProto:
        inputs = []
        for node in model["modelTopology"]["node"]:
            name, op = node["name"], node["op"]
            if op == "Placeholder":
                sides = [int(dim["size"]) for dim in node["attr"]["shape"]["shape"]["dim"]]
                inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *sides[1:]]))
            elif op == "Const":
                self._constants[name] = self._weights[name]
            else:
                self._operation(node)
        used = {name for node in self._nodes for name in node.input}
        graph = helper.make_graph(
            self._nodes, "tfjs", inputs, [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["B", "D"])],
            [numpy_helper.from_array(np.ascontiguousarray(array), name)
             for name, array in self._constants.items() if name in used])
        converted = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(converted, full_check=True)
        return converted

    def _operation(self, node: Mapping[str, Any]) -> None:
        name, op, inputs = node["name"], node["op"], node["input"]
        if op in _SAME:
            self._add(_SAME[op], inputs, name)
        elif op in (_CONV, _DEPTHWISE):
            self._convolution(node)
        elif op == "Pad":
            sides = self._weights[inputs[1]]  # [4, 2]: before and after each axis
            self._add("Pad", [inputs[0], self._constant(f"{name}/sides", sides.T.flatten())], name)
        elif op == "Reshape":
            self._add("Reshape", [inputs[0], self._constant(f"{name}/shape", self._weights[inputs[1]])], name)
        else:
            known = ", ".join([*_SAME, _CONV, _DEPTHWISE, "Pad", "Reshape"])
            raise ModelError(f"operation {op} of node {name} is not supported; expected one of {known}")

    def _convolution(self, node: Mapping[str, Any]) -> None:
        name, attributes = node["name"], node["attr"]
        padding, layout = (base64.b64decode(attributes[key]["s"]).decode() for key in ("padding", "data_format"))
        strides, dilations = ([int(step) for step in attributes[key]["list"]["i"]] for key in ("strides", "dilations"))
        if padding not in ("SAME", "VALID") or layout != "NHWC" or dilations != [1] * 4:
            raise ModelError(f"convolution {name} with padding {padding}, layout {layout} and dilations {dilations} is "
                             "not supported")
        kernel, groups = self._weights[node["input"][1]], 1
        if node["op"] == _DEPTHWISE:  # [H, W, C, M], M outputs of each channel
            groups = kernel.shape[2]
            kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
        first = self._add("Transpose", node["input"][:1], f"{name}/channels_first", perm=[0, 3, 1, 2])
        kernel_name = self._constant(f"{name}/kernel", kernel.transpose(3, 2, 0, 1))
        x = self._add("Conv", [first, kernel_name], f"{name}/convolution", strides=strides[1:3], group=groups,
                      auto_pad="SAME_UPPER" if padding == "SAME" else "VALID")
        self._add("Transpose", [x], name, perm=[0, 2, 3, 1])

    def _add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def _constant(self, name: str, array: Array) -> str:
        self._constants[name] = array.astype(np.int64) if array.dtype.kind == "i" else array
        return name
