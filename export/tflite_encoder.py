"""The encoder as TFLite (LiteRT): ``image`` uint8 ``[1, hr, hr, 3]`` in, ``lr`` uint8 ``[1, lr, lr, 3]`` out.

The graph is written with TensorFlow operations in TFLite's own layout (NHWC) and goes through TensorFlow's converter
without any optimization or quantization: nothing is calibrated, so nothing depends on the machine that exports.
onnx2tf 1.29 is not used: it puts a transposition on each side of every residual addition.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edge_encoder.integer_network import INPUT
from edgegrain.contract.errors import ExportError
from edgegrain.contract.files import write_atomically
from export.converter_output import captured_stderr
from export.encoder_graph import OUTPUT, Add, Clip, Concat, Conv, EncoderGraph, Floor, LeakyRelu, Scale


def write_tflite(graph: EncoderGraph, path: str | Path, *, force: bool = False) -> Path:
    """Convert and write the encoder; its signature ``serving_default`` maps ``image`` to ``lr``.

    Raises:
        ExportError: TensorFlow is not installed or refuses the graph.
        FileExistsError: the file exists and ``force`` is false.
    """
    if Path(path).exists() and not force:  # before minutes of conversion, not after
        raise FileExistsError(f"{path} exists; choose another name or pass force (--force) to replace it")
    return write_atomically(path, tflite_bytes(graph), force=force)


def tflite_bytes(graph: EncoderGraph) -> bytes:
    """The flatbuffer; TensorFlow's chatter on stderr is swallowed unless the conversion fails."""
    with captured_stderr() as said, tempfile.TemporaryDirectory(prefix="edgegrain-tflite-") as folder:
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ExportError(f"TFLite export needs TensorFlow ({error}); pip install 'edgegrain[export]'") from error
        try:
            module = tf.Module()

            @tf.function(input_signature=[tf.TensorSpec([1, graph.hr, graph.hr, 3], tf.uint8, INPUT)])
            def encode(image: Any) -> dict[str, Any]:
                return {OUTPUT: tf.cast(_run(tf, graph, tf.cast(image, tf.float32)), tf.uint8)}

            tf.saved_model.save(module, folder, signatures={"serving_default": encode.get_concrete_function()})
            return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
        except Exception as error:  # TensorFlow raises whatever the failing pass happened to raise
            raise ExportError(f"TensorFlow could not convert {graph.name}: {error}\n{said()[-2000:]}") from error


def _run(tf: Any, graph: EncoderGraph, picture: Any) -> Any:
    """The LR of one picture, ``[1, lr, lr, 3]`` float32, as TensorFlow operations."""
    tensors = {INPUT: picture}
    shapes = graph.shapes()
    for node in graph.nodes:
        x = tensors[node.inputs[0]]
        match node:
            case Conv():
                y = _convolve(tf, node, x, shapes[node.input][1])
            case Add():
                y = tf.add(x, tensors[node.second])
            case Floor():
                y = tf.floor(x)
            case Clip():
                y = tf.clip_by_value(x, node.low, node.high)
            case Scale():
                y = x * node.factor
                y = y + node.offset if node.offset else y
            case LeakyRelu():
                y = tf.nn.leaky_relu(x, node.slope) if node.slope else tf.nn.relu(x)
            case Concat():
                y = tf.concat([tensors[part] for part in node.parts], axis=3)
        tensors[node.name] = y
    return tensors[graph.nodes[-1].name]


def _convolve(tf: Any, node: Conv, x: Any, side: int) -> Any:
    kernel = node.weight.shape[2]
    top, left, bottom, right = node.padding
    # TensorFlow's SAME: as many zeros as the stride needs, the odd one at bottom and right.
    total = max((-(-side // node.stride) - 1) * node.stride + kernel - side, 0)
    if node.padding == (total // 2, total // 2, total - total // 2, total - total // 2):
        padding = "SAME"
    else:
        padding = "VALID"
        x = tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]])
    if node.groups == 1:
        y = tf.nn.conv2d(x, node.weight.transpose(2, 3, 1, 0), node.stride, padding)
    else:
        y = tf.nn.depthwise_conv2d(x, node.weight.transpose(2, 3, 0, 1), [1, node.stride, node.stride, 1], padding)
    return tf.nn.bias_add(y, node.bias)
