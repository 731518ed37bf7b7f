from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork, run_reference
from edge_encoder.lowering import lower
from edge_encoder.twin import LR_SIZES, EncoderTwin, encoder_config
from export.encoder.graph import Clip, Conv, EncoderGraph, exact_graph
from export.encoder.tflite import tflite_bytes
from export.encoder.tflite_converters import write_tflite
from export.proof.report import read_encoder
from export.proof.runtimes import tflite_runtimes


def test_pictures_and_lrs_are_bytes_in_tflite_order(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(exported["tflite"]))
    (image,), (lr,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["dtype"] == lr["dtype"] == np.uint8
    assert image["shape"].tolist() == [1, network.hr, network.hr, 3]
    assert lr["shape"].tolist() == [1, network.lr, network.lr, 3]
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["lr"]}}


def test_nothing_is_transposed_or_padded_and_only_weights_are_dequantized(exported: Mapping[str, Path],
                                                                          network: IntegerNetwork) -> None:
    found = read_encoder("tflite", exported["tflite"])[0]
    depthwise = sum(layer.groups > 1 for layer in network.layers)
    layers = len(network.layers)
    assert found == {"CAST": 2, "DEQUANTIZE": layers, "CONV_2D": layers - depthwise,
                          "DEPTHWISE_CONV_2D": depthwise, "FLOOR": layers, "MINIMUM": layers, "RELU": layers,
                          "ADD": sum(layer.skip is not None for layer in network.layers)}


def test_weights_are_int8_constants_and_biases_float32(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    model = schema.ModelT.InitFromPackedBuf(exported["tflite"].read_bytes(), 0)
    (graph,) = model.subgraphs
    kinds = [code.builtinCode for code in model.operatorCodes]
    (version,) = [code.version for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.DEQUANTIZE]
    assert version == 5  # the one with a scale per channel
    sources = {operator.outputs[0]: operator.inputs[0] for operator in graph.operators
               if kinds[operator.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE}
    convolutions = [operator for operator in graph.operators if kinds[operator.opcodeIndex] in (
        schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)]
    assert {operator.inputs[1] for operator in convolutions} == set(sources)
    expected = [layer.exported_weight() for layer in network.layers]
    for operator in convolutions:
        weight, bias = graph.tensors[sources[operator.inputs[1]]], graph.tensors[operator.inputs[2]]
        assert (weight.type, bias.type) == (schema.TensorType.INT8, schema.TensorType.FLOAT32)
        scale = np.asarray(weight.quantization.scale)
        assert (np.frexp(scale)[0] == 0.5).all() and not np.any(weight.quantization.zeroPoint)
        axis = weight.quantization.quantizedDimension
        integers = np.moveaxis(model.buffers[weight.buffer].data.view(np.int8).reshape(weight.shape), axis, 0)
        values = integers * scale[:, None, None, None]  # [O, kh, kw, I], or [O, 1, kh, kw] of a depthwise layer
        values = values.transpose(0, 3, 1, 2) if axis == 0 else values
        assert any(np.array_equal(values, other) for other in expected)


def test_every_kernel_set_gives_the_reference_bytes(exported: Mapping[str, Path], network: IntegerNetwork,
                                                    noise: np.ndarray) -> None:
    expected = run_reference(network, noise)
    runtimes = tflite_runtimes(exported["tflite"])
    assert len(runtimes) == 6
    for runtime in runtimes:
        lr = np.concatenate([runtime.encode(picture[None]) for picture in noise])
        assert np.array_equal(lr, expected), runtime.name


def test_exporting_twice_gives_the_same_file(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    assert tflite_bytes(exact_graph(network)) == exported["tflite"].read_bytes()


def test_zeros_that_fit_no_scheme_are_padded(tmp_path: Path) -> None:
    sums = Conv("sums", "image", np.ones((3, 1, 2, 2), np.float32), np.zeros(3, np.float32), 2, (1, 0, 1, 2), groups=3)
    graph = EncoderGraph("sums", 8, 5, (sums, Clip("limited", "sums", high=200.0)), exact=True)
    picture = np.random.default_rng(0).integers(0, 100, (1, 8, 8, 3), dtype=np.uint8)
    padded = np.pad(picture, ((0, 0), (1, 1), (0, 2), (0, 0))).astype(int)
    expected = sum(padded[:, i::2, j::2] for i in (0, 1) for j in (0, 1)).clip(0, 200)
    assert {expected.min(), expected.max()} == {0, 200}
    path = write_tflite(graph, tmp_path / "encoder.tflite")
    assert read_encoder("tflite", path)[0]["PAD"] == 1
    for runtime in tflite_runtimes(path):
        assert np.array_equal(runtime.encode(picture), expected), runtime.name


def test_a_lower_limit_other_than_zero_is_refused() -> None:
    with pytest.raises(ExportError, match="limited has the lower limit 30"):
        tflite_bytes(EncoderGraph("limits", 8, 8, (Clip("limited", "image", 30.0),), exact=True))


def test_the_largest_encoder_for_1024_is_a_tflite_file_of_at_most_1_5_mb() -> None:
    graphs = [exact_graph(lower(EncoderTwin(encoder_config(1024, lr)))) for lr in LR_SIZES]
    assert len(tflite_bytes(max(graphs, key=EncoderGraph.parameters))) <= 1_500_000
