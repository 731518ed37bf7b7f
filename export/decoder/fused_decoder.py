"""GRAIN's decoder with fused operators, for CUDA: uint8 LRs in, uint8 pictures out (docs/cuda_ops.md).

The graph is written from the network's weights; values that depend on weights only are computed here. The fusion's
first convolution reads coarser features at their own resolution (`export.decoder.served.upsampled_kernel`). A code
is an affine function of a branch's features and a style one of its code; their product, in float64, is one matrix.

In float16, convolutions read and write halves; styles, channel weights and the sum of pictures stay float32. Plain
float16 overflows in style² (demodulation) and in activation times style. So a generator's styles are divided by their
largest magnitude and every output filter by its norm; both come back in the factor after the convolution, in float32.
With activations clamped to ±900, styles in [-1, 1] and filters of norm one, a convolution of n products gives at most
900 sqrt(n): 61,100 for 512 channels and 3x3 taps, within float16's 65,504, for any code. (Separable convolutions after
the inverse Haar transform reach the same: 2 * 900 * sqrt(9) * sqrt(128).)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn

from codec_contract.errors import ExportError
from export.decoder.fused_nodes import Array, FusedGraph, Value, array, float_kind
from export.decoder.graph import add_optional_input
from export.decoder.served import upsampled_kernel
from server_decoder.cuda_ops.library import DOMAIN
from server_decoder.decoder_session import INPUT, STEP
from server_decoder.grain.code_predictor import CodePredictor
from server_decoder.grain.fusion import FeatureFusion, PictureFusion, SqueezeExcitation
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import NEGATIVE_SLOPE, RRDB, ResidualBlock, RRDBDecoder, StepBranch
from server_decoder.mobile_stylegan import Block, MobileStyleGAN, SeparableConv, StyledConv, WaveletHead
from server_decoder.stylegan2.layers import EPSILON, ModulatedConv, StyledLayer, ToRGB
from server_decoder.stylegan2.networks import StyleGAN2

CLAMP = 900.0
"""Largest magnitude of a generator's activation in float16. Those of trained codes reach 461; NVIDIA's networks in half
precision, whose 256 would cut them, are trained with their clamp."""
_LEAKY = {"slope": NEGATIVE_SLOPE}


def fused_graph(decoder: Grain | RRDBDecoder, *, half: bool = False) -> onnx.ModelProto:
    """``lr`` uint8 ``[B, h, w, 3]`` -> ``hr`` uint8 ``[B, H, W, 3]``, any B; convolutions compute in float16 if
    ``half``."""
    graph = FusedGraph(half=half)
    grain = decoder if isinstance(decoder, Grain) else None
    invertible = decoder.decoder if isinstance(decoder, Grain) else decoder
    levels = graph.input(INPUT, TensorProto.UINT8, invertible.config.lr, invertible.config.lr, 3)
    lr = graph.node("DequantizeLR", [levels], levels.shape, half=half, domain=DOMAIN, to=float_kind(half))
    picture, f_inv = _invertible(graph, invertible, lr, "decoder" if grain else "invertible")
    if grain is not None and grain.prior is not None and grain.codes is not None:
        generator = _Generator(graph, _codes(graph, grain.codes, grain.prior.mean_code, f_inv), grain.codes, f_inv)
        match grain.prior:
            case StyleGAN2():
                style, f_gen = generator.stylegan2(grain.prior)
            case MobileStyleGAN():
                style, f_gen = generator.mobile_stylegan(grain.prior)
            case _:
                name = type(grain.prior).__name__
                raise ExportError(f"there are no fused ops for a {name}; export it with --ops plain")
        picture = _fused_picture(graph, grain.fusion, picture, f_inv, style, f_gen)
    model = graph.model(levels, picture)
    if invertible.config.step:
        add_optional_input(model, STEP, ["step_batch"])
    return model


def _sequence(
    graph: FusedGraph,
    x: Value | Sequence[Value],
    name: str,
    layers: Sequence[nn.Module] | nn.Sequential,
    *,
    factor: Value | None = None,
    residual: Value | None = None,
) -> Value:
    """Convolutions, each with the leaky ReLU after it; the last one adds ``residual``."""
    modules = list(layers)
    for index, layer in enumerate(modules):
        if isinstance(layer, nn.Sequential):
            x = _sequence(graph, x, f"{name}.{index}", layer)
        elif isinstance(layer, nn.Conv2d):
            steps: dict[str, Any] = {"factor": factor, "residual": residual if layer is modules[-1] else None}
            if index + 1 < len(modules) and isinstance(modules[index + 1], nn.LeakyReLU):
                steps |= _LEAKY
            x, factor = graph.layer(x, f"{name}.{index}", layer, **steps), None
    assert isinstance(x, Value)
    return x


def _invertible(graph: FusedGraph, decoder: RRDBDecoder, lr: Value, name: str) -> tuple[Value, list[Value]]:
    """The RRDB decoder's picture, and f_inv, coarse to fine."""
    x, f_inv = graph.layer(lr, f"{name}.conv_first", decoder.conv_first), []
    parts: Any = decoder
    octaves: Any = _octaves(graph, decoder) if decoder.config.step else None
    for index, scale in enumerate(parts.scales):
        if index:
            conv = parts.upsamples[index - 1].conv
            if not isinstance(conv, nn.ConvTranspose2d):
                x = graph.upsample(x, "nearest" if conv is None else "bilinear")
            if conv is not None:
                x = graph.layer(x, f"{name}.upsamples.{index - 1}.conv", conv, **_LEAKY)
        below = x
        for place, block in enumerate(scale.blocks):
            x = _block(graph, x, block, f"{name}.scales.{index}.blocks.{place}")
        if scale.conv is not None:
            x = graph.layer(x, f"{name}.scales.{index}.conv", scale.conv, residual=below)
        if octaves is not None and index < len(parts.step_branches):
            x = _with_step(graph, x, octaves, parts.step_branches[index], f"{name}.step_branches.{index}")
        f_inv.append(x)
    return _sequence(graph, x, f"{name}.head", decoder.head), f_inv


