"""One node of com.edgegrain as a session on the devices that ops are tested on, and random inputs."""

import secrets
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper

from server_decoder.cuda_ops import library

TOLERANCE = {np.float32: 1e-5, np.float16: 2e-3}
"""Of the largest value."""
TYPES = pytest.mark.parametrize("kind", [np.float32, np.float16], ids=["float32", "float16"])


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
        node = helper.make_node(op, names, results, domain=library.DOMAIN, **attributes)
        fixed = [index for index in constants if inputs[index] is not None]
        held = [numpy_helper.from_array(inputs[index], names[index]) for index in fixed]
        ends = [_described(names[index], inputs[index].dtype, shape) for index, shape in shapes.items()]
        graph = helper.make_graph([node], "test", ends, [_described(name, result, None) for name in results], held)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(library.DOMAIN, 1)]
        return self.opened(helper.make_model(graph, ir_version=8, opset_imports=opsets), threads)

    def opened(self, model: ModelProto, threads: int = 1) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        library.register_library(options, self.device, self.path)
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[self.device]
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])
        assert session.get_providers()[0] == provider
        return session

    def __call__(
        self, op: str, *inputs: np.ndarray | None, constants: Collection[int] = (), result: Any = None, **options: Any
    ) -> list[np.ndarray]:
        """The outputs, of the type of the first input if ``result`` is not given."""
        session = self.session(op, inputs, constants=constants, result=result or inputs[0].dtype, **options)
        given = {f"in{index}": array for index, array in enumerate(inputs) if index not in constants}
        return session.run(None, {name: array for name, array in given.items() if array is not None})


def _described(name: str, kind: Any, shape: Sequence[object] | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)


def random_rest(
    rng: np.random.Generator, kind: type, shape: tuple[int, ...], parts: str = "dnbsro"
) -> list[np.ndarray | None]:
    """Inputs from demodulation to outer for a result of this shape; those whose initial is in ``parts``."""
    batch, height, width, channels = shape
    made = {
        "d": rng.uniform(0.2, 2, (batch, channels)).astype(np.float32),
        "n": rng.standard_normal((1, height, width, 1)).astype(kind),
        "b": rng.standard_normal(channels).astype(np.float32),
        "s": rng.standard_normal((batch, channels)).astype(np.float32),
        "r": rng.standard_normal(shape).astype(kind),
        "o": rng.standard_normal(shape).astype(kind),
    }
    return [made[part] if part in parts else None for part in "dnbsro"]


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
