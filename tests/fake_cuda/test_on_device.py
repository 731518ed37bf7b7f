"""Tests that run in a process on the fake device: those of on_device/, and the GPU tests of the fused ops."""

import re
import sys
from pathlib import Path

import pytest

from server_decoder.providers import can_replay_graphs
from tests.fake_cuda.environment import FakeCuda

SECONDS = 400  # on a machine that does other work; alone each of the two takes a minute
# Of convolutions float16 is what is served; the emulation's own test computes in both types. Threads are the CPU's.
GPU_TESTS = ["tests/unit/server_decoder/cuda_ops", "-p", "tests.fake_cuda.on_device.gpu_tests"]
GPU_TESTS += ["-k", "[cuda and (test_kernels or not float32) and not several_threads"]


def run_tests(fake_cuda: FakeCuda, *arguments: str) -> int:
    """The number of tests that passed; fails if one failed, skips if all were skipped."""
    command = [sys.executable, "-m", "pytest", "--no-header", "-p", "no:cacheprovider", *arguments]
    done = fake_cuda.run(command, SECONDS)
    print(f"onnxruntime-gpu {fake_cuda.version} on the fake device\n{done.stdout}{done.stderr}")
    if done.returncode:
        failed = re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.M)
        pytest.fail("\n".join(failed) or f"exit status {done.returncode}", pytrace=False)
    passed = re.search(r"(\d+) passed", done.stdout)
    if passed is None:
        pytest.skip("; ".join(re.findall(r"^SKIPPED .*", done.stdout, re.M)) or fake_cuda.no_ops)
    return int(passed[1])


def test_decoders_run_on_the_fake_device(fake_cuda: FakeCuda) -> None:
    assert run_tests(fake_cuda, str(Path(__file__).parent / "on_device")) > 10


def test_fused_ops_compute_on_the_fake_device(fake_cuda: FakeCuda) -> None:
    if fake_cuda.ops is None:
        pytest.skip(fake_cuda.no_ops)
    if not can_replay_graphs(fake_cuda.version):
        pytest.skip(f"the extra gpu excludes onnxruntime-gpu {fake_cuda.version}")
    assert run_tests(fake_cuda, *GPU_TESTS) > 60
