"""MobileStyleGAN with fused ops: modulation inside the inverse Haar transform and the op before a convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from server_decoder.cuda_ops.fused_ops import demod_bias_act, inverse_haar
from server_decoder.cuda_ops.half import CLAMP, normalized_filters, normalized_style
from server_decoder.generative_prior import Offsets, Synthesis, with_offsets
from server_decoder.mobile_stylegan.generator import (
    Block,
    MobileStyleGAN,
    MobileStyleGANConfig,
    SeparableConv,
    StyledConv,
    WaveletHead,
    modulate,
)


class FusedMobileStyleGAN(MobileStyleGAN):
    """`MobileStyleGAN` for export, with the same parameter names.

    In float16, activations and filters are halves in the form of `server_decoder.cuda_ops.half`; codes, styles and
    pictures stay float32.
    """

    def __init__(self, config: MobileStyleGANConfig, dtype: torch.dtype = torch.float32, *, fused: bool = True) -> None:
        """Random weights.

        Args:
            config: as for `MobileStyleGAN`.
            dtype: float32 or float16, of activations and features.
            fused: export ops of ``com.edgegrain``; false for equivalent ops of ONNX.
        """
        super().__init__(config)
        self.dtype = dtype
        self.fused = fused

    def synthesize(self, codes: Tensor, noise: list[Tensor] | None, offsets: Offsets) -> Synthesis:
        """As `MobileStyleGAN.synthesize`."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        given = self._check_noise(noise)
        style, peak = self._normalized(self.conv.affine(codes[:, 0]))
        x = modulate(self.input, style).to(self.dtype)  # [B, C, 4, 4]
        x = with_offsets(self._convolve(self.conv, x, given[0], peak)[0], offsets)
        features = {x.shape[-1]: x}
        for index, block in enumerate(blocks):
            first = 1 + 2 * index
            style = block.affine(codes[:, first]) * block.conv1.affine(codes[:, first]).repeat(1, 4)
            style, peak = self._normalized(style)
            x = inverse_haar(x, style, scale=0.5, fused=self.fused)
            style, following = self._normalized(block.conv2.affine(codes[:, first + 1]))
            _, x = self._convolve(block.conv1, x, given[first], peak, style)
            x = with_offsets(self._convolve(block.conv2, x, given[first + 1], following)[0], offsets)
            features[x.shape[-1]] = x
        return Synthesis(self._picture(x, codes[:, -1]), features)

    def _normalized(self, style: Tensor) -> tuple[Tensor, Tensor | None]:
        return normalized_style(style) if self.dtype == torch.float16 else (style, None)

    def _convolve(self, layer: StyledConv, x: Tensor, noise: Tensor | None, peak: Tensor | None,
                  style: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The steps after the modulation: the result, and the result times the next layer's style.

        ``peak``: ``[B, 1]``, the divisor of the modulation; in float16 only.
        """
        noise = (layer.noise_strength * (layer.noise if noise is None else noise)).to(self.dtype)
        conv = layer.conv.pointwise if isinstance(layer.conv, SeparableConv) else layer.conv
        weight = conv.weight
        if isinstance(layer.conv, SeparableConv):
            depthwise = layer.conv.depthwise.weight  # [C, 1, 3, 3]
            if peak is not None:
                depthwise, norm = normalized_filters(depthwise)
                weight = weight * norm[:, None, None]
            x = F.conv2d(x, depthwise.to(self.dtype), padding=1, groups=depthwise.shape[0])
        if peak is None:
            x = F.conv2d(x, weight, padding=conv.padding)
            return demod_bias_act(x, None, noise, conv.bias, style, fused=self.fused)
        weight, norm = normalized_filters(weight)
        x = F.conv2d(x, weight.to(self.dtype), padding=conv.padding)
        return demod_bias_act(x, peak * norm, noise, conv.bias, style, clamp=CLAMP, fused=self.fused)

    def _picture(self, x: Tensor, code: Tensor) -> Tensor:
        """``[B, 3, S, S]`` in float32."""
        if not isinstance(self.head, WaveletHead):
            return self._pointwise(self.head, x, None)
        style, peak = self._normalized(self.head.affine(code))
        bands = self._pointwise(self.head.conv, modulate(x, style), peak)
        return inverse_haar(bands, scale=0.5, fused=self.fused)

    def _pointwise(self, conv: nn.Conv2d, x: Tensor, peak: Tensor | None) -> Tensor:
        """A convolution to a picture in float32; ``peak`` as in `_convolve`."""
        if self.dtype != torch.float16:
            return conv(x)
        weight, norm = normalized_filters(conv.weight)
        gain = norm if peak is None else peak * norm
        x = F.conv2d(x, weight.to(self.dtype)).float() * gain.reshape(*gain.shape, 1, 1)
        return x if conv.bias is None else x + conv.bias[:, None, None]
