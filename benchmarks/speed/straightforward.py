"""GRAIN's decoder as written in the papers, for comparison: the results of `server_decoder` without its optimizations.

Weights are modulated: every picture of a batch gets its own kernels, and a grouped convolution applies them
([StyleGAN2] Section 2.2, and the usual implementations). Demodulation is computed from those kernels. Upsampled
features are computed in full, and wavelets are transposed convolutions with Haar's filters. The parameters have the
names of the modules that they replace.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from server_decoder.generative_prior import GenerativePrior, Offsets, Synthesis, with_offsets
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, SeparableConv, StyledConv, WaveletHead
from server_decoder.stylegan2.layers import ModulatedConv, activate
from server_decoder.stylegan2.synthesis import StyleGAN2

EPSILON = 1e-8


def straightforward_decoder(decoder: Grain | RRDBDecoder) -> Grain | RRDBDecoder:
    """The same decoder with a straightforward generator; without a generator, the decoder itself."""
    if not isinstance(decoder, Grain) or decoder.prior is None:
        return decoder
    plain = Grain(decoder.config, straightforward_prior(decoder.prior))
    plain.load_state_dict(decoder.state_dict(), assign=True)
    return plain.eval().requires_grad_(False)


def straightforward_prior(prior: GenerativePrior) -> GenerativePrior:
    """The same generator with modulated weights."""
    plain: GenerativePrior
    match prior:
        case StyleGAN2():
            plain = StraightforwardStyleGAN2(prior.config)
        case MobileStyleGAN():
            plain = StraightforwardMobileStyleGAN(prior.config)
        case _:
            raise TypeError(f"there is no straightforward form of a {type(prior).__name__}")
    plain.load_state_dict(prior.state_dict(), assign=True)
    return plain.eval().requires_grad_(False)


def modulated_conv2d(x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool, up: bool = False) -> Tensor:
    """A convolution with one kernel per picture.

    Args:
        x: ``[B, in, H, W]``.
        weight: ``[out, in, k, k]``.
        style: ``[B, in]``, factors of the weights' input channels.
        demodulate: divide every kernel by its norm ([StyleGAN2] Eq. 3).
        up: transposed, with stride 2 and without padding: ``[B, out, 2H + 1, 2W + 1]``.
    """
    batch, channels, height, width = x.shape
    kernels = weight * style[:, None, :, None, None]  # [B, out, in, k, k]
    if demodulate:
        kernels = kernels * torch.rsqrt(kernels.square().sum((2, 3, 4), keepdim=True) + EPSILON)
    x = x.reshape(1, batch * channels, height, width)
    if up:
        kernels = kernels.transpose(1, 2).flatten(0, 1)  # [B in, out, k, k]
        x = F.conv_transpose2d(x, kernels, stride=2, groups=batch)
    else:
        x = F.conv2d(x, kernels.flatten(0, 1), padding=weight.shape[-1] // 2, groups=batch)
    return x.reshape(batch, -1, *x.shape[2:])


class StraightforwardStyleGAN2(StyleGAN2):
    """[StyleGAN2] Fig. 2 (c)."""

    def synthesize(self, codes: Tensor, noise: list[Tensor] | None, offsets: Offsets) -> Synthesis:
        """As `StyleGAN2.synthesize`."""
        given = self._check_noise(noise, codes.shape[0])
        x = self.constant.repeat(codes.shape[0], 1, 1, 1)
        features: dict[int, Tensor] = {}
        picture: Tensor | None = None
        for index, layer in enumerate(self.layers):
            own = given[index]
            x = self._convolve(layer.conv, x, codes[:, index])
            x = activate(x + (layer.noise if own is None else own) * layer.noise_strength, layer.bias)
            if index % 2:
                continue
            x = with_offsets(x, offsets)
            features[x.shape[-1]] = x
            to_rgb = self.to_rgb[index // 2]
            rgb = self._convolve(to_rgb.conv, x, codes[:, index + 1]) + to_rgb.bias[:, None, None]
            picture = rgb if picture is None else self.filter.upsample(picture) + rgb
        assert picture is not None  # there is a layer at 4x4
        return Synthesis(picture, features)

    def _convolve(self, conv: ModulatedConv, x: Tensor, code: Tensor) -> Tensor:
        weight, up = conv.scale * conv.weight, conv.filter is not None
        x = modulated_conv2d(x, weight, conv.modulation(code), demodulate=conv.demodulate, up=up)
        return x if conv.filter is None else conv.filter(x, padding=1, gain=4.0)


class StraightforwardMobileStyleGAN(MobileStyleGAN):
    """MobileStyleGAN (arXiv:2104.04767) with modulated depthwise kernels; demodulation is folded into its weights."""

    def synthesize(self, codes: Tensor, noise: list[Tensor] | None, offsets: Offsets) -> Synthesis:
        """As `MobileStyleGAN.synthesize`."""
        given: list[Tensor | None] = [None] * (1 + 2 * len(self.blocks)) if noise is None else list(noise)
        x = self.input.repeat(codes.shape[0], 1, 1, 1)
        x = with_offsets(self._convolve(self.conv, x, codes[:, 0], given[0]), offsets)
        features = {x.shape[-1]: x}
        for index, block in enumerate(self.blocks):
            first = 1 + 2 * index
            x = inverse_haar(x * block.affine(codes[:, first])[:, :, None, None])
            x = self._convolve(block.conv1, x, codes[:, first], given[first])
            x = with_offsets(self._convolve(block.conv2, x, codes[:, first + 1], given[first + 1]), offsets)
            features[x.shape[-1]] = x
        if not isinstance(self.head, WaveletHead):
            return Synthesis(self.head(x), features)
        bands = modulated_conv2d(x, self.head.conv.weight, self.head.affine(codes[:, -1]), demodulate=False)
        return Synthesis(inverse_haar(bands + self.head.conv.bias[:, None, None]), features)

    def _convolve(self, layer: StyledConv, x: Tensor, code: Tensor, noise: Tensor | None) -> Tensor:
        style = layer.affine(code)
        if isinstance(layer.conv, SeparableConv):
            batch, channels, height, width = x.shape
            kernels = layer.conv.depthwise.weight * style[:, :, None, None, None]  # [B, C, 1, 3, 3]
            x = F.conv2d(x.reshape(1, batch * channels, height, width), kernels.flatten(0, 1), padding=1,
                         groups=batch * channels)
            x = layer.conv.pointwise(x.reshape(batch, channels, height, width))
        else:
            x = modulated_conv2d(x, layer.conv.weight, style, demodulate=False) + layer.conv.bias[:, None, None]
        return F.leaky_relu(x + layer.noise_strength * (layer.noise if noise is None else noise), 0.2)


def inverse_haar(bands: Tensor) -> Tensor:
    """The orthonormal inverse transform, ``[B, 4C, H, W]`` -> ``[B, C, 2H, 2W]``, as a transposed convolution."""
    channels = bands.shape[1] // 4
    filters = bands.new_tensor([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]) / 2
    by_channel = bands.reshape(-1, 4, channels, *bands.shape[2:]).transpose(1, 2).flatten(1, 2)  # [B, C 4, H, W]
    return F.conv_transpose2d(by_channel, filters[:, None].repeat(channels, 1, 1, 1), stride=2, groups=channels)
