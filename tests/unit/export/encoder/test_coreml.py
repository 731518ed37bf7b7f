from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork, run_reference
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


def test_the_written_program_gives_the_reference_bytes(exported: Mapping[str, Path], network: IntegerNetwork,
                                                       noise: np.ndarray) -> None:
    assert np.array_equal(MilProgram(exported["coreml"]).predict(noise), run_reference(network, noise))


def test_it_takes_a_plain_rgb_picture_and_gives_int32(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    model = specification(exported["coreml"])
    (image,), (lr,) = model.description.input, model.description.output
    assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("image", network.hr, network.hr)
    assert image.type.imageType.colorSpace == image.type.imageType.RGB
    assert list(lr.type.multiArrayType.shape) == [1, 3, network.lr, network.lr]
    assert lr.type.multiArrayType.dataType == lr.type.multiArrayType.INT32
    assert model.specificationVersion == 7  # iOS 16, macOS 13


def test_few_operation_kinds_in_float32(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    program = MilProgram(exported["coreml"])
    assert set(program.operations) == {
        "const", "constexpr_affine_dequantize", "conv", "floor", "clip", "add", "cast"}
    model = specification(exported["coreml"])
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    types = {output.type.tensorType.dataType for operation in block.operations for output in operation.outputs
             if operation.type in ("constexpr_affine_dequantize", "conv", "floor", "clip", "add")}
    from coremltools.proto import MIL_pb2

    assert types == {MIL_pb2.DataType.Value("FLOAT32")}


def test_weights_are_int8_in_the_package_and_the_same_float32_numbers_in_the_program(
        exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    program = MilProgram(exported["coreml"])
    assert program.operations["constexpr_affine_dequantize"] == len(network.layers)
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


def test_the_interpreter_reads_weights_from_the_package_on_disk(package: Path, noise: np.ndarray) -> None:
    before = MilProgram(package).predict(noise)
    weights = bytearray((package / WEIGHTS).read_bytes())
    _, _, size, start = struct.unpack_from("<IIQQ", weights, 64)
    weights[start : start + size] = bytes(size)
    (package / WEIGHTS).write_bytes(weights)
    assert not np.array_equal(MilProgram(package).predict(noise), before)


def test_an_unknown_operation_is_refused_by_name(package: Path) -> None:
    model = specification(package)
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    next(operation for operation in block.operations if operation.type == "floor").type = "ceil"
    (package / SPECIFICATION).write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="does not support: ceil"):
        MilProgram(package)


def _set_scales(attributes: Any, value: float) -> None:
    attributes["scale"].immediateValue.tensor.floats.values[:] = [value] * 3


def _set_zero_points(attributes: Any, values: bytes) -> None:
    attributes["zero_point"].immediateValue.tensor.bytes.values = values


@pytest.mark.parametrize(("change", "message"), [
    (lambda attributes: _set_scales(attributes, 0.75), "a power of two"),
    (lambda attributes: _set_scales(attributes, -0.5), "a power of two"),
    (lambda attributes: _set_zero_points(attributes, b"\0\1\0"), "point of 0"),
    (lambda attributes: attributes["axis"].immediateValue.tensor.ints.values.__setitem__(0, 1), "expected int8"),
    (lambda attributes: setattr(attributes["quantized_data"].type.tensorType, "dataType", 11), "no float32 weights"),
    (lambda attributes: attributes.pop("scale"), "not a readable Core ML package"),
    (lambda attributes: attributes["offset"].CopyFrom(attributes["axis"]), "expected int8"),
])
def test_weights_in_another_form_are_refused(package: Path, change: Callable[[Any], None], message: str) -> None:
    model = specification(package)
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    (box,) = [operation for operation in block.operations if operation.outputs[0].name == "box_conv_weight"]
    change(box.attributes)
    (package / SPECIFICATION).write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=message):
        MilProgram(package)


@pytest.mark.parametrize("damage", ["no manifest", "short weights", "no weights", "garbled specification"])
def test_a_damaged_package_is_refused(package: Path, damage: str) -> None:
    match damage:
        case "no manifest":
            (package / "Manifest.json").unlink()
        case "short weights":
            (package / WEIGHTS).write_bytes((package / WEIGHTS).read_bytes()[:200])
        case "no weights":
            (package / WEIGHTS).unlink()
        case _:
            (package / SPECIFICATION).write_bytes(b"\xff" * 100)
    with pytest.raises(ExportError):
        MilProgram(package)


def test_pictures_of_another_size_are_refused(exported: Mapping[str, Path]) -> None:
    with pytest.raises(ExportError, match=r"takes uint8 \[N, 64, 64, 3\]"):
        MilProgram(exported["coreml"]).predict(np.zeros((1, 32, 32, 3), np.uint8))
