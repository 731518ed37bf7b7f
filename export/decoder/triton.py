"""A decoder as a model repository of NVIDIA's Triton Inference Server: ONNX Runtime backend, dynamic batches.

    edgegrain export triton --bundle faces --out models

    models/faces-256-lr16-small/config.pbtxt
                          1/model.onnx
                          1/libedgegrain_ops.so     a decoder with fused ops needs it

Triton serves the network alone, with its own input and output: ``lr`` float32 [3, h, w] in [-1, 1] to ``hr`` float32
[3, H, W], or uint8 [h, w, 3] to uint8 [H, W, 3]. Payloads and picture files are left to the caller. The fields are
those of Triton's ``model_config.proto``, and the tests parse the file with it. Where Triton is installed, they serve
the repository on the CPU; it has not been served on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import ExistsError, ExportError
from codec_contract.files import written_whole
from server_decoder.cuda_ops.library import OLDEST_RUNTIME, find_library, has_cuda_kernels, needs_library
from server_decoder.decoder_session import Device

CONFIG = "config.pbtxt"
MODEL = "model.onnx"
VERSION = "1"
"""Triton numbers a model's versions; a bundle's own version is among the parameters."""

DATA_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "TYPE_FP32", TensorProto.FLOAT16: "TYPE_FP16", TensorProto.UINT8: "TYPE_UINT8"}
KINDS: dict[Device, str] = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}
LIBRARY = "libedgegrain_ops.so"
"""Name of the library of fused ops in the repository; Triton runs on Linux."""

OLDEST_ONNXRUNTIME = ".".join(map(str, OLDEST_RUNTIME))
"""The oldest ONNX Runtime that Triton's backend may have for a decoder with fused ops."""


class Symbol(str):
    """A value of an enumeration, written without quotes."""


@dataclass(frozen=True)
class Serving:
    """Triton's settings for a decoder; queue and batches have the defaults of `edgegrain serve`.

    Attributes:
        device: the only one it runs on.
        batch_sizes: ascending; each is warmed up before the model is ready, the last one is the largest.
        wait: microseconds that a request waits to fill a batch.
        queue_size: requests that may wait; more are refused.
        deadline: microseconds after which a waiting request is refused.
        mount: Triton's ``--model-repository``; part of the path of the library of fused ops.
    """

    device: Device = "cuda"
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8)
    wait: int = 2_000
    queue_size: int = 128
    deadline: int = 10_000_000
    mount: str = "/models"


def write_repository(
    folder: Path, name: str, model: bytes, manifest: Manifest | None = None, serving: Serving | None = None, *,
    force: bool = False,
) -> Path:
    """Write a decoder into a model repository, which may hold others.

    Args:
        folder: the repository.
        name: of the model.
        model: the decoder, an ONNX file.
        manifest: of its bundle; the repository names the LR contract, so that callers know which payloads it restores.
        serving: None for the defaults.
        force: replace a model of that name.

    Returns:
        The model's folder.

    Raises:
        ExportError: an input or output has no batch dimension, or a type that is not served.
        DeviceError: the decoder has fused ops, and their library is not built.
        ExistsError: there is a model of that name.
    """
    serving = serving or Serving()
    text = "".join(f"{line}\n" for line in prototext(model_config(name, model, manifest, serving)))
    refuse_to_replace_model(folder, name, force=force)
    target = folder / name
    files = {target / CONFIG: text.encode(), target / VERSION / MODEL: model}
    if needs_library(model):
        library = find_library()
        if serving.device == "cuda" and not has_cuda_kernels(library):
            raise ExportError(f"{library} has no CUDA kernels; build it where nvcc is (docs/cuda_ops.md)")
        files[target / VERSION / LIBRARY] = library.read_bytes()
    with ExitStack() as written:  # renamed in the opposite order, the configuration last: without it there is no model
        for path, data in files.items():
            written.enter_context(written_whole(path, force=force)).write_bytes(data)
    if not needs_library(model):
        (target / VERSION / LIBRARY).unlink(missing_ok=True)  # of the model that is replaced
    return target


def refuse_to_replace_model(folder: Path, name: str, *, force: bool = False) -> None:
    """Raise `ExistsError` if `write_repository` would; to call before an export."""
    if (folder / name).exists() and not force:
        raise ExistsError(folder / name)


def model_config(name: str, model: bytes, manifest: Manifest | None, serving: Serving) -> dict[str, Any]:
    """The fields of a ``ModelConfig``, from the decoder's graph and the bundle's manifest.

    Raises:
        ExportError: as `write_repository`.
    """
    graph = onnx.load_model_from_string(model).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor(value) for value in graph.input if value.name not in weights]
    largest = serving.batch_sizes[-1]
    config: dict[str, Any] = {
        "name": name,
        "backend": "onnxruntime",
        "max_batch_size": largest,
        "input": inputs,
        "output": [_tensor(value) for value in graph.output],
        "instance_group": [{"kind": Symbol(KINDS[serving.device]), "count": 1}],
        "dynamic_batching": {
            "max_queue_delay_microseconds": serving.wait,
            "default_queue_policy": {
                "timeout_action": Symbol("REJECT"),
                "default_timeout_microseconds": serving.deadline,
                "max_queue_size": serving.queue_size,
            },
        },
        "model_warmup": [
            {"name": f"batch of {size}", "batch_size": size, "inputs": [
                {"key": tensor["name"],
                 "value": {"data_type": tensor["data_type"], "dims": tensor["dims"], "zero_data": True}}
                for tensor in inputs]}
            for size in serving.batch_sizes],
    }
    parameters = {} if manifest is None else {
        "bundle": manifest.id, "version": manifest.version, "lr_contract_id": manifest.lr_contract_id.hex()}
    if needs_library(model):
        parameters["oldest_onnxruntime"] = OLDEST_ONNXRUNTIME
        path = f"{serving.mount}/{name}/{VERSION}/{LIBRARY}"
        config["model_operations"] = {"op_library_filename": [path]}
    config["parameters"] = [{"key": key, "value": {"string_value": value}} for key, value in parameters.items()]
    return config


def prototext(fields: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A message in protobuf's text format, line by line: messages as mappings, repeated fields as sequences."""
    for name, value in fields.items():
        repeated = isinstance(value, Sequence) and not isinstance(value, str)
        for item in value if repeated else [value]:
            if isinstance(item, Mapping):
                yield f"{indent}{name} {{"
                yield from prototext(item, indent + "  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{name}: {item if isinstance(item, Symbol) else json.dumps(item)}"


def _tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    """An input or output without its batch dimension; sides that the graph leaves open are -1."""
    kind, dimensions = value.type.tensor_type.elem_type, value.type.tensor_type.shape.dim
    if kind not in DATA_TYPES:
        raise ExportError(f"{value.name} is of type {TensorProto.DataType.Name(kind)}, which is not served")
    if len(dimensions) < 2 or dimensions[0].HasField("dim_value"):
        raise ExportError(f"{value.name} has no open batch dimension, so Triton could not batch it")
    sides = [side.dim_value if side.HasField("dim_value") else -1 for side in dimensions[1:]]
    return {"name": value.name, "data_type": Symbol(DATA_TYPES[kind]), "dims": sides}
