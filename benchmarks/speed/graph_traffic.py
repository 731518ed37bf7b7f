"""Count the nodes of a decoder's graphs and the bytes that they read and write for one picture.

    python benchmarks/speed/graph_traffic.py --out results/performance/graph-traffic-cpu.json     # needs no GPU

Forms: ONNX's own operators, with constants folded and equal nodes merged, as runtimes do, and the channels-last form of
``--ops fused``, as it is exported. A node reads every input and writes every output once, weights included; views cost
nothing. A DenseBlock counts as one node, and its bytes are those of its launches, the convolutions: each reads the
channels that exist by then.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from measurement import circumstances, save

FINE = "faces-256-lr16-fine"
CONFIGS = ("grain-1024-lr16-paper", "grain-256-lr16", FINE)
FORMS = (("plain", "float32"), ("plain", "float16"), ("fused", "float32"), ("fused", "float16"))
VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Constant", "Shape"}
"""Nodes that move no data."""
Shapes = Mapping[str, tuple[int, int]]
"""Value -> number of elements for a batch of one, and bytes of an element."""


def node_bytes(node: onnx.NodeProto, values: Shapes) -> int:
    """Bytes that a node reads and writes."""
    if node.op_type in VIEWS:
        return 0
    inputs = {name for name in node.input if name}
    if node.op_type == "DenseBlock":
        return _dense_block_bytes(node, values)
    return sum(math.prod(values[name]) for name in (*inputs, *filter(None, node.output)))


def graph_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Bytes by kind of node."""
    values = element_counts(model)
    moved: dict[str, int] = defaultdict(int)
    for node in model.graph.node:
        moved[node.op_type] += node_bytes(node, values)
    return dict(moved)


def element_counts(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """The size of every value for a batch of one."""
    graph = model.graph
    found = {tensor.name: (math.prod(tensor.dims), _width(tensor.data_type)) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        sizes = [size.dim_value if size.HasField("dim_value") else 1 for size in tensor.shape.dim]  # a name: the batch
        if tensor.elem_type:
            found.setdefault(value.name, (math.prod(sizes), _width(tensor.elem_type)))
    for node in graph.node:  # in a view, -1 may stand for more than the batch
        if node.op_type in VIEWS and node.input and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without the nodes that every runtime removes on loading: of constants, and repeated ones."""
    import onnx_ir
    import onnxscript.optimizer
    from onnx_ir.passes.common import CommonSubexpressionEliminationPass, LiftConstantsToInitializersPass

    graph = onnx_ir.from_proto(model)
    onnxscript.optimizer.fold_constants(graph, onnx_shape_inference=False, output_size_limit=2**40,
                                        should_fold=lambda node: True)
    graph = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph).model
    graph = CommonSubexpressionEliminationPass()(graph).model
    onnxscript.optimizer.remove_unused_nodes(graph)
    return onnx.shape_inference.infer_shapes(onnx_ir.to_proto(graph))


def measure(name: str, forms: Sequence[tuple[str, str]] = FORMS) -> list[dict[str, Any]]:
    """A row for each form of a decoder with random weights."""
    from export.decoder.export import random_decoder
    from export.decoder.fused_decoder import fused_graph
    from export.decoder.graph import decoder_graph
    from export.decoder.served import served_decoder
    from server_decoder.grain.rrdb_decoder import FACES_256_LR16_FINE, RRDBDecoder

    decoder = RRDBDecoder(FACES_256_LR16_FINE) if name == FINE else random_decoder(name).decoder
    lr = decoder.config.lr if isinstance(decoder, RRDBDecoder) else decoder.config.decoder.lr
    rows = []
    for ops, kind in forms:
        half = kind == "float16"
        model = (fused_graph(decoder, half=half) if ops == "fused"
                 else folded(decoder_graph(served_decoder(decoder, half=half), lr)))
        moved = graph_bytes(model)
        largest = sorted(moved.items(), key=lambda item: -item[1])[:6]
        rows.append({"decoder": name, "ops": ops, "type": kind, "nodes": len(model.graph.node),
                     "views": sum(node.op_type in VIEWS for node in model.graph.node),
                     "gigabytes": round(sum(moved.values()) / 1e9, 3),
                     "kinds": {kind: round(count / 1e9, 3) for kind, count in largest}})
    return rows


def main() -> None:
    """Count and print; write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", default=",".join(CONFIGS), help="configurations, comma-separated")
    parser.add_argument("--out", type=Path, help="write the report here")
    options = parser.parse_args()
    rows = []
    for name in options.configs.split(","):
        for row in measure(name):
            rows.append(row)
            print(row, flush=True)
    if options.out:
        save({"benchmark": "graph_traffic", **circumstances("cpu", 1), "graphs": rows}, options.out)


def _dense_block_bytes(node: onnx.NodeProto, values: Shapes) -> int:
    x, outer, *parameters = node.input
    weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
    elements, width = values[x]
    total = 0
    channels = [values[bias][0] for bias in biases]
    pixels = elements // channels[-1]
    seen = channels[-1]
    for grown, weight, bias in zip(channels, weights, biases, strict=True):
        total += (seen + grown) * pixels * width + math.prod(values[weight]) + math.prod(values[bias])
        seen += grown
    return total + (math.prod(values[outer]) if outer and outer != x else 0)


def _width(kind: int) -> int:
    return int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize)


if __name__ == "__main__":
    main()
