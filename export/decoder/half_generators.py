"""Generators in float16 without overflow: factors are divided out before a convolution and multiplied back afterwards.

Plain float16 overflows in style² (demodulation) and in activation times style. Here styles are divided by their largest
magnitude and every output filter by its norm; both come back in the factor after the convolution, in float32. With
activations clamped to ±256, styles in [-1, 1] and filters of norm one, a convolution of n products gives at most
256 sqrt(n): 17,400 for 512 channels and 3x3 taps, a quarter of float16's range, for any code.
(Separable convolutions after the inverse Haar transform reach the same: 2 * 256 * sqrt(9) * sqrt(128).)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from server_decoder.generative_prior import GenerativePrior, Offsets, Synthesis, with_offsets
from server_decoder.mobile_stylegan.generator import (
    Block,
    MobileStyleGAN,
    SeparableConv,
    StyledConv,
    WaveletHead,
    modulate,
)
from server_decoder.stylegan2.layers import (
    NEGATIVE_SLOPE,
    ModulatedConv,
    StyledLayer,
    ToRGB,
    demodulation,
    per_channel,
)
from server_decoder.stylegan2.synthesis import StyleGAN2

CLAMP = 256.0
"""Largest magnitude of an activation, as in NVIDIA's networks in half precision."""


def half_prior(prior: GenerativePrior) -> GenerativePrior:
    """A generator that computes the same in float16; it shares the tensors of ``prior``. Others stay as they are.

    Parameter names are the same. Activations and features are halves; codes, styles and pictures stay float32.
    """
    form: HalfStyleGAN2 | HalfMobileStyleGAN
    match prior:
        case StyleGAN2():
            form = HalfStyleGAN2(prior.config)
        case MobileStyleGAN():
            form = HalfMobileStyleGAN(prior.config)
        case _:
            return prior
    form.load_state_dict(prior.state_dict(), assign=True)
    return form.eval().requires_grad_(False)