def _octaves(graph: FusedGraph, decoder: RRDBDecoder) -> Value:
    """`RRDBDecoder.octaves`, ``[B, 1]``."""
    ratio = graph.multiply(graph.constant(STEP, array(decoder.step)), graph.constant("own", array(1 / decoder.step)))
    quarter = graph.constant("quarter", np.array(1 / (4 * math.log(2)), np.float32))
    return graph.reshape(graph.multiply(graph.node("Log", [ratio], ()), quarter), 1)


def _with_step(graph: FusedGraph, x: Value, octaves: Value, branch: StepBranch, name: str) -> Value:
    inner = graph.cast(graph.constant(f"{name}.octaves", array(branch.octaves.permute(1, 2, 0)[None])), graph.half)
    y = graph.add(graph.layer(x, f"{name}.conv_first", branch.conv_first, **_LEAKY), graph.scale(inner, octaves))
    blocks: Any = branch.blocks
    for place, block in enumerate(blocks):
        y = _block(graph, y, block, f"{name}.blocks.{place}")
    return graph.add(x, graph.scale(graph.layer(y, f"{name}.conv", branch.conv), octaves))


def _block(graph: FusedGraph, x: Value, block: RRDB | ResidualBlock, name: str) -> Value:
    if isinstance(block, ResidualBlock):
        y = graph.layer(x, f"{name}.conv1", block.conv1, **_LEAKY)
        return graph.layer(y, f"{name}.conv2", block.conv2, residual=x)
    y, blocks = x, block.dense_blocks()
    for index, dense in enumerate(blocks, 1):
        y = graph.dense_block(y, f"{name}.RDB{index}", dense, x if index == len(blocks) else None)
    return y


