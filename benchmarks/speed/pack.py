"""Pack decoders into a folder that can be measured without onnx: graphs without weights, and statistics of the weights.

    python benchmarks/speed/pack.py gpu_host_pack     # input of gpu_host.sh: decoders, fused ops, their library

    NAME/pack.json             sizes, architecture, shape, mean and deviation of each tensor
         plain.float32.onnx    also fused.float32, plain.float16, fused.float16
         float32.bin           all tensors concatenated (written by `fill`); also float16.bin
    cuda_ops.npz               graphs of single ops, for cuda_ops.py
    site/                      the library of fused ops and safetensors, as packages

Without weights a pack takes a few hundred kilobytes; random weights cost the same time as trained ones.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from machine import ROOT

sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    import onnx

    from server_decoder.grain.grain import Grain
    from server_decoder.grain.rrdb_decoder import RRDBDecoder

PACKED = ("grain-1024-lr16-paper", "grain-256-lr16")
FORMS = ("plain.float32", "fused.float32", "plain.float16", "fused.float16")
TABLE = "pack.json"
_SMALL = 64  # smaller tensors stay in the graph: they may determine its shapes


def write(folder: Path, name: str, decoder: Grain | RRDBDecoder, lr: int, forms: tuple[str, ...] = FORMS) -> None:
    """Write the graphs and the table; a decoder without a generator has no fused forms."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from export.decoder.decoder_graph import decoder_graph
    from server_decoder.grain.grain import Grain
    from server_decoder.inference import served_decoder

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.detach().cpu() for key, tensor in decoder.state_dict().items()}
    generates = isinstance(decoder, Grain) and decoder.prior is not None
    written = [form for form in forms if generates or not form.startswith("fused")]
    for form in written:
        ops, kind = form.split(".")
        served = served_decoder(decoder, getattr(torch, kind), fused=ops == "fused")
        graph = decoder_graph(served, lr)
        _leave_weights(graph, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
        (folder / f"{form}.onnx").write_bytes(graph.SerializeToString())
    shapes_only = copy.deepcopy(decoder).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        picture = shapes_only(torch.zeros(1, 3, lr, lr, device="meta"))
    table = {
        "name": name, "lr": lr, "hr": picture.shape[-1], "flop": counter.get_total_flops(), "forms": written,
        "generates": generates, "architecture": decoder.config.as_dict() if isinstance(decoder, Grain)
        else _architecture(decoder),
        "tensors": [{"name": key, "shape": list(tensor.shape), "mean": float(tensor.nan_to_num().mean()),
                     "deviation": float(tensor.nan_to_num().std(correction=0))} for key, tensor in tensors.items()]}
    (folder / TABLE).write_text(json.dumps(table))


def fill(folder: Path, decoder: Grain | RRDBDecoder | None = None) -> None:
    """Write the weights next to the graphs: those of a decoder, or random ones of the same mean and deviation."""
    state = decoder.state_dict() if decoder is not None else {}
    with open(folder / "float32.bin", "wb") as single, open(folder / "float16.bin", "wb") as half:
        for index, tensor in enumerate(read_table(folder)["tensors"]):
            if state:
                values = state[tensor["name"]].detach().cpu().numpy()
            else:
                random = np.random.default_rng(index).standard_normal(tensor["shape"], np.float32)
                values = tensor["mean"] + tensor["deviation"] * random
            values = np.asarray(values, np.float32)
            single.write(values.tobytes())
            half.write(values.astype(np.float16).tobytes())


def read_table(folder: Path) -> dict[str, Any]:
    """The table written by `write`."""
    table: dict[str, Any] = json.loads((folder / TABLE).read_text())
    return table


def load(folder: Path) -> Grain | RRDBDecoder:
    """The torch decoder of a filled pack."""
    import torch

    from server_decoder.grain.grain import KIND, Grain, GrainConfig
    from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder

    table = read_table(folder)
    architecture = table["architecture"]
    decoder: Grain | RRDBDecoder
    if architecture.get("kind") == KIND:
        decoder = Grain(GrainConfig.from_dict(architecture))
    else:
        decoder = RRDBDecoder(DecoderConfig.from_dict(architecture))
    values = np.fromfile(folder / "float32.bin", np.float32)
    state, offset = {}, 0
    for tensor in table["tensors"]:
        size = math.prod(tensor["shape"])
        state[tensor["name"]] = torch.from_numpy(values[offset : offset + size].reshape(tensor["shape"]))
        offset += size
    decoder.load_state_dict(state, assign=True)
    return decoder.eval().requires_grad_(False)


def _architecture(decoder: RRDBDecoder) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(decoder.config)


def _leave_weights(graph: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> None:
    """Replace the tensors of the decoder by references to the files of `fill`."""
    from onnx import TensorProto

    offsets, offset = {}, 0
    for name, shape in shapes.items():
        offsets[name] = offset
        offset += math.prod(shape)
    for tensor in graph.graph.initializer:
        if tensor.name not in shapes or math.prod(tensor.dims) < _SMALL:
            continue
        kind, width = {TensorProto.FLOAT: ("float32", 4), TensorProto.FLOAT16: ("float16", 2)}[tensor.data_type]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", f"{kind}.bin"), ("offset", width * offsets[tensor.name]),
                           ("length", width * math.prod(tensor.dims))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)


def main() -> None:
    """Write the input of `gpu_host.sh`."""
    import cuda_ops

    from export.decoder.sources import random_decoder
    from server_decoder.cuda_ops.library import PACKAGE, find_library, has_cuda_kernels

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("gpu_host_pack"))
    parser.add_argument("--configs", default=",".join(PACKED), help="GRAIN configurations, comma-separated")
    options = parser.parse_args()
    for name in options.configs.split(","):
        source = random_decoder(name)
        write(options.folder / name, name, source.decoder, source.network.lr)
        size = sum(path.stat().st_size for path in (options.folder / name).iterdir())
        print(f"{options.folder / name}: {size:,} bytes")
    graphs = {name: np.frombuffer(model, np.uint8) for name, model in cuda_ops.write_models().items()}
    np.savez(options.folder / "cuda_ops.npz", **graphs)
    library = find_library()
    package = options.folder / "site" / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    shutil.copy(library, package / library.name)
    found = importlib.util.find_spec("safetensors")
    if found is not None and found.submodule_search_locations:
        shutil.copytree(found.submodule_search_locations[0], options.folder / "site" / "safetensors",
                        dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    if not has_cuda_kernels(library):
        sys.exit(f"packed, but {library} has no CUDA kernels, which a GPU host needs; build it with nvcc")


if __name__ == "__main__":
    main()
