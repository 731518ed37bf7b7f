"""The encoder as TFLite through TensorFlow's converter, without any optimization or quantization: nothing is
calibrated, so nothing depends on the machine that exports."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any

from codec_contract.errors import ExportError
from edge_encoder.integer_network import INPUT
from export.encoder import graph as g
from export.encoder.graph import OUTPUT, EncoderGraph
from export.encoder.same_padding import same_padding


def convert(graph: EncoderGraph) -> bytes:
    """The flatbuffer that TensorFlow makes.

    Raises:
        ExportError: TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ExportError(f"this converter needs TensorFlow ({error}); pip install 'edgegrain[onnx2tf]'") from error

    @tf.function(input_signature=[tf.TensorSpec([1, graph.hr, graph.hr, 3], tf.uint8, INPUT)])
    def encode(image: Any) -> dict[str, Any]:
        lr = graph.run(tf.cast(image, tf.float32), partial(_operation, tf, graph.shapes()))  # [1, lr, lr, 3]
        return {OUTPUT: tf.cast(lr, tf.uint8)}

    with tempfile.TemporaryDirectory(prefix="edgegrain-tflite-") as folder:
        tf.saved_model.save(tf.Module(), folder, signatures={"serving_default": encode.get_concrete_function()})
        flatbuffer: bytes = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    return flatbuffer


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
    strides = [1, *node.strides, 1]
    if node.padding == same_padding(size, node.weight.shape[2:], node.strides):
        padding = "SAME"
    else:
        padding = "VALID"
        x = tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]])
    if node.groups == 1:
        y = tf.nn.conv2d(x, node.weight.transpose(2, 3, 1, 0), strides, padding)
    else:
        y = tf.nn.depthwise_conv2d(x, node.weight.transpose(2, 3, 0, 1), strides, padding)
    return tf.nn.bias_add(y, node.bias)
