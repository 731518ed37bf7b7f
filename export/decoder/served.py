"""The form in which a decoder is exported with ONNX's operators: the same function and names, computed faster.

- The fusion's first convolution at full size reads features of all resolutions; for coarser ones it is
  computed at their own resolution. Nearest-neighbour upsampling and a 3x3 convolution together are one transposed 4x4
  convolution of stride 2, with 16 instead of 36 products per coarse pixel, and the concatenated upsampled features,
  which would be the decoder's largest tensor, are never computed.
- In float16, convolutions read and write halves; codes, styles, demodulation, channel weights and the sum of pictures
  stay float32.

Plain float16 overflows in style² (demodulation) and in activation times style. So a generator's styles are divided by
their largest magnitude and every output filter by its norm; both come back in the factor after the convolution, in
float32. With activations clamped to ±900, styles in [-1, 1] and filters of norm one, a convolution of n products gives
at most 900 sqrt(n): 61,100 for 512 channels and 3x3 taps, within float16's 65,504, for any code. (Separable
convolutions after the inverse Haar transform reach the same: 2 * 900 * sqrt(9) * sqrt(128).)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from server_decoder.generative_prior import GenerativePrior, Noise, Offsets, Synthesis, with_offset
from server_decoder.grain.fusion import FeatureFusion, PictureFusion, channel_means
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import NEGATIVE_SLOPE, RRDBDecoder
from server_decoder.mobile_stylegan import Block, MobileStyleGAN, SeparableConv, StyledConv, WaveletHead, modulate
from server_decoder.stylegan2.layers import ModulatedConv, StyledLayer, ToRGB, demodulation, per_channel
from server_decoder.stylegan2.networks import StyleGAN2

CLAMP = 900.0
"""Largest magnitude of a generator's activation in float16. Those of trained codes reach 461; NVIDIA's networks in half
precision, whose 256 would cut them, are trained with their clamp."""


def served_decoder(decoder: Grain | RRDBDecoder, *, half: bool = False) -> ServedGrain | ServedDecoder:
    """The decoder in the form above, in evaluation mode; it shares all tensors except those that become halves.

    LR and picture are float32 also with ``half``.
    """
    served: ServedGrain | ServedDecoder
    if isinstance(decoder, Grain):
        prior = half_prior(decoder.prior) if half and decoder.prior is not None else decoder.prior
        served = ServedGrain(decoder.config, prior)
    else:
        served = ServedDecoder(decoder.config)
    served.load_state_dict(decoder.state_dict(), assign=True)
    if half:
        served.narrow()
    return served.eval().requires_grad_(False)


def upsampled_kernel(weight: Tensor) -> Tensor:
    """The kernel ``[in, out, 4, 4]`` of the transposed convolution, of stride 2 and padding 1, that equals upsampling
    by nearest neighbours and a 3x3 convolution with ``weight`` ``[out, in, 3, 3]``.

    Of the nine pixels that the convolution reads, copies of the same pixel are multiplied by the sum of their weights:
    two by two products per output pixel, different ones for each of the four phases. Written as a transposed
    convolution, they are a pixel's contribution to its 4x4 surroundings.
    """
    kernel = weight.transpose(0, 1)
    for dim in (2, 3):  # three taps to four, mirrored: those of a pixel's two copies are added where both are read
        first, middle, last = kernel.unbind(dim)
        kernel = torch.stack([last, middle + last, first + middle, first], dim)
    return kernel


class ServedDecoder(RRDBDecoder):
    """`RRDBDecoder` whose convolutions may be halves; LR and picture are float32."""

    def forward_features(self, lr: Tensor, step: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        picture, features = super().forward_features(lr.to(self.conv_first.weight.dtype), step)
        return picture.to(lr.dtype), features

    def narrow(self) -> None:
        """Make all weights halves."""
        self.half()
        if self.config.step:
            self.step = self.step.float()  # the type of the graph's input


class ServedFusion(FeatureFusion):
    """`FeatureFusion` without the upsampled features."""

    def forward(self, f_inv: Sequence[Tensor], f_gen: Mapping[int, Tensor]) -> Tensor:
        by_size = {feature.shape[-1]: feature for feature in f_inv}
        parts = [scale(by_size[size], f_gen.get(size))
                 for size, scale in zip(self.config.sizes, self.scales, strict=True)]  # [B, width, size, size]
        # A channel's mean is that of its upsampled form, and its weight can be applied before upsampling.
        weights = self.attention.weights(torch.cat([channel_means(part) for part in parts], 1))
        *coarse, fine = (part * weight.to(part.dtype)
                         for part, weight in zip(parts, weights.split(self.config.widths, 1), strict=True))
        first, *rest = self._layers()
        assert isinstance(first, nn.Conv2d) and first.bias is not None
        below = sum(self.config.widths[:-1])
        x = F.conv2d(fine, first.weight[:, below:].to(fine.dtype), first.bias.to(fine.dtype), padding=1)
        if coarse:
            joined = coarse[0]
            for part in coarse[1:]:
                joined = torch.cat([F.interpolate(joined, scale_factor=2, mode="nearest"), part], 1)
            kernel = upsampled_kernel(first.weight[:, :below]).to(joined.dtype)
            x = x + F.conv_transpose2d(joined, kernel, stride=2, padding=1)
        for layer in rest:
            x = layer(x)
        return x.to(weights.dtype)

    def narrow(self) -> None:
        """Make the weights of convolutions halves; channel weights come from float32, sums of weights too."""
        for scale in self.scales:
            if isinstance(scale.project, nn.Conv2d):
                scale.project.half()
            scale.convs.half()
        for layer in self._layers()[1:]:
            layer.half()

    def _layers(self) -> list[nn.Module]:
        return [*self.head, self.to_rgb]


class ServedPictureFusion(PictureFusion):
    """`PictureFusion` whose convolutions may be halves."""

    def forward(self, invertible: Tensor, style: Tensor) -> Tensor:
        dtype = self.to_rgb.weight.dtype
        return super().forward(invertible.to(dtype), style.to(dtype)).to(style.dtype)


class ServedGrain(Grain):
    """`Grain` made of the parts above."""

    decoder: ServedDecoder

    def __init__(self, config: GrainConfig, prior: GenerativePrior | None = None) -> None:
        super().__init__(config, prior)
        self.decoder = ServedDecoder(config.decoder)
        match self.fusion:
            case FeatureFusion() if self.prior is not None:
                channels = {scale.size: scale.channels for scale in config.decoder.scales}
                self.fusion = ServedFusion(self.fusion.config, channels, self.prior.feature_channels)
            case PictureFusion():
                self.fusion = ServedPictureFusion(self.fusion.config)

    def narrow(self) -> None:
        """Make the weights of convolutions halves, but the generator's: those are float32 until they are normalized."""
        self.decoder.narrow()
        if self.codes is not None:
            for part in (self.codes.scales, self.codes.branches, self.codes.offsets):
                part.half()
        if isinstance(self.fusion, ServedFusion):
            self.fusion.narrow()
        elif self.fusion is not None:
            self.fusion.half()


