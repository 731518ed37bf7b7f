"""A torch decoder as an ONNX graph, and back: dynamic batch, parameter names kept, no paths of the exporting machine;
weights stored as float32, float16 or int8."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript.optimizer
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from codec_contract.errors import BundleError, ExportError
from codec_contract.pixels import dequantize, unit_to_levels
from server_decoder.decoder_session import INPUT, OUTPUT
from server_decoder.grain.grain import PRIOR

OPSET = 18
_HALF, INT8, SCALE, GAIN = ".float16", ".int8", ".scale", ".gain"
_LARGE = 4096


def decoder_graph(
    decoder: nn.Module, lr: int, outputs: Sequence[str] = (OUTPUT,), *, levels: bool = False
) -> onnx.ModelProto:
    """The graph of ``decoder``, any B: ``lr`` float32 ``[B, 3, lr, lr]``, or uint8 ``[B, lr, lr, 3]`` if it takes
    ``levels`` -> what the module returns, by the names in ``outputs``.

    Initializers carry the names of the module's parameters, so `load_parameters` finds them again.
    """
    example = torch.zeros(2, lr, lr, 3, dtype=torch.uint8) if levels else torch.zeros(2, 3, lr, lr)
    batch = torch.export.Dim("batch", min=1, max=4096)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which no decoder needs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names: dict[str, Any] = {"input_names": [INPUT], "output_names": list(outputs)}
            settings: dict[str, Any] = {"opset_version": OPSET, "dynamic_shapes": ({0: batch},), "optimize": False}
            program = torch.onnx.export(decoder.eval(), (example,), dynamo=True, verbose=False, **names, **settings)
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"torch cannot export {type(decoder).__name__} to ONNX: {error}") from error
    assert program is not None
    state = decoder.state_dict()
    _simplify(program.model, state)
    model = program.model_proto
    _forget_machine(model)
    held = {tensor.name for tensor in model.graph.initializer}
    for name, tensor in state.items():
        if name not in held and _always_kept(name, tensor):
            model.graph.initializer.append(numpy_helper.from_array(tensor.detach().cpu().numpy(), name))
    onnx.checker.check_model(model)
    return model


def add_optional_input(
    model: onnx.ModelProto, name: str, shape: Sequence[int | str], default: np.ndarray | None = None
) -> None:
    """Make an initializer of the graph, a module's buffer, an input that callers may leave out, in place.

    ``shape`` may have open dimensions by name; a ``default`` of None is the initializer's own value.
    """
    held = next((tensor for tensor in model.graph.initializer if tensor.name.rpartition(".")[2] == name), None)
    if held is None:
        raise ExportError(f"torch folded {name} into the graph; it must stay an input")
    for node in model.graph.node:
        node.input[:] = [name if source == held.name else source for source in node.input]
    value = numpy_helper.to_array(held) if default is None else default
    held.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)


def _always_kept(name: str, tensor: Tensor) -> bool:
    # Small trained weights are kept even if the picture does not depend on them, such as the invertible picture's last
    # convolution where the generator's picture is the base: a later training uses both.
    return tensor.numel() < _LARGE and not name.startswith(PRIOR)


def from_levels(levels: Tensor) -> Tensor:
    """uint8 ``[B, H, W, 3]`` -> float32 ``[B, 3, H, W]`` in [-1, 1],."""
    return dequantize(levels.permute(0, 3, 1, 2).float())  # levels are transposed, not values: fewer bytes


def to_levels(values: Tensor) -> Tensor:
    """The inverse of `from_levels`: rounded half up, clipped."""
    clipped = F.hardtanh((unit_to_levels(values) + 0.5).floor(), 0, 255)  # one node in ONNX, unlike clamp
    return clipped.to(torch.uint8).permute(0, 2, 3, 1)


def rename_values(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give inputs, outputs and intermediate values of the graph other names, in place: ``names`` old -> new."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its float32 weights stored as float16 and widened on loading; it computes in float32."""
    return _store(model, _as_half)


def store_compact(
    model: onnx.ModelProto, gains: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None
) -> onnx.ModelProto:
    """As `store_half`, but the large weights as int8 with a scale per output channel.

    With ``gains``, of the channels that a weight makes and of those that it takes, its levels are those of the weight
    between values with these gains.
    """

    def narrow(name: str, values: np.ndarray) -> _Stored:
        return _as_int8(name, values, (gains or {}).get(name)) if is_int8(values.shape) else _as_half(name, values)

    return _store(model, narrow)


