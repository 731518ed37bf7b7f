"""Fixtures of tests that run on the fake device: its journal, and the op library with emulated CUDA kernels."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from server_decoder.cuda_ops import library
from server_decoder.providers import can_replay_graphs
from tests.fake_cuda.environment import OPS, RUNTIME
from tests.fake_cuda.on_device.decoders import Decoders


class Device:
    """The fake device's journal and settings."""

    def __init__(self, runtime: str) -> None:
        self.runtime = ctypes.CDLL(runtime)
        self.runtime.fake_cuda_report.restype = ctypes.c_char_p

    def report(self) -> dict[str, Any]:
        """The counters since the last reset: `Journal` in device/device.h."""
        report: dict[str, Any] = json.loads(self.runtime.fake_cuda_report())
        return report

    def reset(self) -> None:
        self.runtime.fake_cuda_reset()

    def fill_memory_with(self, byte: int) -> None:
        """The content of memory that nobody has written; 255 is NaN."""
        self.runtime.fake_cuda_poison(byte)

    def run_emulated_kernels(self, wanted: bool) -> None:
        self.runtime.fake_cuda_idle(not wanted)

    def fail_captures(self, wanted: bool) -> None:
        self.runtime.fake_cuda_fail_captures(wanted)

    def prolong_captures(self, milliseconds: int) -> None:
        self.runtime.fake_cuda_prolong_captures(milliseconds)


@pytest.fixture
def device() -> Iterator[Device]:
    """The device, its journal empty; afterwards no call may have been refused."""
    device = Device(os.environ[RUNTIME])
    device.fill_memory_with(255)
    device.run_emulated_kernels(True)
    device.fail_captures(False)
    device.prolong_captures(0)
    device.reset()
    yield device
    assert device.report()["violations"] == []


@pytest.fixture
def idle_kernels(device: Device) -> Device:
    """The device for decoders with nodes of ONNX Runtime: no kernel computes anything, and memory is 0, not NaN."""
    device.fill_memory_with(0)
    device.run_emulated_kernels(False)
    return device


@pytest.fixture
def emulated_ops(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the op library, which sessions find."""
    if not can_replay_graphs(onnxruntime.__version__):
        pytest.skip(f"fused ops are not tested with ONNX Runtime {onnxruntime.__version__}, which extra gpu excludes")
    if OPS not in os.environ:
        pytest.skip("the fused ops are not built here")
    monkeypatch.setattr(library, "BUILT", Path(os.environ[OPS]))
    return library.BUILT


@pytest.fixture(scope="session")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Decoders:
    return Decoders(tmp_path_factory.mktemp("decoders"))
