"""The fake CUDA device as a fixture."""

import os

import pytest

from tests.fake_cuda.environment import RUNTIME, FakeCuda, Unavailable, prepare

if RUNTIME not in os.environ:
    collect_ignore = ["on_device"]  # run on the fake device by test_on_device.py


@pytest.fixture(scope="session")
def fake_cuda() -> FakeCuda:
    """The fake device with onnxruntime-gpu."""
    try:
        return prepare()
    except Unavailable as error:
        pytest.skip(str(error))
