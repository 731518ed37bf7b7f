"""The decoder in int8 for CPUs: ONNX's own convolutions, with QuantizeLinear and DequantizeLinear around them.

Runtimes fuse these into convolutions of integers: three times as fast where the CPU has dot products of bytes.
Most of what is lost is lost at the picture's own size, in the rounding of what convolutions give.
The graph refers to the weights in the file of the float32 decoder, which holds them as int8.

- Gains give all channels of a feature map about the same range, which costs nothing: leaky ReLU, sums and interpolation
  commute with a factor per channel (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
  Correction", 4.1). The float32 decoder divides them out of its weights again, so its features stay.
- A range covers all but 1/10,000 of the values on either side; the rest is clipped.
- A bias takes back the mean error that quantization makes in its channel (the same paper, 4.2).
- Sums, products and interpolation are of levels at the picture's size and half of it, elsewhere in float32.
- The last convolution, the sum that it takes and the activation in that are in float32: nothing filters their rounding.
- Branches for other steps than the decoder's own (`StepBranch`) are calibrated on LRs of coarser levels and as if they
  were of finer ones, and skipped at its own step, where they add nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from codec_contract.errors import ExportError
from codec_contract.lr_coder.coder_tables import MAX_STEP, rounded
from codec_contract.pixels import HALF_RANGE, Rgb, network_input
from export.decoder.graph import GAIN, INT8, SCALE, int8_levels, store_compact
from server_decoder.decoder_session import INPUT, OUTPUT, STEP

PERCENTILE = 99.99
STRENGTH, MOST = 0.5, 10.0
"""Exponent of a channel's gain (1: all ranges equal, at the expense of weights), and the largest gain."""
SAMPLES = 1 << 20  # of a value, for its range
SHARED_FROM = 1024
"""Bytes from which on a constant stays in the float32 graph's file."""
LEAST_CHANNELS = 16
"""Channels that an enlarger's last convolutions make at least; with 12, ONNX Runtime takes twice as long."""
OWN = ".own"
"""In names of weights that the int8 form has of its own when it is tuned: a twentieth of all, at the picture's size and
half of it, where most is lost."""
BRANCHES = "step_branches."
"""In names of the weights of `StepBranch`."""
OCTAVES = (1, 2, -1)  # of calibration's other steps above the decoder's own; farther ones widen ranges
TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
OTHER = "other"  # true if an LR has another step than the decoder's own
ELEMENTWISE = ("Add", "Mul", "LeakyRelu", "Resize")
"""Operators that commute with a positive factor per channel, if their other operand is a number or has it too."""

Value = TypeVar("Value")


