"""Pack what an offline GPU host needs for `gpu_host.sh`: decoders as graphs without weights, fused ops, ONNX Runtime.

    python benchmarks/speed/pack.py gpu_host_pack                                       # decoders and fused ops
    python benchmarks/speed/pack.py gpu_host_pack --python 3.12 --architecture 90       # also ONNX Runtime for CUDA

    NAME/pack.json             sizes, architecture, shape and statistics of each tensor
         plain.float32.onnx    also fused.float32, fused.float16
         float32.bin           the decoder's tensors concatenated, for torch and the plain graph
         fused.float32.bin     the tensors of a fused graph, which orders and combines the decoder's; also fused.float16

The .bin files are written by `fill`. The random weights of a fused graph are not those of the plain graphs, so their
pictures differ (`reference_form`); small decoders are packed with their weights, and all their forms agree.
    cuda_ops.npz               graphs of single ops, for cuda_ops.py
    decoder.onnx               the default bundle's decoder
    site/                      the library of fused ops and safetensors, as packages
    ../gpu_host_onnxruntime_0  and so on: parts of onnxruntime-gpu, without its TensorRT provider and its tools and with
                               the kernels of one architecture, 60 MiB of 250; needs pip and readelf (binutils)

Without weights a pack takes a few hundred kilobytes; random weights cost the same time as trained ones.
"""

from __future__ import annotations

import argparse
import copy
import io
import itertools
import json
import lzma
import math
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measurement import ROOT

if TYPE_CHECKING:
    import onnx

    from server_decoder.grain.grain import Grain
    from server_decoder.grain.rrdb_decoder import RRDBDecoder

FILLED = ("grain-smoke", "grain-smoke-mobile")  # packed with their weights
FORMS = ("plain.float32", "fused.float32", "fused.float16")
TABLE = "pack.json"
_WANTED = r"onnxruntime/(__init__\.py|capi/(?!.*tensorrt)(?!libonnxruntime\.so).*[^/])|[^/]*\.dist-info/METADATA"
_CONTAINER = 0xBA55ED50  # first word of nvcc's fat binaries, each with kernels of several architectures
_SMALL = 64  # smaller tensors stay in the graph: they may determine its shapes


def write(
    folder: Path, name: str, decoder: Grain | RRDBDecoder, forms: Sequence[str] = FORMS, *, weights: bool = False
) -> None:
    """Write the graphs and the table; with ``weights`` also all tensors, which `fill` then leaves as they are."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from export.decoder.fused_decoder import fused_graph
    from export.decoder.graph import decoder_graph
    from export.decoder.served import served_decoder
    from server_decoder.grain.grain import Grain

    folder.mkdir(parents=True, exist_ok=True)
    lr = (decoder.config.decoder if isinstance(decoder, Grain) else decoder.config).lr
    tensors = {key: tensor.detach().cpu() for key, tensor in decoder.state_dict().items()}
    own: dict[str, list[dict[str, Any]]] = {}
    for form in forms:
        if form.startswith("plain"):
            graph = decoder_graph(served_decoder(decoder), lr)
            _leave_weights(graph, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
        else:
            graph = fused_graph(decoder, half=form.endswith("float16"))
            own[form] = _leave_own_weights(graph, folder / f"{form}.bin", keep=weights)
        (folder / f"{form}.onnx").write_bytes(graph.SerializeToString())
    shapes_only = copy.deepcopy(decoder).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        picture = shapes_only(torch.zeros(1, 3, lr, lr, device="meta"))
    table = {
        "name": name,
        "lr": lr,
        "hr": picture.shape[-1],
        "flop": counter.get_total_flops(),
        "forms": list(forms),
        "own_tensors": own,
        "filled": weights,
        "architecture": decoder.config.as_dict() if isinstance(decoder, Grain) else asdict(decoder.config),
        "tensors": [_statistics(key, tensor.nan_to_num().numpy()) for key, tensor in tensors.items()],
    }
    (folder / TABLE).write_text(json.dumps(table))
    if weights:
        _write_tensors(folder, tensors.values())


def fill(folder: Path) -> None:
    """Write random weights next to the graphs, of the same mean and deviation as the decoder's."""
    table = read_table(folder)
    if table["filled"]:
        return
    for form, own in table["own_tensors"].items():
        with open(folder / f"{form}.bin", "wb") as file:
            for tensor, values in zip(own, map(_random, range(len(own)), own), strict=True):
                # Squares and norms stay positive.
                file.write(np.clip(values, tensor["least"], tensor["largest"]).astype(tensor["type"]).tobytes())
    _write_tensors(folder, map(_random, range(len(table["tensors"])), table["tensors"]))


