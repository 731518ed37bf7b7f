"""Quantization-aware tuning of a decoder's int8 form, so that it gives the pictures of the float32 form.

The int8 graph (`export.decoder.int8`) runs in torch, where rounding has the gradient 1 (Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 3); the steps of values
are trained as well (Esser et al. 2020, "Learned Step Size Quantization", 2.1). Weights that both forms of a decoder
share stay. No original is needed: the target is the float32 picture of the same LR.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from codec_contract.pixels import HALF_RANGE, Rgb, network_input
from edgegrain.metrics.lpips import PERIOD, cropped
from edgegrain.pictures.writing import Progress
from edgegrain.training.losses import running_mean
from edgegrain.training.optimizers import annealed
from export.decoder.graph import int8_levels
from export.decoder.int8 import OWN, Int8Decoder, stride
from server_decoder.decoder_session import INPUT, DecoderSession

BATCH = 2
RATES = {"weight": 6e-4, "bias": 3e-4, "step": 2e-3}
"""Learning rates of Adam, as shares of a tensor's root mean square."""
DETAIL, PERCEPTUAL = 2.0, 0.5
"""Weights of the absolute error of the picture's detail and of LPIPS with AlexNet; that of the picture has 1."""
WARM_UP = 20  # steps
WINDOW, MARGIN = 0.6, 12
"""Part of a side that is computed at the picture's own size, and pixels of it that its padding reaches."""

Distance = Callable[[Tensor, Tensor], Tensor]


