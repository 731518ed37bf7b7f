"""The form in which a decoder is exported with ONNX's operators: the same function and names, computed faster.

The fusion's first convolution at full size reads features of all resolutions; for coarser ones it is computed at their
own resolution. Nearest-neighbour upsampling and a 3x3 convolution together are one transposed 4x4 convolution of stride
2, with 16 instead of 36 products per coarse pixel, and the concatenated upsampled features, which would be the
decoder's largest tensor, are never computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from server_decoder.grain.fusion import FeatureFusion, channel_means
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder


def served_decoder(decoder: Grain | RRDBDecoder) -> Grain | RRDBDecoder:
    """The decoder in the form above, in evaluation mode; it shares all tensors."""
    served = Grain(decoder.config, decoder.prior) if isinstance(decoder, Grain) else RRDBDecoder(decoder.config)
    if isinstance(served, Grain) and isinstance(served.fusion, FeatureFusion) and served.prior is not None:
        channels = {scale.size: scale.channels for scale in served.config.decoder.scales}
        served.fusion = ServedFusion(served.fusion.config, channels, served.prior.feature_channels)
    served.load_state_dict(decoder.state_dict(), assign=True)
    return served.eval().requires_grad_(False)


def upsampled_kernel(weight: Tensor) -> Tensor:
    """The kernel ``[in, out, 4, 4]`` of the transposed convolution, of stride 2 and padding 1, that equals upsampling
    by nearest neighbours and a 3x3 convolution with ``weight`` ``[out, in, 3, 3]``."""
    kernel = weight.transpose(0, 1)
    for dim in (2, 3):  # three taps to four, mirrored: those of a pixel's two copies are added where both are read
        first, middle, last = kernel.unbind(dim)
        kernel = torch.stack([last, middle + last, first + middle, first], dim)
    return kernel


class ServedFusion(FeatureFusion):
    """`FeatureFusion` without the upsampled features."""

    def forward(self, f_inv: Sequence[Tensor], f_gen: Mapping[int, Tensor]) -> Tensor:
        by_size = {feature.shape[-1]: feature for feature in f_inv}
        scales = zip(self.config.sizes, self.scales, strict=True)
        parts = [scale(by_size[size], f_gen.get(size)) for size, scale in scales]  # [B, width, size, size]
        # A channel's mean is that of its upsampled form, and its weight can be applied before upsampling.
        weights = self.attention.weights(torch.cat([channel_means(part) for part in parts], 1))
        *coarse, fine = map(torch.mul, parts, weights.split(self.config.widths, 1))
        first, *rest = [*self.head, self.to_rgb]
        assert isinstance(first, nn.Conv2d) and first.bias is not None
        below = sum(self.config.widths[:-1])
        x = F.conv2d(fine, first.weight[:, below:], first.bias, padding=1)
        if coarse:
            joined = coarse[0]
            for part in coarse[1:]:
                joined = torch.cat([F.interpolate(joined, scale_factor=2, mode="nearest"), part], 1)
            kernel = upsampled_kernel(first.weight[:, :below])
            x = x + F.conv_transpose2d(joined, kernel, stride=2, padding=1)
        for layer in rest:
            x = layer(x)
        return x
