"""Runs a Core ML program with numpy, from the written .mlpackage; Core ML itself predicts on Apple's systems only.

The package is read back byte by byte: ``Manifest.json`` names the specification (a protobuf message) and the folder of
``weight.bin``, whose records are found by the offsets in the specification. Float32 throughout; weights may be
stored as int8 times a power of two per channel, which gives the same numbers. Every attribute that would change the
arithmetic is checked, so a program with unsupported operations is refused by name instead of run wrongly.

Formats: https://apple.github.io/coremltools/mlmodel (specification); ``weight.bin`` is coremltools' MIL blob storage.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
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
_BLOB_SENTINEL = 0xDEADBEEF
_BLOB_KINDS = {np.dtype(np.float32): 2, np.dtype(np.int8): 4}
# MIL.proto's DataType.
_TYPES = {1: np.dtype(bool), 2: np.dtype(str), 11: np.dtype(np.float32), 21: np.dtype(np.int8), 23: np.dtype(np.int32)}
_IMMEDIATE = {"floats": np.dtype(np.float32), "ints": np.dtype(np.int32), "bools": np.dtype(bool)}
_DEQUANTIZE = "constexpr_affine_dequantize"


class MilProgram:
    """A program read from a package folder.

    Attributes:
        operations: number of operations by kind.
        constants: values of constant tensors by name, weights as float32.
        hr: side of the square input picture.
    """

    def __init__(self, package: str | Path) -> None:
        try:
            self._read(Path(package))
        except ExportError as error:
            raise ExportError(f"{package}: {error}") from error
        except Exception as error:  # protobuf's own exceptions depend on its implementation
            raise ExportError(f"{package} is not a readable Core ML package: {error}") from error

    def _read(self, package: Path) -> None:
        with captured_stderr():
            from coremltools.proto import Model_pb2
        manifest = json.loads((package / "Manifest.json").read_text())
        paths = {name: package / "Data" / entry["path"] for name, entry in manifest["itemInfoEntries"].items()}
        specification = Model_pb2.Model.FromString(paths.pop(manifest["rootModelIdentifier"]).read_bytes())
        self._weights = {file.name: file.read_bytes() for folder in paths.values() for file in folder.iterdir()}
        (feature,) = specification.description.input
        image = feature.type.imageType
        if feature.name != INPUT or image.width != image.height or image.colorSpace != image.RGB:
            raise ExportError(f"expected one square RGB picture named {INPUT!r} as the input")
        self.hr = int(image.width)
        function = specification.mlProgram.functions["main"]
        block = function.block_specializations[function.opset]
        self._operations = tuple(block.operations)
        self.operations = Counter(operation.type for operation in self._operations)
        if unknown := sorted(set(self.operations) - set(_KERNELS) - {"const", _DEQUANTIZE}):
            raise ExportError(f"the interpreter does not support: {', '.join(unknown)}")
        readers = {"const": lambda operation: self._value(operation.attributes["val"]), _DEQUANTIZE: self._dequantized}
        self.constants: dict[str, Any] = {
            operation.outputs[0].name: readers[operation.type](operation)
            for operation in self._operations if operation.type in readers}

    def predict(self, rgb: np.ndarray) -> np.ndarray:
        """Encode uint8 ``[N, hr, hr, 3]`` to uint8 ``[N, lr, lr, 3]``."""
        if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[1:] != (self.hr, self.hr, 3):
            raise ExportError(f"the program takes uint8 [N, {self.hr}, {self.hr}, 3], got {rgb.dtype} {rgb.shape}")
        tensors: dict[str, Any] = dict(self.constants)
        tensors[INPUT] = rgb.transpose(0, 3, 1, 2).astype(np.float32)
        for operation in self._operations:
            if operation.type in _KERNELS:
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
        values = [tensors[binding.name] if binding.WhichOneof("binding") == "name" else self._value(binding.value)
                  for binding in argument.arguments]
        return values[0] if len(values) == 1 else values

    def _dequantized(self, operation: Any) -> np.ndarray:
        """float32 weights ``[O, ...]`` that are stored as int8 times a power of two per output channel."""
        parts = {key: self._value(value) for key, value in operation.attributes.items() if key != "name"}
        integers, scale = parts.pop("quantized_data"), parts.pop("scale")
        zero_point, axis = parts.pop("zero_point"), parts.pop("axis")
        if (parts or operation.inputs or axis != 0 or integers.dtype != np.int8 or zero_point.any()
                or scale.shape != integers.shape[:1] or (np.frexp(scale)[0] != 0.5).any()):
            raise ExportError(f"{operation.outputs[0].name}: expected int8 weights with a power of two and a zero "
                              "point of 0 per output channel")
        return integers.astype(np.float32) * scale[:, None, None, None]

    def _value(self, value: Any) -> Any:
        """A constant: a str, or an array shaped and typed as the specification says."""
        tensor_type = value.type.tensorType
        dtype, shape = _TYPES[tensor_type.dataType], [dimension.constant.size for dimension in tensor_type.dimensions]
        if value.WhichOneof("value") == "blobFileValue":
            return self._blob(value.blobFileValue, dtype).reshape(shape)
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind == "strings":
            return str(tensor.strings.values[0])
        if kind == "bytes" and dtype == np.int8:
            return np.frombuffer(tensor.bytes.values, np.int8).reshape(shape)
        if _IMMEDIATE.get(kind) != dtype:
            raise ExportError(f"the program holds a {dtype} constant as {kind!r}, which the interpreter cannot read")
        return np.array(getattr(tensor, kind).values, dtype).reshape(shape)

    def _blob(self, reference: Any, dtype: np.dtype) -> np.ndarray:
        data = self._weights[PurePosixPath(reference.fileName).name]
        sentinel, kind, size, start = _BLOB_RECORD.unpack_from(data, reference.offset)
        if sentinel != _BLOB_SENTINEL or kind != _BLOB_KINDS.get(dtype):
            raise ExportError(f"there are no {dtype} weights at byte {reference.offset} of {reference.fileName}")
        return np.frombuffer(data, dtype, size // dtype.itemsize, start)


def _conv(arguments: dict[str, Any]) -> np.ndarray:
    x, weight = arguments["x"], arguments["weight"]
    bias = arguments.get("bias", np.zeros(weight.shape[0], np.float32))
    groups, (down, across) = int(arguments["groups"]), arguments["strides"]
    if arguments["pad_type"] not in ("custom", "valid"):
        raise ExportError(f"conv with padding {arguments['pad_type']!r}: the exporter writes explicit padding only")
    if (arguments["dilations"] != 1).any() or groups not in (1, x.shape[1]):
        raise ExportError("conv with dilation or several channels a group is not supported")
    top, bottom, left, right = arguments["pad"] if arguments["pad_type"] == "custom" else (0, 0, 0, 0)
    x = np.pad(x.transpose(0, 2, 3, 1), ((0, 0), (top, bottom), (left, right), (0, 0)))  # [N, H, W, I]
    kh, kw = weight.shape[2:]
    height, width = (x.shape[1] - kh) // down + 1, (x.shape[2] - kw) // across + 1
    y = np.zeros((x.shape[0], height, width, weight.shape[0]), np.float32)
    for i in range(kh):
        for j in range(kw):
            tap = x[:, i : i + height * down : down, j : j + width * across : across]
            # numpy hands only contiguous matrices to BLAS
            y += (np.ascontiguousarray(tap) @ np.ascontiguousarray(weight[:, :, i, j].T) if groups == 1
                  else tap * weight[:, 0, i, j])
    return (y + bias).transpose(0, 3, 1, 2)


def _cast(arguments: dict[str, Any]) -> np.ndarray:
    kinds = {"int32": np.int32, "fp32": np.float32}
    if arguments["dtype"] not in kinds:
        raise ExportError(f"cast to {arguments['dtype']} is not supported: the encoder is float32 with an int32 output")
    return arguments["x"].astype(kinds[arguments["dtype"]])


def _leaky_relu(arguments: dict[str, Any]) -> np.ndarray:
    x = arguments["x"]
    return np.where(x >= 0, x, x * arguments["alpha"]).astype(np.float32)


def _concat(arguments: dict[str, Any]) -> np.ndarray:
    if arguments.get("interleave"):
        raise ExportError("concat with interleaved channels is not supported")
    return np.concatenate(arguments["values"], axis=int(arguments["axis"]))


_KERNELS: dict[str, Callable[[dict[str, Any]], np.ndarray]] = {
    "conv": _conv,
    "add": lambda a: a["x"] + a["y"],
    "mul": lambda a: a["x"] * a["y"],
    "sigmoid": lambda a: 1 / (1 + np.exp(-a["x"])),
    "exp": lambda a: np.exp(a["x"]),
    "floor": lambda a: np.floor(a["x"]),
    "clip": lambda a: np.clip(a["x"], a["alpha"], a["beta"]),
    "relu": lambda a: np.maximum(a["x"], np.float32(0)),
    "leaky_relu": _leaky_relu,
    "concat": _concat,
    "cast": _cast,
}
