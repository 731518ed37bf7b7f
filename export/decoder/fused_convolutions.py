"""Convolutions and the steps after them as single nodes of a channels-last graph: ``FusedConv``, ``DenseBlock``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from export.decoder.channels_last_writer import Attributes, ChannelsLastWriter, described, last_shape, shape_of
from export.decoder.convolution_tails import DenseBlockNodes, Tail, find_dense_block, find_tail
from export.decoder.convolution_weights import filters, transposed_filters
from export.decoder.graph_values import (
    channel_count,
    constant,
    integer,
    integers,
    is_map,
    is_op,
    is_vector,
    require_constant,
    sizes,
    text,
)
from export.decoder.upsampling import upsample, upsampling_mode
from server_decoder.cuda_ops.fused_ops import VERSION
from server_decoder.cuda_ops.library import DOMAIN

FLOAT = ir.DataType.FLOAT


class ConvolutionFuser:
    """Writes a convolution with its steps as one node, at the place of the last of them.

    Attributes:
        taken: nodes of the source that a fused node computes.
        pending: the last of them -> what writes the fused node.
    """

    def __init__(self, out: ChannelsLastWriter) -> None:
        self.out = out
        self.taken: set[ir.Node] = set()
        self.pending: dict[ir.Node, Callable[[], None]] = {}

    def convolution(self, node: ir.Node) -> bool:
        """Write a Conv, or keep it for the last of its steps; False if it has no channels-last form."""
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
        attributes: Attributes = {
            "pads": list(integers(node, "pads", (0,) * 4)), "stride": strides[0], "depthwise": int(depthwise)}
        self._fuse(node, find_tail(node, self.taken, self.out.forms.keys()), filters(weight), attributes)
        return True

    def transposed_convolution(self, node: ir.Node) -> bool:
        """Write a ConvTranspose of stride 2, as `convolution` does."""
        x, weight = node.inputs[0], constant(node.inputs[1])
        if weight is None or not is_map(x) or integer(node, "group", 1) != 1 or any(
                integers(node, "output_padding", (0, 0))) or any(
                side != 1 for side in integers(node, "dilations", (1, 1))) or (
                integers(node, "strides", (1, 1)) != (2, 2) or text(node, "auto_pad", "NOTSET") != "NOTSET"):
            return False
        found = transposed_filters(weight, integers(node, "pads", (0,) * 4))
        if found is None:
            return False
        self._fuse(node, find_tail(node, self.taken, self.out.forms.keys()), *found)
        return True

    def _fuse(self, node: ir.Node, tail: Tail, weight: np.ndarray, attributes: Attributes) -> None:
        def emit() -> None:
            self._fused_conv(node, tail, weight, attributes)

        if tail.nodes:
            self.taken |= set(tail.nodes)
            self.pending[tail.nodes[-1]] = emit
        else:
            emit()

    def _fused_conv(self, node: ir.Node, tail: Tail, weight: np.ndarray, attributes: Attributes) -> None:
        parts, weight = self._convolved(node, weight)
        end = tail.end
        bias = np.sum([array.astype(np.float32) for array in tail.biases], axis=0)
        inputs = [
            parts[0], weight,
            None if tail.demodulation is None else self._factor(tail.demodulation),
            None if tail.noise is None else self.out.noise(tail.noise),
            self.out.constant(bias, f"{node.outputs[0].name}.bias" if len(node.inputs) < 3 or node.inputs[2] is None
                              else node.inputs[2].name) if tail.biases else None,
            None if tail.style is None else self._factor(tail.style),
            None if tail.residual is None else self.out.get(tail.residual, "last"),
            None if tail.outer is None else self.out.get(tail.outer, "last"), *parts[1:]]
        while inputs[-1] is None:
            inputs.pop()
        usual = {"pads": [0] * 4, "stride": 1, "depthwise": 0, "slope": 1.0, "gain": 1.0, "clamp": 0.0, "scale": 1.0,
                 "outer_scale": 1.0, "shuffle": 1, "shift": 0, "crop": 0, "residual_first": 0}
        given = {**attributes, "slope": tail.slope, "gain": tail.gain, "clamp": tail.clamp, "scale": tail.scale,
                 "outer_scale": tail.outer_scale, "residual_first": int(tail.residual_first)}
        results = [value for value in (tail.plain, end) if value is not None]
        new = ir.node("FusedConv", inputs, {name: value for name, value in given.items() if value != usual[name]},
                      domain=DOMAIN, num_outputs=len(results), version=VERSION)
        self.out.graph.append(new)
        for old, value in zip(results, new.outputs, strict=True):
            self.out.set(old, "last", described(value, last_shape(old), old.dtype))

    def _convolved(self, node: ir.Node, filters: np.ndarray) -> tuple[list[ir.Value], ir.Value]:
        """The maps that a convolution reads, at most two, and its filters.

        A convolution of a concatenation reads its parts. Factors of channels, such as those of squeeze and excitation,
        are multiplied with the filters instead of the map: each picture then has filters of its own.
        """
        x = node.inputs[0]
        weight = self.out.constant(filters, node.inputs[1].name)
        if integer(node, "group", 1) != 1:
            return [self.out.get(x, "last")], weight
        small = 2 * filters.size <= filters.shape[-1] * (sizes(x)[2] or 0) * (sizes(x)[3] or 0)
        parts, factor = self._parts(x, scaled=small)
        if len(parts) > 2:
            shape = [*parts[1].shape[:3], sum(part.shape[3] for part in parts[1:])]
            parts = [parts[0], self.out.node("Concat", parts[1:], {"axis": 3}, shape, x.dtype)]
        if factor is None:
            return parts, weight
        batch, channels = factor.shape
        factor = self.out.reshape(factor, [batch, 1, 1, 1, channels])
        return parts, self.out.node("Mul", [weight, factor], {}, [batch, *filters.shape], x.dtype)

    def _parts(self, x: ir.Value, *, scaled: bool) -> tuple[list[ir.Value], ir.Value | None]:
        """The maps of which ``x`` is the concatenation, and the factors of their channels, ``[B, C]``; None for ones.

        With ``scaled`` false, factors stay in the maps.
        """
        node = x.producer()
        if node in self.taken:
            return [self.out.get(x, "last")], None
        if is_op(node, "Mul") and scaled:
            for features, factor in (node.inputs, node.inputs[::-1]):
                if is_map(features) and constant(factor) is None and is_vector(factor) and len(sizes(factor)) == 4:
                    parts, below = self._parts(features, scaled=True)
                    vector = self.out.get(factor, "vector")
                    return parts, vector if below is None else self.out.node("Mul", [below, vector], {}, vector.shape,
                                                                             vector.dtype)
        if is_op(node, "Resize") and scaled and (mode := upsampling_mode(node)):
            parts, factor = self._parts(node.inputs[0], scaled=True)
            if factor is not None and len(parts) == 1:  # factors of channels commute with it
                return [upsample(self.out, parts[0], mode, x)], factor
        if is_op(node, "Concat") and integer(node, "axis") == 1 and all(map(is_map, node.inputs)):
            found = [self._parts(part, scaled=scaled) for part in node.inputs if part is not None]
            parts = [part for each, _ in found for part in each]
            if all(factor is None for _, factor in found):
                return parts, None
            if all(factor is not None for _, factor in found):
                vectors = [factor for _, factor in found if factor is not None]
                shape = [vectors[0].shape[0], sizes(x)[1]]
                return parts, self.out.node("Concat", vectors, {"axis": 1}, shape, x.dtype)
        return [self.out.get(x, "last")], None

    def _dense_block(self, block: DenseBlockNodes) -> None:
        convolutions = block.convolutions
        weights = [self.out.constant(filters(require_constant(node.inputs[1])), node.inputs[1].name)
                   for node in convolutions]
        biases = [self.out.constant(
            np.zeros(channel_count(node.outputs[0]), np.float32) if len(node.inputs) < 3 or node.inputs[2] is None
            else require_constant(node.inputs[2]).astype(np.float32), f"{node.inputs[1].name}.bias")
            for node in convolutions]
        inputs = [self.out.get(block.x, "last"), None if block.outer is None else self.out.get(block.outer, "last"),
                  *weights, *biases]
        attributes: Attributes = {"slope": block.slope, "scale": block.scale}
        if block.outer is not None:
            attributes["outer_scale"] = block.outer_scale
        self.out.set(block.end, "last", self.out.own("DenseBlock", inputs, attributes, last_shape(block.end),
                                                     block.end.dtype))

    def _product(self, node: ir.Node, weight: np.ndarray) -> bool:
        """A 1x1 convolution of one pixel."""
        value = node.outputs[0]
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        inputs = [self.out.get(node.inputs[0], "vector"), self.out.constant(weight[:, :, 0, 0], node.inputs[1].name)]
        if bias is not None and bias.any():
            inputs.append(self.out.constant(bias, node.inputs[2].name))
        product = self.out.node("Gemm", inputs, {"transB": 1}, shape_of(value, "vector"), value.dtype)
        self.out.set(value, "vector", product)
        return True

    def _factor(self, value: ir.Value) -> ir.Value:
        """``[B, C]`` in float32."""
        while is_op(value.producer(), "Cast", "Reshape", "Unsqueeze") and is_vector(value.producer().inputs[0]):
            value = value.producer().inputs[0]
        vector = self.out.get(value, "vector")
        return vector if value.dtype == FLOAT else self.out.cast(vector, FLOAT)
