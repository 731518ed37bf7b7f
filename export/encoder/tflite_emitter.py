"""The encoder as TFLite (LiteRT): ``image`` uint8 ``[1, hr, hr, 3]`` in, ``lr`` uint8 ``[1, lr, lr, 3]`` out.

The graph is written with TensorFlow operations in TFLite's own layout (NHWC) and goes through TensorFlow's converter
without any optimization or quantization: nothing is calibrated, so nothing depends on the machine that exports.
onnx2tf 1.29 is not used: it puts a transposition on each side of every residual addition.

The exact encoder's weights are then stored as int8 with a power of two per channel, each behind a DEQUANTIZE. Runtimes
compute those constants once, when they load the file, and get the same float32 numbers; biases stay float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.errors import ExportError
from codec_contract.files import write_atomically
from codec_contract.native_output import captured_stderr
from edge_encoder.integer_network import INPUT
from export.encoder import graph as g
from export.encoder.graph import OUTPUT, EncoderGraph
from export.encoder.int8_weights import int8_parts

_PER_CHANNEL_DEQUANTIZE = 5
"""The version of DEQUANTIZE that takes a scale per channel."""
_MIN_RUNTIME = b"2.7.0"
"""The first TensorFlow Lite with that version."""


def write_tflite(graph: EncoderGraph, path: str | Path, *, force: bool = False) -> Path:
    """Convert and write the encoder; its signature ``serving_default`` maps ``image`` to ``lr``.

    Raises:
        ExportError: TensorFlow is not installed, or cannot convert the graph.
        FileExistsError: the file exists and ``force`` is false.
    """
    if Path(path).exists() and not force:  # before minutes of conversion, not after
        raise FileExistsError(f"{path} exists; choose another name or pass force (--force) to replace it")
    return write_atomically(path, tflite_bytes(graph), force=force)


def tflite_bytes(graph: EncoderGraph) -> bytes:
    """The flatbuffer; TensorFlow's output on stderr is shown only if the conversion fails."""
    with captured_stderr() as said, tempfile.TemporaryDirectory(prefix="edgegrain-tflite-") as folder:
        try:
            import tensorflow as tf
            from ai_edge_litert import schema_py_generated as schema
        except ImportError as error:
            raise ExportError(f"TFLite export needs TensorFlow and LiteRT ({error}); "
                              "pip install 'edgegrain[export]'") from error
        try:
            module = tf.Module()

            @tf.function(input_signature=[tf.TensorSpec([1, graph.hr, graph.hr, 3], tf.uint8, INPUT)])
            def encode(image: Any) -> dict[str, Any]:
                lr = graph.run(tf.cast(image, tf.float32), partial(_operation, tf, graph.shapes()))  # [1, lr, lr, 3]
                return {OUTPUT: tf.cast(lr, tf.uint8)}

            tf.saved_model.save(module, folder, signatures={"serving_default": encode.get_concrete_function()})
            return _with_int8_weights(schema, tf.lite.TFLiteConverter.from_saved_model(folder).convert())
        except Exception as error:  # a failing pass may raise any exception
            raise ExportError(f"TensorFlow could not convert {graph.name}: {error}\n{said()[-2000:]}") from error


def _operation(tf: Any, shapes: Mapping[str, tuple[int, int, int]], node: g.Node, inputs: list[Any]) -> Any:
    x = inputs[0]
    match node:
        case g.Conv():
            return _convolve(tf, node, x, shapes[node.input][1:])
        case g.Add():
            return tf.add(*inputs)
        case g.Multiply():
            return tf.multiply(*inputs)
        case g.Floor():
            return tf.floor(x)
        case g.Sigmoid():
            return tf.sigmoid(x)
        case g.Exp():
            return tf.exp(x)
        case g.Clip():
            return tf.clip_by_value(x, node.low, node.high)
        case g.Scale():
            return x * node.factor + node.offset if node.offset else x * node.factor
        case g.LeakyRelu():
            return tf.nn.leaky_relu(x, node.slope) if node.slope else tf.nn.relu(x)
        case g.Concat():
            return tf.concat(inputs, axis=3)


