"""MobileStyleGAN with fused ops: modulation in the inverse Haar transform and in what precedes a convolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from edgegrain.contract.errors import ModelError
from server_decoder.cuda_ops.fused_ops import demod_bias_act, inverse_haar
from server_decoder.mobile_stylegan import MobileStyleGAN, SeparableConv, StyledConv, WaveletHead, modulate
from server_decoder.prior import Synthesis


class FusedMobileStyleGAN(MobileStyleGAN):
    """`MobileStyleGAN`, whose tensors it shares by name, for export."""

    def synthesize(self, codes: Tensor, noise: list[Tensor] | None) -> Synthesis:
        """As `MobileStyleGAN.synthesize`."""
        layers = 1 + 2 * len(self.blocks)
        if noise is not None and len(noise) != layers:
            raise ModelError(f"this prior has {layers} noise inputs, got {len(noise)}")
        given: list[Tensor | None] = [None] * layers if noise is None else list(noise)
        first = self.conv
        x = modulate(self.input.expand(codes.shape[0], -1, -1, -1), first.affine(codes[:, 0]))
        x, _ = _convolve(first, x, given[0])
        features = {x.shape[-1]: x}
        for index, block in enumerate(self.blocks):
            number = 1 + 2 * index
            code = codes[:, number]
            style = block.affine(code) * block.conv1.affine(code).repeat(1, 4)
            x = inverse_haar(x, style, scale=0.5)
            _, x = _convolve(block.conv1, x, given[number], block.conv2.affine(codes[:, number + 1]))
            x, _ = _convolve(block.conv2, x, given[number + 1])
            features[x.shape[-1]] = x
        return Synthesis(self._picture(x, codes[:, -1]), features)

    def _picture(self, x: Tensor, code: Tensor) -> Tensor:
        if isinstance(self.head, WaveletHead):
            return inverse_haar(self.head.conv(modulate(x, self.head.affine(code))), scale=0.5)
        return self.head(x)


def _convolve(layer: StyledConv, x: Tensor, noise: Tensor | None, style: Tensor | None = None
              ) -> tuple[Tensor, Tensor]:
    """What follows the modulation: the result, and the result times the next layer's style."""
    noise = layer.noise_strength * (layer.noise if noise is None else noise)
    if isinstance(layer.conv, SeparableConv):
        x, last = layer.conv.depthwise(x), layer.conv.pointwise
    else:
        last = layer.conv
    x = F.conv2d(x, last.weight, padding=last.padding)
    return demod_bias_act(x, None, noise, last.bias, style)