class _Code(NamedTuple):
    """A code as ``base @ matrix.T + offset``; in float64. No matrix: base is the code."""

    base: Value
    matrix: Array | None
    offset: Array


def _codes(graph: FusedGraph, predictor: CodePredictor, mean: Tensor, f_inv: Sequence[Value]) -> list[_Code]:
    base: dict[int, Value] = {}
    finer: Value | None = None
    parts: Any = predictor
    for x in reversed(f_inv[: len(predictor.scales)]):
        side = x.shape[0]
        part, name = parts.scales[str(side)], f"codes.scales.{side}"
        if part.adapt is not None:
            x = graph.layer(x, f"{name}.adapt", part.adapt, residual=finer)
        elif finer is not None:
            x = graph.add(x, finer)
        finer = x if part.halve is None else _sequence(graph, x, f"{name}.halve", part.halve)
        if part.reduce is not None:
            base[side] = _sequence(graph, finer, f"{name}.reduce", part.reduce)
    branches: dict[int, Value] = {}
    codes = []
    layers = zip(predictor.scale_of_code, predictor.branch_of_code, parts.codes, strict=True)
    for index, (side, branch, linear) in enumerate(layers):
        if branch not in branches:
            x = _sequence(graph, base[side], f"codes.branches.{branch}", parts.branches[branch])
            branches[branch] = graph.cast(graph.reshape(x, x.shape[-1]), False)
        matrix, offset = _wide(linear.weight), _wide(linear.bias) + _wide(mean)
        if matrix.shape[1] > matrix.shape[0]:  # the product with a style's matrix would be larger than both
            codes.append(_Code(graph.gemm(branches[branch], f"codes.codes.{index}", matrix, offset), None, offset))
        else:
            codes.append(_Code(branches[branch], matrix, offset))
    return codes


