from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork
from export.encoder.coreml import write_coreml
from export.encoder.graph import exact_graph
from export.proof.mil_interpreter import MilProgram

SPECIFICATION = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def specification(package: Path) -> Any:
    """The program's message."""
    from coremltools.proto import Model_pb2  # loads TensorFlow: not in every process that collects tests

    return Model_pb2.Model.FromString((package / SPECIFICATION).read_bytes())


@pytest.fixture
def package(exported: Mapping[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(exported["coreml"], tmp_path / "encoder.mlpackage"))


def test_it_takes_a_plain_rgb_picture_and_gives_int32(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    model = specification(exported["coreml"])
    (image,), (lr,) = model.description.input, model.description.output
    assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("image", network.hr, network.hr)
    assert image.type.imageType.colorSpace == image.type.imageType.RGB
    assert list(lr.type.multiArrayType.shape) == [1, 3, network.lr, network.lr]
    assert lr.type.multiArrayType.dataType == lr.type.multiArrayType.INT32
    assert model.specificationVersion == 7  # iOS 16, macOS 13


def test_few_operation_kinds_in_float32(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    model = specification(exported["coreml"])
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    kinds = Counter(operation.type for operation in block.operations)
    assert set(kinds) == {"const", "constexpr_affine_dequantize", "conv", "floor", "clip", "add", "cast"}
    assert kinds["constexpr_affine_dequantize"] == len(network.layers)  # all weights are int8
    types = {output.type.tensorType.dataType for operation in block.operations for output in operation.outputs
             if operation.type in ("constexpr_affine_dequantize", "conv", "floor", "clip", "add")}
    from coremltools.proto import MIL_pb2

    assert types == {MIL_pb2.DataType.Value("FLOAT32")}


def test_weights_are_int8_in_the_package_and_the_same_float32_numbers_in_the_program(
        exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    program = MilProgram(exported["coreml"])
    for layer in network.layers:
        weight = program.constants[f"{layer.name.replace('.', '_')}_conv_weight"]
        assert weight.dtype == np.float32 and np.array_equal(weight, layer.exported_weight())


def test_exporting_twice_gives_the_same_package(exported: Mapping[str, Path], network: IntegerNetwork,
                                                tmp_path: Path) -> None:
    again = tmp_path / "encoder.mlpackage"
    write_coreml(exact_graph(network), again)
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [str(path) for path in files] == [SPECIFICATION, WEIGHTS, "Manifest.json"]
    for path in files:
        assert (again / path).read_bytes() == (exported["coreml"] / path).read_bytes(), path


def test_an_unknown_operation_is_refused_by_name(package: Path) -> None:
    model = specification(package)
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    next(operation for operation in block.operations if operation.type == "floor").type = "ceil"
    (package / SPECIFICATION).write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="does not support ceil"):
        MilProgram(package)
