"""StyleGAN2's generator with fused ops: one pass over memory after every convolution instead of five or six."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from server_decoder.cuda_ops.fused_ops import demod_bias_act, filtered_bias_act, upsample
from server_decoder.prior import Synthesis
from server_decoder.stylegan2.layers import ModulatedConv, demodulation, full_precision, per_channel
from server_decoder.stylegan2.synthesis import StyleGAN2

_GAIN = math.sqrt(2)


class FusedStyleGAN2(StyleGAN2):
    """`StyleGAN2`, whose tensors it shares by name, for export.

    Every layer ends in one op that also multiplies by the next layer's style, so each convolution reads its input as it
    is; the filter after a transposed convolution is part of that op.
    """

    def synthesize(self, codes: Tensor, noise: list[Tensor] | None) -> Synthesis:
        """As `StyleGAN2.synthesize`."""
        given = self._check_noise(noise, codes.shape[0])
        styles = [_style(layer.conv, codes[:, index]) for index, layer in enumerate(self.layers)]
        modulated = self.constant * per_channel(styles[0], self.constant)  # [B, C, 4, 4]
        features: dict[int, Tensor] = {}
        pictures: list[Tensor] = []  # coarse to fine
        for index, layer in enumerate(self.layers):
            weight, resolution = layer.conv.weight, self.config.layer_resolutions[index]
            with full_precision(weight):
                gains = demodulation(styles[index], weight)  # [B, out]
            strength = layer.noise_strength
            noise_map = strength * (layer.noise if given[index] is None else given[index])
            following = styles[index + 1] if index + 1 < len(styles) else None
            if layer.conv.filter is None:
                x = F.conv2d(modulated, weight, padding=1)
                x, modulated = demod_bias_act(x, gains, noise_map, layer.bias, following, gain=_GAIN)
            else:
                x = F.conv_transpose2d(modulated, weight.transpose(0, 1), stride=2)  # [B, out, 2H + 1, 2W + 1]
                x, modulated = filtered_bias_act(x, gains, noise_map, layer.bias, following, gain=_GAIN)
            if index % 2 == 0:  # the last layer of its resolution
                features[resolution] = x
                rgb = self.to_rgb[index // 2](x, codes[:, index + 1])
                pictures.append(upsample(pictures[-1]) + rgb if pictures else rgb)
        return Synthesis(pictures[-1], features)


def _style(conv: ModulatedConv, code: Tensor) -> Tensor:
    with full_precision(code):
        return conv.modulation(code.to(conv.weight.dtype)) * conv.scale  # [B, in]
