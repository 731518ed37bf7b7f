from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork, run_reference
from export.encoder.graph import exact_graph, float_contrast
from export.proof import prove
from export.proof.inputs import make_inputs
from export.proof.prove import (
    REFERENCE,
    ExportProgress,
    ProofJob,
    ProofRunner,
    compare,
    flip_report,
    processes_for,
    reference_runtime,
    run_all,
)
from export.proof.report import require_exact
from export.proof.runtimes import Runtime, large_batch, load_runtimes


@pytest.fixture
def correct(network: IntegerNetwork) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rgb: run_reference(network, rgb)


def test_all_thirteen_runtimes_agree_with_the_reference(exported: Mapping[str, Path], network: IntegerNetwork) -> None:
    results = compare(ProofJob(exact_graph(network), exported, 40, network, seed=3).run())
    names = [result["name"] for result in results]
    assert len(set(names)) == len(names) >= 13
    for wanted in ("XNNPACK, 1 thread", "XNNPACK, 2 threads", "without delegate, 1 thread",
                   "without delegate, 2 threads", "reference kernels, 1 thread", "reference kernels, 2 threads",
                   "all optimizations, 1 thread", "all optimizations, 2 threads", "no optimizations, 1 thread",
                   "no optimizations, 2 threads", "oneDNN, batch 1", "oneDNN off, batch 16", "numpy interpreter"):
        assert any(wanted in name for name in names), wanted
    for result in results:
        assert (result["inputs"], result["bytes_compared"]) == (40, 40 * network.lr**2 * 3)
        assert result["differing_bytes"] == 0, result
    require_exact(results)


def test_one_wrong_byte_is_counted_and_its_input_named(network: IntegerNetwork,
                                                       correct: Callable[[np.ndarray], np.ndarray]) -> None:
    calls = []

    def wrong(rgb: np.ndarray) -> np.ndarray:
        lr = correct(rgb)
        calls.append(len(rgb))
        if len(calls) == 5:
            lr[0, 3, 4, 1] ^= 1
        return lr

    inputs = list(make_inputs(network.hr, 9, seed=1))
    runtimes = [reference_runtime(network), Runtime("right", correct, batch=4), Runtime("wrong", wrong)]
    results = compare(run_all(runtimes, inputs))
    assert [(result["name"], result["differing_bytes"]) for result in results] == [("right", 0), ("wrong", 1)]
    assert results[1]["first_difference"] == inputs[4].name
    with pytest.raises(ExportError, match="do not ship it: wrong: 1 of 6912 LR bytes differ, first on noise"):
        require_exact(results)


def test_nothing_compared_is_no_proof(network: IntegerNetwork, correct: Callable[[np.ndarray], np.ndarray]) -> None:
    results = compare(run_all([reference_runtime(network), Runtime("idle", correct)], []))
    with pytest.raises(ExportError, match="nothing was compared"):
        require_exact(results)


def test_a_fixed_batch_is_always_full(network: IntegerNetwork, correct: Callable[[np.ndarray], np.ndarray]) -> None:
    sizes = []

    def encode(rgb: np.ndarray) -> np.ndarray:
        sizes.append(len(rgb))
        return correct(rgb)

    runtimes = [reference_runtime(network), Runtime("fixed", encode, batch=16, fixed_batch=True)]
    (result,) = compare(run_all(runtimes, make_inputs(network.hr, 19, seed=1)))
    assert sizes == [16, 16]
    assert result["inputs"] == 19 and result["differing_bytes"] == 0


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_file_that_is_no_model_is_refused(network: IntegerNetwork, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"encoder.{kind}"
    path.write_bytes(b"this is no model")
    with pytest.raises(ExportError, match="cannot load"):
        load_runtimes(exact_graph(network), {kind: path})


def test_flips_are_counted_between_every_two_runtimes(network: IntegerNetwork) -> None:
    report = flip_report(ProofJob(float_contrast(network), {}, 20, seed=2).run())
    assert len(report["runtimes"]) == 2 and len(report["pairs"]) == 1
    assert report["inputs"] == 20 and report["bytes_compared"] == 20 * network.lr**2 * 3
    flips = report["flips_per_million"]
    assert flips["median"] == flips["worst"] == report["pairs"][0]["flips_per_million"]
    assert report["largest_step"] <= 1


def test_the_float_contrast_encodes_much_the_same_pictures(network: IntegerNetwork, noise: np.ndarray) -> None:
    from export.encoder.torch_graph import torch_encoder

    exact, real = run_reference(network, noise), torch_encoder(float_contrast(network), onednn=True)(noise)
    distance = np.abs(exact.astype(int) - real.astype(int))
    assert 0 < distance.mean() < 12  # other weights, the same kind of encoder
    assert not float_contrast(network).exact
    assert float_contrast(network).flops() == exact_graph(network).flops()


def test_batches_shrink_where_memory_would_not_hold_them(network: IntegerNetwork) -> None:
    assert large_batch(exact_graph(network)) == 16
    huge = float_contrast(network)
    object.__setattr__(huge, "hr", 8192)
    assert large_batch(huge) == 1


@pytest.mark.parametrize(("cores", "count", "processes"), [
    (2, 200, 2), (2, 20, 2), (2, 15, 1), (1, 200, 1), (64, 200, 4)])
def test_few_inputs_are_not_worth_a_second_process(cores: int, count: int, processes: int,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
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
        assert all(not result["differing_bytes"] and result["inputs"] == 20 for result in compare(chunks))
        latencies = runner.latencies(job)
        assert len(latencies) == 3 and all(seconds > 0 for seconds in latencies.values())
        assert runner._executor is not None
        os.kill(runner._executor.submit(os.getpid).result(), signal.SIGKILL)
        with pytest.raises(ExportError, match="a process of the comparison ended early"):
            list(runner.run(job))


def lines(text: io.StringIO) -> list[str]:
    return text.getvalue().splitlines()


def test_without_a_terminal_every_step_ends_in_a_line_with_its_seconds() -> None:
    written = io.StringIO()
    with ExportProgress(Console(file=written, force_terminal=False)) as progress:
        progress.step("writing encoder.tflite")
        assert not lines(written)
        advance = progress.count("comparing", 40)
        assert lines(written) == ["writing encoder.tflite, 0 s"]
        advance(16)
    assert lines(written) == ["writing encoder.tflite, 0 s", "comparing, 0 s"]


def test_a_long_step_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "LINE_EVERY", 0.0)
    written = io.StringIO()
    with ExportProgress(Console(file=written, force_terminal=False)) as progress:
        advance = progress.count("comparing", 40)
        for done in (16, 16, 8):
            advance(done)
    assert lines(written) == ["comparing: 16 of 40, 0 s", "comparing: 32 of 40, 0 s", "comparing, 0 s"]


def test_a_step_that_fails_is_not_reported_as_done() -> None:
    written = io.StringIO()
    with pytest.raises(ValueError), ExportProgress(Console(file=written, force_terminal=False)) as progress:
        progress.step("writing encoder.tflite")
        raise ValueError
    assert not lines(written)


def test_a_terminal_shows_bars_instead_of_lines() -> None:
    written = io.StringIO()
    with ExportProgress(Console(file=written, force_terminal=True, width=100)) as progress:
        progress.count("comparing", 40)(16)
    assert "16/40" in written.getvalue() and "comparing, 0 s" not in written.getvalue()


def test_without_a_console_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with ExportProgress(None) as progress:
        progress.step("writing")
        progress.count("comparing", 2)(2)
    assert capfd.readouterr() == ("", "")
