"""A served decoder with channels-last maps and fused convolutions, for CUDA: uint8 LRs in, uint8 pictures out.

A decoder of ONNX's own operators becomes one of the operators of ``com.edgegrain`` (docs/cuda_ops.md): a convolution
and the steps after it are one node (`export.decoder.convolution_tails`), a residual dense block too, and so are the
factors of a style (`export.decoder.styles`). Values that depend on weights only are computed here. An operator without
a channels-last form keeps its own, with transposes around it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript.optimizer

from codec_contract.errors import ExportError
from export.decoder.convolution_tails import DenseBlockNodes, Tail, find_dense_block, find_tail
from export.decoder.convolution_weights import filters, transposed_filters
from export.decoder.graph_values import (
    channel_count,
    constant,
    integer,
    integers,
    is_map,
    is_op,
    is_own_op,
    is_vector,
    require_constant,
    sizes,
    text,
)
from export.decoder.styles import merge_styles
from server_decoder.cuda_ops.fused_ops import VERSION
from server_decoder.cuda_ops.library import DOMAIN
from server_decoder.decoder_session import INPUT, OUTPUT

FLOAT, HALF, UINT8 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.UINT8
_AXES = {0: 0, 1: 3, 2: 1, 3: 2}
"""An axis of a map -> the same, channels-last."""
_POINTWISE = {"Abs", "Add", "Cast", "Clip", "Div", "Exp", "LeakyRelu", "Mul", "Neg", "Reciprocal", "Relu", "Sigmoid",
              "Sqrt", "Sub"}

_Forms = dict[str, ir.Value]
_Attributes = dict[str, Any]


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
    """Writes the channels-last graph, node by node of the source.

    Attributes:
        forms: of every value of the source, its values in the new graph: as it was exported (``first``), a map
            channels-last (``last``), one number per picture and channel as ``[B, C]`` (``vector``).
    """

    def __init__(self, source: ir.Model) -> None:
        self.source = source.graph
        self.ir_version = source.ir_version
        self.graph = ir.Graph([], [], nodes=[], name="decoder",
                              opset_imports={"": source.graph.opset_imports[""], DOMAIN: VERSION})
        self.forms: dict[ir.Value, _Forms] = {}
        self.taken: set[ir.Node] = set()
        self.pending: dict[ir.Node, Callable[[], None]] = {}
        self.names: set[str] = set()

    def run(self) -> ir.Model:
        """The new model."""
        levels = self._inputs()
        for node in _vectors_first(self.source):
            if node in self.pending:
                self.pending.pop(node)()
            elif node not in self.taken:
                self._convert(node, levels)
        self._outputs()
        self._name_values()
        model = ir.Model(self.graph, ir_version=self.ir_version)
        onnxscript.optimizer.remove_unused_nodes(model)
        return model

    def _inputs(self) -> ir.Value:
        levels: ir.Value | None = None
        for value in self.source.inputs:
            if value.name != INPUT:
                given = self._value(value.name, value.shape, value.dtype)
                self.graph.inputs.append(given)
                self.forms[value] = {"first": given}
                if value.is_initializer():
                    given.const_value = value.const_value
                    self.graph.register_initializer(given)
                continue
            if not is_map(value):
                raise ExportError(f"the decoder's input is {list(sizes(value))}, expected [batch, 3, height, width]")
            levels = self._value(INPUT, _last_shape(value), UINT8)
            self.graph.inputs.append(levels)
            self.forms[value] = {"last": self._own("DequantizeLR", [levels], {"to": int(FLOAT)}, _last_shape(value),
                                                   FLOAT)}
        if levels is None:
            raise ExportError(f"the decoder has no input {INPUT!r}")
        return levels

    def _outputs(self) -> None:
        for value in self.source.outputs:
            if value.name != OUTPUT or not is_map(value) or sizes(value)[1] != 3:
                raise ExportError(f"the decoder's output {value.name} is {list(sizes(value))}, expected {OUTPUT!r} of "
                                  "[batch, 3, height, width]")
            cast = value.producer()  # of halves to float32, which QuantizePicture takes too
            exact = cast.inputs[0] if cast is not None and is_op(cast, "Cast") else value
            picture = self._own("QuantizePicture", [self._get(exact, "last")], {}, _last_shape(value), UINT8)
            picture.name = OUTPUT
            self.graph.outputs.append(picture)

    def _name_values(self) -> None:
        """Values are named after those of the source, where they are the same."""
        names = {new: value.name for value, forms in self.forms.items() for new in forms.values()}
        used = {value.name for value in (*self.graph.inputs, *self.graph.outputs, *self.graph.initializers.values())}
        for index, node in enumerate(self.graph):
            for place, value in enumerate(node.outputs):
                if not value.is_graph_output():
                    name = names.get(value)
                    value.name = name if name and name not in used else f"{node.op_type}.{index}.{place}"
                    used.add(value.name)

    # Conversions of single nodes.

    def _convert(self, node: ir.Node, levels: ir.Value) -> None:
        value = node.outputs[0]
        if is_op(node, "Constant"):
            return
        if is_op(node, "Cast") and _is_input(node.inputs[0]) and integer(node, "to") == HALF:
            self.forms[value] = {"last": self._own("DequantizeLR", [levels], {"to": int(HALF)}, _last_shape(value),
                                                   HALF)}
            return
        if is_op(node, "Conv"):
            done = self._conv(node)
        elif is_op(node, "ConvTranspose"):
            done = self._conv_transpose(node)
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
        inputs = [None if value is None else self._get(value, "first") for value in node.inputs]
        new = ir.node(node.op_type, inputs, dict(node.attributes), domain=node.domain, num_outputs=len(node.outputs))
        self.graph.append(new)
        for old, value in zip(node.outputs, new.outputs, strict=True):
            self._set(old, "first", _described(value, old.shape, old.dtype))

    def _pointwise(self, node: ir.Node) -> bool:
        value = node.outputs[0]
        form = "vector" if is_vector(value) else "last" if is_map(value) else ""
        operands = node.inputs[:1] if is_op(node, "Clip") else node.inputs
        if not form or not all(_has_form(operand, form, value) for operand in operands if operand is not None):
            return False
        inputs = [self._operand(operand, form) if operand in operands and operand is not None
                  else None if operand is None else self._get(operand, "first") for operand in node.inputs]
        new = self._node(node.op_type, inputs, dict(node.attributes), _shape(value, form), value.dtype)
        self._set(value, form, new)
        return True

    def _operand(self, value: ir.Value, form: str) -> ir.Value:
        array = constant(value)
        if array is None:
            return self._get(value, form)
        if array.size == 1:
            return self._constant(array.reshape(()), value.name)
        if form == "vector":
            return self._constant(array.reshape(array.shape[0] if array.ndim == 2 else 1, -1)
                                  if array.ndim == 2 else array.reshape(-1), value.name)
        full = array.reshape((1,) * (4 - array.ndim) + array.shape)
        return self._constant(np.ascontiguousarray(full.transpose(0, 2, 3, 1)), value.name)

    def _along_axis(self, node: ir.Node) -> bool:
        values = node.inputs if is_op(node, "Concat") else node.inputs[:1]
        form = "vector" if all(map(is_vector, values)) else "last" if all(map(is_map, values)) else ""
        if not form or not all(is_vector(value) if form == "vector" else is_map(value) for value in node.outputs):
            return False
        axes = _AXES if form == "last" else {0: 0, 1: 1}
        inputs = [self._get(value, form) for value in values]
        attributes = dict(node.attributes)
        if is_op(node, "Slice"):
            parts = [part for value in node.inputs[1:] if (part := constant(value)) is not None]
            if len(parts) != 4 or any(int(axis) not in axes for axis in parts[2]):
                return False
            parts[2] = np.array([axes[int(axis)] for axis in parts[2]], np.int64)
            inputs += [self._constant(part, f"{node.outputs[0].name}.{name}")
                       for part, name in zip(parts, ("starts", "ends", "axes", "steps"), strict=True)]
        else:
            axis = integer(node, "axis")
            if axis not in axes:
                return False
            attributes["axis"] = ir.AttrInt64("axis", axes[axis])
            inputs += [self._get(value, "first") for value in node.inputs[len(values):] if value is not None]
        new = ir.node(node.op_type, inputs, attributes, num_outputs=len(node.outputs))
        self.graph.append(new)
        for old, value in zip(node.outputs, new.outputs, strict=True):
            self._set(old, form, _described(value, _shape(old, form), old.dtype))
        return True

    def _view(self, node: ir.Node) -> bool:
        value, x = node.outputs[0], node.inputs[0]
        if is_vector(value) and is_vector(x) and sizes(value)[1] == sizes(x)[1]:
            self._set(value, "vector", self._get(x, "vector"))
            return True
        if is_map(value) and sizes(value)[1] == 1 and not is_map(x):
            self._set(value, "last", self._reshape(self._get(x, "first"), _last_shape(value)))
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
        self._set(value, "vector", self._means(x, value))
        return True

    def _means(self, x: ir.Value, value: ir.Value) -> ir.Value:
        """Means of a map's channels, ``[B, C]``; of a concatenation, those of its parts."""
        joined = x.producer()
        if is_op(joined, "Concat") and integer(joined, "axis") == 1:
            parts = [self._means(part, value) for part in joined.inputs if part is not None]
            return self._node("Concat", parts, {"axis": 1}, _shape(value, "vector"), value.dtype)
        batch, channels, height, width = x.shape
        if x.dtype != HALF:
            return self._node("ReduceMean", [self._get(x, "last"), self._constant(np.array([1, 2]), "pixels")],
                              {"keepdims": 0}, [batch, channels], value.dtype)
        # Of rows as a product with ones, whose sums are float32, then of columns.
        rows = self._reshape(self._get(x, "last"), [None, width, channels])
        ones = self._constant(np.full((1, width), 1 / width, np.float16), f"mean.{width}")
        means = self._node("MatMul", [ones, rows], {}, [None, 1, channels], HALF)
        means = self._cast(self._reshape(means, [batch, height, channels]), FLOAT)
        return self._node("ReduceMean", [means, self._constant(np.array([1]), "rows")], {"keepdims": 0},
                          [batch, channels], FLOAT)

    def _average_pool(self, node: ir.Node) -> bool:
        value, x = node.outputs[0], node.inputs[0]
        if integers(node, "kernel_shape") != (2, 2) or integers(node, "strides", (1, 1)) != (2, 2) or any(
                integers(node, "pads", (0,) * 4)) or not is_map(value):
            return False
        weight = self._constant(np.full((channel_count(x), 2, 2, 1), 0.25, x.dtype.numpy()), f"{value.name}.quarter")
        self._set(value, "last", self._own("FusedConv", [self._get(x, "last"), weight], {"stride": 2, "depthwise": 1},
                                           _last_shape(value), value.dtype))
        return True

    def _resize(self, node: ir.Node) -> bool:
        mode, value = _upsampling(node), node.outputs[0]
        if mode:
            self._set(value, "last", self._upsample(self._get(node.inputs[0], "last"), mode, value))
        return bool(mode)

    def _upsample(self, x: ir.Value, mode: str, value: ir.Value) -> ir.Value:
        return self._own("Upsample", [x], {"mode": mode}, _last_shape(value), value.dtype)

    def _depth_to_space(self, node: ir.Node) -> bool:
        value, x = node.outputs[0], node.inputs[0]
        if text(node, "mode", "DCR") != "CRD" or not is_map(x):
            return False
        batch, channels, height, width = value.shape
        side = integer(node, "blocksize")
        rows, columns = sizes(x)[2:]
        cells = self._reshape(self._get(x, "last"), [batch, rows, columns, channels, side, side])
        ordered = self._node("Transpose", [cells], {"perm": [0, 1, 4, 2, 5, 3]},
                             [batch, rows, side, columns, side, channels], value.dtype)
        self._set(value, "last", self._reshape(ordered, [batch, height, width, channels]))
        return True

    def _own_op(self, node: ir.Node) -> bool:
        x = node.inputs[0]
        if not is_own_op(node, "DemodBiasAct", "FilteredBiasAct", "UpFirDn2d", "InverseHaar"):
            return False
        inputs: list[ir.Value | None] = [self._get(x, "last")]
        for value in node.inputs[1:]:
            inputs.append(None if value is None else self._noise(value) if len(sizes(value)) == 4
                          else self._get(value, "first"))
        attributes = {**node.attributes, "channels_last": ir.AttrInt64("channels_last", 1)}
        new = ir.node(node.op_type, inputs, attributes, domain=DOMAIN, num_outputs=len(node.outputs), version=VERSION)
        self.graph.append(new)
        for old, value in zip(node.outputs, new.outputs, strict=True):
            self._set(old, "last", _described(value, _last_shape(old), old.dtype))
        return True

    # Convolutions.

    def _conv(self, node: ir.Node) -> bool:
        x, weight = node.inputs[0], constant(node.inputs[1])
        group = integer(node, "group", 1)
        if weight is None or weight.ndim != 4 or any(side != 1 for side in integers(node, "dilations", (1, 1))) or (
                text(node, "auto_pad", "NOTSET") != "NOTSET"):
            return False
        if is_vector(x) and weight.shape[2:] == (1, 1) and group == 1:
            return self._product(node, weight)
        strides = integers(node, "strides", (1, 1))
        depthwise = group > 1 and group == sizes(x)[1] == weight.shape[0]
        if not is_map(x) or strides not in ((1, 1), (2, 2)) or (group > 1 and not depthwise):
            return False
        block = find_dense_block(node, self.taken)
        if block is not None:
            self.taken |= set(block.nodes)
            self.pending[block.nodes[-1]] = lambda: self._dense_block(block)
            return True
        attributes: _Attributes = {
            "pads": list(integers(node, "pads", (0,) * 4)), "stride": strides[0], "depthwise": int(depthwise)}
        self._fuse(node, find_tail(node, self.taken, self.forms.keys()), filters(weight), attributes)
        return True

    def _conv_transpose(self, node: ir.Node) -> bool:
        x, weight = node.inputs[0], constant(node.inputs[1])
        if weight is None or not is_map(x) or integer(node, "group", 1) != 1 or any(
                integers(node, "output_padding", (0, 0))) or any(
                side != 1 for side in integers(node, "dilations", (1, 1))) or (
                integers(node, "strides", (1, 1)) != (2, 2) or text(node, "auto_pad", "NOTSET") != "NOTSET"):
            return False
        found = transposed_filters(weight, integers(node, "pads", (0,) * 4))
        if found is None:
            return False
        self._fuse(node, find_tail(node, self.taken, self.forms.keys()), *found)
        return True

    def _fuse(self, node: ir.Node, tail: Tail, weight: np.ndarray, attributes: _Attributes) -> None:
        def emit() -> None:
            self._fused_conv(node, tail, weight, attributes)

        if tail.nodes:
            self.taken |= set(tail.nodes)
            self.pending[tail.nodes[-1]] = emit
        else:
            emit()

    def _fused_conv(self, node: ir.Node, tail: Tail, weight: np.ndarray, attributes: _Attributes
                    ) -> None:
        parts, weight = self._convolved(node, weight)
        end = tail.end
        bias = np.sum([array.astype(np.float32) for array in tail.biases], axis=0)
        inputs = [
            parts[0], weight,
            None if tail.demodulation is None else self._factor(tail.demodulation),
            None if tail.noise is None else self._noise(tail.noise),
            self._constant(bias, f"{node.outputs[0].name}.bias" if len(node.inputs) < 3 or node.inputs[2] is None
                           else node.inputs[2].name) if tail.biases else None,
            None if tail.style is None else self._factor(tail.style),
            None if tail.residual is None else self._get(tail.residual, "last"),
            None if tail.outer is None else self._get(tail.outer, "last"), *parts[1:]]
        while inputs[-1] is None:
            inputs.pop()
        usual = {"pads": [0] * 4, "stride": 1, "depthwise": 0, "slope": 1.0, "gain": 1.0, "clamp": 0.0, "scale": 1.0,
                 "outer_scale": 1.0, "shuffle": 1, "shift": 0, "crop": 0, "residual_first": 0}
        given = {**attributes, "slope": tail.slope, "gain": tail.gain, "clamp": tail.clamp, "scale": tail.scale,
                 "outer_scale": tail.outer_scale, "residual_first": int(tail.residual_first)}
        results = [value for value in (tail.plain, end) if value is not None]
        new = ir.node("FusedConv", inputs, {name: value for name, value in given.items() if value != usual[name]},
                      domain=DOMAIN, num_outputs=len(results), version=VERSION)
        self.graph.append(new)
        for old, value in zip(results, new.outputs, strict=True):
            self._set(old, "last", _described(value, _last_shape(old), old.dtype))

    def _convolved(self, node: ir.Node, filters: np.ndarray) -> tuple[list[ir.Value], ir.Value]:
        """The maps that a convolution reads, at most two, and its filters.

        A convolution of a concatenation reads its parts. Factors of channels, such as those of squeeze and excitation,
        are multiplied with the filters instead of the map: each picture then has filters of its own.
        """
        x = node.inputs[0]
        weight = self._constant(filters, node.inputs[1].name)
        if integer(node, "group", 1) != 1:
            return [self._get(x, "last")], weight
        small = 2 * filters.size <= filters.shape[-1] * (sizes(x)[2] or 0) * (sizes(x)[3] or 0)
        parts, factor = self._parts(x, scaled=small)
        if len(parts) > 2:
            shape = [*parts[1].shape[:3], sum(part.shape[3] for part in parts[1:])]
            parts = [parts[0], self._node("Concat", parts[1:], {"axis": 3}, shape, x.dtype)]
        if factor is None:
            return parts, weight
        batch, channels = factor.shape
        factor = self._reshape(factor, [batch, 1, 1, 1, channels])
        return parts, self._node("Mul", [weight, factor], {}, [batch, *filters.shape], x.dtype)

    def _parts(self, x: ir.Value, *, scaled: bool) -> tuple[list[ir.Value], ir.Value | None]:
        """The maps of which ``x`` is the concatenation, and the factors of their channels, ``[B, C]``; None for ones.

        With ``scaled`` false, factors stay in the maps.
        """
        node = x.producer()
        if node in self.taken:
            return [self._get(x, "last")], None
        if is_op(node, "Mul") and scaled:
            for features, factor in (node.inputs, node.inputs[::-1]):
                if is_map(features) and constant(factor) is None and is_vector(factor) and len(sizes(factor)) == 4:
                    parts, below = self._parts(features, scaled=True)
                    vector = self._get(factor, "vector")
                    return parts, vector if below is None else self._node("Mul", [below, vector], {}, vector.shape,
                                                                          vector.dtype)
        if is_op(node, "Resize") and scaled and (mode := _upsampling(node)):
            parts, factor = self._parts(node.inputs[0], scaled=True)
            if factor is not None and len(parts) == 1:  # factors of channels commute with it
                return [self._upsample(parts[0], mode, x)], factor
        if is_op(node, "Concat") and integer(node, "axis") == 1 and all(map(is_map, node.inputs)):
            found = [self._parts(part, scaled=scaled) for part in node.inputs if part is not None]
            parts = [part for each, _ in found for part in each]
            if all(factor is None for _, factor in found):
                return parts, None
            if all(factor is not None for _, factor in found):
                vectors = [factor for _, factor in found if factor is not None]
                shape = [vectors[0].shape[0], sizes(x)[1]]
                return parts, self._node("Concat", vectors, {"axis": 1}, shape, x.dtype)
        return [self._get(x, "last")], None

    def _dense_block(self, block: DenseBlockNodes) -> None:
        convolutions = block.convolutions
        weights = [self._constant(filters(require_constant(node.inputs[1])), node.inputs[1].name)
                   for node in convolutions]
        biases = [self._constant(
            np.zeros(channel_count(node.outputs[0]), np.float32) if len(node.inputs) < 3 or node.inputs[2] is None
            else require_constant(node.inputs[2]).astype(np.float32), f"{node.inputs[1].name}.bias")
            for node in convolutions]
        inputs = [self._get(block.x, "last"), None if block.outer is None else self._get(block.outer, "last"),
                  *weights, *biases]
        attributes: _Attributes = {"slope": block.slope, "scale": block.scale}
        if block.outer is not None:
            attributes["outer_scale"] = block.outer_scale
        self._set(block.end, "last", self._own("DenseBlock", inputs, attributes, _last_shape(block.end),
                                               block.end.dtype))

    def _product(self, node: ir.Node, weight: np.ndarray) -> bool:
        """A 1x1 convolution of one pixel."""
        value = node.outputs[0]
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        inputs = [self._get(node.inputs[0], "vector"), self._constant(weight[:, :, 0, 0], node.inputs[1].name)]
        if bias is not None and bias.any():
            inputs.append(self._constant(bias, node.inputs[2].name))
        self._set(value, "vector", self._node("Gemm", inputs, {"transB": 1}, _shape(value, "vector"), value.dtype))
        return True

    def _factor(self, value: ir.Value) -> ir.Value:
        """``[B, C]`` in float32."""
        while is_op(value.producer(), "Cast", "Reshape", "Unsqueeze") and is_vector(value.producer().inputs[0]):
            value = value.producer().inputs[0]
        vector = self._get(value, "vector")
        return vector if value.dtype == FLOAT else self._cast(vector, FLOAT)

    def _noise(self, value: ir.Value) -> ir.Value:
        """``[1 or B, H, W, 1]``."""
        array = constant(value)
        if array is None:
            return self._get(value, "last")
        return self._constant(array.reshape(1, *array.shape[-2:], 1), value.name)

    # Values.

    def _get(self, value: ir.Value, form: str) -> ir.Value:
        """A value of the source in one of its forms."""
        array = constant(value)
        forms = self.forms.setdefault(value, {})
        if form in forms:
            return forms[form]
        if array is not None:
            if form == "last":
                array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
            elif form == "vector":
                array = array.reshape(array.shape[:2])
            forms[form] = self._constant(array, value.name)
            return forms[form]
        if form == "first" and is_vector(value):
            found = self._get(value, "vector")
            forms[form] = found if len(sizes(value)) == 2 else self._reshape(found, value.shape)
        elif form == "vector":
            found = forms.get("first") or forms.get("last")
            forms[form] = found if len(sizes(value)) == 2 else self._reshape(found, value.shape[:2])
        elif is_vector(value):
            found = forms.get("vector") or forms["first"]
            forms[form] = self._reshape(found, _last_shape(value))
        elif sizes(value)[1] == 1:  # a transpose of one channel moves nothing
            forms[form] = self._reshape(next(iter(forms.values())), _last_shape(value) if form == "last"
                                        else value.shape)
        elif form == "last":
            forms[form] = self._node("Transpose", [forms["first"]], {"perm": [0, 2, 3, 1]}, _last_shape(value),
                                     value.dtype)
        else:
            forms[form] = self._node("Transpose", [forms["last"]], {"perm": [0, 3, 1, 2]}, value.shape, value.dtype)
        return forms[form]

    def _set(self, value: ir.Value, form: str, new: ir.Value) -> None:
        self.forms.setdefault(value, {})[form] = new

    def _constant(self, array: np.ndarray, name: str | None) -> ir.Value:
        unique = base = name or "constant"
        count = 0
        while unique in self.names:
            held = self.graph.initializers[unique].const_value.numpy()
            if held.dtype == array.dtype and held.shape == array.shape and np.array_equal(held, array):
                return self.graph.initializers[unique]
            count += 1
            unique = f"{base}.{count}"
        self.names.add(unique)
        tensor = ir.tensor(np.ascontiguousarray(array) if array.ndim else array, name=unique)
        value = ir.Value(name=unique, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def _reshape(self, value: ir.Value, shape: Sequence[int | ir.SymbolicDim | None]) -> ir.Value:
        wanted = np.array([size if isinstance(size, int) else -1 for size in shape], np.int64)
        name = "shape." + ".".join(str(size) for size in wanted)
        return self._node("Reshape", [value, self._constant(wanted, name)], {}, shape, value.dtype)

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        return self._node("Cast", [value], {"to": int(dtype)}, value.shape, dtype)

    def _node(self, name: str, inputs: Sequence[ir.Value | None], attributes: _Attributes,
              shape: Sequence[int | ir.SymbolicDim | None], dtype: ir.DataType, domain: str = "") -> ir.Value:
        new = ir.node(name, inputs, attributes, domain=domain, version=VERSION if domain else None)
        self.graph.append(new)
        return _described(new.outputs[0], shape, dtype)

    def _own(self, name: str, inputs: Sequence[ir.Value | None], attributes: _Attributes,
             shape: Sequence[int | ir.SymbolicDim | None], dtype: ir.DataType) -> ir.Value:
        return self._node(name, inputs, attributes, shape, dtype, DOMAIN)

    @staticmethod
    def _value(name: str | None, shape: Sequence[int | ir.SymbolicDim | None] | None, dtype: ir.DataType) -> ir.Value:
        return _described(ir.Value(name=name), shape, dtype)


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


def _upsampling(node: ir.Node) -> str:
    """The mode of the ``Upsample`` that is the same as a Resize; "" if there is none."""
    value, x = node.outputs[0], node.inputs[0]
    mode, how = text(node, "mode"), text(node, "coordinate_transformation_mode", "half_pixel")
    if not is_map(x) or integer(node, "antialias") or [2 * (size or 0) for size in sizes(x)[2:]] != list(
            sizes(value)[2:]):
        return ""
    if mode == "nearest" and (how, text(node, "nearest_mode", "round_prefer_floor")) == ("asymmetric", "floor"):
        return "nearest"
    return "bilinear" if mode == "linear" and how in ("half_pixel", "pytorch_half_pixel") else ""


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


def _shape(value: ir.Value, form: str) -> Sequence[int | ir.SymbolicDim | None]:
    return _last_shape(value) if form == "last" else value.shape[:2] if form == "vector" else value.shape


def _last_shape(value: ir.Value) -> list[int | ir.SymbolicDim | None]:
    batch, channels, height, width = value.shape
    return [batch, height, width, channels]


def _described(value: ir.Value, shape: Sequence[int | ir.SymbolicDim | None] | None, dtype: ir.DataType | None
               ) -> ir.Value:
    value.shape = None if shape is None else ir.Shape(list(shape))
    value.type = None if dtype is None else ir.TensorType(dtype)
    return value
