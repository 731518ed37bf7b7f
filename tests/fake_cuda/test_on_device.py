"""Partition, CUDA graphs and pictures of decoders on the fake device: the tests of on_device/."""

from __future__ import annotations

from pathlib import Path

from tests.fake_cuda.environment import FakeCuda
from tests.fake_cuda.inner_tests import run_tests

ON_DEVICE = Path(__file__).parent / "on_device"


def test_decoders_run_on_the_fake_device(fake_cuda: FakeCuda) -> None:
    assert run_tests(fake_cuda, str(ON_DEVICE)) > 10