class HalfStyleGAN2(StyleGAN2):
    """`StyleGAN2` for export. Every layer also multiplies by the next one's style."""

    def synthesize(self, codes: Tensor, noise: list[Tensor] | None, offsets: Offsets) -> Synthesis:
        """As `StyleGAN2.synthesize`."""
        given = self._check_noise(noise, codes.shape[0])
        layers = [layer for layer in self.layers if isinstance(layer, StyledLayer)]
        to_rgb = [layer for layer in self.to_rgb if isinstance(layer, ToRGB)]
        styles, gains = zip(*(self._factors(layer.conv, codes[:, index]) for index, layer in enumerate(layers)),
                            strict=True)
        modulated = (self.constant * per_channel(styles[0], self.constant)).half()  # [B, C, 4, 4]
        features: dict[int, Tensor] = {}
        pictures: list[Tensor] = []  # coarse to fine
        for index, layer in enumerate(layers):
            resolution, last = self.config.layer_resolutions[index], index % 2 == 0  # the last layer of its resolution
            weight, own = normalized_filters(layer.conv.weight)[0].half(), given[index]
            following = styles[index + 1] if index + 1 < len(layers) else None
            if layer.conv.filter is None:
                x = F.conv2d(modulated, weight, padding=1)
            else:
                x = F.conv_transpose2d(modulated, weight.transpose(0, 1), stride=2)  # [B, out, 2H + 1, 2W + 1]
                kernel = (4 * layer.conv.filter.kernel).half().expand(x.shape[1], -1, -1, -1)
                x = F.conv2d(x, kernel, padding=1, groups=x.shape[1])
            x, modulated = activated(
                x, gains[index], layer.noise_strength * (layer.noise if own is None else own), layer.bias,
                None if last and resolution in offsets else following, gain=math.sqrt(2))
            if last:
                if resolution in offsets:
                    x = with_offsets(x, offsets)
                    modulated = x if following is None else x * per_channel(following, x)
                features[resolution] = x
                rgb = self._rgb(to_rgb[index // 2], x, codes[:, index + 1])
                pictures.append(self.filter.upsample(pictures[-1]) + rgb if pictures else rgb)
        return Synthesis(pictures[-1], features)

    def _factors(self, conv: ModulatedConv, code: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of a convolution's input and of its output, ``[B, in]`` and ``[B, out]``."""
        style = conv.modulation(code) * conv.scale
        gains = demodulation(style, conv.weight) if conv.demodulate else style.new_ones(1, conv.weight.shape[0])
        style, peak = normalized_style(style)
        return style, gains * peak * normalized_filters(conv.weight)[1]

    def _rgb(self, layer: ToRGB, x: Tensor, code: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in float32: pictures are summed in it."""
        style, gains = self._factors(layer.conv, code)
        rgb = F.conv2d(x * per_channel(style, x), normalized_filters(layer.conv.weight)[0].half()).to(code.dtype)
        return rgb * per_channel(gains, rgb) + per_channel(layer.bias, rgb)


class HalfMobileStyleGAN(MobileStyleGAN):
    """`MobileStyleGAN` for export. Modulation is part of the inverse Haar transform and of the layer before."""

    def synthesize(self, codes: Tensor, noise: list[Tensor] | None, offsets: Offsets) -> Synthesis:
        """As `MobileStyleGAN.synthesize`."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        given = self._check_noise(noise)
        style, peak = normalized_style(self.conv.affine(codes[:, 0]))
        x = modulate(self.input, style).half()  # [B, C, 4, 4]
        x = with_offsets(self._convolve(self.conv, x, given[0], peak)[0], offsets)
        features = {x.shape[-1]: x}
        for index, block in enumerate(blocks):
            first = 1 + 2 * index
            style = block.affine(codes[:, first]) * block.conv1.affine(codes[:, first]).repeat(1, 4)
            style, peak = normalized_style(style)
            x = _inverse_haar(0.5 * x.float() * style[:, :, None, None]).half()
            style, following = normalized_style(block.conv2.affine(codes[:, first + 1]))
            _, x = self._convolve(block.conv1, x, given[first], peak, style)
            x = with_offsets(self._convolve(block.conv2, x, given[first + 1], following)[0], offsets)
            features[x.shape[-1]] = x
        return Synthesis(self._picture(x, codes[:, -1]), features)

    def _convolve(self, layer: StyledConv, x: Tensor, noise: Tensor | None, peak: Tensor, style: Tensor | None = None
                  ) -> tuple[Tensor, Tensor]:
        """The steps after the modulation, of which ``peak`` ``[B, 1]`` is the divisor: the result, and the result times
        the next layer's style."""
        conv = layer.conv.pointwise if isinstance(layer.conv, SeparableConv) else layer.conv
        weight = conv.weight
        if isinstance(layer.conv, SeparableConv):
            depthwise, norm = normalized_filters(layer.conv.depthwise.weight)  # [C, 1, 3, 3]
            weight = weight * norm[:, None, None]
            x = F.conv2d(x, depthwise.half(), padding=1, groups=depthwise.shape[0])
        weight, norm = normalized_filters(weight)
        x = F.conv2d(x, weight.half(), padding=conv.padding)
        return activated(x, peak * norm, layer.noise_strength * (layer.noise if noise is None else noise), conv.bias,
                         style)

    def _picture(self, x: Tensor, code: Tensor) -> Tensor:
        """``[B, 3, S, S]`` in float32."""
        if not isinstance(self.head, WaveletHead):
            return _pointwise(self.head, x, None)
        style, peak = normalized_style(self.head.affine(code))
        return _inverse_haar(0.5 * _pointwise(self.head.conv, modulate(x, style), peak))


def activated(x: Tensor, gains: Tensor, noise: Tensor, bias: Tensor | None, style: Tensor | None, *, gain: float = 1.0
              ) -> tuple[Tensor, Tensor]:
    """The steps after a convolution, in float32, as halves; the result, and that times the next layer's style.

    Args:
        x: halves ``[B, C, H, W]``.
        gains: demodulation and what the convolution's normalization divided out, ``[B, C]``.
        noise: ``[1 or B, 1, H, W]``.
        bias: ``[C]``.
        style: ``[B, C]``.
        gain: factor after the leaky ReLU.
    """
    value = x.float() * gains[:, :, None, None] + noise.half().float()
    if bias is not None:
        value = value + bias[:, None, None]
    value = (F.leaky_relu(value, NEGATIVE_SLOPE) * gain).clamp(-CLAMP, CLAMP)
    plain = value.half()
    return plain, plain if style is None else (value * style[:, :, None, None]).half()


def normalized_style(style: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, C]`` -> the style with a largest magnitude of one, and the divisor ``[B, 1]``."""
    peak = style.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return style / peak, peak


def normalized_filters(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``[out, in, k, k]`` -> filters of norm one, and the divisors ``[out]``."""
    norm = weight.square().sum((1, 2, 3)).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    return weight / norm[:, None, None, None], norm


def _inverse_haar(bands: Tensor) -> Tensor:
    """`server_decoder.mobile_stylegan.generator.inverse_haar` in fewer nodes of ONNX."""
    ll, b1, b2, b3 = bands.chunk(4, dim=1)
    cells = torch.stack([ll + b1 + b2 + b3, ll + b1 - b2 - b3, ll - b1 + b2 - b3, ll - b1 - b2 + b3], dim=2)
    return F.pixel_shuffle(cells.flatten(1, 2), 2)


def _pointwise(conv: nn.Conv2d, x: Tensor, peak: Tensor | None) -> Tensor:
    """A convolution to a picture in float32; ``peak`` is the divisor of its modulation."""
    weight, norm = normalized_filters(conv.weight)
    gain = norm if peak is None else peak * norm
    x = F.conv2d(x, weight.half()).float() * gain.reshape(*gain.shape, 1, 1)
    return x if conv.bias is None else x + conv.bias[:, None, None]