def _convolve(tf: Any, node: g.Conv, x: Any, size: tuple[int, int]) -> Any:
    top, left, bottom, right = node.padding
    # TensorFlow's SAME: as many zeros as the stride needs, the odd one at bottom and right.
    down, across = (max((-(-side // stride) - 1) * stride + kernel - side, 0)
                    for side, stride, kernel in zip(size, node.strides, node.weight.shape[2:], strict=True))
    strides = [1, *node.strides, 1]
    if node.padding == (down // 2, across // 2, down - down // 2, across - across // 2):
        padding = "SAME"
    else:
        padding = "VALID"
        x = tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]])
    if node.groups == 1:
        y = tf.nn.conv2d(x, node.weight.transpose(2, 3, 1, 0), strides, padding)
    else:
        y = tf.nn.depthwise_conv2d(x, node.weight.transpose(2, 3, 0, 1), strides, padding)
    return tf.nn.bias_add(y, node.bias)


def _with_int8_weights(schema: Any, flatbuffer: bytes) -> bytes:
    """The same encoder with weights stored as int8 wherever `int8_parts` can split them."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(flatbuffer)
    (graph,) = model.subgraphs
    channel_axes = {schema.BuiltinOperator.CONV_2D: 0, schema.BuiltinOperator.DEPTHWISE_CONV_2D: 3}
    kinds = [code.builtinCode for code in model.operatorCodes]
    operators = []
    for operator in graph.operators:
        kind = kinds[operator.opcodeIndex]
        stored = _store_as_int8(schema, model, operator.inputs[1], channel_axes[kind]) if kind in channel_axes else None
        if stored is not None:
            operators.append(schema.OperatorT(
                opcodeIndex=len(kinds), inputs=np.array([stored], np.int32), outputs=operator.inputs[1:2],
                builtinOptionsType=schema.BuiltinOptions.DequantizeOptions, builtinOptions=schema.DequantizeOptionsT()))
        operators.append(operator)
    if len(operators) == len(graph.operators):
        return flatbuffer
    graph.operators = operators
    dequantize = schema.BuiltinOperator.DEQUANTIZE
    model.operatorCodes.append(schema.OperatorCodeT(
        builtinCode=dequantize, deprecatedBuiltinCode=dequantize, version=_PER_CHANNEL_DEQUANTIZE))
    for entry in model.metadata:
        if entry.name == b"min_runtime_version":
            model.buffers[entry.buffer].data = np.frombuffer(_MIN_RUNTIME.ljust(16, b"\0"), np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _store_as_int8(schema: Any, model: Any, index: int, axis: int) -> int | None:
    """Move the data of the weights ``index`` to a new int8 tensor, scaled along ``axis``, and return its index.

    The weights become a tensor that an operation computes. None where int8 would not be exact.
    """
    (graph,) = model.subgraphs
    weight = graph.tensors[index]
    buffer = model.buffers[weight.buffer]
    if sum(tensor.buffer == weight.buffer for tensor in graph.tensors) > 1:
        return None  # another tensor uses these bytes
    parts = int8_parts(np.moveaxis(np.frombuffer(buffer.data.tobytes(), "<f4").reshape(weight.shape), axis, 0))
    if parts is None:
        return None
    integers, scale = parts
    graph.tensors.append(schema.TensorT(
        name=weight.name + b".int8", type=schema.TensorType.INT8, shape=weight.shape, hasRank=True,
        buffer=weight.buffer, quantization=schema.QuantizationParametersT(
            scale=scale.ravel(), zeroPoint=np.zeros(scale.size, np.int64), quantizedDimension=axis)))
    buffer.data = np.frombuffer(np.moveaxis(integers, 0, axis).tobytes(), np.uint8)
    weight.buffer = 0  # the schema's empty one
    return len(graph.tensors) - 1