def is_int8(shape: Sequence[int]) -> bool:
    """True for shapes that `store_compact` stores as int8: matrices and kernels of 4096 numbers and more."""
    return len(shape) > 1 and shape[0] > 1 and math.prod(shape) >= _LARGE


@torch.no_grad()
def round_weights(module: nn.Module, *, compact: bool) -> None:
    """Round a module's weights and constants in place to the values that `store_compact` or `store_half` stores."""
    constants = {name: buffer for name, buffer in module.named_buffers() if _is_parameter(name)}
    for name, tensor in {**constants, **module.state_dict()}.items():
        values = tensor.detach().cpu().numpy()
        if np.isnan(values).all():  # not in the graph: `load_parameters`
            continue
        if compact and is_int8(values.shape):
            levels, scales = int8_levels(values)
            rounded = levels.astype(np.float32) * scales
        else:
            rounded = _half(name, values).astype(np.float32)
        tensor.copy_(torch.from_numpy(rounded))


def load_parameters(decoder: nn.Module, model: onnx.ModelProto) -> None:
    """Fill ``decoder`` with the weights of an exported graph; every one of them must be used.

    Weights that the graph leaves out because it does not need them (a generator's mapping network; its RGB head if only
    its features are used) become NaN, so that a picture that depends on one is recognized.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    outside = next((name for name, tensor in tensors.items() if tensor.data_location == TensorProto.EXTERNAL), None)
    if outside is not None:
        raise BundleError(f"the graph's weight {outside} lies in another file; a bundle's graphs hold their weights")
    wanted: Mapping[str, Tensor] = decoder.state_dict()
    constants = {name for name, _ in decoder.named_buffers()} - set(wanted)  # filters, which no state dict holds
    absent = {name: tensor for name, tensor in wanted.items() if not _always_kept(name, tensor)}
    state = {name: torch.full_like(tensor, torch.nan) for name, tensor in absent.items()}
    kinds = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8
    for stored, tensor in tensors.items():
        name = stored.removesuffix(INT8).removesuffix(_HALF)
        is_factor = stored.endswith((SCALE, GAIN))
        if is_factor or not _is_parameter(name) or name in constants or tensor.data_type not in kinds:
            continue
        values = numpy_helper.to_array(tensor).astype(np.float32)
        if stored.endswith(INT8):
            if name + SCALE not in tensors:
                raise BundleError(f"the graph's weight {name} has no scale")
            for factor in (name + GAIN, name + SCALE):
                values = values * numpy_helper.to_array(tensors[factor]) if factor in tensors else values
        state[name] = torch.from_numpy(values)
    if set(state) != set(wanted):
        missing, extra = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
        raise BundleError(f"the graph's weights are not this decoder's: missing {missing[:3]}, unknown {extra[:3]}")
    try:
        decoder.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(f"the graph's weights do not fit this decoder: {error}") from error


def _is_parameter(name: str) -> bool:
    # Parameters are named by their path in the module (scales.0.conv.weight), the exporter's constants val_0.
    return "." in name


def _simplify(model: Any, state: Container[str]) -> None:
    # The exporter's own optimization would lose the names of weights: it folds them, merges equal ones and drops biases
    # of zero. ONNX Runtime does all that when it loads the graph. Other buffers, such as a filter's taps, are folded:
    # ONNX Runtime has no float16 kernels on the CPU to do it.
    def may_fold(node: Any) -> bool | None:  # None: as the optimizer decides
        # Folded, a repeated line such as a position would be stored at its repeated size.
        held = (value for value in node.inputs if value is not None and value.is_initializer() and value.name in state)
        return False if node.op_type == "Expand" or any(held) else None

    onnxscript.optimizer.inline(model)
    onnxscript.optimizer.fold_constants(model, should_fold=may_fold)
    _keep_batch_open(model)


def _keep_batch_open(model: ir.Model) -> None:
    """Give every reshape a constant shape, with -1 for the batch."""
    # torch writes a view of a dynamic batch as Shape, Gather or Squeeze, Concat, Reshape. Shape arithmetic runs on the
    # host; ONNX Runtime then cannot capture a CUDA graph if a layout change moves one of these nodes to the GPU.
    for node in list(model.graph):
        if node.op_type != "Reshape" or node.domain or ir.convenience.get_const_tensor(node.inputs[1]) is not None:
            continue
        name = node.outputs[0].name
        shape = [size if isinstance(size, int) else -1 for size in node.outputs[0].shape or ()]
        if shape.count(-1) != 1:
            raise ExportError(f"the view {name} has {shape.count(-1)} open dimensions, expected the batch alone")
        tensor = ir.tensor(np.array(shape, np.int64), name=f"{name}.shape")
        held = ir.Value(name=tensor.name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        model.graph.register_initializer(held)
        node.replace_input_with(1, held)
        node.attributes.pop("allowzero", None)  # no size is 0
    onnxscript.optimizer.remove_unused_nodes(model)
    if left := sorted({node.op_type for node in model.graph if node.op_type in ("Shape", "Size")}):
        raise ExportError(f"the graph reads sizes with {', '.join(left)}; write the module without the batch's size")


_Stored = tuple[list[TensorProto], list[onnx.NodeProto]]


def _store(model: onnx.ModelProto, narrow: Callable[[str, np.ndarray], _Stored]) -> onnx.ModelProto:
    """The graph with every weight replaced by stored tensors and the nodes that compute the weight."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph, nodes, infos = result.graph, list(result.graph.node), list(result.graph.value_info)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and _is_parameter(tensor.name):
            tensors, makers = narrow(tensor.name, numpy_helper.to_array(tensor))
            graph.initializer.extend(tensors)
            graph.node.extend(makers)
        else:
            graph.initializer.append(tensor)
    made = {name for node in graph.node for name in node.output}
    graph.node.extend(nodes)
    # A value that a node computes must not be declared as a weight.
    graph.value_info.extend(info for info in infos if info.name not in made)
    onnx.checker.check_model(result)
    return result


