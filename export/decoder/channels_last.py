"""A served decoder with channels-last maps and fused convolutions, for CUDA: uint8 LRs in, uint8 pictures out.

A decoder of ONNX's own operators becomes one of the operators of ``com.edgegrain`` (docs/cuda_ops.md): a convolution
and the steps after it are one node (`export.decoder.fused_convolutions`), a residual dense block too, and so are the
factors of a style (`export.decoder.styles`). Values that depend on weights only are computed here. An operator without
a channels-last form keeps its own, with transposes around it.
"""

from __future__ import annotations

import heapq

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript.optimizer

from codec_contract.errors import ExportError
from export.decoder.channels_last_writer import ChannelsLastWriter, described, last_shape, shape_of
from export.decoder.fused_convolutions import ConvolutionFuser
from export.decoder.graph_values import (
    channel_count,
    constant,
    integer,
    integers,
    is_map,
    is_op,
    is_own_op,
    is_vector,
    sizes,
    text,
)
from export.decoder.styles import merge_styles
from export.decoder.upsampling import upsample, upsampling_mode
from server_decoder.cuda_ops.fused_ops import VERSION
from server_decoder.cuda_ops.library import DOMAIN
from server_decoder.decoder_session import INPUT, OUTPUT

FLOAT, HALF, UINT8 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.UINT8
_AXES = {0: 0, 1: 3, 2: 1, 3: 2}
"""An axis of a map -> the same, channels-last."""
_POINTWISE = {"Abs", "Add", "Cast", "Clip", "Div", "Exp", "LeakyRelu", "Mul", "Neg", "Reciprocal", "Relu", "Sigmoid",
              "Sqrt", "Sub"}


def channels_last_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """``lr`` uint8 ``[B, h, w, 3]`` -> ``hr`` uint8 ``[B, H, W, 3]``, from a graph of `decoder_graph`; other inputs
    stay.

    Raises:
        ExportError: the graph is no decoder of maps of known sizes.
    """
    source = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    onnxscript.optimizer.fold_constants(source, onnx_shape_inference=False, output_size_limit=2**40,
                                        should_fold=lambda node: True)
    onnxscript.optimizer.remove_unused_nodes(source)
    merge_styles(source)
    result = ir.to_proto(_Converter(source).run())
    onnx.checker.check_model(result)
    return result


