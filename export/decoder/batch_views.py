"""Views of a graph without shape arithmetic: the batch dimension of every reshape is -1.

torch writes a view of a dynamic batch as Shape, Gather or Squeeze, Concat, Reshape. Shape arithmetic runs on the host;
ONNX Runtime then cannot capture the graph as a CUDA graph if a layout change moves one of these nodes to the GPU.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer

from codec_contract.errors import ExportError


def keep_batch_open(model: ir.Model) -> None:
    """Give every reshape of ``model`` a constant shape, with -1 for the batch, and drop the shape arithmetic.

    Raises:
        ExportError: a shape depends on more than the batch, or on it in another way than as a reshape's.
    """
    for node in list(model.graph):
        if node.op_type != "Reshape" or node.domain or ir.convenience.get_const_tensor(node.inputs[1]) is not None:
            continue
        sizes = node.outputs[0].shape
        open_sizes = [] if sizes is None else [size for size in sizes if not isinstance(size, int)]
        if sizes is None or len(open_sizes) != 1:
            raise ExportError(f"the view {node.outputs[0].name} has {len(open_sizes)} open dimensions, expected the "
                              "batch alone")
        shape = np.array([size if isinstance(size, int) else -1 for size in sizes], np.int64)
        node.replace_input_with(1, initializer(model.graph, shape, f"{node.outputs[0].name}.shape"))
        node.attributes.pop("allowzero", None)  # no size is 0
    onnxscript.optimizer.remove_unused_nodes(model)
    if left := sorted({node.op_type for node in model.graph if node.op_type in ("Shape", "Size")}):
        raise ExportError(f"the graph reads sizes with {', '.join(left)}; write the module without the batch's size")


def initializer(graph: ir.Graph, array: np.ndarray, name: str) -> ir.Value:
    """A new constant of the graph."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
