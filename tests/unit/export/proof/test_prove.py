import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.encoder.graph import exact_graph
from export.proof import prove
from export.proof.inputs import make_inputs
from export.proof.prove import Chunk, ProofJob, compare, run_all
from export.proof.report import require_exact
from export.proof.runtimes import Runtime, load_runtimes


@pytest.fixture
def correct(network: IntegerNetwork) -> Runtime:
    return Runtime("int64 reference", partial(run_reference, network))


def test_one_wrong_byte_is_counted_and_its_input_named(network: IntegerNetwork, correct: Runtime) -> None:
    calls = []

    def wrong(rgb: np.ndarray) -> np.ndarray:
        lr = correct.encode(rgb)
        calls.append(len(rgb))
        if len(calls) == 5:
            lr[0, 3, 4, 1] ^= 1
        return lr

    inputs = list(make_inputs(network.hr, 9, seed=1))
    runtimes = [correct, replace(correct, name="right", batch=4), Runtime("wrong", wrong)]
    results = compare(run_all(runtimes, inputs))
    assert [(result["name"], result["differing_bytes"]) for result in results] == [("right", 0), ("wrong", 1)]
    assert results[1]["first_difference"] == inputs[4].name
    with pytest.raises(ExportError, match="do not ship it: wrong: 1 of 6912 LR bytes differ, first on noise"):
        require_exact(results)


def test_nothing_compared_is_no_proof() -> None:
    with pytest.raises(ExportError, match="nothing was compared"):
        require_exact(compare([]))


def test_a_fixed_batch_is_always_full(network: IntegerNetwork, correct: Runtime) -> None:
    sizes = []

    def encode(rgb: np.ndarray) -> np.ndarray:
        sizes.append(len(rgb))
        return correct.encode(rgb)

    runtimes = [correct, Runtime("fixed", encode, batch=16, fixed_batch=True)]
    (result,) = compare(run_all(runtimes, make_inputs(network.hr, 19, seed=1)))
    assert sizes == [16, 16]
    assert result["inputs"] == 19 and result["differing_bytes"] == 0


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_file_that_is_no_model_is_refused(network: IntegerNetwork, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"encoder.{kind}"
    path.write_bytes(b"this is no model")
    with pytest.raises(ExportError, match="cannot load"):
        load_runtimes(exact_graph(network), {kind: path})


def test_a_float_encoder_is_compared_with_torch(network: IntegerNetwork, exported: Mapping[str, Path]) -> None:
    graph = replace(exact_graph(network), exact=False)
    reference, *others = ProofJob(graph, {"onnx": exported["onnx"], "tflite": exported["tflite"]}, 3).runtimes()
    assert "torch" in reference.name and not any(runtime.slow for runtime in others)
    wrong = Runtime("brighter", lambda rgb: np.minimum(others[0].encode(rgb), 253) + 2)
    right, brighter = compare(run_all([reference, others[-1], wrong], make_inputs(network.hr, 3)))
    assert right["differing_bytes"] == right["largest_step"] == 0 and brighter["largest_step"] == 2


class Dying(ProofJob):
    """Its processes end."""

    def runtimes(self) -> list[Runtime]:
        os._exit(1)


def test_two_processes_compute_what_one_does_and_the_loss_of_one_is_an_error(
    network: IntegerNetwork, exported: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ProofJob(exact_graph(network), {"onnx": exported["onnx"]}, 20, network)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    expected = list(job.run())
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    chunks = list(job.run())
    assert [[len(chunk.names) for chunk in part] for part in (expected, chunks)] == [[16, 4], [10, 10]]
    assert sum((chunk.names for chunk in chunks), []) == sum((chunk.names for chunk in expected), [])
    names = list(expected[0].lrs)
    assert len(names) == 7 and names[0] == "int64 reference"  # four of ONNX Runtime, two of torch
    for name in names:
        assert np.array_equal(*(np.concatenate([chunk.lrs[name] for chunk in part]) for part in (chunks, expected)))
    with pytest.raises(ExportError, match="a process of the comparison ended early"):
        list(Dying(exact_graph(network), {}, 20).run())


def test_a_long_step_says_how_far_it_is(network: IntegerNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "LINE_EVERY", 0.0)
    monkeypatch.setattr(ProofJob, "run", lambda job: iter([Chunk(["a"] * 16, {}), Chunk(["b"] * 24, {})]))
    lines: list[str] = []
    list(prove._with_progress(ProofJob(exact_graph(network), {}, 40), "comparing", lines.append))
    assert lines == ["comparing", "comparing: 16 of 40 inputs", "comparing: 40 of 40 inputs"]