def copy_filled(source: Path, target: Path) -> None:
    """Copy the files of a pack into a folder, and `fill` it there."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    fill(target)


def reference_form(table: Mapping[str, Any], form: str) -> str:
    """The form that gives the same pictures with the pack's weights, if possible ``plain.float32``."""
    return form if form in table["own_tensors"] and not table["filled"] else FORMS[0]


def read_table(folder: Path) -> dict[str, Any]:
    """The table written by `write`."""
    return json.loads((folder / TABLE).read_text())


def load(folder: Path) -> Grain | RRDBDecoder:
    """The torch decoder of a filled pack."""
    import torch

    from server_decoder.grain.grain import KIND, Grain, GrainConfig
    from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder

    table = read_table(folder)
    architecture = table["architecture"]
    whole = architecture.get("kind") == KIND
    config = (GrainConfig if whole else DecoderConfig).from_dict(architecture)
    decoder: Grain | RRDBDecoder = Grain(config) if whole else RRDBDecoder(config)
    values = np.fromfile(folder / "float32.bin", np.float32)
    ends = np.cumsum([math.prod(tensor["shape"]) for tensor in table["tensors"]])
    parts = zip(table["tensors"], np.split(values, ends[:-1]), strict=True)
    state = {tensor["name"]: torch.from_numpy(part.reshape(tensor["shape"])) for tensor, part in parts}
    decoder.load_state_dict(state, assign=True)
    return decoder.eval().requires_grad_(False)


def main() -> None:
    """Write the input of `gpu_host.sh`."""
    import cuda_ops
    import safetensors
    from random_decoder import random_decoder

    from codec_contract.bundle.find import find_bundle
    from server_decoder.cuda_ops.library import PACKAGE, find_library, has_cuda_kernels

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("gpu_host_pack"))
    parser.add_argument("--configs", default="grain-1024-lr16-paper,grain-256-lr16", help="of GRAIN, comma-separated")
    of_gpu = "also pack onnxruntime-gpu, for a GPU of this compute capability times ten"
    parser.add_argument("--architecture", type=int, help=of_gpu)
    parser.add_argument("--version", default="1.31.1", help="of onnxruntime-gpu")
    parser.add_argument("--python", default="3.12", help="version of the host's Python")
    parser.add_argument("--parts", type=int, default=4, help="folders of onnxruntime-gpu")
    options = parser.parse_args()
    for name in (*options.configs.split(","), *FILLED):
        source = random_decoder(name)
        write(options.folder / name, name, source.decoder, weights=name in FILLED)
        size = sum(path.stat().st_size for path in (options.folder / name).iterdir())
        print(f"{options.folder / name}: {size:,} bytes")
    graphs = {name: np.frombuffer(model, np.uint8) for name, model in cuda_ops.write_models().items()}
    np.savez(options.folder / "cuda_ops.npz", **graphs)
    shutil.copy(find_bundle() / "decoder.onnx", options.folder)
    library = find_library()
    package = options.folder / "site" / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    shutil.copy(library, package / library.name)
    without, target = shutil.ignore_patterns("__pycache__"), options.folder / "site" / "safetensors"
    shutil.copytree(Path(safetensors.__file__).parent, target, dirs_exist_ok=True, ignore=without)
    if options.architecture:
        for part in pack_onnxruntime(options.version, options.python, options.architecture, options.parts):
            print(f"{part}: {sum(path.stat().st_size for path in part.iterdir()):,} bytes")
    if not has_cuda_kernels(library):
        sys.exit(f"packed, but {library} has no CUDA kernels, which a GPU host needs; build it with nvcc")


def keep_architecture(fatbins: bytes, architecture: int) -> bytes:
    """Remove the kernels of other architectures from a section ``.nv_fatbin``; its containers stay where they are, and
    those without kernels of the architecture as they are: they may hold PTX for it."""
    data = bytearray(fatbins)
    at = 0
    while at + 16 <= len(data):
        magic, _, header, size = struct.unpack_from("<IHHQ", data, at)
        if magic != _CONTAINER:
            at += 8
            continue
        first, end = at + header, at + header + size
        kept, entry = [], first
        while entry < end:
            entry_header, payload = struct.unpack_from("<IQ", data, entry + 4)
            after = entry + entry_header + payload
            if struct.unpack_from("<I", data, entry + 28)[0] == architecture:
                kept.append(bytes(data[entry:after]))
            entry = after
        if kept:
            content = b"".join(kept)
            data[first:end] = content + bytes(size - len(content))
            struct.pack_into("<Q", data, at + 8, len(content))
        at = end
    return bytes(data)


