"""Runs a Core ML program with numpy, from the written .mlpackage; Core ML itself predicts on Apple's systems only.

The package is read back byte by byte: ``Manifest.json`` names the specification (a protobuf message) and the folder of
``weight.bin``, whose records are found by the offsets in the specification. Float32 throughout; weights may be
stored as int8 with a scale per channel. A program with other operations is refused by name instead of run wrongly.

Formats: https://apple.github.io/coremltools/mlmodel (specification); ``weight.bin`` is coremltools' MIL blob storage.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from codec_contract.errors import ExportError
from codec_contract.onnx_runtime import captured_stderr
from edge_encoder.integer_network import INPUT
from export.encoder.graph import OUTPUT

# One record of weight.bin: sentinel, data type, bytes, offset of the data from the file's start.
_BLOB_RECORD = struct.Struct("<IIQQ")
# MIL.proto's DataType.
_TYPES = {1: np.dtype(bool), 2: np.dtype(str), 11: np.dtype(np.float32), 21: np.dtype(np.int8), 23: np.dtype(np.int32)}


class MilProgram:
    """A program read from a package folder.

    Attributes:
        constants: values of constant tensors by name, weights as float32.
    """

    def __init__(self, package: Path) -> None:
        with captured_stderr():
            from coremltools.proto import Model_pb2
        manifest = json.loads((package / "Manifest.json").read_text())
        paths = {name: package / "Data" / entry["path"] for name, entry in manifest["itemInfoEntries"].items()}
        specification = Model_pb2.Model.FromString(paths.pop(manifest["rootModelIdentifier"]).read_bytes())
        self._weights = {file.name: file.read_bytes() for folder in paths.values() for file in folder.iterdir()}
        function = specification.mlProgram.functions["main"]
        block = function.block_specializations[function.opset]
        self.constants: dict[str, Any] = {}
        self._operations = []
        for operation in block.operations:
            match operation.type:
                case "const":
                    self.constants[operation.outputs[0].name] = self._value(operation.attributes["val"])
                case "constexpr_affine_dequantize":
                    self.constants[operation.outputs[0].name] = self._dequantized(operation)
                case kind if kind in _KERNELS:
                    self._operations.append(operation)
                case kind:
                    raise ExportError(f"{package}: the interpreter does not support {kind}")

    def predict(self, rgb: np.ndarray) -> np.ndarray:
        """Encode uint8 ``[N, hr, hr, 3]`` to uint8 ``[N, lr, lr, 3]``."""
        tensors: dict[str, Any] = dict(self.constants)
        tensors[INPUT] = rgb.transpose(0, 3, 1, 2).astype(np.float32)
        for operation in self._operations:
            arguments = {key: self._argument(value, tensors) for key, value in operation.inputs.items()}
            tensors[operation.outputs[0].name] = _KERNELS[operation.type](arguments)
        lr = tensors[OUTPUT]
        if lr.dtype != np.int32 or lr.min() < 0 or lr.max() > 255:
            raise ExportError(f"the program gave {lr.dtype} values {lr.min()}...{lr.max()}, expected int32 0...255")
        return lr.transpose(0, 2, 3, 1).astype(np.uint8)

    def layers(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Weight float32 ``[O, I / groups, kh, kw]`` and bias ``[O]`` of every convolution."""
        for operation in self._operations:
            if operation.type == "conv":
                weight, bias = (self._argument(operation.inputs[key], self.constants) for key in ("weight", "bias"))
                yield weight, bias

    def _argument(self, argument: Any, tensors: Mapping[str, Any]) -> Any:
        values = [
            tensors[binding.name] if binding.WhichOneof("binding") == "name" else self._value(binding.value)
            for binding in argument.arguments
        ]
        return values[0] if len(values) == 1 else values

    def _dequantized(self, operation: Any) -> np.ndarray:
        """Weights ``[O, I / groups, kh, kw]`` that are stored as int8 with a scale per channel."""
        integers, scale, zero_point, axis = (
            self._value(operation.attributes[key]) for key in ("quantized_data", "scale", "zero_point", "axis")
        )
        sides = np.where(np.arange(integers.ndim) == axis, -1, 1)
        values = integers.astype(np.float32) - zero_point.astype(np.float32).reshape(sides)
        return values * scale.reshape(sides)

    def _value(self, value: Any) -> Any:
        """A constant: a str, or an array shaped and typed as the specification says."""
        tensor_type = value.type.tensorType
        dtype, shape = _TYPES[tensor_type.dataType], [dimension.constant.size for dimension in tensor_type.dimensions]
        if value.WhichOneof("value") == "blobFileValue":
            data, offset = self._weights[PurePosixPath(value.blobFileValue.fileName).name], value.blobFileValue.offset
            _, _, size, start = _BLOB_RECORD.unpack_from(data, offset)
            return np.frombuffer(data, dtype, size // dtype.itemsize, start).reshape(shape)
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind == "strings":
            return str(tensor.strings.values[0])
        if kind == "bytes":
            return np.frombuffer(tensor.bytes.values, dtype).reshape(shape)
        return np.array(getattr(tensor, kind).values, dtype).reshape(shape)


def _conv(arguments: dict[str, Any]) -> np.ndarray:
    x, weight = arguments["x"], arguments["weight"]
    bias = arguments.get("bias", np.zeros(weight.shape[0], np.float32))
    groups, (down, across) = int(arguments["groups"]), arguments["strides"]
    top, bottom, left, right = arguments["pad"] if arguments["pad_type"] == "custom" else (0, 0, 0, 0)
    x = np.pad(x.transpose(0, 2, 3, 1), ((0, 0), (top, bottom), (left, right), (0, 0)))  # [N, H, W, I]
    kh, kw = weight.shape[2:]
    height, width = (x.shape[1] - kh) // down + 1, (x.shape[2] - kw) // across + 1
    y = np.zeros((x.shape[0], height, width, weight.shape[0]), np.float32)
    for i in range(kh):
        for j in range(kw):
            tap = x[:, i : i + height * down : down, j : j + width * across : across]
            # numpy hands only contiguous matrices to BLAS
            y += (
                np.ascontiguousarray(tap) @ np.ascontiguousarray(weight[:, :, i, j].T)
                if groups == 1
                else tap * weight[:, 0, i, j]
            )
    return (y + bias).transpose(0, 3, 1, 2)


_KERNELS: dict[str, Callable[[dict[str, Any]], np.ndarray]] = {
    "conv": _conv,
    "add": lambda a: a["x"] + a["y"],
    "mul": lambda a: a["x"] * a["y"],
    "sigmoid": lambda a: 1 / (1 + np.exp(-a["x"])),
    "exp": lambda a: np.exp(a["x"]),
    "floor": lambda a: np.floor(a["x"]),
    "clip": lambda a: np.clip(a["x"], a["alpha"], a["beta"]),
    "leaky_relu": lambda a: np.where(a["x"] >= 0, a["x"], a["x"] * a["alpha"]).astype(np.float32),
    "concat": lambda a: np.concatenate(a["values"], axis=int(a["axis"])),
    "cast": lambda a: a["x"].astype({"int32": np.int32, "fp32": np.float32}[a["dtype"]]),
}
