"""Runs on buffers that are kept, with or without CUDA graphs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from codec_contract.errors import DeviceMemoryError
from server_decoder.bound_runs import BoundRuns
from server_decoder.decoder_session import DecoderSession
from server_decoder.providers import CudaOptions, can_replay_graphs
from tests.pretended_cuda import CPU, PretendedCuda
from tests.tiny_bundle import HR, LR, model_of, quantizing_decoder, repeating_decoder, steered_decoder


def lrs(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, LR, LR, 3), dtype=np.uint8)


def enlarged(lr: np.ndarray) -> np.ndarray:
    return lr.repeat(HR // LR, axis=1).repeat(HR // LR, axis=2)


NOISY = model_of("(float[b, 3, h, w] lr, float[b, 3, h, w] noise) => (float[b, 3, h, w] hr) { hr = Add(lr, noise) }")


def bound(model: bytes) -> BoundRuns:
    """On the CPU, the same code that feeds a GPU; CUDA graphs are what is left out."""
    return BoundRuns(onnxruntime.InferenceSession(model, providers=[CPU]), "cpu")


def test_bound_runs_equal_unbound_ones() -> None:
    runs = bound(NOISY)

    def feeds(count: int, side: int = 6) -> dict[str, np.ndarray]:
        lr, noise = np.random.default_rng().standard_normal((2, count, 3, side, side), np.float32)
        return {"lr": lr, "noise": noise}

    for count in (2, 1, 2):
        runs.keep(feeds(count))
    assert sorted(runs._kept) == [1, 2]
    given = [feeds(2), feeds(1), feeds(3), feeds(2, side=4), feeds(1)]
    results = [runs.run(values) for values in given]
    for values, result in zip(given, results, strict=True):  # a result stays when the next run writes its buffer
        np.testing.assert_array_equal(result, values["lr"] + values["noise"])


def test_a_result_is_not_written_by_the_runs_of_other_threads() -> None:
    runs, given = bound(quantizing_decoder()), [lrs(2, seed) for seed in range(60)]
    runs.keep({"lr": given[0]})
    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(lambda lr: runs.run({"lr": lr}), given))  # kept until all have run
    for lr, hr in zip(given, results, strict=True):
        np.testing.assert_array_equal(hr, enlarged(lr))


# -- sessions on CUDA ---------------------------------------------------------------------------------------


@pytest.fixture
def made(pretended_cuda: PretendedCuda, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, bool]]:
    """Device, its number and graphs of all buffers that sessions make; they lie on the CPU."""
    made: list[tuple[str, int, bool]] = []

    def make(session: onnxruntime.InferenceSession, device: str, number: int, *, graphs: bool) -> BoundRuns:
        made.append((device, number, graphs))
        return BoundRuns(session, "cpu", graphs=graphs)

    monkeypatch.setattr("server_decoder.decoder_session.BoundRuns", make)
    return made


def fail_captures(
    session: DecoderSession, monkeypatch: pytest.MonkeyPatch, sizes: Sequence[int], text: str
) -> list[str]:
    """Let runs with the graphs of these sizes fail; returns a list of the graphs of all runs."""
    run, graphs = session._session.run_with_iobinding, []

    def fail(binding: onnxruntime.IOBinding, options: onnxruntime.RunOptions) -> None:
        graphs.append(options.get_run_config_entry("gpu_graph_id"))
        if graphs[-1] in map(str, sizes):
            raise RuntimeError(f"{text}\nat some place")
        run(binding, options)

    monkeypatch.setattr(session._session, "run_with_iobinding", fail)
    return graphs


@pytest.mark.parametrize("model", [repeating_decoder(), quantizing_decoder()], ids=["float", "uint8"])
def test_the_cuda_path_is_the_bound_one(made: list[tuple[str, int, bool]], model: bytes) -> None:
    session = DecoderSession(model, "cuda", cuda=CudaOptions(device_id=1))
    session.warm_up([1, 4])
    assert made == [("cuda", 1, True)] and session.graphs and sorted(session._bound._kept) == [1, 4]
    for count in (1, 3, 4):
        np.testing.assert_array_equal(session.decode(lrs(count)), enlarged(lrs(count)))


def test_buffers_that_were_kept_fit_batches_of_any_strength(made: list, monkeypatch: pytest.MonkeyPatch) -> None:
    session = DecoderSession(steered_decoder(), "cuda", strength=8)
    session.warm_up([2])
    replayed: list[int] = []
    replay = BoundRuns._replay
    monkeypatch.setattr(BoundRuns, "_replay", lambda self, *given: replayed.append(1) or replay(self, *given))
    lr = np.full((2, LR, LR, 3), 100, np.uint8)
    assert [int(hr.max()) for hr in session.decode(lr, strength=[4, 64])] == [102, 132]
    assert [int(hr.max()) for hr in session.decode(lr)] == [104, 104] and len(replayed) == 2


def test_a_failed_capture_is_final(
    made: list, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = DecoderSession(repeating_decoder(), "cuda")
    graphs = fail_captures(session, monkeypatch, [2, 4], "CUDA failure 901: operation failed")
    session.warm_up([1])
    assert session.graphs and graphs == ["-1", "1"]
    session.warm_up([2, 4])
    assert not session.graphs and sorted(session._bound._kept) == [1, 2, 4]
    (record,) = caplog.records
    assert record.getMessage() == "this decoder runs without CUDA graphs: CUDA failure 901: operation failed"
    for count in (1, 2, 3, 4):
        np.testing.assert_array_equal(session.decode(lrs(count)), enlarged(lrs(count)))
    assert graphs[2:] == ["-1", "2", *["-1"] * 7]


def test_a_capture_without_memory_is_an_error_and_keeps_nothing(made: list, monkeypatch: pytest.MonkeyPatch) -> None:
    session = DecoderSession(repeating_decoder(), "cuda")
    fail_captures(session, monkeypatch, [4], "CUDA failure 2: out of memory")
    with pytest.raises(DeviceMemoryError, match="warming up for batches of 4 needs more memory"):
        session.warm_up([2, 4])
    assert session.graphs and sorted(session._bound._kept) == [2]
    np.testing.assert_array_equal(session.decode(lrs(4)), enlarged(lrs(4)))


def test_old_releases_run_without_graphs(
    made: list, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.29.1")
    session = DecoderSession(repeating_decoder(), "cuda", cuda=CudaOptions())
    assert made == [("cuda", 0, False)] and not session.graphs
    assert "install onnxruntime-gpu 1.30 or newer" in caplog.text
    assert all(map(can_replay_graphs, ("1.30.0", "1.31.1", "2.0.0")))
    assert not any(map(can_replay_graphs, ("1.9.0", "1.29.1", "?")))
