"""The form in which a decoder is exported with ONNX's operators: the same function and names, computed faster.

- The fusion's first convolution at full size reads features of all resolutions; for coarser ones it is
  computed at their own resolution. Nearest-neighbour upsampling and a 3x3 convolution together are one transposed 4x4
  convolution of stride 2, with 16 instead of 36 products per coarse pixel, and the concatenated upsampled features,
  which would be the decoder's largest tensor, are never computed.
- In float16, convolutions read and write halves; codes, styles, demodulation, channel weights and the sum of pictures
  stay float32 (`export.decoder.half_generators` says why nothing overflows).
- The generator's noise is a constant, or an input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import ExportError
from export.decoder.half_generators import half_prior
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.fusion import FeatureFusion, PictureFusion, channel_means
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.grain.rrdb_decoder import RRDBDecoder


def served_decoder(decoder: Grain | RRDBDecoder, *, half: bool = False, seeded: bool = False
                   ) -> ServedGrain | ServedDecoder:
    """The decoder in the form above, in evaluation mode.

    Args:
        decoder: any; its tensors are shared, except those that become halves.
        half: its convolutions compute in float16. Its input and its picture are float32.
        seeded: take the generator's noise as a second argument, ``[B, noise_size]``, instead of a constant.
    """
    if seeded:
        require_generator(decoder)
    served: ServedGrain | ServedDecoder
    if isinstance(decoder, Grain):
        prior = decoder.prior
        if prior is not None and half:
            prior = half_prior(prior)
        served = ServedGrain(decoder.config, prior, seeded=seeded)
    else:
        served = ServedDecoder(decoder.config)
    served.load_state_dict(decoder.state_dict(), assign=True)
    if half:
        served.narrow()
    return served.eval().requires_grad_(False)


def require_generator(decoder: nn.Module) -> None:
    """Raise `ExportError` if a decoder has no generator, whose noise is asked for."""
    if not isinstance(decoder, Grain) or decoder.prior is None:
        raise ExportError("this decoder has no generator, and only a generator has noise; export it without --noise")


def upsampled_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """A 3x3 convolution of ``x`` after nearest-neighbour upsampling, computed at the resolution of ``x``.

    Of the nine pixels that the convolution reads, copies of the same pixel are multiplied by the sum of their weights:
    two by two products per output pixel, different ones for each of the four phases. Written as a transposed
    convolution, they are a pixel's contribution to its 4x4 surroundings.

    Args:
        x: ``[B, in, H, W]``.
        weight: ``[out, in, 3, 3]``, in float32.

    Returns:
        ``[B, out, 2H, 2W]``, in the type of ``x``.
    """
    return F.conv_transpose2d(x, upsampled_kernel(weight).to(x.dtype), stride=2, padding=1)


def upsampled_kernel(weight: Tensor) -> Tensor:
    """The kernel ``[in, out, 4, 4]`` of `upsampled_conv2d`'s transposed convolution."""
    return _sums(_sums(weight.transpose(0, 1), 2), 3)


class ServedDecoder(RRDBDecoder):
    """`RRDBDecoder` whose convolutions may be halves; LR and picture are float32."""

    noise_size = 0

    def forward_features(self, lr: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `RRDBDecoder.forward_features`; features in the convolutions' type."""
        picture, features = super().forward_features(lr.to(self.conv_first.weight.dtype))
        return picture.to(lr.dtype), features

    def narrow(self) -> None:
        """Make all weights halves."""
        self.half()


class ServedFusion(FeatureFusion):
    """`FeatureFusion` without the upsampled features."""

    def forward(self, f_inv: Sequence[Tensor], f_gen: Mapping[int, Tensor]) -> Tensor:
        """As `FeatureFusion.forward`."""
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
            x = x + upsampled_conv2d(joined, first.weight[:, :below])
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

    def narrow(self) -> None:
        """Make all weights halves."""
        self.half()


class ServedGrain(Grain):
    """`Grain` made of the parts above.

    Attributes:
        noise_size: noise values per picture; 0 if the noise is constant.
    """

    decoder: ServedDecoder

    def __init__(self, config: GrainConfig, prior: GenerativePrior | None = None, *, seeded: bool = False) -> None:
        """Random weights, except for the given ``prior``; errors as `Grain`."""
        super().__init__(config, prior)
        self.decoder = ServedDecoder(config.decoder)
        match self.fusion:
            case FeatureFusion() if self.prior is not None:
                channels = {scale.size: scale.channels for scale in config.decoder.scales}
                self.fusion = ServedFusion(self.fusion.config, channels, self.prior.feature_channels)
            case PictureFusion():
                self.fusion = ServedPictureFusion(self.fusion.config)
        self._noise_sides = noise_sides(self.prior) if seeded and self.prior is not None else ()
        self.noise_size = sum(side**2 for side in self._noise_sides)

    def forward(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        """``lr``: float32 ``[B, 3, h, w]`` in [-1, 1]; ``noise``: ``[B, noise_size]`` from N(0, 1) unless it is
        constant -> float32 ``[B, 3, S, S]``."""
        if noise is None:
            return self.forward_all(lr).final
        return self.forward_all(lr, noise=noise_maps(noise, self._noise_sides)).final

    def narrow(self) -> None:
        """Make the weights of convolutions halves, but the generator's: those are float32 until they are normalized."""
        self.decoder.narrow()
        if self.codes is not None:
            for part in (self.codes.scales, self.codes.branches, self.codes.offsets):
                part.half()
        if isinstance(self.fusion, ServedFusion | ServedPictureFusion):
            self.fusion.narrow()


def noise_maps(noise: Tensor, sides: Sequence[int]) -> list[Tensor]:
    """Noise ``[B, sum of side²]`` as one map per layer, ``[B, 1, side, side]``."""
    parts = noise.split([side**2 for side in sides], 1)
    return [part.reshape(-1, 1, side, side) for part, side in zip(parts, sides, strict=True)]


def noise_sides(prior: GenerativePrior) -> tuple[int, ...]:
    """The side of every layer's noise, in the order in which `GenerativePrior.forward` takes it."""
    return tuple(buffer.shape[-1] for name, buffer in prior.named_buffers() if name.endswith(".noise"))


def _sums(weight: Tensor, dim: int) -> Tensor:
    """Three taps to four, mirrored: the taps of a pixel's two copies are added where both are read."""
    first, middle, last = weight.unbind(dim)
    return torch.stack([last, middle + last, first + middle, first], dim)
