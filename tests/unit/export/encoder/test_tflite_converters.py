import importlib.util
import itertools
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.encoder import export_encoder, tflite_converters
from export.encoder.graph import TfliteConverter, exact_graph
from export.encoder.tflite import pack
from export.encoder.tflite_converters import converted
from export.proof.runtimes import tflite_runtimes

OTHERS = [converter for converter in TfliteConverter if converter is not TfliteConverter.direct]


@pytest.mark.parametrize("converter", OTHERS)
def test_every_installed_converter_gives_the_reference_bytes(
    converter: TfliteConverter, network: IntegerNetwork, tmp_path: Path
) -> None:
    if importlib.util.find_spec(converter.name) is None:
        pytest.skip(f"{converter} is not installed")
    path = export_encoder(network, tmp_path, ["tflite"], tflite_converter=converter)["tflite"]
    noise = np.random.default_rng(7).integers(0, 256, (3, 1, network.hr, network.hr, 3), dtype=np.uint8)
    for runtime, picture in itertools.product(tflite_runtimes(path), noise):
        assert np.array_equal(runtime.encode(picture), run_reference(network, picture)), runtime.name


@pytest.mark.parametrize("converter", OTHERS)
def test_a_converter_that_is_not_installed_is_named_with_its_command(
    converter: TfliteConverter, network: IntegerNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, converter.name, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ExportError, match=r"pip install 'edgegrain\[onnx2tf\]'"):
        converted(exact_graph(network), converter)


def test_what_onnx2tf_says_when_it_fails_is_shown(network: IntegerNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('no luck')"]
    monkeypatch.setattr(tflite_converters, "_onnx2tf", lambda: failing)
    with pytest.raises(ExportError, match="onnx2tf failed with status 1: no luck"):
        converted(exact_graph(network), TfliteConverter.onnx2tf)


def test_converted_files_have_our_names(network: IntegerNetwork, exported: Mapping[str, Path], tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(exported["tflite"].read_bytes(), 0)
    (part,) = model.subgraphs
    for tensor in part.tensors:
        tensor.name = f"other/{tensor.name.decode()}"
    path = tmp_path / "encoder.tflite"
    path.write_bytes(tflite_converters._finished(pack(model, int(part.outputs[0]), int(part.inputs[0]))))
    picture = np.random.default_rng(7).integers(0, 256, (1, network.hr, network.hr, 3), dtype=np.uint8)
    for runtime in tflite_runtimes(path):
        assert np.array_equal(runtime.encode(picture), run_reference(network, picture)), runtime.name
