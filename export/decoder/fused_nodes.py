"""An ONNX graph with channels-last maps and the fused operators of ``com.edgegrain`` (docs/cuda_ops.md), node by node.

A convolution and the steps after it are one node. Factors of channels, such as those of squeeze and excitation, are
multiplied with the filters instead of the map where that moves fewer bytes: each picture then has filters of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.decoder.graph import OPSET
from server_decoder.cuda_ops.library import DOMAIN
from server_decoder.decoder_session import OUTPUT
from server_decoder.grain.rrdb_decoder import NEGATIVE_SLOPE, RESIDUAL_SCALE, ResidualDenseBlock

Array = np.ndarray[Any, Any]
_FILTER: dict[str, Any] = {"taps": [0.125, 0.375, 0.375, 0.125], "filter_gain": 4.0, "channels_last": 1}
"""StyleGAN2's [1, 3, 3, 1] for maps of which one pixel in four is not zero."""


@dataclass(frozen=True)
class Value:
    """A value of the graph: a map ``[B, H, W, C]`` or a vector ``[B, C]``; ``shape`` is without the batch."""

    name: str
    shape: tuple[int, ...]
    half: bool = False


class FusedGraph:
    """Collects nodes and constants. Maps and filters are halves if ``half``; vectors and biases are float32."""

    def __init__(self, *, half: bool) -> None:
        self.half = half
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._infos: dict[str, onnx.ValueInfoProto] = {}

    def constant(self, name: str, array: Array) -> Value:
        """A constant with this name; the same if it exists."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array) if array.ndim else array, name)
        return Value(name, array.shape[1:], array.dtype == np.float16)

    def nodes(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        shapes: Sequence[tuple[int, ...]],
        *,
        half: bool,
        domain: str = DOMAIN,
        **attributes: Any,
    ) -> list[Value]:
        """A node of ``com.edgegrain``, or of ONNX (domain ""), with results of these shapes."""
        name = f"{kind}.{len(self._nodes)}"
        names = ["" if value is None else value.name for value in inputs]
        while not names[-1]:
            names.pop()
        results = [Value(f"{name}.{place}", shape, half) for place, shape in enumerate(shapes)]
        made = [value.name for value in results]
        self._nodes.append(helper.make_node(kind, names, made, name, domain=domain, **attributes))
        for value in results:
            sizes: list[int | str] = ["batch", *value.shape]
            self._infos[value.name] = helper.make_tensor_value_info(value.name, float_kind(half), sizes)
        return results

    def node(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        shape: tuple[int, ...],
        *,
        half: bool = False,
        domain: str = "",
        **attributes: Any,
    ) -> Value:
        return self.nodes(kind, inputs, [shape], half=half, domain=domain, **attributes)[0]

    def cast(self, x: Value, half: bool) -> Value:
        return x if x.half == half else self.node("Cast", [x], x.shape, half=half, to=float_kind(half))

    def reshape(self, x: Value, *shape: int) -> Value:
        """``x`` in another shape after the batch, which is the open dimension."""
        name = ".".join(map(str, ("shape", -1, *shape)))
        return self.node("Reshape", [x, self.constant(name, np.array([-1, *shape], np.int64))], shape, half=x.half)

    def concat(self, parts: Sequence[Value]) -> Value:
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        shape = (*first.shape[:-1], sum(part.shape[-1] for part in parts))
        return self.node("Concat", parts, shape, half=first.half, axis=len(shape))

    def add(self, x: Value, y: Value) -> Value:
        return self.node("Add", [x, y], x.shape, half=x.half)

    def multiply(self, x: Value, y: Value) -> Value:
        """The product of two values of one shape, or with a scalar."""
        return self.node("Mul", [x, y], x.shape, half=x.half)

    def scale(self, x: Value, factor: Value) -> Value:
        """A map or a constant one ``[1, H, W, C]`` times a vector ``[B, C]``, in the type of ``x``."""
        return self.multiply(x, self.reshape(self.cast(factor, x.half), *(1,) * (len(x.shape) - 1), factor.shape[0]))

    def gemm(self, x: Value, name: str, matrix: Array, offset: Array | None = None) -> Value:
        """``x @ matrix.T + offset`` for a vector."""
        inputs = [x, self.constant(f"{name}.matrix", matrix.astype(np.float32))]
        if offset is not None:
            inputs.append(self.constant(f"{name}.offset", offset.astype(np.float32)))
        return self.node("Gemm", inputs, (len(matrix),), transB=1)

    def layer(
        self, x: Value | Sequence[Value], name: str, layer: nn.Conv2d | nn.ConvTranspose2d, **steps: Any
    ) -> Value:
        """A layer that keeps the size of a map, halves or doubles it, and the steps after it."""
        if isinstance(layer, nn.ConvTranspose2d):
            return self.conv(x, name, layer.weight, layer.bias, transposed=True, **steps)
        return self.conv(x, name, layer.weight, layer.bias, stride=layer.stride[0], **steps)

    def conv(
        self,
        x: Value | Sequence[Value],
        name: str,
        weight: Tensor | Array,
        bias: Tensor | Array | None = None,
        **steps: Any,
    ) -> Value:
        """`styled_conv` without the next layer's style."""
        return self.styled_conv(x, name, weight, bias, **steps)[0]

    def styled_conv(
        self,
        x: Value | Sequence[Value],
        name: str,
        weight: Tensor | Array,
        bias: Tensor | Array | None = None,
        *,
        transposed: bool = False,
        factor: Value | None = None,
        demodulation: Value | None = None,
        noise: Value | None = None,
        style: Value | None = None,
        residual: Value | None = None,
        stride: int = 1,
        **attributes: Any,
    ) -> tuple[Value, Value]:
        """``FusedConv`` with zeros around the map (or its parts) that keep its size; its result, and that times
        ``style``. ``factor`` is of the channels of ``x``.

        ``weight`` is ``[O, C, k, k]``, depthwise ``[C, 1, k, k]``, ``transposed`` (of stride 2, which doubles the size;
        kernels of 3 give one row and column more) ``[C, O, k, k]``.
        """
        parts, weight = [x] if isinstance(x, Value) else list(x), array(weight)
        height, width, _ = parts[0].shape
        if transposed:
            filters, layout = _transposed_filters(weight)
            shape = (2 * height + layout.get("crop", 0), 2 * width + layout.get("crop", 0), weight.shape[1])
        else:
            filters, margin = weight.transpose(0, 2, 3, 1), (weight.shape[2] - 1) // 2
            layout = ({"pads": [margin] * 4} if margin else {}) | ({"stride": stride} if stride > 1 else {})
            shape = ((height - 1) // stride + 1, (width - 1) // stride + 1, len(weight))
        held = self.constant(f"{name}.weight", filters.astype(np.float16 if self.half else np.float32))
        if factor is not None and 2 * filters.size <= filters.shape[-1] * height * width:
            wide = self.reshape(self.cast(factor, self.half), 1, 1, 1, filters.shape[-1])
            held = self.node("Mul", [held, wide], filters.shape, half=self.half)
        elif factor is not None:
            parts = [self.scale(self.concat(parts), factor)]
        if len(parts) > 2:
            parts = [parts[0], self.concat(parts[1:])]
        offset = None if bias is None else self.constant(f"{name}.bias", array(bias))
        inputs = [parts[0], held, demodulation, noise, offset, style, residual, None, *parts[1:]]
        shapes = [shape] * (1 if style is None else 2)
        results = self.nodes("FusedConv", inputs, shapes, half=self.half, **layout, **attributes)
        return results[0], results[-1]

    def dense_block(self, x: Value, name: str, block: ResidualDenseBlock, outer: Value | None) -> Value:
        """``DenseBlock``, with the input of the residual connection around it."""
        kind, convs = np.float16 if self.half else np.float32, [*enumerate(block.convs(), 1)]
        filters = [array(conv.weight).transpose(0, 2, 3, 1).astype(kind) for _, conv in convs]
        weights = [self.constant(f"{name}.conv{index}.weight", held) for index, held in enumerate(filters, 1)]
        biases = [self.constant(f"{name}.conv{index}.bias", array(conv.bias)) for index, conv in convs]
        scales = {"scale": RESIDUAL_SCALE, **({} if outer is None else {"outer_scale": RESIDUAL_SCALE})}
        inputs, slope = [x, outer, *weights, *biases], NEGATIVE_SLOPE
        return self.node("DenseBlock", inputs, x.shape, half=self.half, domain=DOMAIN, slope=slope, **scales)

    def doubled(self, kind: str, x: Value, *more: Value | None, channels: int = 0, **attributes: Any) -> Value:
        """A node of ``com.edgegrain`` that doubles the size of a map, the first of its inputs."""
        shape = (2 * x.shape[0], 2 * x.shape[1], channels or x.shape[2])
        return self.node(kind, [x, *more], shape, half=x.half, domain=DOMAIN, **attributes)

    def upsample(self, x: Value, mode: str) -> Value:
        """A map at twice its size; ``mode`` is nearest or bilinear."""
        return self.doubled("Upsample", x, mode=mode)

    def filtered_bias_act(
        self,
        x: Value,
        name: str,
        bias: Tensor,
        *,
        demodulation: Value | None,
        noise: Value,
        style: Value | None,
        **attributes: Any,
    ) -> tuple[Value, Value]:
        """``FilteredBiasAct`` after a transposed convolution; its result, and that times ``style``."""
        shapes = [(x.shape[0] - 1, x.shape[1] - 1, x.shape[2])] * (1 if style is None else 2)
        inputs = [x, demodulation, noise, self.constant(f"{name}.bias", array(bias)), style]
        attributes |= {"pad": [1] * 4, **_FILTER}
        results = self.nodes("FilteredBiasAct", inputs, shapes, half=x.half, **attributes)
        return results[0], results[-1]

    def upsampled_picture(self, x: Value) -> Value:
        """``UpFirDn2d``: zeros between the pixels, then the filter."""
        return self.doubled("UpFirDn2d", x, up=2, pad=[2, 1, 2, 1], **_FILTER)

    def inverse_haar(self, x: Value, style: Value | None = None) -> Value:
        """The inverse Haar transform of bands times ``style``."""
        return self.doubled("InverseHaar", x, style, channels=x.shape[2] // 4, scale=0.5, channels_last=1)

    def means(self, x: Value) -> Value:
        """The means of a map's channels, float32."""
        height, width, channels = x.shape
        if not x.half:
            return self.node("ReduceMean", [x, self.constant("pixels", np.array([1, 2]))], (channels,), keepdims=0)
        # Of rows as a product with ones, whose sums are float32, then of columns: halves would overflow.
        ones = self.constant(f"mean.{width}", np.full((1, width), 1 / width, np.float16))
        rows = self.node("MatMul", [ones, self.reshape(x, width, channels)], (1, channels), half=True)
        for value in self._nodes[-1].input[1], rows.name:  # their first dimension is not the batch
            self._infos[value].type.tensor_type.shape.dim[0].ClearField("dim_param")
        wide = self.cast(self.reshape(rows, height, channels), False)
        return self.node("ReduceMean", [wide, self.constant("rows", np.array([1]))], (channels,), keepdims=0)

    def factors(
        self, style: Value, name: str, *, squares: Array | None = None, norm: Array | None = None, epsilon: float = 0.0
    ) -> tuple[Value, Value | None]:
        """``ModulationFactors``: the style ``[B, C]``, and the gain of the convolution's results, if ``squares``
        ``[O, C]`` for demodulation or ``norm`` ``[O]``, by which the style is normalized, are given."""
        if squares is None and norm is None:
            return style, None
        inputs = [style, None if squares is None else self.constant(f"{name}.squares", squares.T.astype(np.float32))]
        attributes: dict[str, Any] = {"demodulate": int(squares is not None), "normalize": int(norm is not None)}
        if squares is not None:
            attributes["epsilon"] = epsilon
        if norm is not None:
            inputs.append(self.constant(f"{name}.norm", norm.astype(np.float32)[None]))
        (count,) = {len(given) for given in (squares, norm) if given is not None}
        scaled, gain = self.nodes("ModulationFactors", inputs, [style.shape, (count,)], half=False, **attributes)
        return scaled, gain

    def split(self, x: Value, sizes: Sequence[int]) -> list[Value]:
        lengths = self.constant(".".join(map(str, ("split", *sizes))), np.array(sizes, np.int64))
        return self.nodes("Split", [x, lengths], [(size,) for size in sizes], half=x.half, domain="", axis=1)

    def input(self, name: str, kind: int, *shape: int) -> Value:
        self._infos[name] = helper.make_tensor_value_info(name, kind, ["batch", *shape])
        return Value(name, shape)

    def model(self, lr: Value, picture: Value) -> onnx.ModelProto:
        """The model, which rounds the picture; without nodes, results and constants that it does not depend on."""
        last = "QuantizePicture"
        self._nodes.append(helper.make_node(last, [picture.name], [OUTPUT], last, domain=DOMAIN))
        needed, nodes = {OUTPUT}, []
        for node in reversed(self._nodes):
            if not needed & set(node.output):
                continue
            styled = node.op_type in ("FusedConv", "FilteredBiasAct") and len(node.output) == 2
            if styled and node.output[0] not in needed:
                del node.output[0]  # the activation before it is multiplied with the next layer's style
            nodes.append(node)
            needed.update(node.input)
        held = [tensor for name, tensor in self._constants.items() if name in needed]
        result = helper.make_tensor_value_info(OUTPUT, TensorProto.UINT8, ["batch", *picture.shape])
        graph = helper.make_graph(nodes[::-1], "decoder", [self._infos.pop(lr.name)], [result], held)
        graph.value_info.extend(info for name, info in self._infos.items() if name in needed)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, ir_version=10, producer_name="edgegrain", opset_imports=opsets)
        onnx.checker.check_model(model)
        return model


def float_kind(half: bool) -> int:
    """ONNX's type of halves or of float32."""
    return TensorProto.FLOAT16 if half else TensorProto.FLOAT


def array(values: Tensor | Array) -> Array:
    """Weights as float32 in numpy; float64 stays."""
    if isinstance(values, Tensor):
        return values.detach().cpu().float().numpy()
    return values if values.dtype == np.float64 else values.astype(np.float32)


def _transposed_filters(weight: Array) -> tuple[Array, dict[str, Any]]:
    """The phases of a transposed convolution of stride 2, ``[C, O, k, k]``, as filters and attributes of ``FusedConv``.

    Phase (a, b) makes the pixels (2y + a, 2x + b): a tap k adds input pixel i to the output pixel 2i + k - pad. Kernels
    of 4 have a pad of 1, the others none.
    """
    channels, out, side, _ = weight.shape
    # For each phase: the taps at the window's rows (and columns); one after the last, which is zero, where none meets.
    taps, attributes = {
        2: ([[0], [1]], {}),
        3: ([[2, 0], [3, 1]], {"pads": [1] * 4, "crop": 1}),
        4: ([[3, 1], [2, 0]], {"pads": [1] * 4, "shift": 1}),
    }[side]
    rows, count = np.array(taps), len(taps[0])
    padded = np.pad(weight, ((0, 0), (0, 0), (0, 1), (0, 1)))
    phases = padded[:, :, rows[:, None, :, None], rows[None, :, None, :]]  # [C, O, 2, 2, count, count]
    filters = phases.transpose(2, 3, 1, 4, 5, 0).reshape(4 * out, count, count, channels)
    return filters, {"shuffle": 2, **attributes}
