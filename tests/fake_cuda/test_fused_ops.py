"""The GPU tests of the fused ops on the fake device: their emulated CUDA kernels against float64."""

from __future__ import annotations

import pytest

from server_decoder.providers import can_replay_graphs
from tests.fake_cuda.environment import FakeCuda
from tests.fake_cuda.inner_tests import run_tests

# float16 is what is served; the emulation's own tests compute in both types. Threads are the CPU's.
GPU_TESTS = ["tests/unit/server_decoder/cuda_ops", "-k", "[cuda and not float32 and not several_threads", "-p",
             "tests.fake_cuda.on_device.gpu_tests"]


def test_fused_ops_compute_on_the_fake_device(fake_cuda: FakeCuda) -> None:
    if fake_cuda.ops is None:
        pytest.skip(fake_cuda.no_ops)
    if not can_replay_graphs(fake_cuda.version):
        pytest.skip(f"the extra gpu excludes onnxruntime-gpu {fake_cuda.version}")
    assert run_tests(fake_cuda, *GPU_TESTS) > 100
