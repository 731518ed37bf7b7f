"""The devices that ops are tested on, and random inputs."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from server_decoder.cuda_ops import library
from tests.custom_ops import Ops


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def ops(request: pytest.FixtureRequest, ops_library: Path) -> Ops:
    if request.param == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers() or not torch.cuda.is_available():
            pytest.skip("needs a GPU, onnxruntime-gpu and torch with CUDA")
        if not library.has_cuda_kernels(ops_library):
            pytest.skip("the library of fused ops was built without nvcc")
    return Ops(ops_library, request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    seed = secrets.randbits(32)  # fresh inputs in every run; pytest shows what a failing test printed
    print(f"seed {seed}")
    return np.random.default_rng(seed)