class _Graph:
    """A float32 graph: constants, also those that nodes compute from others, and the nodes that depend on the LR.

    Attributes:
        ahead: nodes that compute other constants than weights: coordinates, and octaves.
        octaves: the names of these.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.constants = {
            item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in model.graph.initializer
        }
        self.nodes: list[onnx.NodeProto] = []
        self.ahead: list[onnx.NodeProto] = []
        for node in model.graph.node:
            if node.op_type == "Constant":
                value = helper.get_attribute_value(node.attribute[0])
                value = numpy_helper.to_array(value).copy() if isinstance(value, TensorProto) else np.float32(value)
                self.constants[node.output[0]] = torch.as_tensor(value)
            elif all(name in self.constants for name in node.input):
                self.constants[node.output[0]] = self.run(node, [])
                if node.op_type in ("Concat", "Expand"):  # of coordinates
                    self.ahead.append(node)
            else:
                self.nodes.append(node)
        of_octaves, self.octaves = _take_octaves(self.nodes)
        self.ahead += of_octaves
        self.tell(torch.zeros(1))
        self.computed = {name for node in self.ahead for name in node.output}
        if unknown := sorted({node.op_type for node in self.nodes} - {"Conv", "Concat", "DepthToSpace", *ELEMENTWISE}):
            raise ExportError(f"there is no int8 form of a decoder with {', '.join(unknown)}; it runs in float32")

    def tell(self, octaves: Tensor) -> None:
        """Tell the branches the octaves between the decoder's own step and that of each LR, ``[N]`` or ``[1]``."""
        self.constants |= dict.fromkeys(self.octaves, octaves.reshape(-1, 1, 1, 1) / 4)  # as `RRDBDecoder.octaves`

    def inputs(self, node: onnx.NodeProto) -> list[str]:
        """The inputs that are no constants."""
        return [name for name in node.input if name and name not in self.constants]

    def run(self, node: onnx.NodeProto, inputs: Sequence[Tensor]) -> Tensor:
        """The result of a node for values of its `inputs`."""
        given = iter(inputs)
        found = [self.constants[name] if name in self.constants else next(given) for name in node.input if name]
        match node.op_type:
            case "Conv":
                x, weight, bias = found
                return F.conv2d(x, weight, bias, stride(node), weight.shape[-1] // 2)
            case "Expand":
                return found[0].expand(*found[1].tolist())
            case "LeakyRelu":
                return F.leaky_relu(found[0], node.attribute[0].f)
            case "Add":
                return found[0] + found[1]
            case "Mul":
                return found[0] * found[1]
            case "Concat":
                return torch.cat(found, 1)
            case "Resize":
                return F.interpolate(found[0], scale_factor=2, mode="bilinear")
            case "DepthToSpace":
                return F.pixel_shuffle(found[0], 2)
            case _:  # Cast, of stored weights
                return found[0].float()

    def walk(self, first: Value, compute: Callable[[onnx.NodeProto, list[Value]], Value]) -> None:
        """Compute the value of every node from those of its inputs; each is freed after its last use."""
        uses = Counter(name for node in self.nodes for name in self.inputs(node))
        values = {INPUT: first}
        for node in self.nodes:
            names = self.inputs(node)
            values[node.output[0]] = compute(node, [values[name] for name in names])
            uses.subtract(names)
            for name in set(names):
                if not uses[name]:
                    del values[name]


def stride(node: onnx.NodeProto) -> int:
    """The stride of a convolution."""
    return next((attribute.ints[0] for attribute in node.attribute if attribute.name == "strides"), 1)


def _take_octaves(nodes: list[onnx.NodeProto]) -> tuple[list[onnx.NodeProto], set[str]]:
    """Remove the nodes that compute the octaves from ``nodes``; returns them and the octaves' names."""
    octaves = {str(node.output[0]) for node in nodes if node.op_type == "Reshape"}
    ahead, wanted = list[onnx.NodeProto](), set(octaves)
    for node in reversed(nodes.copy()):
        if wanted & set(node.output):
            wanted |= set(node.input)
            nodes.remove(node)
            ahead.insert(0, node)
    return ahead, octaves


class Int8Decoder(NamedTuple):
    """The two ONNX files of a decoder, for the same LRs and pictures, and what their weights differ by."""

    float32: bytes
    """The float32 decoder, its large weights stored as int8."""
    int8: bytes
    gains: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Weight -> the gains of the channels that it makes and of those that it takes, as `store_compact` takes them."""


@torch.no_grad()
def int8_decoder(model: bytes, lrs: Rgb, *, enlarges: bool = False) -> Int8Decoder:
    """Both forms of a float32 decoder, an ONNX file with any storage of its weights, calibrated on ``lrs``, uint8
    ``[N, lr, lr, 3]``; 16 may do, 32 lose less on faces unlike them. Or those of an enlarger, which ``enlarges``
    restored pictures: its sums and interpolations are of levels at all sizes, only those of pictures are not."""
    source = onnx.load_model_from_string(model)
    graph = _Graph(source)
    gains = _gains(graph, lrs, enlarges)
    plain, scaled = onnx.ModelProto(), onnx.ModelProto()
    for result in (plain, scaled):  # with weights that are initializers
        result.CopyFrom(source)
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend([*graph.ahead, *graph.nodes])
    factors, of_weights = dict[str, Tensor](), dict[str, tuple[np.ndarray, np.ndarray]]()
    for node in graph.nodes:
        if node.op_type == "Conv":
            (x, weight, bias), made = node.input, gains[node.output[0]]
            taken = gains[x]
            factors |= {weight: made[:, None, None, None] / taken[:, None, None], bias: made}
            of_weights[weight] = made.numpy(), taken.numpy()
    named = (name for node in plain.graph.node for name in node.input)
    for name in dict.fromkeys(name for name in named if name in graph.constants.keys() - graph.computed):
        constant = graph.constants[name]
        plain.graph.initializer.append(numpy_helper.from_array(constant.numpy(), name))
        scaled.graph.initializer.append(numpy_helper.from_array((constant * factors.get(name, 1)).numpy(), name))
    has_form = any(name.endswith(GAIN) for name in graph.constants)  # then its weights are the shared ones already
    return Int8Decoder(
        model if has_form else bytes(store_compact(plain, of_weights).SerializeToString()),
        bytes(_int8_graph(store_compact(scaled), lrs, enlarges).SerializeToString()),
        of_weights,
    )


def _gains(graph: _Graph, lrs: Rgb, enlarges: bool) -> dict[str, Tensor]:
    """Value -> the gain of each of its channels; one number for those that have to stay."""
    group: dict[str, str] = {}  # value -> another one with the same gains
    parts: dict[str, list[str]] = {}  # concatenation -> its values
    peaks: dict[str, Tensor] = {INPUT: torch.ones(1)}
    fixed = {INPUT, OUTPUT}

    def first(name: str) -> str:
        while name in group:
            name = group[name]
        return name

    def measure(node: onnx.NodeProto, values: list[Tensor]) -> Tensor:
        value, name, inputs = graph.run(node, values), str(node.output[0]), graph.inputs(node)
        if node.op_type == "Concat":
            parts[name] = inputs
            return value
        if node.op_type == "DepthToSpace":
            fixed.update(inputs)
        flat = value.transpose(0, 1).flatten(1)
        seen = flat[:, :: 1 + flat.shape[1] // (SAMPLES >> 4)].abs()
        if not inputs or (enlarges and inputs == [INPUT]):  # of the octaves alone; the picture with coordinates
            fixed.add(name)
        peaks[name] = seen.kthvalue(math.ceil(0.999 * seen.shape[1]), 1).values.clamp(min=1e-4)
        for other in inputs if node.op_type in ELEMENTWISE else ():
            if other in parts:
                fixed.update(parts[other], (name,))
            elif first(other) != first(name):
                group[first(other)] = first(name)
        return value

    graph.walk(torch.from_numpy(network_input(lrs)), measure)
    largest: dict[str, Tensor] = {}
    for name, peak in peaks.items():
        largest[first(name)] = torch.maximum(largest.get(first(name), peak), peak)
    found = {}
    for name, peak in largest.items():
        gain = (peak.max() / peak) ** STRENGTH
        found[name] = (gain / gain.log().mean().exp()).clamp(1 / MOST, MOST)
    for node in graph.nodes:  # those of a file that already has an int8 form stay, and with them its weights
        if node.op_type == "Conv" and (held := graph.constants.get(node.input[1] + GAIN)) is not None:
            values = parts.get(node.input[0], [node.input[0]])
            for name, gain in zip(values, held.flatten().split([len(peaks[name]) for name in values]), strict=True):
                found[first(name)] = gain
    found |= {name: torch.ones_like(found[name]) for name in map(first, fixed & peaks.keys())}
    gains = {name: found[first(name)] for name in peaks}
    for name, values in parts.items():
        gains[name] = torch.cat([gains[value] for value in values])
    return gains


class _Pair(NamedTuple):
    """A value for the calibration's LRs, exact and as the int8 graph has it under ``name``."""

    name: str
    exact: Tensor
    near: Tensor
    scale: float = 0.0  # of its levels, if it is quantized


def _int8_graph(model: onnx.ModelProto, lrs: Rgb, enlarges: bool) -> onnx.ModelProto:
    """The int8 form of a graph that `store_compact` stored; constants have the same names."""
    graph, writer = _Graph(model), _Writer(model, enlarges, len(lrs))
    if graph.octaves:
        above = np.resize(OCTAVES, len(lrs))
        steps = np.clip(graph.constants[STEP].item() * 2.0**above, 1, MAX_STEP).astype(int)
        lrs = np.concatenate([lrs, *(rounded(lr[None], step) for lr, step in zip(lrs, steps.tolist(), strict=True))])
        graph.tell(torch.from_numpy(np.concatenate([0 * above, above])).float())
    ends = {OUTPUT}
    for _ in range(2):  # the last convolution, the sum that it takes, and what that is made of
        ends |= {name for node in graph.nodes if node.output[0] in ends for name in graph.inputs(node)}

    def write(node: onnx.NodeProto, pairs: list[_Pair]) -> _Pair:
        exact, kind, made = graph.run(node, [pair.exact for pair in pairs]), node.op_type, node.output[0]
        if kind == "Conv" and BRANCHES in node.input[1]:
            writer.begin_branch(pairs[0].name)
        if kind == "Conv" and pairs[0].name != INPUT and made != OUTPUT:
            return writer.convolution(node, writer.quantized(pairs[0]), exact, graph.constants)
        if kind == "DepthToSpace":
            return writer.moved(node, writer.quantized(pairs[0], clipped=False), exact)
        coarse = kind in ("Conv", "Add", "Mul", "Resize") and exact.shape[-1] * 4 <= writer.side
        wide = coarse or made in ends or writer.ends_branch(node)
        if enlarges:
            wide = exact.shape[1] == 3 or all(pair.name in writer.wide for pair in pairs)
        if kind != "Conv" and not writer.ends_branch(node):
            pairs = [pair if wide and pair.name in writer.wide else writer.quantized(pair) for pair in pairs]
        given = iter(pairs)
        names = [name if name in graph.constants or not name else next(given).name for name in node.input]
        if made == OUTPUT and kind == "Conv":
            writer.last(node, names, graph.constants)
        else:
            writer.add(node, names)
        if wide:
            writer.wide.add(made)
        writer.end_branch(node)
        return _Pair(made, exact, graph.run(node, [pair.near for pair in pairs]))

    lr = torch.from_numpy(network_input(lrs))
    graph.walk(_Pair(INPUT, lr, lr), write)
    return writer.model()


class _Writer:
    """Writes the int8 graph."""

    def __init__(self, source: onnx.ModelProto, enlarges: bool, own: int) -> None:
        """The first ``own`` LRs have the decoder's own step, the rest others."""
        self.source, self.enlarges, self.own = source, enlarges, own
        self.side = source.graph.output[0].type.tensor_type.shape.dim[3].dim_value
        self.held = {item.name: item for item in source.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.branch: tuple[str, int] | None = None  # its input, and the number of nodes before it
        self.wide = {INPUT}  # values in float32 that are not quantized where they need not be
        self.heads = {node.input[0] for node in source.graph.node if node.op_type == "DepthToSpace"}
        self._quantized: dict[str, tuple[float, int]] = {}
        self._cut: dict[str, int] = {}  # widened value -> its channels

    def add(self, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        """A node of the source with other inputs."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        self.nodes.append(copy)

    def begin_branch(self, x: str) -> None:
        """The nodes from here on are those of a branch of ``x``, unless they already are."""
        self.branch = self.branch or (x, len(self.nodes))

    def ends_branch(self, node: onnx.NodeProto) -> bool:
        """True for the sum of the input of the branch and what the branch made of it."""
        return self.branch is not None and node.op_type == "Add" and self.branch[0] in node.input

    def seen(self, values: Tensor) -> Tensor:
        """The part of a value that calibration goes by: in branches that of the other steps, else the rest."""
        return values[: self.own] if self.branch is None else values[self.own :]

    def end_branch(self, node: onnx.NodeProto) -> None:
        """If ``node``, the last one so far, ends a branch, the nodes of the branch become a graph that runs at other
        steps than the decoder's own; there it gives a zero. It gives NHWC, or ONNX Runtime would interpolate the sum in
        NCHW, in up to five times the time."""
        if self.branch is None or not self.ends_branch(node):
            return
        (x, first), made = self.branch, str(node.output[0])
        (added,) = set(node.input) - {x}
        self.nodes[-1] = helper.make_node("Transpose", [added], [f"{made}.then"], f"turn.{made}.then", perm=TO_NHWC)
        nothing = numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32))
        parts = {
            "then": self.nodes[first:],
            "else": [helper.make_node("Constant", [], [f"{made}.else"], value=nothing)],
        }
        graphs = {
            f"{name}_branch": helper.make_graph(
                nodes, name, [], [helper.make_tensor_value_info(f"{made}.{name}", TensorProto.FLOAT, [None] * 4)]
            )
            for name, nodes in parts.items()
        }
        self.nodes[first:] = [
            helper.make_node("If", [OTHER], [f"{made}.branch"], f"branch.{made}", **graphs),
            helper.make_node("Transpose", [f"{made}.branch"], [f"{made}.added"], f"turn.{made}", perm=TO_NCHW),
            helper.make_node("Add", [x, f"{made}.added"], [made], node.name),
        ]
        self.branch = None

    def constant(self, name: str, value: Any) -> str:
        self.held[name] = numpy_helper.from_array(np.array(value), name)
        return name

    def levels(self, name: str, x: str, scale: float, zero: int, channels: int = 0) -> str:
        """QuantizeLinear and DequantizeLinear, of the first ``channels`` only if that is not 0."""
        constants = [self.constant(f"{name}.step", np.float32(scale)), self.constant(f"{name}.zero", np.uint8(zero))]
        levels = f"{name}.levels"
        self.nodes.append(helper.make_node("QuantizeLinear", [x, *constants], [levels], f"quantize.{name}"))
        if channels:
            bounds = [
                self.constant(f"{name}.{part}", np.array([value], np.int64))
                for part, value in (("first", 0), ("channels", channels), ("axis", 1))
            ]
            self.nodes.append(helper.make_node("Slice", [levels, *bounds], [f"{levels}.cut"], f"cut.{name}"))
            levels = f"{levels}.cut"
        self.nodes.append(helper.make_node("DequantizeLinear", [levels, *constants], [f"{name}.near"], f"widen.{name}"))
        return f"{name}.near"

    def quantized(self, pair: _Pair, *, clipped: bool = True) -> _Pair:
        """The value in levels, whose range follows from the exact one; not ``clipped``, it leaves room."""
        if pair.scale:
            return pair
        if pair.name not in self._quantized:
            values = self.seen(pair.exact).flatten()
            seen = values[:: 1 + len(values) // SAMPLES].numpy()
            low, high = (
                np.percentile(seen, [100 - PERCENTILE, PERCENTILE])
                if clipped
                else 1.25 * seen[[seen.argmin(), seen.argmax()]]
            )
            low, high = min(float(low), 0.0), max(float(high), 1e-6)
            scale = (high - low) / 255
            self._quantized[pair.name] = scale, round(-low / scale)
            if self.enlarges and pair.name in self.wide:  # the picture, half a level above its values
                self._quantized[pair.name] = 1 / HALF_RANGE, 127
            self.levels(pair.name, pair.name, *self._quantized[pair.name], self._cut.get(pair.name, 0))
        scale, zero = self._quantized[pair.name]
        near = ((pair.near / scale).round() + zero).clamp(0, 255).sub_(zero).mul_(scale)
        return _Pair(f"{pair.name}.near", pair.exact, near, scale)

    def moved(self, node: onnx.NodeProto, x: _Pair, exact: Tensor) -> _Pair:
        """Levels at another place."""
        name = str(node.output[0])
        self.add(node, [x.name])
        self.levels(name, name, *self._quantized[x.name.removesuffix(".near")])
        return _Pair(f"{name}.near", exact, F.pixel_shuffle(x.near, 2), x.scale)

    def last(self, node: onnx.NodeProto, inputs: Sequence[str], constants: dict[str, Tensor]) -> None:
        """The last convolution in float32, as a transposed one, for which ONNX Runtime takes half the time if it makes
        three channels."""
        turned = constants[node.input[1]].flip(2, 3).transpose(0, 1).contiguous()
        self.add(node, [inputs[0], self.constant(f"{node.input[1]}.turned", turned.numpy()), *inputs[2:]])
        self.nodes[-1].op_type = "ConvTranspose"

    def convolution(self, node: onnx.NodeProto, x: _Pair, exact: Tensor, constants: dict[str, Tensor]) -> _Pair:
        """A convolution of levels."""
        (_, weight, bias), name = node.input, str(node.output[0])
        if weight + INT8 in self.held:
            levels = numpy_helper.to_array(self.held[weight + INT8])
            scales = numpy_helper.to_array(self.held[weight + SCALE])
        else:
            levels, scales = int8_levels(constants[weight].numpy())
            self.constant(weight + INT8, levels)
        steps = x.scale * torch.from_numpy(scales.ravel().astype(np.float32))
        rounded = torch.from_numpy(levels.astype(np.float32) * scales)
        near = F.conv2d(x.near, rounded, None, stride(node), rounded.shape[-1] // 2)
        wanted = self.seen(exact - near).mean((0, 2, 3))
        near += ((wanted / steps).round() * steps)[:, None, None]
        stored, channels = weight + INT8, len(levels)
        if exact.shape[-1] * 2 >= self.side:
            stored = self.constant(f"{weight}{OWN}", levels)
        biases, scale = (wanted / steps).round().numpy().astype(np.int32), scales.ravel().astype(np.float32)
        if name in self.heads and channels < LEAST_CHANNELS:
            more = (0, LEAST_CHANNELS - channels)
            stored = self.constant(f"{weight}.wide", np.pad(levels, (more, (0, 0), (0, 0), (0, 0))))
            biases, scale = np.pad(biases, more), np.pad(scale, more, constant_values=1)
        added = self.constant(f"{bias}.int32", biases)
        integers = {f"{weight}.near": (stored, scale), f"{bias}.near": (added, np.float32(x.scale) * scale)}
        for made, (kept, step) in integers.items():
            zero = np.zeros(len(step), numpy_helper.to_array(self.held[kept]).dtype)
            self.nodes.append(
                helper.make_node(
                    "DequantizeLinear",
                    [kept, self.constant(f"{made}.step", step), self.constant(f"{made}.zero", zero)],
                    [made],
                    f"widen.{made}",
                    axis=0,
                )
            )
        self.add(node, [x.name, *integers])
        self._cut[name] = channels if len(scale) > channels else 0
        return _Pair(name, exact, near)

    def model(self) -> onnx.ModelProto:
        """The graph with what it needs of the source's constants."""
        octaves = [node.output[0] for node in self.source.graph.node if node.op_type == "Reshape"]
        if octaves:
            size = helper.make_node("ReduceL1", octaves, ["octaves.size"], keepdims=0)
            self.nodes[:0] = size, helper.make_node("Cast", size.output, [OTHER], to=TensorProto.BOOL)
        nodes = [*self.nodes, *_inner(self.nodes)]
        made = {name for node in nodes for name in node.output}
        wanted = {name for node in nodes for name in node.input}
        before: list[onnx.NodeProto] = []
        for node in reversed(self.source.graph.node):  # those that compute weights of float32 convolutions
            if wanted & set(node.output) - made:
                before.insert(0, node)
                wanted |= set(node.input)
        result = onnx.ModelProto()
        result.CopyFrom(self.source)
        graph = result.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend([*before, *self.nodes])
        graph.initializer.extend(item for name, item in self.held.items() if name in wanted)
        onnx.checker.check_model(result)
        return result


def for_onnx_runtime(model: bytes) -> bytes:
    """A finished int8 graph in the form that ONNX Runtime computes fastest.

    Leaky ReLU of levels becomes a sum of two multiples of levels, slope * x + (1 - slope) * max(x, 0), in half the
    time. An Einsum moves the channels of the first convolution, in float32, behind its columns: ONNX Runtime does not
    take it for a transposition that it may move, and all residual sums after it stay in NHWC.
    """
    result = onnx.load_model_from_string(model)
    graph = result.graph
    sources = {name: node for node in graph.node for name in node.output}
    held = {item.name: item for item in graph.initializer}
    takers: dict[str, set[str]] = {}
    for node in [*graph.node, *_inner(graph.node)]:
        for name in node.input:
            takers.setdefault(name, set()).add(node.op_type)
    nodes = list[onnx.NodeProto]()
    for node in graph.node:
        made = str(node.output[0])
        source = sources.get(node.input[0]) if node.op_type == "LeakyRelu" else None
        if node.op_type == "Conv" and node.input[0] == INPUT:
            node.output[0] = f"{made}.nchw"
            nodes += (
                node,
                helper.make_node("Einsum", node.output, [f"{made}.nhwc"], f"turn.{made}", equation="nchw->nhwc"),
                helper.make_node("Transpose", [f"{made}.nhwc"], [made], f"turn.{made}.back", perm=TO_NCHW),
            )
        elif source and source.op_type == "DequantizeLinear" and takers[made] == {"QuantizeLinear"}:
            (levels, step, zero), slope = source.input, node.attribute[0].f
            nodes.append(helper.make_node("Max", [levels, zero], [f"{made}.positive"], f"positive.{made}"))
            parts = {"all": (levels, slope), "more": (f"{made}.positive", 1 - slope)}
            for name, (taken, factor) in parts.items():
                part = f"{made}.{name}"
                steps = np.array(factor * numpy_helper.to_array(held[step]), np.float32)
                graph.initializer.append(numpy_helper.from_array(steps, f"{part}.step"))
                nodes.append(
                    helper.make_node("DequantizeLinear", [taken, f"{part}.step", zero], [part], f"widen.{part}")
                )
            nodes.append(helper.make_node("Add", [f"{made}.{name}" for name in parts], [made], node.name))
        else:
            nodes.append(node)
    wanted = {name for node in [*nodes, *_inner(nodes)] for name in node.input} | {item.name for item in graph.output}
    nodes = [node for node in nodes if wanted & set(node.output)]  # ONNX Runtime would compute the others
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(result)
    return bytes(result.SerializeToString())


def _inner(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes of branches."""
    return [inner for node in nodes for part in node.attribute for inner in part.g.node]


def refer(model: bytes, file: str, data: bytes) -> bytes:
    """An ONNX file without the constants that are in another one too, to whose bytes ``data`` it refers as ``file``."""
    result = onnx.load_model_from_string(model)
    for item in result.graph.initializer:
        raw = numpy_helper.to_array(item).tobytes()
        place = data.find(raw) if len(raw) >= SHARED_FROM else -1
        if place >= 0:
            item.ClearField("raw_data")
            item.data_location = TensorProto.EXTERNAL
            for key, value in (("location", file), ("offset", place), ("length", len(raw))):
                item.external_data.add(key=key, value=str(value))
    return bytes(result.SerializeToString())
