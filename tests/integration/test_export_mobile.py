"""Exports of the default bundle are byte-identical everywhere; one changed weight in any file is noticed."""

from __future__ import annotations

import shutil
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork, load_integer_network
from export.encoder import export_encoder
from export.encoder.graph import exact_graph, int8_parts
from export.proof.inputs import SHARES, find_pictures, make_inputs
from export.proof.prove import compare, reference_runtime, run_all
from export.proof.report import require_exact
from export.proof.runtimes import Runtime, coreml_runtimes, load_runtimes, onnx_runtimes, tflite_runtimes
from tests.networks import random_network

INPUTS = 19
"""The fewest that hold an adversarial input of each kind; ``python -m export.mobile`` compares 200."""
BATCH = 16
"""At this size torch takes its Winograd kernels; more inputs would cost a second batch."""
LAYER = "stage1.block0.expand"


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    return random_network(seed=11)


@pytest.fixture(scope="module")
def exported(network: IntegerNetwork, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return export_encoder(network, tmp_path_factory.mktemp("dist"))


def _stored_weight(network: IntegerNetwork) -> tuple[np.ndarray, np.ndarray]:
    """One 1x1 layer's weights as they are stored, int8 ``[O, I, 1, 1]``, and the same with one weight a single step of
    the integer network larger."""
    (layer,) = [layer for layer in network.layers if layer.name == LAYER]
    parts = int8_parts(layer.exported_weight())
    assert parts is not None
    weight, scale = parts
    step = (layer.scale() / scale.ravel()).astype(np.int8)  # whole: int8_parts makes full use of int8
    changed = weight.copy()
    changed[0, 0] += step[0]
    assert changed[0, 0, 0, 0] > weight[0, 0, 0, 0]
    return weight, changed


def _change_onnx(path: Path, weight: np.ndarray, changed: np.ndarray) -> None:
    model = onnx.load(str(path))
    (tensor,) = [item for item in model.graph.initializer if item.name == f"{LAYER}.conv.weight.int8"]
    assert np.array_equal(numpy_helper.to_array(tensor), weight)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    path.write_bytes(model.SerializeToString())


def _change_bytes(path: Path, weight: np.ndarray, changed: np.ndarray) -> None:
    """Both TFLite (``[O, 1, 1, I]``) and Core ML (``[O, I, 1, 1]``) keep a 1x1 layer's weights in this order."""
    data = path.read_bytes()
    assert data.count(weight.tobytes()) == 1
    path.write_bytes(data.replace(weight.tobytes(), changed.tobytes()))


@pytest.mark.parametrize("kind", ["onnx", "tflite", "coreml"])
def test_one_changed_weight_in_a_file_is_noticed(kind: str, network: IntegerNetwork, exported: Mapping[str, Path],
                                                 tmp_path: Path) -> None:
    copies = {"onnx": shutil.copy2, "tflite": shutil.copy2, "coreml": shutil.copytree}
    path = Path(copies[kind](exported[kind], tmp_path / exported[kind].name))  # type: ignore[operator]
    loaders: dict[str, Callable[[Path], list[Runtime]]] = {
        "onnx": onnx_runtimes, "tflite": tflite_runtimes, "coreml": coreml_runtimes}

    def check() -> None:
        runtimes = [reference_runtime(network), *loaders[kind](path)]
        require_exact(compare(run_all(runtimes, make_inputs(network.hr, 20, seed=5))))

    check()
    if kind == "onnx":
        _change_onnx(path, *_stored_weight(network))
    else:
        file = path if kind == "tflite" else path / "Data/com.apple.CoreML/weights/weight.bin"
        _change_bytes(file, *_stored_weight(network))
    with pytest.raises(ExportError, match=r"[1-9]\d* of 15360 LR bytes differ"):
        check()


def test_a_flipped_bit_in_the_weight_file_is_noticed_or_refused(network: IntegerNetwork,
                                                               exported: Mapping[str, Path], tmp_path: Path) -> None:
    package = Path(shutil.copytree(exported["coreml"], tmp_path / "encoder.mlpackage"))
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    original = file.read_bytes()
    _, _, size, start = struct.unpack_from("<IIQQ", original, 64)  # the stem's record
    for position in range(start, start + size, size // 8):  # the signs of eight or nine weights
        data = bytearray(original)
        data[position] ^= 0x80
        file.write_bytes(data)
        runtimes = [reference_runtime(network), *coreml_runtimes(package)]
        assert compare(run_all(runtimes, make_inputs(network.hr, 8)))[0]["differing_bytes"] > 0


def test_the_default_bundles_exports_are_the_reference_everywhere(default_bundle: Path, tmp_path: Path) -> None:
    network = load_integer_network(default_bundle / "encoder.safetensors")
    names = {"tflite": "encoder.tflite", "coreml": "encoder.mlpackage", "onnx": "encoder.onnx"}
    artefacts = {kind: default_bundle / name for kind, name in names.items()}
    for path in artefacts.values():  # int8, not float32
        size = sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
        assert size < 1.2 * network.parameters
    runtimes = load_runtimes(exact_graph(network), artefacts)
    assert len(runtimes) >= 13
    inputs = list(make_inputs(network.hr, INPUTS, network=network, pictures=find_pictures(), seed=2))
    inputs = inputs[len(inputs) - BATCH :]  # leaves out some of the many pictures, which come first
    assert Counter(item.kind for item in inputs).keys() == SHARES.keys()
    searched = [item.name for item in inputs if item.kind == "adversarial"]
    assert len(searched) == 3 and any("extreme" in name for name in searched)
    reference = reference_runtime(network)
    results = compare(run_all([reference, *(runtime for runtime in runtimes if not runtime.slow)], inputs))
    assert len(results) >= 11 and all(result["inputs"] == BATCH for result in results)
    require_exact(results)
    # LiteRT's reference kernels take tens of times as long as the others, and know no threads: one input of each kind.
    slow = [runtime for runtime in runtimes if runtime.slow and "1 thread" in runtime.name]
    of_each = list({item.kind: item for item in inputs}.values())
    results = compare(run_all([reference, *slow], of_each))
    assert [result["inputs"] for result in results] == [len(SHARES)]
    require_exact(results)
