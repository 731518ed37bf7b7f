"""Every node that computes runs on CUDA, and no node copies between the host and the device."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from server_decoder.cuda_ops.library import DOMAIN, contains, register_library
from server_decoder.providers import CudaOptions, create_session
from tests.fake_cuda.on_device.conftest import Device
from tests.fake_cuda.on_device.decoders import FUSED_HALF, SHIPPED, Decoders

CUDA = "CUDAExecutionProvider"


def executed_nodes(model: Path, cuda: CudaOptions, batch: int, folder: Path) -> list[dict[str, Any]]:
    """The nodes of a run in ONNX Runtime's profile, with those that it inserted."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.log_severity_level = 4
    options.profile_file_prefix = str(folder / "profile")
    if contains(model, DOMAIN.encode()):
        register_library(options, "cuda")
    session = create_session(str(model), options, "cuda", "decoder", cuda)
    lr = session.get_inputs()[0]
    kind = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[lr.type]
    session.run(None, {lr.name: np.zeros([size if isinstance(size, int) else batch for size in lr.shape], kind)})
    events = json.loads(Path(session.end_profiling()).read_text())
    return [event["args"] for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]


def is_shape_arithmetic(node: dict[str, Any]) -> bool:
    """True for a node that gives whole numbers of at most one dimension: ONNX Runtime keeps these on the CPU."""
    return all(set(value) == {"int64"} and len(value["int64"]) <= 1 for value in node["output_type_shape"])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
def test_every_node_is_on_cuda(
    idle_kernels: Device, emulated_ops: Path, decoders: Decoders, tmp_path: Path, fused: bool, nhwc: bool
) -> None:
    model = decoders(FUSED_HALF) if fused else SHIPPED
    nodes = executed_nodes(model, CudaOptions(graphs=False, prefer_nhwc=nhwc), 2, tmp_path)
    assert sum(node["provider"] == CUDA for node in nodes) > 100
    assert [node["op_name"] for node in nodes if node["op_name"].startswith("Memcpy")] == []
    assert [node for node in nodes if node["provider"] != CUDA and not is_shape_arithmetic(node)] == []
