"""The tests of on_device/, and the GPU tests of the fused ops, in processes on the fake device."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.fake_cuda.environment import FakeCuda

ON_DEVICE = Path(__file__).parent / "on_device"
GPU_TESTS = ["tests/unit/server_decoder/cuda_ops/test_kernels.py", "-k", "cuda",
             "-p", "tests.fake_cuda.on_device.gpu_tests"]
SECONDS = 100


def run_tests(fake_cuda: FakeCuda, *arguments: str) -> int:
    """The number of tests that passed; fails if one failed, skips if all were skipped."""
    command = [sys.executable, "-m", "pytest", "--no-header", "-p", "no:cacheprovider", *arguments]
    done = fake_cuda.run(command, SECONDS)
    print(f"onnxruntime-gpu {fake_cuda.version} on the fake device\n{done.stdout}{done.stderr}")
    counts = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|skipped|failed|error)", done.stdout)}
    if done.returncode:
        failed = re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.M)
        pytest.fail("\n".join(failed) or f"exit status {done.returncode}", pytrace=False)
    if not counts.get("passed"):
        pytest.skip("; ".join(re.findall(r"^SKIPPED .*", done.stdout, re.M)) or fake_cuda.no_ops)
    return counts["passed"]


def test_decoders_run_on_the_fake_device(fake_cuda: FakeCuda) -> None:
    assert run_tests(fake_cuda, str(ON_DEVICE)) > 10


def test_fused_ops_compute_on_the_fake_device(fake_cuda: FakeCuda) -> None:
    if fake_cuda.ops is None:
        pytest.skip(fake_cuda.no_ops)
    assert run_tests(fake_cuda, *GPU_TESTS) > 40