def _half(name: str, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise ExportError(f"weight {name!r} does not fit float16 (largest {np.abs(values).max():g}); store float32")
    return half


def _as_half(name: str, values: np.ndarray) -> _Stored:
    cast = helper.make_node("Cast", [name + _HALF], [name], name=f"widen.{name}", to=TensorProto.FLOAT)
    return [numpy_helper.from_array(_half(name, values), name + _HALF)], [cast]


def int8_levels(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 levels in -127...127, and float32 scales that broadcast against them."""
    peak = np.abs(values).reshape(len(values), -1).max(1).reshape(-1, *[1] * (values.ndim - 1))
    scales = (np.maximum(peak, np.finfo(np.float32).tiny) / 127).astype(np.float32)
    return np.rint(values / scales).clip(-127, 127).astype(np.int8), scales


def _as_int8(name: str, values: np.ndarray, gains: tuple[np.ndarray, np.ndarray] | None) -> _Stored:
    if gains is None:
        levels, scales = int8_levels(values)
        factors = {SCALE: scales}
    else:
        made, taken = gains[0][:, None, None, None], gains[1][:, None, None].astype(np.float32)
        levels, scales = int8_levels(values * (made / taken))
        factors = {GAIN: taken, SCALE: (scales / made).astype(np.float32)}
    # Cast and Mul instead of DequantizeLinear: ONNX Runtime computes these once when it loads the graph.
    nodes = [helper.make_node("Cast", [name + INT8], [f"{name}.levels"], name=f"widen.{name}", to=TensorProto.FLOAT)]
    tensors = [numpy_helper.from_array(levels, name + INT8)]
    for suffix, factor in factors.items():
        inputs, result = [nodes[-1].output[0], name + suffix], name if suffix == SCALE else f"{name}.gained"
        nodes.append(helper.make_node("Mul", inputs, [result], name=f"{suffix[1:]}.{name}"))
        tensors.append(numpy_helper.from_array(factor, name + suffix))
    return tensors, nodes


def _forget_machine(model: onnx.ModelProto) -> None:
    # The exporter writes stack traces with local paths into every node; they would also make builds irreproducible.
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    for part in (model, graph, *graph.node, *graph.initializer, *values):
        part.doc_string = ""
        del part.metadata_props[:]
