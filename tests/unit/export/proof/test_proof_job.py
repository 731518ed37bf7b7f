from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork
from export.encoder.graph import exact_graph
from export.proof import proof_job
from export.proof.comparison import REFERENCE, compare, reference_runtime
from export.proof.proof_job import ProofJob, ProofRunner, median_latency, processes_for


@pytest.mark.parametrize(("cores", "count", "processes"), [
    (2, 200, 2), (2, 20, 2), (2, 15, 1), (1, 200, 1), (64, 200, 4)])
def test_few_inputs_are_not_worth_a_second_process(cores: int, count: int, processes: int,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof_job.os, "cpu_count", lambda: cores)
    assert processes_for(count) == processes


def test_two_processes_compute_what_one_does_and_the_loss_of_one_is_an_error(
        network: IntegerNetwork, exported: Mapping[str, Path]) -> None:
    job = ProofJob(exact_graph(network), {"onnx": exported["onnx"]}, 20, network, seed=4)
    before = dict(os.environ)
    with ProofRunner(1) as alone:
        expected = list(alone.run(job))
    with ProofRunner(2) as runner:
        assert dict(os.environ) == before
        chunks = list(runner.run(job))
        assert [len(chunk.names) for chunk in expected] == [16, 4]
        assert [len(chunk.names) for chunk in chunks] == [10, 10]
        assert sum((chunk.names for chunk in chunks), []) == sum((chunk.names for chunk in expected), [])
        names = expected[0].lrs.keys()
        assert len(names) == 7 and REFERENCE in names  # four of ONNX Runtime, two of torch
        for name in names:
            assert np.array_equal(*(np.concatenate([chunk.lrs[name] for chunk in part]) for part in (chunks, expected)))
        assert all(not result.differing_bytes and result.inputs == 20 for result in compare(chunks))
        latencies = runner.latencies(job)
        assert len(latencies) == 3 and all(seconds > 0 for seconds in latencies.values())
        assert runner._executor is not None
        os.kill(runner._executor.submit(os.getpid).result(), signal.SIGKILL)
        with pytest.raises(ExportError, match="a process of the comparison ended early"):
            list(runner.run(job))


def test_latency_is_a_positive_time(network: IntegerNetwork) -> None:
    picture = np.zeros((network.hr, network.hr, 3), np.uint8)
    assert 0 < median_latency(reference_runtime(network), picture, repeats=3) < 5
