from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_encoder.integer_network import IntegerNetwork
from edge_encoder.twin import LR_SIZES, EncoderTwin, encoder_config, lower
from export.encoder.graph import Clip, Conv, EncoderGraph, exact_graph
from export.encoder.tflite import tflite_bytes
from export.encoder.tflite_converters import write_tflite
from export.proof.runtimes import tflite_runtimes


def test_pictures_and_lrs_are_bytes_in_tflite_order(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(exported["tflite"]))
    (image,), (lr,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["dtype"] == lr["dtype"] == np.uint8
    assert image["shape"].tolist() == [1, network.hr, network.hr, 3]
    assert lr["shape"].tolist() == [1, network.lr, network.lr, 3]
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["lr"]}}


def operations(path: Path) -> Counter[str]:
    """Kinds of operations in a file."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    return Counter(names[model.operatorCodes[operator.opcodeIndex].builtinCode]
                   for operator in model.subgraphs[0].operators)


def test_nothing_is_transposed_or_padded_and_only_weights_are_dequantized(exported: Mapping[str, Path],
                                                                          network: IntegerNetwork) -> None:
    depthwise, layers = sum(layer.groups > 1 for layer in network.layers), len(network.layers)
    assert operations(exported["tflite"]) == {
        "CAST": 2, "DEQUANTIZE": layers, "CONV_2D": layers - depthwise, "DEPTHWISE_CONV_2D": depthwise,
        "FLOOR": layers, "MINIMUM": layers, "RELU": layers,
        "ADD": sum(layer.skip is not None for layer in network.layers)}


def test_weights_are_int8_with_powers_of_two(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    model = schema.ModelT.InitFromPackedBuf(exported["tflite"].read_bytes(), 0)
    (version,) = [code.version for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.DEQUANTIZE]
    assert version == 5  # the one with a scale per channel
    stored = [tensor for tensor in model.subgraphs[0].tensors if tensor.type == schema.TensorType.INT8]
    assert len(stored) == len(network.layers)
    for tensor in stored:
        assert (np.frexp(np.asarray(tensor.quantization.scale))[0] == 0.5).all()
        assert not np.any(tensor.quantization.zeroPoint)


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
    assert operations(path)["PAD"] == 1
    for runtime in tflite_runtimes(path):
        assert np.array_equal(runtime.encode(picture), expected), runtime.name


def test_the_largest_encoder_for_1024_is_a_tflite_file_of_at_most_1_5_mb() -> None:
    graphs = [exact_graph(lower(EncoderTwin(encoder_config(1024, lr)))) for lr in LR_SIZES]
    assert len(tflite_bytes(max(graphs, key=EncoderGraph.parameters))) <= 1_500_000