class _Converter:
    """Writes the channels-last graph, node by node of the source."""

    def __init__(self, source: ir.Model) -> None:
        self.source = source.graph
        self.ir_version = source.ir_version
        self.out = ChannelsLastWriter(source.graph.opset_imports[""])
        self.fuser = ConvolutionFuser(self.out)

    def run(self) -> ir.Model:
        """The new model."""
        levels = self._inputs()
        for node in _vectors_first(self.source):
            if node in self.fuser.pending:
                self.fuser.pending.pop(node)()
            elif node not in self.fuser.taken:
                self._convert(node, levels)
        self._outputs()
        self.out.name_values()
        model = ir.Model(self.out.graph, ir_version=self.ir_version)
        onnxscript.optimizer.remove_unused_nodes(model)
        return model

    def _inputs(self) -> ir.Value:
        levels: ir.Value | None = None
        for value in self.source.inputs:
            if value.name != INPUT:
                given = described(ir.Value(name=value.name), value.shape, value.dtype)
                self.out.graph.inputs.append(given)
                self.out.forms[value] = {"first": given}
                if value.is_initializer():
                    given.const_value = value.const_value
                    self.out.graph.register_initializer(given)
                continue
            if not is_map(value):
                raise ExportError(f"the decoder's input is {list(sizes(value))}, expected [batch, 3, height, width]")
            levels = described(ir.Value(name=INPUT), last_shape(value), UINT8)
            self.out.graph.inputs.append(levels)
            self._dequantize(levels, value, FLOAT)
        if levels is None:
            raise ExportError(f"the decoder has no input {INPUT!r}")
        return levels

    def _dequantize(self, levels: ir.Value, value: ir.Value, dtype: ir.DataType) -> None:
        found = self.out.own("DequantizeLR", [levels], {"to": int(dtype)}, last_shape(value), dtype)
        self.out.set(value, "last", found)

    def _outputs(self) -> None:
        for value in self.source.outputs:
            if value.name != OUTPUT or not is_map(value) or sizes(value)[1] != 3:
                raise ExportError(f"the decoder's output {value.name} is {list(sizes(value))}, expected {OUTPUT!r} of "
                                  "[batch, 3, height, width]")
            cast = value.producer()  # of halves to float32, which QuantizePicture takes too
            exact = cast.inputs[0] if cast is not None and is_op(cast, "Cast") else value
            picture = self.out.own("QuantizePicture", [self.out.get(exact, "last")], {}, last_shape(value), UINT8)
            picture.name = OUTPUT
            self.out.graph.outputs.append(picture)

    def _convert(self, node: ir.Node, levels: ir.Value) -> None:
        value = node.outputs[0]
        if is_op(node, "Constant"):
            return
        if is_op(node, "Cast") and _is_input(node.inputs[0]) and integer(node, "to") == HALF:
            self._dequantize(levels, value, HALF)
            return
        if is_op(node, "Conv"):
            done = self.fuser.convolution(node)
        elif is_op(node, "ConvTranspose"):
            done = self.fuser.transposed_convolution(node)
        elif node.domain == DOMAIN:
            done = self._own_op(node)
        elif is_op(node, *_POINTWISE):
            done = self._pointwise(node)
        elif is_op(node, "Concat", "Split", "Slice"):
            done = self._along_axis(node)
        elif is_op(node, "Reshape", "Unsqueeze", "Squeeze"):
            done = self._view(node)
        elif is_op(node, "ReduceMean"):
            done = self._channel_means(node)
        elif is_op(node, "AveragePool"):
            done = self._average_pool(node)
        elif is_op(node, "Resize"):
            done = self._resize(node)
        elif is_op(node, "DepthToSpace"):
            done = self._depth_to_space(node)
        else:
            done = False
        if not done:
            self._copy(node)

    def _copy(self, node: ir.Node) -> None:
        """The node as it is, of values as they were."""
        inputs = [None if value is None else self.out.get(value, "first") for value in node.inputs]
        new = ir.node(node.op_type, inputs, dict(node.attributes), domain=node.domain, num_outputs=len(node.outputs))
        self.out.graph.append(new)
        for old, value in zip(node.outputs, new.outputs, strict=True):
            self.out.set(old, "first", described(value, old.shape, old.dtype))

    def _pointwise(self, node: ir.Node) -> bool:
        value = node.outputs[0]
        form = "vector" if is_vector(value) else "last" if is_map(value) else ""
        operands = node.inputs[:1] if is_op(node, "Clip") else node.inputs
        if not form or not all(_has_form(operand, form, value) for operand in operands if operand is not None):
            return False
        inputs = [self._operand(operand, form) if operand in operands and operand is not None
                  else None if operand is None else self.out.get(operand, "first") for operand in node.inputs]
        new = self.out.node(node.op_type, inputs, dict(node.attributes), shape_of(value, form), value.dtype)
        self.out.set(value, form, new)
        return True

    def _operand(self, value: ir.Value, form: str) -> ir.Value:
        array = constant(value)
        if array is None:
            return self.out.get(value, form)
        if array.size == 1:
            return self.out.constant(array.reshape(()), value.name)
        if form == "vector":
            return self.out.constant(array if array.ndim == 2 else array.reshape(-1), value.name)
        full = array.reshape((1,) * (4 - array.ndim) + array.shape)
        return self.out.constant(np.ascontiguousarray(full.transpose(0, 2, 3, 1)), value.name)

    def _along_axis(self, node: ir.Node) -> bool:
        values = node.inputs if is_op(node, "Concat") else node.inputs[:1]
        form = "vector" if all(map(is_vector, values)) else "last" if all(map(is_map, values)) else ""
        if not form or not all(is_vector(value) if form == "vector" else is_map(value) for value in node.outputs):
            return False
        axes = _AXES if form == "last" else {0: 0, 1: 1}
        inputs = [self.out.get(value, form) for value in values]
        attributes = dict(node.attributes)
        if is_op(node, "Slice"):
            parts = [part for value in node.inputs[1:] if (part := constant(value)) is not None]
            if len(parts) != 4 or any(int(axis) not in axes for axis in parts[2]):
                return False
            parts[2] = np.array([axes[int(axis)] for axis in parts[2]], np.int64)
            inputs += [self.out.constant(part, f"{node.outputs[0].name}.{name}")
                       for part, name in zip(parts, ("starts", "ends", "axes", "steps"), strict=True)]
        else:
            axis = integer(node, "axis")
            if axis not in axes:
                return False
            attributes["axis"] = ir.AttrInt64("axis", axes[axis])
            inputs += [self.out.get(value, "first") for value in node.inputs[len(values):] if value is not None]
        new = ir.node(node.op_type, inputs, attributes, num_outputs=len(node.outputs))
        self.out.graph.append(new)
        for old, value in zip(node.outputs, new.outputs, strict=True):
            self.out.set(old, form, described(value, shape_of(old, form), old.dtype))
        return True

    def _view(self, node: ir.Node) -> bool:
        value, x = node.outputs[0], node.inputs[0]
        if is_vector(value) and is_vector(x) and sizes(value)[1] == sizes(x)[1]:
            self.out.set(value, "vector", self.out.get(x, "vector"))
            return True
        if is_map(value) and sizes(value)[1] == 1 and not is_map(x):
            self.out.set(value, "last", self.out.reshape(self.out.get(x, "first"), last_shape(value)))
            return True
        return False

    def _channel_means(self, node: ir.Node) -> bool:
        value, x = node.outputs[0], node.inputs[0]
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None or sorted(axes.tolist()) != [2, 3] or not is_vector(value):
            return False
        # In float16 the served form averages blocks first, so that no sum overflows.
        pool = x.producer().inputs[0].producer() if is_op(x.producer(), "Cast") else None
        if is_op(pool, "AveragePool"):
            kernel = integers(pool, "kernel_shape")
            whole = all(size is not None and size % side == 0
                        for size, side in zip(sizes(pool.inputs[0])[2:], kernel, strict=True))
            if whole and kernel == integers(pool, "strides", (1, 1)):
                x = pool.inputs[0]
        if not is_map(x):
            return False
        self.out.set(value, "vector", self._means(x, value))
        return True

    def _means(self, x: ir.Value, value: ir.Value) -> ir.Value:
        """Means of a map's channels, ``[B, C]``; of a concatenation, those of its parts."""
        joined = x.producer()
        if is_op(joined, "Concat") and integer(joined, "axis") == 1:
            parts = [self._means(part, value) for part in joined.inputs if part is not None]
            return self.out.node("Concat", parts, {"axis": 1}, shape_of(value, "vector"), value.dtype)
        batch, channels, height, width = x.shape
        if x.dtype != HALF:
            return self.out.node("ReduceMean", [self.out.get(x, "last"), self.out.constant(np.array([1, 2]), "pixels")],
                                 {"keepdims": 0}, [batch, channels], value.dtype)
        # Of rows as a product with ones, whose sums are float32, then of columns.
        rows = self.out.reshape(self.out.get(x, "last"), [None, width, channels])
        ones = self.out.constant(np.full((1, width), 1 / width, np.float16), f"mean.{width}")
        means = self.out.node("MatMul", [ones, rows], {}, [None, 1, channels], HALF)
        means = self.out.cast(self.out.reshape(means, [batch, height, channels]), FLOAT)
        return self.out.node("ReduceMean", [means, self.out.constant(np.array([1]), "rows")], {"keepdims": 0},
                             [batch, channels], FLOAT)

    def _average_pool(self, node: ir.Node) -> bool:
        value, x = node.outputs[0], node.inputs[0]
        if integers(node, "kernel_shape") != (2, 2) or integers(node, "strides", (1, 1)) != (2, 2) or any(
                integers(node, "pads", (0,) * 4)) or not is_map(value):
            return False
        weight = self.out.constant(np.full((channel_count(x), 2, 2, 1), 0.25, x.dtype.numpy()), f"{value.name}.quarter")
        means = self.out.own("FusedConv", [self.out.get(x, "last"), weight], {"stride": 2, "depthwise": 1},
                             last_shape(value), value.dtype)
        self.out.set(value, "last", means)
        return True

    def _resize(self, node: ir.Node) -> bool:
        mode, value = upsampling_mode(node), node.outputs[0]
        if mode:
            self.out.set(value, "last", upsample(self.out, self.out.get(node.inputs[0], "last"), mode, value))
        return bool(mode)

    def _depth_to_space(self, node: ir.Node) -> bool:
        value, x = node.outputs[0], node.inputs[0]
        if text(node, "mode", "DCR") != "CRD" or not is_map(x):
            return False
        batch, channels, height, width = value.shape
        side = integer(node, "blocksize")
        rows, columns = sizes(x)[2:]
        cells = self.out.reshape(self.out.get(x, "last"), [batch, rows, columns, channels, side, side])
        ordered = self.out.node("Transpose", [cells], {"perm": [0, 1, 4, 2, 5, 3]},
                                [batch, rows, side, columns, side, channels], value.dtype)
        self.out.set(value, "last", self.out.reshape(ordered, [batch, height, width, channels]))
        return True

    def _own_op(self, node: ir.Node) -> bool:
        x = node.inputs[0]
        if not is_own_op(node, "DemodBiasAct", "FilteredBiasAct", "UpFirDn2d", "InverseHaar"):
            return False
        inputs: list[ir.Value | None] = [self.out.get(x, "last")]
        for value in node.inputs[1:]:
            inputs.append(None if value is None else self.out.noise(value) if len(sizes(value)) == 4
                          else self.out.get(value, "first"))
        attributes = {**node.attributes, "channels_last": ir.AttrInt64("channels_last", 1)}
        new = ir.node(node.op_type, inputs, attributes, domain=DOMAIN, num_outputs=len(node.outputs), version=VERSION)
        self.out.graph.append(new)
        for old, value in zip(node.outputs, new.outputs, strict=True):
            self.out.set(old, "last", described(value, last_shape(old), old.dtype))
        return True


