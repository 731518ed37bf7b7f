"""ONNX, Core ML and TFLite files: their interfaces, how they store weights, and the same bytes from every export."""

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork
from edge_encoder.twin import LR_SIZES, EncoderTwin, encoder_config, lower
from export.encoder import export_encoder
from export.encoder.graph import Clip, Conv, EncoderGraph, exact_graph, int8_parts
from export.encoder.tflite import tflite_bytes
from export.proof.mil_interpreter import MilProgram
from export.proof.runtimes import tflite_runtimes
from tests.tiny_bundle import files_of

SPECIFICATION = "Data/com.apple.CoreML/model.mlmodel"


def specification(package: Path) -> Any:
    """The message of a Core ML program."""
    from coremltools.proto import Model_pb2  # loads TensorFlow: not in every process that collects tests

    return Model_pb2.Model.FromString((package / SPECIFICATION).read_bytes())


def operations(file: bytes) -> Counter[str]:
    """Kinds of operations in a TFLite file."""
    model = schema.ModelT.InitFromPackedBuf(file, 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [names[code.builtinCode] for code in model.operatorCodes]
    return Counter(codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators)


def test_two_exports_give_the_same_files(exported: Mapping[str, Path], network: IntegerNetwork, tmp_path: Path) -> None:
    export_encoder(network, tmp_path)
    files = files_of(tmp_path)
    parts = (SPECIFICATION, "Data/com.apple.CoreML/weights/weight.bin", "Manifest.json")
    expected = {"encoder.onnx", "encoder.tflite", *(f"encoder.mlpackage/{part}" for part in parts)}
    assert files_of(exported["onnx"].parent) == files and set(files) == expected


def test_onnx_takes_and_gives_bytes_with_a_dynamic_batch(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    graph = onnx.load(str(exported["onnx"])).graph
    for value, side in ((graph.input[0], network.hr), (graph.output[0], network.lr)):
        tensor = value.type.tensor_type
        assert tensor.elem_type == TensorProto.UINT8
        assert [dim.dim_param or dim.dim_value for dim in tensor.shape.dim] == ["n", side, side, 3]
    weights = [tensor.data_type for tensor in graph.initializer if tensor.name.endswith(".weight.int8")]
    assert weights == [TensorProto.INT8] * len(network.layers)


def test_ordinary_float_weights_stay_as_they_are() -> None:
    assert int8_parts(np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)) is None
    assert int8_parts(np.zeros((2, 3, 1, 1), np.float32)) is not None


def test_core_ml_takes_an_rgb_picture_and_gives_int32(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    model = specification(exported["coreml"])
    (image,), (lr,) = model.description.input, model.description.output
    assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("image", network.hr, network.hr)
    assert image.type.imageType.colorSpace == image.type.imageType.RGB
    assert list(lr.type.multiArrayType.shape) == [1, 3, network.lr, network.lr]
    assert lr.type.multiArrayType.dataType == lr.type.multiArrayType.INT32
    assert model.specificationVersion == 7  # iOS 16, macOS 13


def test_core_ml_has_few_operation_kinds_in_float32(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    from coremltools.proto import MIL_pb2

    (block,) = specification(exported["coreml"]).mlProgram.functions["main"].block_specializations.values()
    kinds = Counter(operation.type for operation in block.operations)
    assert set(kinds) == {"const", "constexpr_affine_dequantize", "conv", "floor", "clip", "add", "cast"}
    assert kinds["constexpr_affine_dequantize"] == len(network.layers)  # all weights are int8
    computed = [operation for operation in block.operations if operation.type not in ("const", "cast")]
    types = {output.type.tensorType.dataType for operation in computed for output in operation.outputs}
    assert types == {MIL_pb2.DataType.Value("FLOAT32")}


def test_an_unknown_operation_of_core_ml_is_refused_by_name(exported: Mapping[str, Path], tmp_path: Path) -> None:
    package = Path(shutil.copytree(exported["coreml"], tmp_path / "encoder.mlpackage"))
    model = specification(package)
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    next(operation for operation in block.operations if operation.type == "floor").type = "ceil"
    (package / SPECIFICATION).write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="does not support ceil"):
        MilProgram(package)


def test_tflite_takes_and_gives_bytes_in_its_order(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(exported["tflite"]))
    (image,), (lr,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["dtype"] == lr["dtype"] == np.uint8
    assert image["shape"].tolist() == [1, network.hr, network.hr, 3]
    assert lr["shape"].tolist() == [1, network.lr, network.lr, 3]
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["lr"]}}


def test_tflite_has_int8_weights_and_only_layers(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    depthwise, layers = sum(layer.groups > 1 for layer in network.layers), len(network.layers)
    file = exported["tflite"].read_bytes()
    convolutions = {"CONV_2D": layers - depthwise, "DEPTHWISE_CONV_2D": depthwise}
    added = sum(layer.skip is not None for layer in network.layers)
    others = dict.fromkeys(("DEQUANTIZE", "FLOOR", "MINIMUM", "RELU"), layers)
    assert operations(file) == {**convolutions, **others, "CAST": 2, "ADD": added}
    model = schema.ModelT.InitFromPackedBuf(file, 0)
    (version,) = [code.version for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.DEQUANTIZE]
    assert version == 5  # the one with a scale per channel
    stored = [tensor for tensor in model.subgraphs[0].tensors if tensor.type == schema.TensorType.INT8]
    assert len(stored) == layers
    for tensor in stored:
        assert (np.frexp(np.asarray(tensor.quantization.scale))[0] == 0.5).all()
        assert not np.any(tensor.quantization.zeroPoint)


def test_tflite_pads_zeros_that_fit_no_scheme(tmp_path: Path) -> None:
    sums = Conv("sums", "image", np.ones((3, 1, 2, 2), np.float32), np.zeros(3, np.float32), 2, (1, 0, 1, 2), groups=3)
    graph = EncoderGraph("sums", 8, 5, (sums, Clip("limited", "sums", high=200.0)), exact=True)
    picture = np.random.default_rng(0).integers(0, 100, (1, 8, 8, 3), dtype=np.uint8)
    padded = np.pad(picture, ((0, 0), (1, 1), (0, 2), (0, 0))).astype(int)
    expected = sum(padded[:, i::2, j::2] for i in (0, 1) for j in (0, 1)).clip(0, 200)
    assert {expected.min(), expected.max()} == {0, 200}
    path = export_encoder(graph, tmp_path, ["tflite"])["tflite"]
    assert operations(path.read_bytes())["PAD"] == 1
    for runtime in tflite_runtimes(path):
        assert np.array_equal(runtime.encode(picture), expected), runtime.name


def test_the_largest_encoder_for_1024_is_a_tflite_file_of_at_most_1_5_mb() -> None:
    graphs = [exact_graph(lower(EncoderTwin(encoder_config(1024, lr)))) for lr in LR_SIZES]
    assert len(tflite_bytes(max(graphs, key=EncoderGraph.parameters))) <= 1_500_000
