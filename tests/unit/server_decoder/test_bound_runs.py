"""Runs on buffers that are kept, with or without CUDA graphs; captures that run alone; page-locked memory."""

from __future__ import annotations

import ctypes
import gc
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from codec_contract.errors import DeviceMemoryError
from server_decoder import bound_runs
from server_decoder.bound_runs import BoundRuns
from server_decoder.decoder_session import DecoderSession
from server_decoder.providers import CaptureLock, CudaOptions, can_replay_graphs
from tests.pretended_cuda import CPU, PretendedCuda
from tests.tiny_bundle import HR, LR, quantizing_decoder, repeating_decoder, steered_decoder

WAIT = 10


def lrs(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, LR, LR, 3), dtype=np.uint8)


def enlarged(lr: np.ndarray) -> np.ndarray:
    return lr.repeat(HR // LR, axis=1).repeat(HR // LR, axis=2)


def noisy(shape: list) -> bytes:
    """hr = lr + noise."""
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in (
        ("lr", ["b", 3, "h", "w"]), ("noise", shape), ("hr", ["b", 3, "h", "w"]))}
    node = helper.make_node("Add", ["lr", "noise"], ["hr"])
    graph = helper.make_graph([node], "noisy", [values["lr"], values["noise"]], [values["hr"]])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(proto.SerializeToString())


def bound(model: bytes) -> BoundRuns:
    """On the CPU, the same code that feeds a GPU; CUDA graphs are what is left out."""
    return BoundRuns(onnxruntime.InferenceSession(model, providers=[CPU]), "cpu")


def test_bound_runs_equal_unbound_ones() -> None:
    runs = bound(noisy(["b", 3, "h", "w"]))

    def feeds(count: int, side: int = 6) -> dict[str, np.ndarray]:
        return {name: np.random.default_rng().standard_normal((count, 3, side, side), np.float32)
                for name in ("lr", "noise")}

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


def test_older_versions_copy_results_through_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    update = onnxruntime.OrtValue.update_inplace

    def from_arrays_only(self: onnxruntime.OrtValue, data: object) -> None:
        if not isinstance(data, np.ndarray):
            raise TypeError("update_inplace(): incompatible function arguments")
        update(self, data)

    monkeypatch.setattr(onnxruntime.OrtValue, "update_inplace", from_arrays_only)
    runs = bound(quantizing_decoder())
    runs.keep({"lr": lrs(1)})
    np.testing.assert_array_equal(runs.run({"lr": lrs(1, seed=3)}), enlarged(lrs(1, seed=3)))


def test_a_failing_run_gives_its_buffers_back() -> None:
    runs, values = bound(repeating_decoder()), np.zeros((1, 3, LR, LR), np.float32)
    runs.keep({"lr": values})
    session, runs._session = runs._session, None  # type: ignore[assignment]
    for _ in range(3):
        with pytest.raises(AttributeError):
            runs.run({"lr": values})
    runs._session = session
    assert runs.run({"lr": values}).shape == (1, 3, HR, HR)


# -- sessions on CUDA ---------------------------------------------------------------------------------------


@pytest.fixture
def made(pretended_cuda: PretendedCuda, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, bool]]:
    """Device, its number and graphs of all buffers that sessions make; they lie on the CPU."""
    made: list[tuple[str, int, bool]] = []
    monkeypatch.setattr("server_decoder.decoder_session.BoundRuns", lambda session, device, number, *, graphs: (
        made.append((device, number, graphs)) or BoundRuns(session, "cpu", graphs=graphs)))
    return made


