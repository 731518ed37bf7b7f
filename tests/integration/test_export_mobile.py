"""Exports of the default bundle are byte-identical everywhere; large changes of weights are noticed by the LRs."""

import shutil
import struct
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from edge_encoder.integer_network import IntegerNetwork, load_integer_network, run_reference
from export.encoder import export_encoder
from export.encoder.graph import exact_graph
from export.proof.inputs import SHARES, find_pictures, make_inputs
from export.proof.prove import ProofJob, compare, run_all
from export.proof.report import require_exact
from export.proof.runtimes import Runtime, coreml_runtimes
from tests.networks import random_network

INPUTS = 19
"""The fewest that hold an adversarial input of each kind; ``python -m export.mobile`` compares 200."""
BATCH = 16
"""At this size torch takes its Winograd kernels; more inputs would cost a second batch."""


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    return random_network(seed=11)


@pytest.fixture(scope="module")
def exported(network: IntegerNetwork, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return export_encoder(network, tmp_path_factory.mktemp("dist"))


def test_a_flipped_bit_in_the_weight_file_is_noticed_or_refused(
    network: IntegerNetwork, exported: Mapping[str, Path], tmp_path: Path
) -> None:
    package = Path(shutil.copytree(exported["coreml"], tmp_path / "encoder.mlpackage"))
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    original = file.read_bytes()
    _, _, size, start = struct.unpack_from("<IIQQ", original, 64)  # the stem's record
    for position in range(start, start + size, size // 8):  # the signs of eight or nine weights
        data = bytearray(original)
        data[position] ^= 0x80
        file.write_bytes(data)
        runtimes = [Runtime("reference", partial(run_reference, network)), *coreml_runtimes(package)]
        assert compare(run_all(runtimes, make_inputs(network.hr, 8)))[0]["differing_bytes"] > 0


def test_the_default_bundles_exports_are_the_reference_everywhere(default_bundle: Path, tmp_path: Path) -> None:
    network = load_integer_network(default_bundle / "encoder.safetensors")
    graph = exact_graph(network)
    names = {"tflite": "encoder.tflite", "coreml": "encoder.mlpackage", "onnx": "encoder.onnx"}
    artefacts = {kind: default_bundle / name for kind, name in names.items()}
    for path in artefacts.values():  # int8, not float32
        size = sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
        assert size < 1.2 * graph.parameters()
    reference, *runtimes = ProofJob(graph, artefacts, INPUTS, network).runtimes()
    assert len(runtimes) >= 13
    inputs = list(make_inputs(network.hr, INPUTS, network=network, pictures=find_pictures(), seed=2))
    inputs = inputs[len(inputs) - BATCH :]  # leaves out some of the many pictures, which come first
    assert Counter(item.kind for item in inputs).keys() == SHARES.keys()
    searched = [item.name for item in inputs if item.kind == "adversarial"]
    assert len(searched) == 3 and any("extreme" in name for name in searched)
    results = compare(run_all([reference, *(runtime for runtime in runtimes if not runtime.slow)], inputs))
    assert len(results) >= 11 and all(result["inputs"] == BATCH for result in results)
    require_exact(results)
    # LiteRT's reference kernels take tens of times as long as the others: two inputs.
    slow = [runtime for runtime in runtimes if runtime.slow]
    hardest = [next(item for item in inputs if item.kind == kind) for kind in ("picture", "adversarial")]
    results = compare(run_all([reference, *slow], hardest))
    assert [result["inputs"] for result in results] == [len(hardest)]
    require_exact(results)