def prune(library: bytes, architecture: int) -> bytes:
    """A shared library whose CUDA kernels are of one architecture; its size does not change."""
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(library)
        file.flush()
        sections = subprocess.check_output(["readelf", "--sections", "--wide", file.name], text=True)
    data = bytearray(library)
    for offset, size in re.findall(r"\.nv_fatbin\s+PROGBITS\s+\w+\s+(\w+)\s+(\w+)", sections):
        start, end = int(offset, 16), int(offset, 16) + int(size, 16)
        data[start:end] = keep_architecture(bytes(data[start:end]), architecture)
    return bytes(data)


def pack_onnxruntime(version: str, python: str, architecture: int, parts: int) -> list[Path]:
    """Write the folders with the parts of onnxruntime-gpu."""
    with tempfile.TemporaryDirectory() as folder:
        platforms = [word for number in (28, 27, 17) for word in ("--platform", f"manylinux_2_{number}_x86_64")]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *platforms]
        command += ["--python-version", python, "--implementation", "cp", "--dest", folder]
        subprocess.run([*command, f"onnxruntime-gpu=={version}"], check=True)
        packed = io.BytesIO()
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 128 << 20}]
        with (
            zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel,
            lzma.open(packed, "wb", filters=filters) as stream,
            tarfile.open(fileobj=stream, mode="w") as archive,
        ):
            for name in filter(re.compile(_WANTED).fullmatch, wheel.namelist()):
                content = wheel.read(name)
                if name.endswith("libonnxruntime_providers_cuda.so"):
                    content = prune(content, architecture)
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    content, folders = packed.getvalue(), [ROOT / f"gpu_host_onnxruntime_{index}" for index in range(parts)]
    piece = -(-len(content) // parts)
    for index, target in enumerate(folders):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        part = content[index * piece : (index + 1) * piece]
        (target / f"onnxruntime.tar.xz.{index}").write_bytes(part)
    return folders


def _statistics(name: str, values: np.ndarray) -> dict[str, Any]:
    return {"name": name, "shape": list(values.shape), "mean": float(values.mean()), "deviation": float(values.std())}


def _random(seed: int, tensor: Mapping[str, Any]) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(tensor["shape"], np.float32)
    return np.asarray(tensor["mean"] + tensor["deviation"] * values, np.float32)


def _write_tensors(folder: Path, tensors: Iterable[Any]) -> None:
    with open(folder / "float32.bin", "wb") as file:
        for tensor in tensors:
            file.write(np.asarray(tensor, np.float32).tobytes())


def _leave_weights(graph: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> None:
    """Replace the tensors of the decoder by references to the file of `fill`."""
    ends = itertools.accumulate(map(math.prod, shapes.values()), initial=0)
    offsets = dict(zip(shapes, ends, strict=False))
    for tensor in graph.graph.initializer:
        if tensor.name in shapes and math.prod(tensor.dims) >= _SMALL:
            _refer(tensor, "float32.bin", 4 * offsets[tensor.name], 4 * math.prod(tensor.dims))


def _leave_own_weights(graph: onnx.ModelProto, file: Path, *, keep: bool) -> list[dict[str, Any]]:
    """Replace the tensors of a graph by references to a file, and write it if they are to be kept; returns the
    statistics of the tensors, in the file's order."""
    from onnx import TensorProto, numpy_helper

    found, parts, offset = [], [], 0
    for tensor in graph.graph.initializer:
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16) or math.prod(tensor.dims) < _SMALL:
            continue
        values = numpy_helper.to_array(tensor)
        wide = values.astype(np.float32)
        limits = {"least": float(wide.min()), "largest": float(wide.max())}  # squares and norms are positive
        found.append({**_statistics(tensor.name, wide), "type": str(values.dtype), **limits})
        if keep:
            parts.append(values.tobytes())
        _refer(tensor, file.name, offset, values.nbytes)
        offset += values.nbytes
    if keep:
        file.write_bytes(b"".join(parts))
    return found


def _refer(tensor: onnx.TensorProto, file: str, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = 1  # external
    for key, value in (("location", file), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


if __name__ == "__main__":
    main()