def fail_captures(session: DecoderSession, monkeypatch: pytest.MonkeyPatch, sizes: Sequence[int], text: str
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


def test_a_capture_that_fails_is_not_repeated(
        made: list, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    session = DecoderSession(repeating_decoder(), "cuda")
    graphs = fail_captures(session, monkeypatch, [2, 4], "CUDA failure 901: operation failed")
    session.warm_up([1])
    assert session.graphs and graphs == ["-1", "1"]
    session.warm_up([2, 4])
    assert not session.graphs and sorted(session._bound._kept) == [1, 2, 4]
    assert [record.getMessage() for record in caplog.records] == [
        "this decoder runs without CUDA graphs: CUDA failure 901: operation failed"]
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


def test_releases_that_replay_graphs_wrongly_run_without(
        made: list, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.29.1")
    session = DecoderSession(repeating_decoder(), "cuda", cuda=CudaOptions())
    assert made == [("cuda", 0, False)] and not session.graphs
    assert "install onnxruntime-gpu 1.30 or newer" in caplog.text
    assert [can_replay_graphs(version) for version in ("1.9.0", "1.29.1", "1.30.0", "1.31.1", "2.0.0", "?")] == [
        False, False, True, True, True, False]


# -- captures -----------------------------------------------------------------------------------------------


def test_a_capture_waits_for_work_and_later_work_for_the_capture() -> None:
    lock, begun, release, order = CaptureLock(), threading.Barrier(3), threading.Event(), []

    def work() -> None:
        with lock.work():
            begun.wait(WAIT)  # breaks unless the other work is here too
            assert release.wait(WAIT)
            order.append("work")

    def capture() -> None:
        with lock.capture():
            order.append("capture")

    def later() -> None:
        with lock.work():
            order.append("later work")

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(work) for _ in range(2)]
        begun.wait(WAIT)
        running.append(threads.submit(capture))
        while not lock.captures:
            assert not running[2].done()
        running.append(threads.submit(later))
        release.set()
        for done in running:
            done.result()
    assert order == ["work", "work", "capture", "later work"]
    for block in (lock.capture, lock.work):  # a failure releases the lock
        with pytest.raises(ValueError, match="failed"), block():
            raise ValueError("failed")


# -- page-locked memory -------------------------------------------------------------------------------------


class FakeRuntime:
    """`cudaHostAlloc`, `cudaFreeHost` and `cudaGetLastError` on ordinary memory."""

    def __init__(self, status: int = 0) -> None:
        self.status = self.last_error = status
        self.blocks: dict[int, Any] = {}

    def cudaHostAlloc(self, pointer: Any, size: ctypes.c_size_t, flags: int) -> int:
        if not self.status:
            block = ctypes.create_string_buffer(size.value)
            pointer._obj.value = ctypes.addressof(block)
            self.blocks[pointer._obj.value] = block
        return self.status

    def cudaGetLastError(self) -> int:
        error, self.last_error = self.last_error, 0
        return error

    def cudaFreeHost(self, pointer: ctypes.c_void_p) -> int:
        assert pointer.value is not None
        del self.blocks[pointer.value]
        return 0


def test_an_array_frees_its_memory_when_its_last_view_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = FakeRuntime()
    monkeypatch.setattr(bound_runs, "_runtime", lambda: runtime)
    array = bound_runs.page_locked_empty((2, 3, 5), np.float32)
    (address,) = runtime.blocks
    assert (array.ctypes.data, array.shape, array.dtype) == (address, (2, 3, 5), np.float32)
    array[:] = 7
    view = array[1, :, 2:]
    del array
    gc.collect()
    assert list(runtime.blocks) == [address] and float(view.sum()) == 63
    del view
    gc.collect()
    assert not runtime.blocks


def test_memory_is_ordinary_where_none_can_be_locked(
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(onnxruntime, "cuda_version", "0.7", raising=False)
    bound_runs._runtime.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert bound_runs.page_locked_empty((1,), np.uint8).flags.owndata
    bound_runs._runtime.cache_clear()
    assert len(caplog.records) == 1 and "cudart" in caplog.text and "pageable memory" in caplog.text
    runtime = FakeRuntime(status=2)
    monkeypatch.setattr(bound_runs, "_runtime", lambda: runtime)
    array = bound_runs.page_locked_empty((4, 4), np.uint8)
    assert array.flags.owndata and array.shape == (4, 4)
    assert runtime.last_error == 0  # ONNX Runtime would take it for its own
