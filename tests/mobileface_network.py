"""A network in place of MobileFace that needs no download: the descriptor is the mean colour of nine fields."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from edgegrain.metrics.identity import MOBILEFACE_SIZE
from edgegrain.metrics.weights import MOBILEFACE_FILE


def write_mobileface(folder: Path) -> Path:
    """Write the network: input levels ``[B, 112, 112, 3]``, output ``[B, 27]``, levels less 127.5."""
    nodes = [
        helper.make_node("Transpose", ["levels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["fields"], kernel_shape=[37, 37], strides=[37, 37]),
        helper.make_node("Flatten", ["fields"], ["flat"]),
        helper.make_node("Sub", ["flat", "middle"], ["descriptor"]),
    ]
    levels = helper.make_tensor_value_info("levels", TensorProto.FLOAT, ["B", MOBILEFACE_SIZE, MOBILEFACE_SIZE, 3])
    descriptor = helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, ["B", 27])
    middle = helper.make_tensor("middle", TensorProto.FLOAT, [], [127.5])
    graph = helper.make_graph(nodes, "fields", [levels], [descriptor], [middle])
    path = folder / MOBILEFACE_FILE
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
