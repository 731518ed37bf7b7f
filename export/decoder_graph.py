"""A torch decoder as an ONNX graph, and back: dynamic batch, parameter names kept, weights stored as float16 or
float32, nothing about the exporting machine inside."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgegrain.contract.errors import BundleError, ExportError

OPSET = 18
INPUT, OUTPUT = "lr", "hr"
_HALF = ".float16"


def decoder_graph(decoder: nn.Module, lr: int) -> onnx.ModelProto:
    """Export ``decoder``: ``lr`` float32 ``[B, 3, lr, lr]`` in [-1, 1] -> ``hr`` float32 ``[B, 3, S, S]``, any B.

    Initializers carry the names of the module's parameters, so `load_parameters` finds them again.

    Raises:
        ExportError: torch cannot express the module in ONNX.
    """
    example = torch.zeros(2, 3, lr, lr)
    batch = torch.export.Dim("batch", min=1, max=4096)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(decoder.eval(), (example,), dynamo=True, opset_version=OPSET, verbose=False,
                                        input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes={INPUT: {0: batch}})
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"torch cannot export {type(decoder).__name__} to ONNX: {error}") from error
    if program is None:
        raise ExportError(f"torch gave no ONNX program for {type(decoder).__name__}")
    model = program.model_proto
    _forget_machine(model)
    onnx.checker.check_model(model)
    return model


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its float32 weights stored as float16 and widened on loading; it computes in float32.

    Raises:
        ExportError: a weight is too large for float16.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    casts = []
    for tensor in result.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or not _is_parameter(tensor.name):
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise ExportError(f"weight {name!r} does not fit float16 (largest {np.abs(values).max():g}); store float32")
        tensor.CopyFrom(numpy_helper.from_array(half, name + _HALF))
        casts.append(helper.make_node("Cast", [name + _HALF], [name], name=f"widen.{name}", to=TensorProto.FLOAT))
    nodes = list(result.graph.node)
    del result.graph.node[:]
    result.graph.node.extend(casts + nodes)
    # A value that a node makes must not be declared as a weight any more.
    made = {cast.output[0] for cast in casts}
    kept = [info for info in result.graph.value_info if info.name not in made]
    del result.graph.value_info[:]
    result.graph.value_info.extend(kept)
    onnx.checker.check_model(result)
    return result


def load_parameters(decoder: nn.Module, model: onnx.ModelProto) -> None:
    """Fill ``decoder`` with the weights of a graph written here; strict: every weight used, none missing.

    Raises:
        BundleError: names or shapes do not match.
    """
    state: dict[str, torch.Tensor] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16) and _is_parameter(tensor.name):
            state[tensor.name.removesuffix(_HALF)] = torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
    wanted: Mapping[str, torch.Tensor] = decoder.state_dict()
    if set(state) != set(wanted):
        missing, extra = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
        raise BundleError(f"the graph's weights are not this decoder's: missing {missing[:3]}, unknown {extra[:3]}")
    try:
        decoder.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(f"the graph's weights do not fit this decoder: {error}") from error


def _is_parameter(name: str) -> bool:
    # Parameters carry their path in the module (scales.0.conv.weight); the exporter's constants are called val_0.
    return "." in name


def _forget_machine(model: onnx.ModelProto) -> None:
    # The exporter writes stack traces with local paths into every node; they would also make builds irreproducible.
    model.doc_string = ""
    del model.metadata_props[:]
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output,
                 *model.graph.value_info):
        part.doc_string = ""
        del part.metadata_props[:]
