"""``python -m export.face_models detector|landmarks IN.tflite OUT.onnx``: MediaPipe's face networks as small ONNX
files, for the SDK and for browsers.

They take levels instead of values, and return probabilities and positions, so that callers need no anchors. Weights are
stored as float16; the detector's TFLite file has no others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ExportError, needs_extra
from codec_contract.files import write_atomically
from codec_contract.quantization import HALF_RANGE

if TYPE_CHECKING:
    import onnx

ANCHOR_LAYERS = ((16, 2), (8, 6))
"""Cells per side, anchors per cell (Bazarevsky et al., "BlazeFace", 2019)."""
LANDMARKS = 468
"""Points of a face's mesh (Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs",
2019)."""

SOURCES = {
    "detector": "BlazeFace, back camera, by Google's MediaPipe (Apache-2.0), converted from face_detection_back.tflite",
    "landmarks": "Face Mesh by Google's MediaPipe (Apache-2.0), converted from face_landmark.tflite"}
_POINTS = 8  # centre, width and height, six points of the face
_SAME, _RELU = 0, 1  # values of TFLite's schema


def convert(kind: str, tflite: bytes) -> onnx.ModelProto:
    """One of `SOURCES` with normalization and, for the detector, anchors inside.

    Input ``image``: uint8 ``[1, side, side, 3]``, side 256 (detector) or 192 (landmarks). Outputs of the detector, one
    row per anchor: ``scores``, float32 ``[896]``, 0 to 1; ``points``, float32 ``[896, 8, 2]``, x and y in sides of the
    square: centre, width and height of the face; left and right eye, nose, mouth, left and right ear, as seen in the
    picture. Of the landmarks: ``presence``, float32 ``[1]``, 0 to 1; ``points``, float32 ``[468, 2]``.

    Raises:
        ExportError: the file is not a TFLite model, or has other operators than these networks; the extra ``export``
            is not installed.
    """
    with needs_extra("export", "converting the face networks needs", ExportError):
        from ai_edge_litert import schema_py_generated as schema
        from onnx import TensorProto, checker, helper

    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite, 0))
        layers = _Layers(model, schema)
    except Exception as error:  # the generated reader has no error of its own
        raise ExportError(f"not a TFLite model: {error}") from error
    layers.node("Cast", ["image"], "levels", to=TensorProto.FLOAT)
    outputs = {"detector": _detector, "landmarks": _landmarks}[kind](layers)
    graph = helper.make_graph(
        layers.nodes, f"face_{kind}",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, layers.side, layers.side, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        layers.initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8,
                              producer_name="edgegrain", doc_string=SOURCES[kind])
    checker.check_model(proto, full_check=True)
    return proto


def _detector(layers: _Layers) -> dict[str, list[int]]:
    """Nodes around the layers; returns the shapes of the outputs."""
    layers.node("Div", ["levels", layers.constant("half_range", np.float32(HALF_RANGE))], "unit")
    layers.node("Sub", ["unit", layers.constant("one", np.float32(1))], "values")
    layers.node("Transpose", ["values"], layers.input, perm=[0, 3, 1, 2])
    layers.convert()
    regressors, logits = layers.outputs
    anchors = _anchors()
    is_position = np.array([[1], [0]] + [[1]] * 6, np.float32)  # all but width and height
    layers.node("Reshape", [regressors, layers.constant("rows", np.array([-1, _POINTS, 2]))], "offsets")
    layers.node("Div", ["offsets", layers.constant("side", np.float32(layers.side))], "relative")
    layers.node("Mul", [layers.constant("anchors", anchors[:, None]), layers.constant("mask", is_position)], "origins")
    layers.node("Add", ["relative", "origins"], "points")
    layers.node("Reshape", [logits, layers.constant("flat", np.array([-1]))], "logits")
    layers.node("Sigmoid", ["logits"], "scores")
    return {"scores": [len(anchors)], "points": [len(anchors), _POINTS, 2]}


def _landmarks(layers: _Layers) -> dict[str, list[int]]:
    """Nodes around the layers; returns the shapes of the outputs."""
    layers.node("Div", ["levels", layers.constant("range", np.float32(255))], "values")
    layers.node("Transpose", ["values"], layers.input, perm=[0, 3, 1, 2])
    layers.convert()
    mesh, logit = layers.outputs
    layers.node("Reshape", [mesh, layers.constant("rows", np.array([LANDMARKS, 3]))], "mesh")
    axes = [layers.constant(f"{name}_xy", np.array([value])) for name, value in (("from", 0), ("to", 2), ("axis", 1))]
    layers.node("Slice", ["mesh", *axes], "pixels")  # without the depth
    layers.node("Div", ["pixels", layers.constant("side", np.float32(layers.side))], "points")
    layers.node("Reshape", [logit, layers.constant("flat", np.array([-1]))], "logits")
    layers.node("Sigmoid", ["logits"], "presence")
    return {"presence": [1], "points": [LANDMARKS, 2]}


class _Layers:
    """The operators of a TFLite model (NHWC) as ONNX nodes (NCHW)."""

    def __init__(self, model: Any, schema: Any) -> None:
        self._schema, self._graph = schema, model.subgraphs[0]
        self._names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
        self._codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
        self._data: dict[int, npt.NDArray[Any]] = {}
        for index, tensor in enumerate(self._graph.tensors):
            data = model.buffers[tensor.buffer].data
            if data is not None:
                self._data[index] = np.frombuffer(bytes(data), self._type(tensor)).reshape(tensor.shape)
        self.input = self._name(self._graph.inputs[0])
        self.side = int(self._graph.tensors[self._graph.inputs[0]].shape[1])
        self.outputs = [self._name(index) for index in self._graph.outputs]
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def convert(self) -> None:
        for operator in self._graph.operators:
            kind = self._names[self._codes[operator.opcodeIndex]]
            if kind != "DEQUANTIZE":  # weights, read where they are used
                self._convert(kind, operator)

    def _convert(self, kind: str, operator: Any) -> None:
        options, output = operator.builtinOptions, self._name(operator.outputs[0])
        first = self._name(operator.inputs[0])
        if getattr(options, "fusedActivationFunction", 0):
            raise ExportError(f"{kind} has a fused activation, which the face networks have not")
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            weights = self._weights(operator.inputs[1])
            deep = kind == "DEPTHWISE_CONV_2D"
            weights = weights.transpose((3, 0, 1, 2) if deep else (0, 3, 1, 2))
            names = [self._widened(f"{output}_{part}", value)
                     for part, value in (("weights", weights), ("bias", self._weights(operator.inputs[2])))]
            self.node("Conv", [first, *names], output, group=len(weights) if deep else 1,
                      strides=[options.strideH, options.strideW], kernel_shape=list(weights.shape[2:]),
                      auto_pad="SAME_UPPER" if options.padding == _SAME else "VALID")
        elif kind == "RELU":
            self.node("Relu", [first], output)
        elif kind == "PRELU":
            slopes = self._weights(operator.inputs[1]).reshape(-1, 1, 1)
            self.node("PRelu", [first, self._widened(f"{output}_slopes", slopes)], output)
        elif kind == "ADD":
            self.node("Add", [self._name(index) for index in operator.inputs], output)
        elif kind == "MAX_POOL_2D":
            self.node("MaxPool", [first], output, kernel_shape=[options.filterHeight, options.filterWidth],
                      strides=[options.strideH, options.strideW], auto_pad="SAME_UPPER")
        elif kind == "PAD":
            pads = self._data[operator.inputs[1]][[0, 3, 1, 2]].T.ravel()
            self.node("Pad", [first, self.constant(f"{output}_pads", pads.astype(np.int64))], output)
        elif kind == "RESHAPE":
            shape = self.constant(f"{output}_shape", np.asarray(options.newShape, np.int64))
            self.node("Reshape", [self.node("Transpose", [first], f"{output}_nhwc", perm=[0, 2, 3, 1]), shape], output)
        elif kind == "CONCATENATION":
            self.node("Concat", [self._name(index) for index in operator.inputs], output, axis=options.axis)
        else:
            raise ExportError(f"the model has the operator {kind}, which the face networks have not")

    def _weights(self, index: int) -> npt.NDArray[np.float16]:
        """A constant as float16; a DEQUANTIZE before it is skipped."""
        for operator in self._graph.operators:
            if operator.outputs[0] == index:
                index = operator.inputs[0]
        return np.asarray(self._data[index], np.float16)

    def _widened(self, name: str, value: npt.NDArray[Any]) -> str:
        from onnx import TensorProto

        return self.node("Cast", [self.constant(f"{name}_half", np.ascontiguousarray(value))], name,
                         to=TensorProto.FLOAT)

    def _name(self, index: int) -> str:
        return str(self._graph.tensors[index].name.decode())

    def _type(self, tensor: Any) -> npt.DTypeLike:
        types = self._schema.TensorType
        return {types.FLOAT32: "<f4", types.FLOAT16: "<f2", types.INT32: "<i4"}[tensor.type]


def _anchors() -> npt.NDArray[np.float32]:
    """Positions of the outputs, ``[896, 2]``, x and y from 0 to 1."""
    layers = []
    for cells, count in ANCHOR_LAYERS:
        middles = (np.arange(cells, dtype=np.float32) + np.float32(0.5)) / cells
        grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)  # x runs fastest
        layers.append(grid.repeat(count, axis=0))
    return np.concatenate(layers)


def main() -> None:
    """Read the network's name and the two paths of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":", 1)[1])
    parser.add_argument("network", choices=SOURCES)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("onnx", type=Path)
    arguments = parser.parse_args()
    try:
        content = convert(arguments.network, arguments.tflite.read_bytes()).SerializeToString()
        write_atomically(arguments.onnx, content, force=True)
    except (ExportError, OSError) as error:
        parser.exit(1, f"error: {error}\n")
    print(f"{arguments.onnx}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
