"""One node of com.edgegrain as a session on the devices that ops are tested on, and random inputs."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from server_decoder.cuda_ops import library

TOLERANCE = {np.float32: 1e-5, np.float16: 2e-3}
"""Of the largest value."""
TYPES = pytest.mark.parametrize("kind", [np.float32, np.float16], ids=["float32", "float16"])
_KINDS = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.uint8): TensorProto.UINT8,
}


class Ops:
    """Runs one op on one device."""

    def __init__(self, path: Path, device: str) -> None:
        self.path, self.device = path, device

    def session(
        self,
        op: str,
        inputs: Sequence[np.ndarray | None],
        outputs: int = 1,
        threads: int = 1,
        constants: Collection[int] = (),
        result: type = np.float32,
        **attributes: object,
    ) -> onnxruntime.InferenceSession:
        """A session of one node; ``constants`` are the numbers of the inputs that are part of the graph."""
        names = [f"in{index}" if array is not None else "" for index, array in enumerate(inputs)]
        results = [f"out{index}" for index in range(outputs)]
        given = [index for index, array in enumerate(inputs) if array is not None and index not in constants]
        shapes = {index: ["batch", *inputs[index].shape[1:]] if index == 0 else inputs[index].shape for index in given}
        graph = helper.make_graph(
            [helper.make_node(op, names, results, domain=library.DOMAIN, **attributes)],
            "test",
            [
                helper.make_tensor_value_info(names[index], _KINDS[inputs[index].dtype], shape)
                for index, shape in shapes.items()
            ],
            [helper.make_tensor_value_info(name, _KINDS[np.dtype(result)], None) for name in results],
            [numpy_helper.from_array(inputs[index], names[index]) for index in constants if inputs[index] is not None],
        )
        model = helper.make_model(
            graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(library.DOMAIN, 1)]
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        library.register_library(options, self.device, self.path)
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[self.device]
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])
        assert session.get_providers()[0] == provider
        return session

    def __call__(
        self,
        op: str,
        *inputs: np.ndarray | None,
        outputs: int = 1,
        threads: int = 1,
        constants: Collection[int] = (),
        result: type | None = None,
        **attributes: object,
    ) -> list[np.ndarray]:
        """The outputs, of the type of the first input if ``result`` is not given."""
        session = self.session(op, inputs, outputs, threads, constants, result or inputs[0].dtype.type, **attributes)
        return session.run(
            None,
            {f"in{index}": array for index, array in enumerate(inputs) if array is not None and index not in constants},
        )


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest, relative to the largest wanted value."""
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


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