class _Levels(torch.autograd.Function):
    """Values in levels; the gradient is 1 where they are rounded and 0 where they are clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, zero: float) -> Tensor:
        ctx.save_for_backward((x >= -zero * step) & (x <= (255 - zero) * step))
        return (x * (1 / step)).round_().clamp_(-zero, 255 - zero).mul_(step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.saved_tensors[0], None, None


class RoundedDecoder(nn.Module):
    """The int8 graph of a decoder or enlarger, with trainable weights, biases and steps; ``[B, 3, lr, lr]`` -> the
    graph's outputs. Of a decoder only the int8 form's own weights are trained (`OWN`).

    Attributes:
        rounds: false to leave out the rounding of values, as the float32 form does.
    """

    def __init__(self, model: onnx.ModelProto, *, enlarges: bool = False) -> None:
        super().__init__()
        self.rounds = True
        self.outputs = [output.name for output in model.graph.output]
        self.constants = {
            item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in model.graph.initializer
        }
        self.trained: dict[str, nn.Parameter] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.integers: dict[str, tuple[str, str]] = {}  # weight or bias -> its levels and their step
        self.same: dict[str, str] = {}  # dequantized value -> the one that was quantized, which is rounded here
        wanted, nodes = set(self.outputs), list[onnx.NodeProto]()
        for node in reversed(model.graph.node):
            if node.op_type == "If":  # a branch, which adds nothing at the decoder's own step
                self.constants[node.output[0]] = torch.zeros(1, 1, 1, 1)
            elif wanted & set(node.output):
                nodes.insert(0, node)
                wanted |= set(node.input)
        for node in nodes:
            inputs, name = list(node.input), node.output[0]
            match node.op_type:
                case "DequantizeLinear" if inputs[0] in self.constants:
                    levels, steps = (self.constants[part].float() for part in inputs[:2])
                    value = levels * steps.reshape(-1, *[1] * (levels.dim() - 1))
                    self.integers[name] = inputs[0], inputs[1]
                    if enlarges or levels.dim() == 1 or inputs[0].endswith(OWN):
                        self.trained[name] = nn.Parameter(value)
                    else:
                        self.constants[name] = value
                case "DequantizeLinear":
                    self.same[name] = inputs[0]
                case "Cast" | "Mul" if all(part in self.constants for part in inputs):
                    factors = [self.constants[part].float() for part in inputs]
                    self.constants[name] = factors[0] * factors[1] if len(factors) > 1 else factors[0]
                case "Transpose":  # of what a branch adds
                    self.same[name] = inputs[0]
                case kind:
                    self.nodes.append(node)
                    if kind == "QuantizeLinear" and not enlarges:
                        self.trained[inputs[1]] = nn.Parameter(self.constants[inputs[1]].reshape(1))
        self.held = nn.ParameterList(self.trained.values())

    def forward(self, lr: Tensor, window: tuple[slice, slice] | None = None, side: int = 0) -> list[Tensor]:
        """The outputs; with ``window``, rows and columns of the maps of this side, only that part of what is made of
        their doublings."""
        values = {INPUT: lr}

        def value(name: str) -> Tensor:
            name = self.same.get(name, name)
            if name in values:
                return values[name]
            return _rounded(self.trained[name]) if name in self.trained else self.constants[name]

        for node in self.nodes:
            given = [value(name) for name in node.input if name]
            match node.op_type:
                case "QuantizeLinear":
                    x, step, zero = given
                    if not self.rounds:
                        made = x
                    elif step.requires_grad:
                        factor = 1 / math.sqrt(255 * x[0].numel())
                        made = torch._fake_quantize_learnable_per_tensor_affine(
                            x, step, zero.reshape(1).float(), 0, 255, factor
                        )
                    else:
                        made = _Levels.apply(x, float(step), float(zero))
                case "Conv":
                    x, weight, bias = given
                    made = F.conv2d(x, weight, bias, stride(node), weight.shape[-1] // 2).float()
                case "ConvTranspose":
                    x, weight, bias = given
                    made = F.conv_transpose2d(x, weight, bias, padding=weight.shape[-1] // 2)
                case "Slice":  # of channels
                    made = given[0][:, : int(given[2])]
                case "LeakyRelu":
                    made = F.leaky_relu(given[0], node.attribute[0].f)
                case "Add":
                    made = given[0] + given[1]
                case "Mul":
                    made = given[0] * given[1]
                case "Concat":
                    made = torch.cat(given, 1)
                case "Expand":
                    made = given[0].expand(*given[1].tolist())
                case "Resize" | "DepthToSpace" as kind:
                    x = given[0][..., *window] if window and given[0].shape[-1] == side else given[0]
                    made = (
                        F.interpolate(x, scale_factor=2, mode="bilinear") if kind == "Resize" else F.pixel_shuffle(x, 2)
                    )
            values[node.output[0]] = made
        return [values[name] for name in self.outputs]

    @torch.no_grad()
    def store(self, decoder: bytes) -> bytes:
        """The int8 graph ``decoder``, from which training began, with the trained numbers."""
        model = onnx.load_model_from_string(decoder)
        held = {item.name: item for item in model.graph.initializer}

        def put(name: str, array: np.ndarray) -> None:
            held[name].CopyFrom(numpy_helper.from_array(array.astype(numpy_helper.to_array(held[name]).dtype), name))

        for name, value in self.trained.items():
            if name not in self.integers:
                put(name, value.numpy().reshape(()))
        for node in self.nodes:
            if node.op_type != "Conv" or node.input[2] not in self.integers:
                continue
            x, weight, bias = node.input
            levels, scales = self.integers[weight]
            if weight in self.trained:
                rounded, steps = int8_levels(self.trained[weight].numpy())
                put(levels, rounded)
                put(scales, steps.ravel())
            step = numpy_helper.to_array(held[x.replace(".near", ".step")]) * numpy_helper.to_array(held[scales])
            levels, scales = self.integers[bias]
            put(levels, np.rint(self.trained[bias].numpy() / step))
            put(scales, step)
        return bytes(model.SerializeToString())


def _rounded(value: Tensor) -> Tensor:
    """A weight as it is stored, with the gradient of the exact one; biases as they are."""
    if value.dim() < 4:
        return value
    steps = (value.detach().abs().amax((1, 2, 3), keepdim=True) / 127).clamp(min=torch.finfo(value.dtype).tiny)
    return value + ((value / steps).round() * steps - value).detach()


def detail(picture: Tensor) -> Tensor:
    """Pictures ``[B, 3, h, w]`` without what a binomial filter of 3x3 leaves of them, ``[B, 3, h - 2, w - 2]``."""
    binomial = torch.tensor([0.25, 0.5, 0.25])
    kernel = (binomial[:, None] * binomial).expand(3, 1, 3, 3)
    return picture[..., 1:-1, 1:-1] - F.conv2d(picture, kernel, groups=3)


def tune_int8(decoder: Int8Decoder, lrs: Rgb, seconds: float, lpips: Distance, show: Progress) -> Int8Decoder:
    """The decoder after training its int8 form for ``seconds`` on ``lrs``, uint8 ``[N, lr, lr, 3]``; ``show`` gets the
    part that is done, and a line of text."""
    model, target = RoundedDecoder(onnx.load_model_from_string(decoder.int8)), DecoderSession(decoder.float32)

    def draw(rng: np.random.Generator) -> Sequence[Sequence[Tensor]]:
        chosen = lrs[rng.integers(0, len(lrs), BATCH)]
        wanted = torch.from_numpy(network_input(target.decode(chosen)))
        half = wanted.shape[-1] // 2
        size = round(half * WINDOW)
        y, x = rng.integers(0, half - size + 1, 2).tolist()
        (picture,) = model(torch.from_numpy(network_input(chosen)), (slice(y, y + size), slice(x, x + size)), half)
        wanted = wanted[..., 2 * y : 2 * (y + size), 2 * x : 2 * (x + size)]
        return [[part[..., MARGIN:-MARGIN, MARGIN:-MARGIN] for part in (picture, wanted)]]

    train_rounded(model, draw, seconds, lpips, show)
    return decoder._replace(int8=model.store(decoder.int8))


def train_rounded(
    model: RoundedDecoder,
    draw: Callable[[np.random.Generator], Sequence[Sequence[Tensor]]],
    seconds: float,
    lpips: Distance,
    show: Progress,
    rate: float = 1.0,
) -> None:
    """Train for ``seconds`` on what ``draw`` gives: a picture of the model, the wanted one and originals of the same
    size, which LPIPS compares as well, at four times the weight; the learning rate is ``rate`` times the usual one."""
    groups = []
    for name, value in model.trained.items():
        kind = "step" if name not in model.integers else "weight" if value.dim() == 4 else "bias"
        size = float(value.detach().square().mean().sqrt())
        groups.append({"params": [value], "rate": rate * RATES[kind] * max(size, 1e-2 if kind == "bias" else 0.0)})
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
    rng, began, steps, error = np.random.default_rng(0), time.monotonic(), 0, None
    while (done := (time.monotonic() - began) / seconds) < 1:
        loss, apart = torch.zeros(()), torch.zeros(())
        for picture, wanted, *others in draw(rng):
            offset = rng.integers(0, PERIOD, 2).tolist()
            apart = (picture - wanted).abs().mean()
            loss = loss + apart + DETAIL * (detail(picture) - detail(wanted)).abs().mean()
            for weight, other in [(0.5 if others else 1.0, wanted), *((2.0, other) for other in others)]:
                distance = lpips(cropped(picture, offset), cropped(other, offset)).mean()
                loss = loss + weight * PERCEPTUAL * distance
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = annealed(group["rate"], done, steps, warm_up=WARM_UP, hold=0.0)
        optimizer.step()
        steps += 1
        error = running_mean(error, apart.detach(), 0.98)
        show(done, f"step {steps:,}, {float(error) * HALF_RANGE:.2f} levels from float32")
