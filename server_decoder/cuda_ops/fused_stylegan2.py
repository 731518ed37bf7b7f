"""StyleGAN2's generator with fused ops: one pass over memory after every convolution instead of five or six."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from server_decoder.cuda_ops.fused_ops import demod_bias_act, filtered_bias_act, upsample
from server_decoder.cuda_ops.half import CLAMP, normalized_filters, normalized_style
from server_decoder.generative_prior import Offsets, Synthesis, with_offsets
from server_decoder.stylegan2.layers import ModulatedConv, StyledLayer, ToRGB, demodulation, per_channel
from server_decoder.stylegan2.synthesis import StyleGAN2, StyleGAN2Config

_GAIN = math.sqrt(2)


class FusedStyleGAN2(StyleGAN2):
    """`StyleGAN2` for export, with the same parameter names.

    Every layer ends in one op that also multiplies by the next layer's style, so each convolution reads its input
    unchanged; the filter after a transposed convolution is part of that op.

    In float16, activations and filters are halves in the form of `server_decoder.cuda_ops.half`; codes, styles,
    demodulation and pictures stay float32.
    """

    def __init__(self, config: StyleGAN2Config, dtype: torch.dtype = torch.float32, *, fused: bool = True) -> None:
        """Random weights.

        Args:
            config: as for `StyleGAN2`.
            dtype: float32 or float16, of activations and features.
            fused: export ops of ``com.edgegrain``; false for equivalent ops of ONNX.
        """
        super().__init__(config)
        self.dtype = dtype
        self.fused = fused

    def synthesize(self, codes: Tensor, noise: list[Tensor] | None, offsets: Offsets) -> Synthesis:
        """As `StyleGAN2.synthesize`."""
        given = self._check_noise(noise, codes.shape[0])
        layers = [layer for layer in self.layers if isinstance(layer, StyledLayer)]
        to_rgb = [layer for layer in self.to_rgb if isinstance(layer, ToRGB)]
        styles, gains = zip(*(self._factors(layer.conv, codes[:, index]) for index, layer in enumerate(layers)),
                            strict=True)
        modulated = (self.constant * per_channel(styles[0], self.constant)).to(self.dtype)  # [B, C, 4, 4]
        features: dict[int, Tensor] = {}
        pictures: list[Tensor] = []  # coarse to fine
        for index, layer in enumerate(layers):
            resolution, last = self.config.layer_resolutions[index], index % 2 == 0  # the last layer of its resolution
            weight, own = self._filters(layer.conv), given[index]
            following = styles[index + 1] if index + 1 < len(layers) else None
            tail = (gains[index], (layer.noise_strength * (layer.noise if own is None else own)).to(self.dtype),
                    layer.bias, None if last and resolution in offsets else following)
            if layer.conv.filter is None:
                x = F.conv2d(modulated, weight, padding=1)
                x, modulated = demod_bias_act(x, *tail, gain=_GAIN, clamp=self._clamp, fused=self.fused)
            else:
                x = F.conv_transpose2d(modulated, weight.transpose(0, 1), stride=2)  # [B, out, 2H + 1, 2W + 1]
                x, modulated = filtered_bias_act(x, *tail, gain=_GAIN, clamp=self._clamp, fused=self.fused)
            if last:
                if resolution in offsets:  # coarse ones only: an input of the op would not pay
                    x = with_offsets(x, offsets)
                    modulated = x if following is None else x * per_channel(following, x)
                features[resolution] = x
                rgb = self._rgb(to_rgb[index // 2], x, codes[:, index + 1])
                pictures.append(upsample(pictures[-1], fused=self.fused) + rgb if pictures else rgb)
        return Synthesis(pictures[-1], features)

    @property
    def _clamp(self) -> float:
        return CLAMP if self.dtype == torch.float16 else 0.0

    def _factors(self, conv: ModulatedConv, code: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of a convolution's input and of its output, ``[B, in]`` and ``[B, out]``."""
        style = conv.modulation(code) * conv.scale
        gains = demodulation(style, conv.weight) if conv.demodulate else style.new_ones(1, conv.weight.shape[0])
        if self.dtype != torch.float16:
            return style, gains
        style, peak = normalized_style(style)
        _, norm = normalized_filters(conv.weight)
        return style, gains * peak * norm

    def _filters(self, conv: ModulatedConv) -> Tensor:
        if self.dtype != torch.float16:
            return conv.weight
        return normalized_filters(conv.weight)[0].to(self.dtype)

    def _rgb(self, layer: ToRGB, x: Tensor, code: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in float32: pictures are summed in it."""
        if self.dtype != torch.float16:
            return layer(x, code)
        style, gains = self._factors(layer.conv, code)
        rgb = F.conv2d(x * per_channel(style, x), self._filters(layer.conv)).to(code.dtype)
        return rgb * per_channel(gains, rgb) + per_channel(layer.bias, rgb)
