"""Page-locked memory with a run time of CUDA that is replaced here; on a GPU host, the real one."""

from __future__ import annotations

import ctypes
import gc
import logging
from typing import Any

import numpy as np
import onnxruntime
import pytest

from server_decoder import bound_runs


class FakeRuntime:
    """`cudaHostAlloc`, `cudaFreeHost` and `cudaGetLastError` on ordinary memory."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.last_error = 0
        self.blocks: dict[int, Any] = {}

    def cudaHostAlloc(self, pointer: Any, size: ctypes.c_size_t, flags: int) -> int:
        if not self.status:
            block = ctypes.create_string_buffer(size.value)
            pointer._obj.value = ctypes.addressof(block)
            self.blocks[pointer._obj.value] = block
        self.last_error = self.status or self.last_error
        return self.status

    def cudaGetLastError(self) -> int:
        error, self.last_error = self.last_error, 0
        return error

    def cudaFreeHost(self, pointer: ctypes.c_void_p) -> int:
        assert pointer.value is not None
        del self.blocks[pointer.value]
        return 0


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    fake = FakeRuntime()
    monkeypatch.setattr(bound_runs, "_runtime", lambda: fake)
    return fake


def test_an_array_frees_its_memory_when_its_last_view_is_gone(runtime: FakeRuntime) -> None:
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


def test_memory_is_ordinary_where_none_can_be_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    for runtime in (FakeRuntime(status=2), None):
        monkeypatch.setattr(bound_runs, "_runtime", lambda runtime=runtime: runtime)
        array = bound_runs.page_locked_empty((4, 4), np.uint8)
        assert array.flags.owndata and array.shape == (4, 4)
        assert runtime is None or runtime.last_error == 0  # ONNX Runtime would take it for its own


def test_a_run_time_that_is_not_found_is_logged_once(
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(onnxruntime, "cuda_version", "0.7", raising=False)
    bound_runs._runtime.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert bound_runs.page_locked_empty((1,), np.uint8).flags.owndata
    bound_runs._runtime.cache_clear()
    assert len(caplog.records) == 1 and "cudart" in caplog.text and "pageable memory" in caplog.text