def half_prior(prior: GenerativePrior) -> GenerativePrior:
    """A generator that computes the same in float16 and shares the tensors of ``prior``; other kinds as they are.

    Activations and features are halves; codes, styles and pictures stay float32.
    """
    if not isinstance(prior, StyleGAN2 | MobileStyleGAN):
        return prior
    form = HalfStyleGAN2(prior.config) if isinstance(prior, StyleGAN2) else HalfMobileStyleGAN(prior.config)
    form.load_state_dict(prior.state_dict(), assign=True)
    return form.eval().requires_grad_(False)


class HalfStyleGAN2(StyleGAN2):
    """`StyleGAN2` for export, with its constant noise. Every layer also multiplies by the next one's style."""

    def synthesize(self, codes: Tensor, noise: Noise, offsets: Offsets) -> Synthesis:
        layers = [layer for layer in self.layers if isinstance(layer, StyledLayer)]
        to_rgb = [layer for layer in self.to_rgb if isinstance(layer, ToRGB)]
        styles, gains = zip(*(self._factors(layer.conv, codes[:, index]) for index, layer in enumerate(layers)),
                            strict=True)
        modulated = (self.constant * per_channel(styles[0], self.constant)).half()  # [B, C, 4, 4]
        features: dict[int, Tensor] = {}
        pictures: list[Tensor] = []  # coarse to fine
        for index, layer in enumerate(layers):
            resolution, last = self.config.layer_resolutions[index], index % 2 == 0  # the last layer of its resolution
            weight = normalized_filters(layer.conv.weight)[0].half()
            following = styles[index + 1] if index + 1 < len(layers) else None
            if layer.conv.filter is None:
                x = F.conv2d(modulated, weight, padding=1)
            else:
                x = F.conv_transpose2d(modulated, weight.transpose(0, 1), stride=2)  # [B, out, 2H + 1, 2W + 1]
                kernel = (4 * layer.conv.filter.kernel).half().expand(x.shape[1], -1, -1, -1)
                x = F.conv2d(x, kernel, padding=1, groups=x.shape[1])
            x, modulated = activated(
                x, gains[index], layer.noise_strength * layer.noise, layer.bias,
                None if last and resolution in offsets else following, gain=math.sqrt(2))
            if last:
                if resolution in offsets:
                    x = with_offset(x, offsets[resolution])
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
    """`MobileStyleGAN` for export, with its constant noise.

    Modulation is part of the inverse Haar transform and of the layer before.
    """

    def synthesize(self, codes: Tensor, noise: Noise, offsets: Offsets) -> Synthesis:
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        style, peak = normalized_style(self.conv.affine(codes[:, 0]))
        x = modulate(self.input, style).half()  # [B, C, 4, 4]
        x = with_offset(self._convolve(self.conv, x, peak)[0], offsets.get(x.shape[-1]))
        features = {x.shape[-1]: x}
        for index, block in enumerate(blocks):
            first = 1 + 2 * index
            style = block.affine(codes[:, first]) * block.conv1.affine(codes[:, first]).repeat(1, 4)
            style, peak = normalized_style(style)
            x = _inverse_haar(0.5 * x.float() * style[:, :, None, None]).half()
            style, following = normalized_style(block.conv2.affine(codes[:, first + 1]))
            _, x = self._convolve(block.conv1, x, peak, style)
            x = with_offset(self._convolve(block.conv2, x, following)[0], offsets.get(x.shape[-1]))
            features[x.shape[-1]] = x
        if not isinstance(self.head, WaveletHead):
            return Synthesis(_pointwise(self.head, x, None), features)
        style, peak = normalized_style(self.head.affine(codes[:, -1]))
        return Synthesis(_inverse_haar(0.5 * _pointwise(self.head.conv, modulate(x, style), peak)), features)

    def _convolve(self, layer: StyledConv, x: Tensor, peak: Tensor, style: Tensor | None = None
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
        return activated(x, peak * norm, layer.noise_strength * layer.noise, conv.bias, style)


def activated(x: Tensor, gains: Tensor, noise: Tensor, bias: Tensor | None, style: Tensor | None, *, gain: float = 1.0
              ) -> tuple[Tensor, Tensor]:
    """The steps after a convolution, in float32, as halves; the result, and that times the next layer's style.

    ``gains`` ``[B, C]`` are the demodulation and what the convolution's normalization divided out, ``noise`` is
    ``[1, 1, H, W]``, ``gain`` a factor after the leaky ReLU.
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
    """`server_decoder.mobile_stylegan.inverse_haar` in fewer nodes of ONNX."""
    ll, b1, b2, b3 = bands.chunk(4, dim=1)
    cells = torch.stack([ll + b1 + b2 + b3, ll + b1 - b2 - b3, ll - b1 + b2 - b3, ll - b1 - b2 + b3], dim=2)
    return F.pixel_shuffle(cells.flatten(1, 2), 2)


def _pointwise(conv: nn.Conv2d, x: Tensor, peak: Tensor | None) -> Tensor:
    """A convolution to a picture in float32; ``peak`` is the divisor of its modulation."""
    weight, norm = normalized_filters(conv.weight)
    gain = norm if peak is None else peak * norm
    x = F.conv2d(x, weight.half()).float() * gain.reshape(*gain.shape, 1, 1)
    return x if conv.bias is None else x + conv.bias[:, None, None]
