"""A converter's TFLite file in the form of edgegrain's own: names, signature, weights stored as int8."""

from __future__ import annotations

from typing import Any

import numpy as np

from codec_contract.errors import ExportError
from edge_encoder.integer_network import INPUT
from export.encoder.graph import OUTPUT, EncoderGraph
from export.encoder.int8_weights import int8_parts
from export.encoder.tflite_file import MIN_RUNTIME, PER_CHANNEL_DEQUANTIZE, SIGNATURE, pack, tflite_schema, unpack


def finished(flatbuffer: bytes, graph: EncoderGraph) -> bytes:
    """The same encoder with ``image`` and ``lr`` as its ends, and weights as int8 wherever `int8_parts` can split them.

    Raises:
        ExportError: the file does not map uint8 ``[1, hr, hr, 3]`` to uint8 ``[1, lr, lr, 3]``.
    """
    schema, model = tflite_schema(), unpack(flatbuffer)
    (part,) = model.subgraphs
    model.signatureDefs = [schema.SignatureDefT(
        [_end(schema, part, part.inputs, INPUT, graph.hr)], [_end(schema, part, part.outputs, OUTPUT, graph.lr)],
        SIGNATURE)]
    _store_weights_as_int8(schema, model)
    return pack(model)


def _end(schema: Any, part: Any, tensors: np.ndarray, name: str, side: int) -> Any:
    """The only input or output, renamed, as the signature's entry."""
    (index,) = tensors
    tensor = part.tensors[index]
    shape = tensor.shape.tolist()
    if tensor.type != schema.TensorType.UINT8 or shape != [1, side, side, 3]:
        raise ExportError(f"the converter made {name} a tensor of type {tensor.type} and shape {shape}, "
                          f"expected uint8 [1, {side}, {side}, 3]; use another --tflite-converter")
    tensor.name = name
    return schema.TensorMapT(name, int(index))


def _store_weights_as_int8(schema: Any, model: Any) -> None:
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
        return
    graph.operators = operators
    dequantize = schema.BuiltinOperator.DEQUANTIZE
    model.operatorCodes.append(schema.OperatorCodeT(
        builtinCode=dequantize, deprecatedBuiltinCode=dequantize, version=PER_CHANNEL_DEQUANTIZE))
    for entry in model.metadata:
        if entry.name == b"min_runtime_version":
            model.buffers[entry.buffer].data = np.frombuffer(MIN_RUNTIME, np.uint8)


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
