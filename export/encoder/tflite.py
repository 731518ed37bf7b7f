"""The encoder as TFLite (LiteRT): ``image`` uint8 ``[1, hr, hr, 3]`` in, ``lr`` uint8 ``[1, lr, lr, 3]`` out.

Written with LiteRT's own schema, in TFLite's own layout (NHWC), so no converter can change a number between the graph
and the file, and nothing is transposed.

The exact encoder's weights are stored as int8 with a power of two per channel, each behind a DEQUANTIZE. Runtimes
compute those constants once, when they load the file, and get the same float32 numbers; biases stay float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from codec_contract.errors import ExportError
from edge_encoder.integer_network import INPUT
from export.encoder import graph as g
from export.encoder.graph import OUTPUT, EncoderGraph, int8_parts


def tflite_bytes(graph: EncoderGraph) -> bytes:
    """The flatbuffer; its signature ``serving_default`` maps ``image`` to ``lr``."""
    schema = tflite_schema()
    writer = _Writer(schema, graph)
    image = writer.tensor(INPUT, (1, graph.hr, graph.hr, 3), schema.TensorType.UINT8)
    results = {INPUT: writer.op("CAST", [image], f"{INPUT}.float", (graph.hr, graph.hr, 3))}
    for node in graph.nodes:
        results[node.name] = writer.node(node, [results[source] for source in node.inputs])
    lr = writer.tensor(OUTPUT, (1, graph.lr, graph.lr, 3), schema.TensorType.UINT8)
    writer.operator("CAST", [results[graph.nodes[-1].name]], lr)
    model, whole = schema.ModelT(), schema.SubGraphT()
    whole.name, whole.tensors, whole.operators = graph.name.encode(), writer.tensors, writer.operators
    whole.inputs, whole.outputs = _indices([image]), _indices([lr])
    model.version, model.description = 3, f"edgegrain encoder {graph.name}".encode()
    # The first TensorFlow Lite that dequantizes with a scale per channel.
    model.metadata = [schema.MetadataT("min_runtime_version", writer.buffer(b"2.7.0".ljust(16, b"\0")))]
    model.subgraphs, model.buffers, model.operatorCodes = [whole], writer.buffers, list(writer.codes.values())
    return pack(model, image, lr)


class _Writer:
    """Collects the parts of a TFLite file. Shapes of results are (height, width, channels): files take one picture."""

    def __init__(self, schema: Any, graph: EncoderGraph) -> None:
        self.schema = schema
        self.shapes = {name: (height, width, channels) for name, (channels, height, width) in graph.shapes().items()}
        self.buffers = [schema.BufferT()]  # the schema's empty one
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[str, Any] = {}
        self._scalars: dict[float, int] = {}

    def node(self, node: g.Node, inputs: list[int]) -> int:
        name, shape = node.name, self.shapes[node.name]
        match node:
            case g.Conv():
                return self.convolution(node, inputs[0])
            case g.Add():
                return self.op("ADD", inputs, name, shape, self.schema.AddOptionsT())
            case g.Multiply():
                return self.op("MUL", inputs, name, shape, self.schema.MulOptionsT())
            case g.Floor():
                return self.op("FLOOR", inputs, name, shape)
            case g.Sigmoid():
                return self.op("LOGISTIC", inputs, name, shape)
            case g.Exp():
                return self.op("EXP", inputs, name, shape, self.schema.ExpOptionsT())
            case g.Clip():
                inputs, options = [*inputs, self.scalar(node.high)], self.schema.MaximumMinimumOptionsT()
                below = self.op("MINIMUM", inputs, f"{name}.below", shape, options)
                return self.op("RELU", [below], name, shape)  # MAXIMUM after MINIMUM fails in XNNPACK
            case g.Scale():
                inputs, options = [*inputs, self.scalar(node.factor)], self.schema.MulOptionsT()
                y = self.op("MUL", inputs, f"{name}.scaled", shape, options)
                if not node.offset:
                    return y
                return self.op("ADD", [y, self.scalar(node.offset)], name, shape, self.schema.AddOptionsT())
            case g.LeakyRelu():
                return self.op("LEAKY_RELU", inputs, name, shape, self.schema.LeakyReluOptionsT(alpha=node.slope))
            case g.Concat():
                return self.op("CONCATENATION", inputs, name, shape, self.schema.ConcatenationOptionsT(axis=3))

    def convolution(self, node: g.Conv, x: int) -> int:
        height, width, channels = self.shapes[node.input]
        top, left, bottom, right = node.padding
        fitting = node.padding == same_padding((height, width), node.weight.shape[2:], node.strides)
        if not fitting and any(node.padding):
            zeros = self.constant(f"{node.name}.zeros", np.array([[0, 0], [top, bottom], [left, right], [0, 0]], "i4"))
            shape = (height + top + bottom, width + left + right, channels)
            x = self.op("PAD", [x, zeros], f"{node.name}.padded", shape, self.schema.PadOptionsT())
        kinds = self.schema.Padding
        down, across = node.strides
        shared = {"padding": kinds.SAME if fitting else kinds.VALID, "strideH": down, "strideW": across}
        inputs = [x, self.weight(node), self.constant(f"{node.name}.bias", node.bias)]
        if node.groups == 1:
            kind, options = "CONV_2D", self.schema.Conv2DOptionsT(**shared)
        else:
            kind, options = "DEPTHWISE_CONV_2D", self.schema.DepthwiseConv2DOptionsT(**shared, depthMultiplier=1)
        return self.op(kind, inputs, node.name, self.shapes[node.name], options)

    def weight(self, node: g.Conv) -> int:
        """The weights ``[O, kh, kw, I]``, of a depthwise layer ``[1, kh, kw, O]``."""
        axes, axis = ((0, 2, 3, 1), 0) if node.groups == 1 else ((1, 2, 3, 0), 3)
        name, parts = f"{node.name}.weight", int8_parts(node.weight)
        if parts is None:
            return self.constant(name, node.weight.transpose(axes))
        integers, scale = parts
        stored = self.constant(f"{name}.int8", integers.transpose(axes), scale.ravel(), axis)
        shape = integers.transpose(axes).shape
        output = self.tensor(name, shape, self.schema.TensorType.FLOAT32)
        # From version 5 on with a scale per channel.
        self.operator("DEQUANTIZE", [stored], output, self.schema.DequantizeOptionsT(), 5)
        return output

    def op(self, kind: str, inputs: list[int], name: str, shape: tuple[int, ...], options: Any = None) -> int:
        """Add an operator with a float32 result."""
        output = self.tensor(name, (1, *shape), self.schema.TensorType.FLOAT32)
        self.operator(kind, inputs, output, options)
        return output

    def operator(self, kind: str, inputs: list[int], output: int, options: Any = None, version: int = 1) -> None:
        code = getattr(self.schema.BuiltinOperator, kind)
        described = self.schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=version)
        self.codes.setdefault(kind, described)
        added = self.schema.OperatorT(opcodeIndex=list(self.codes).index(kind), builtinOptions=options)
        added.inputs, added.outputs = _indices(inputs), _indices([output])
        named = type(options).__name__.removesuffix("T") if options else "NONE"
        added.builtinOptionsType = getattr(self.schema.BuiltinOptions, named)
        self.operators.append(added)

    def scalar(self, value: float) -> int:
        if value not in self._scalars:
            self._scalars[value] = self.constant(f"scalar.{value:g}", np.array(value, np.float32))
        return self._scalars[value]

    def constant(self, name: str, data: np.ndarray, scale: np.ndarray | None = None, axis: int = 0) -> int:
        """A constant; int8 comes with the scale of every channel along ``axis``."""
        kind, quantization = getattr(self.schema.TensorType, data.dtype.name.upper()), None
        if scale is not None:
            zeros = np.zeros(scale.size, np.int64)
            quantization = self.schema.QuantizationParametersT(scale=scale, zeroPoint=zeros, quantizedDimension=axis)
        return self.tensor(name, data.shape, kind, self.buffer(data.tobytes()), quantization)

    def buffer(self, data: bytes) -> int:
        self.buffers.append(self.schema.BufferT(data=np.frombuffer(data, np.uint8)))
        return len(self.buffers) - 1

    def tensor(self, name: str, shape: tuple[int, ...], kind: int, buffer: int = 0, quantization: Any = None) -> int:
        added = self.schema.TensorT(name=name, shape=_indices(shape), type=kind, buffer=buffer, hasRank=True)
        added.quantization = quantization
        self.tensors.append(added)
        return len(self.tensors) - 1


def _indices(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int32)


def tflite_schema() -> Any:
    """LiteRT's module with the format's classes."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ExportError(f"TFLite export needs LiteRT ({error}); pip install 'edgegrain[export]'") from error
    return schema_py_generated


def pack(model: Any, image: int, lr: int) -> bytes:
    """The schema's ``ModelT`` as a file with the signature of all: tensors by the names ``image`` and ``lr``."""
    import flatbuffers

    schema = tflite_schema()
    ends = [schema.TensorMapT(INPUT, image)], [schema.TensorMapT(OUTPUT, lr)]
    model.signatureDefs = [schema.SignatureDefT(*ends, "serving_default")]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def same_padding(size: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int, int]:
    """Zeros at (top, left, bottom, right): as many as the strides need, the odd one at bottom and right."""
    down, across = (
        max((-(-side // stride) - 1) * stride + width - side, 0)
        for side, stride, width in zip(size, strides, kernel, strict=True)
    )
    return down // 2, across // 2, down - down // 2, across - across // 2
