"""Fixtures of tests that run on the fake device: its journal, and the op library with emulated CUDA kernels."""

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
        return json.loads(self.runtime.fake_cuda_report())

    def __getattr__(self, setting: str) -> Any:
        """``reset``, ``poison`` (the content of new memory; 255 is NaN), ``idle`` (no kernel computes anything),
        ``fail_captures``, ``prolong_captures`` (in milliseconds): functions of device/fake_cuda.h."""
        return getattr(self.runtime, f"fake_cuda_{setting}")


@pytest.fixture
def device() -> Iterator[Device]:
    """The device, its journal empty; afterwards no call may have been refused."""
    device = Device(os.environ[RUNTIME])
    for setting, value in (("poison", 255), ("idle", False), ("fail_captures", False), ("prolong_captures", 0)):
        getattr(device, setting)(value)
    device.reset()
    yield device
    assert device.report()["violations"] == []


@pytest.fixture
def idle_kernels(device: Device) -> Device:
    """The device for decoders with nodes of ONNX Runtime: no kernel computes anything, and memory is 0, not NaN."""
    device.poison(0)
    device.idle(True)
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
