"""Converters from an encoder graph to a TFLite file. All files have the same interface; the proof compares any.

onnx2tf puts transpositions around additions and turns some depthwise convolutions into grouped ones: the bytes are the
same, the file is a little slower. TensorFlow converts without any optimization or quantization: nothing is calibrated,
so nothing depends on the machine that exports. Both store weights as float32.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.errors import ExportError
from codec_contract.onnx_runtime import captured_stderr
from edge_encoder.integer_network import INPUT
from export.encoder import graph as g
from export.encoder.graph import OUTPUT, EncoderGraph, TfliteConverter
from export.encoder.onnx import onnx_model
from export.encoder.tflite import pack, same_padding, tflite_bytes, tflite_schema


def converted(graph: EncoderGraph, converter: TfliteConverter) -> bytes:
    """The TFLite file of a graph; its signature ``serving_default`` maps ``image`` to ``lr``. A converter's output is
    shown only if it fails."""
    if converter is TfliteConverter.direct:
        return tflite_bytes(graph)
    convert = _by_onnx2tf if converter is TfliteConverter.onnx2tf else _by_tensorflow
    with captured_stderr() as said:
        try:
            return _finished(convert(graph))
        except ExportError:
            raise
        except Exception as error:  # a failing pass may raise any exception
            raise ExportError(f"{converter} could not convert {graph.name}: {error}\n{said()[-2000:]}") from error


def _by_onnx2tf(graph: EncoderGraph) -> bytes:
    """The flatbuffer that onnx2tf makes of the ONNX model of one picture with float32 weights, in its own process."""
    command = _onnx2tf()
    with tempfile.TemporaryDirectory(prefix="edgegrain-onnx2tf-") as folder:
        source, out = Path(folder) / "encoder.onnx", Path(folder) / "out"
        source.write_bytes(onnx_model(graph, batch=1, int8=False).SerializeToString())
        # Pictures that onnx2tf otherwise downloads, to compare its layers with ONNX Runtime.
        pictures = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
        np.save(Path(folder) / "calibration_image_sample_data_20x128x128x3_float32.npy", pictures)
        command += ["-i", str(source), "-o", str(out), "-kat", INPUT, "-coion", "-n"]
        none, pipe, both = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
        process = subprocess.run(command, cwd=folder, text=True, stdin=none, stdout=pipe, stderr=both, check=False)
        written = out / "encoder_float32.tflite"
        if process.returncode or not written.is_file():
            raise ExportError(f"onnx2tf failed with status {process.returncode}: {process.stdout[-2000:]}")
        return written.read_bytes()


def _onnx2tf() -> list[str]:
    """onnx2tf of this environment or, as it pins NumPy, ONNX Runtime and more, of its own on PATH."""
    if importlib.util.find_spec("onnx2tf"):
        return [sys.executable, "-m", "onnx2tf"]
    if found := shutil.which("onnx2tf"):
        return [found]
    raise ExportError(
        "this converter needs onnx2tf, which is not installed; pip install 'edgegrain[onnx2tf]' "
        "(Python 3.11 or 3.12), or in an environment of its own: pipx install onnx2tf==1.29.24"
    )


def _by_tensorflow(graph: EncoderGraph) -> bytes:
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
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def _operation(tf: Any, shapes: Mapping[str, tuple[int, int, int]], node: g.Node, inputs: list[Any]) -> Any:
    x = inputs[0]
    match node:
        case g.Conv():
            return _convolve(tf, node, x, shapes[node.input][1:])
        case g.Add():
            return tf.add(*inputs)
        case g.Floor():
            return tf.floor(x)
        case g.Clip():
            return tf.clip_by_value(x, 0.0, node.high)
        case _:
            raise ExportError("TensorFlow converts exact encoders only; leave --tflite-converter out")


def _convolve(tf: Any, node: g.Conv, x: Any, size: tuple[int, int]) -> Any:
    top, left, bottom, right = node.padding
    strides, padding = [1, *node.strides, 1], "SAME"
    if node.padding != same_padding(size, node.weight.shape[2:], node.strides):
        padding = "VALID"
        x = tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]])
    if node.groups == 1:
        y = tf.nn.conv2d(x, node.weight.transpose(2, 3, 1, 0), strides, padding)
    else:
        y = tf.nn.depthwise_conv2d(x, node.weight.transpose(2, 3, 0, 1), strides, padding)
    return tf.nn.bias_add(y, node.bias)


def _finished(flatbuffer: bytes) -> bytes:
    """A converter's file with the ends of edgegrain's own: ``image`` and ``lr``."""
    schema = tflite_schema()
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    (part,) = model.subgraphs
    (image,), (lr,) = part.inputs.tolist(), part.outputs.tolist()
    part.tensors[image].name, part.tensors[lr].name = INPUT, OUTPUT
    return pack(model, image, lr)