class _Generator:
    """Writes a generator, whose features get the offsets that the predictor computes from ``f_inv``, coarse to fine."""

    def __init__(
        self, graph: FusedGraph, codes: Sequence[_Code], predictor: CodePredictor, f_inv: Sequence[Value]
    ) -> None:
        self.graph, self.codes, self.predictor, self.f_inv = graph, codes, predictor, f_inv
        self.tail: dict[str, Any] = {**_LEAKY, **({"clamp": CLAMP} if graph.half else {})}

    def stylegan2(self, prior: StyleGAN2) -> tuple[Value, dict[int, Value]]:
        """The picture, float32, and features by resolution. Every layer applies the next one's style."""
        layers = [layer for layer in prior.layers if isinstance(layer, StyledLayer)]
        to_rgb = [layer for layer in prior.to_rgb if isinstance(layer, ToRGB)]
        factors = [self._modulation(layer.conv, index, f"prior.layers.{index}") for index, layer in enumerate(layers)]
        modulated = self._modulated_constant(prior.constant, factors[0][0], "prior.constant")
        features: dict[int, Value] = {}
        picture: Value | None = None
        for index, layer in enumerate(layers):
            name, last = f"prior.layers.{index}", index % 2 == 0  # the last layer of its resolution
            side = prior.config.layer_resolutions[index]
            following = factors[index + 1][0] if index + 1 < len(layers) else None
            offset = last and str(side) in self.predictor.offsets
            steps = {**self.tail, "gain": math.sqrt(2), "style": None if offset else following}
            steps |= {"demodulation": factors[index][1], "noise": self._noise(layer, name)}
            weight, _ = self._normalized(layer.conv.weight)
            if layer.conv.filter is None:
                x, modulated = self.graph.styled_conv(modulated, name, weight, layer.bias, **steps)
            else:
                x = self.graph.conv(modulated, name, weight.transpose(0, 1), transposed=True)
                x, modulated = self.graph.filtered_bias_act(x, name, layer.bias, **steps)
            if offset:
                x, modulated = self._with_offset(x, following)
            if last:
                features[side] = x
                rgb, name = to_rgb[index // 2], f"prior.to_rgb.{index // 2}"
                style, gain = self._modulation(rgb.conv, index + 1, name)
                wide = None if picture is None else self.graph.upsampled_picture(picture)
                picture = self._picture(x, rgb.conv.weight, rgb.bias, style, gain, name, wide)
        assert picture is not None
        return picture, features

    def mobile_stylegan(self, prior: MobileStyleGAN) -> tuple[Value, dict[int, Value]]:
        """The picture, float32, and features by resolution. Modulation is part of the op before a convolution."""
        graph, blocks = self.graph, [block for block in prior.blocks if isinstance(block, Block)]
        style, gain = self._layer_style(0, prior.conv, "prior.conv")
        x = self._modulated_constant(prior.input, style, "prior.input")
        x = self._styled_conv(prior.conv, x, gain, "prior.conv")[0]
        features = {x.shape[0]: x}
        for index, block in enumerate(blocks):
            first, name = 1 + 2 * index, f"prior.blocks.{index}"
            weight, bias = (np.concatenate([_wide(part)] * 4) for part in block.conv1.affine.parameters())
            style = self._affine(first, block.affine, f"{name}.affine")
            style = graph.multiply(style, self._style(first, weight, bias, f"{name}.conv1.affine"))
            style, gain = self._normalized_style(style, block.conv1.conv, f"{name}.conv1")
            x = graph.inverse_haar(x, style)
            style, following = self._layer_style(first + 1, block.conv2, f"{name}.conv2")
            _, x = self._styled_conv(block.conv1, x, gain, f"{name}.conv1", style)
            x = self._styled_conv(block.conv2, x, following, f"{name}.conv2")[0]
            if str(x.shape[0]) in self.predictor.offsets:
                x, _ = self._with_offset(x, None)
            features[x.shape[0]] = x
        if not isinstance(prior.head, WaveletHead):
            return self._head(x, prior.head, None, "prior.head"), features
        style = self._affine(len(self.codes) - 1, prior.head.affine, "prior.head.affine")
        return graph.inverse_haar(self._head(x, prior.head.conv, style, "prior.head.conv")), features

    def _style(self, code: int, weight: Array, bias: Array, name: str) -> Value:
        """A style, ``[B, C]``: ``weight`` and ``bias`` map the code to it."""
        base, matrix, offset = self.codes[code]
        if matrix is None:
            return self.graph.gemm(base, name, weight, bias)
        return self.graph.gemm(base, name, weight @ matrix, weight @ offset + bias)

    def _affine(self, code: int, layer: nn.Linear, name: str) -> Value:
        return self._style(code, _wide(layer.weight), _wide(layer.bias), name)

    def _modulation(self, conv: ModulatedConv, code: int, name: str) -> tuple[Value, Value | None]:
        """The factors of a convolution's input and output, ``[B, in]`` and ``[B, out]``."""
        linear = conv.modulation
        weight = _wide(linear.weight) * linear.scale * conv.scale
        bias = _wide(linear.bias) * linear.rate * conv.scale
        style = self._style(code, weight, bias, f"{name}.modulation")
        squares = np.square(_wide(conv.weight)).sum((2, 3)) if conv.demodulate else None
        return self.graph.factors(style, name, squares=squares, norm=self._normalized(conv.weight)[1], epsilon=EPSILON)

    def _normalized(self, weight: Tensor) -> tuple[Tensor, Array | None]:
        """Filters of norm one in float16, and what their results lack; in float32 as they are."""
        if not self.graph.half:
            return weight, None
        filters, norm = normalized_filters(weight.detach().float())
        return filters, array(norm)

    def _separated(self, conv: nn.Conv2d | SeparableConv) -> tuple[Tensor | None, Tensor, Array | None]:
        """Depthwise and pointwise filters, and the norm, as `_normalized`; no depthwise ones of a plain convolution."""
        if isinstance(conv, nn.Conv2d):
            return None, *self._normalized(conv.weight)
        depthwise, norm = self._normalized(conv.depthwise.weight)
        scale = 1 if norm is None else torch.from_numpy(norm)[:, None, None]
        return depthwise, *self._normalized(conv.pointwise.weight.detach() * scale)

    def _normalized_style(self, style: Value, conv: nn.Conv2d | SeparableConv, name: str) -> tuple[Value, Value | None]:
        return self.graph.factors(style, name, norm=self._separated(conv)[2])

    def _layer_style(self, code: int, layer: StyledConv, name: str) -> tuple[Value, Value | None]:
        return self._normalized_style(self._affine(code, layer.affine, f"{name}.affine"), layer.conv, name)

    def _modulated_constant(self, constant: Tensor, style: Value, name: str) -> Value:
        held = self.graph.constant(name, array(constant).transpose(0, 2, 3, 1))
        return self.graph.cast(self.graph.scale(held, style), self.graph.half)

    def _noise(self, layer: StyledLayer | StyledConv, name: str) -> Value:
        maps = (array(layer.noise_strength) * array(layer.noise)).transpose(0, 2, 3, 1)
        return self.graph.constant(f"{name}.noise", maps.astype(np.float16 if self.graph.half else np.float32))

    def _styled_conv(
        self, layer: StyledConv, x: Value, gain: Value | None, name: str, style: Value | None = None
    ) -> tuple[Value, Value]:
        """MobileStyleGAN's layer after the modulation; its result, and that times the next style."""
        depthwise, weight, _ = self._separated(layer.conv)
        if depthwise is not None:
            x = self.graph.conv(x, f"{name}.depthwise", depthwise, depthwise=1)
        bias = layer.conv.bias if isinstance(layer.conv, nn.Conv2d) else layer.conv.pointwise.bias
        steps = {"demodulation": gain, "style": style, "noise": self._noise(layer, name), **self.tail}
        return self.graph.styled_conv(x, name, weight, bias, **steps)

    def _with_offset(self, x: Value, style: Value | None) -> tuple[Value, Value]:
        """Features with the offset of their resolution, and those times the next style."""
        side = x.shape[0]
        source = next((maps for maps in self.f_inv if maps.shape[0] == side), self.f_inv[0])
        while source.shape[0] > side:
            quarters = np.full((source.shape[-1], 1, 2, 2), 0.25)
            source = self.graph.conv(source, f"mean.{source.shape[0]}", quarters, stride=2, depthwise=1)
        conv: Any = self.predictor.offsets[str(side)]
        return self.graph.styled_conv(source, f"codes.offsets.{side}", conv.weight, conv.bias, residual=x, style=style)

    def _head(self, x: Value, conv: nn.Conv2d, style: Value | None, name: str) -> Value:
        """A 1x1 convolution of modulated features."""
        norm, gain = self._normalized(conv.weight)[1], None
        if style is not None:
            style, gain = self.graph.factors(style, name, norm=norm)
        elif norm is not None:
            gain = self.graph.constant(f"{name}.norm", norm[None, None, None])
        return self._picture(x, conv.weight, conv.bias, style, gain, name)

    def _picture(
        self,
        x: Value,
        weight: Tensor,
        bias: Tensor | None,
        style: Value | None,
        gain: Value | None,
        name: str,
        below: Value | None = None,
    ) -> Value:
        """Three channels in float32, added to ``below``; ``gain`` is what normalized filters and style lack."""
        graph = self.graph
        if gain is None:
            return graph.conv(x, name, weight, bias, factor=style, residual=below)
        rgb = graph.cast(graph.conv(x, name, self._normalized(weight)[0], factor=style), False)
        rgb = graph.multiply(rgb, gain) if len(gain.shape) > 1 else graph.scale(rgb, gain)
        if bias is not None:
            rgb = graph.add(rgb, graph.constant(f"{name}.bias", array(bias)[None, None, None]))
        return rgb if below is None else graph.add(below, rgb)


def _fused_picture(
    graph: FusedGraph,
    fusion: FeatureFusion | PictureFusion | None,
    invertible: Value,
    f_inv: Sequence[Value],
    style: Value,
    f_gen: dict[int, Value],
) -> Value:
    if fusion is None:
        return style
    base = {"invertible": graph.cast(invertible, False), "style": style, "none": None}[fusion.config.base]
    residual = None if graph.half else base
    if isinstance(fusion, FeatureFusion):
        picture = _fused_features(graph, fusion, f_inv, f_gen, residual)
    else:
        pictures, layers = [invertible, graph.cast(style, graph.half)], [*fusion.head, fusion.to_rgb]
        picture = _sequence(graph, pictures, "fusion.head", layers, residual=residual)
    return picture if base is None or residual is not None else graph.add(base, graph.cast(picture, False))


def _fused_features(
    graph: FusedGraph, fusion: FeatureFusion, f_inv: Sequence[Value], f_gen: dict[int, Value], residual: Value | None
) -> Value:
    """The fusion of features at every size, then at full size."""
    by_size = {maps.shape[0]: maps for maps in f_inv}
    scales: Any = fusion.scales
    parts = []
    for index, (size, scale) in enumerate(zip(fusion.config.sizes, scales, strict=True)):
        name, joined = f"fusion.scales.{index}", [by_size[size]]
        if generated := f_gen.get(size):
            if scale.project is not None:
                generated = graph.layer(generated, f"{name}.project", scale.project)
            joined.append(generated)
        factor = _channel_weights(graph, scale.attention, joined, f"{name}.attention")
        parts.append(_sequence(graph, joined, f"{name}.convs", scale.convs, factor=factor))
    attention = _channel_weights(graph, fusion.attention, parts, "fusion.attention")
    *weights, own = graph.split(attention, fusion.config.widths)
    layers: list[Any] = [*fusion.head, fusion.to_rgb]
    first, *rest = layers
    below = sum(fusion.config.widths[:-1])
    steps: dict[str, Any] = dict(_LEAKY) if rest else {}
    if below:
        coarse: list[Value] = []
        for part in parts[:-1]:
            coarse = [*(graph.upsample(maps, "nearest") for maps in coarse), part]
        kernel = upsampled_kernel(first.weight[:, :below].detach().float())
        steps["residual"] = graph.conv(coarse, "fusion.coarse", kernel, transposed=True, factor=graph.concat(weights))
        steps |= {"residual_first": 1} if rest else {}
    x = graph.conv(parts[-1], "fusion.head.0", first.weight[:, below:], first.bias, factor=own, **steps)
    if rest:
        return _sequence(graph, x, "fusion.head.rest", rest[1:], residual=residual)
    return x if residual is None else graph.add(x, residual)


def _channel_weights(graph: FusedGraph, attention: SqueezeExcitation, parts: Sequence[Value], name: str) -> Value:
    """Squeeze and excitation: the weights of the channels of the parts' concatenation, ``[B, C]``, float32."""
    means = graph.concat([graph.means(part) for part in parts])
    hidden = graph.gemm(means, f"{name}.squeeze", array(attention.squeeze.weight)[:, :, 0, 0])
    hidden = graph.node("Relu", [hidden], hidden.shape)
    excited = graph.gemm(hidden, f"{name}.excite", array(attention.excite.weight)[:, :, 0, 0])
    return graph.node("Sigmoid", [excited], excited.shape)


def normalized_filters(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``[out, in, k, k]`` -> filters of norm one, and the divisors ``[out]``."""
    norm = weight.square().sum((1, 2, 3)).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    return weight / norm[:, None, None, None], norm


def _wide(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()