def _vectors_first(graph: ir.Graph) -> list[ir.Node]:
    """The nodes in an order in which styles come as early as possible, so that the layer before them can apply them."""
    nodes = list(graph)
    index = {node: place for place, node in enumerate(nodes)}
    missing = {node: len({value.producer() for value in node.inputs if value is not None} - {None}) for node in nodes}
    ready = [(is_map(node.outputs[0]), index[node]) for node in nodes if not missing[node]]
    heapq.heapify(ready)
    ordered: list[ir.Node] = []
    while ready:
        node = nodes[heapq.heappop(ready)[1]]
        ordered.append(node)
        for reader in {use.node for value in node.outputs for use in value.uses()}:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, (is_map(reader.outputs[0]), index[reader]))
    return ordered


def _is_input(value: ir.Value | None) -> bool:
    return value is not None and value.is_graph_input() and value.name == INPUT


def _has_form(operand: ir.Value, form: str, value: ir.Value) -> bool:
    """True if an operand of a pointwise node broadcasts in this form as it did before."""
    array = constant(operand)
    if array is None:
        return is_vector(operand) or (form == "last" and is_map(operand))
    if array.size == 1:
        return True
    channels = sizes(value)[1]
    if form == "vector":
        rank = len(sizes(value))
        return array.shape[-(rank - 1):] in ((channels, *(1,) * (rank - 2)),) and array.size == channels
    shape = (1,) * (4 - array.ndim) + array.shape
    return shape[0] == 1
