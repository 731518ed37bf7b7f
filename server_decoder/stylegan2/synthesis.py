"""StyleGAN2's generator in configuration F: output skips and large networks ([StyleGAN2] Section 4, Appendix B)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.generative_prior import GenerativePrior, Offsets, Synthesis, with_offsets
from server_decoder.stylegan2.layers import BilinearFilter, MappingNetwork, StyledLayer, ToRGB, mean_code

BASE = 4  # side of the learned constant


@dataclass(frozen=True)
class StyleGAN2Config:
    """Sizes of a StyleGAN2; the defaults are configuration F's ([StyleGAN2] Appendix B).

    Attributes:
        size: side of its picture, a power of two.
        channel_base: a layer at resolution r has ``min(channel_max, channel_base // r)`` channels.
        channel_max: most channels of a layer.
        code_width: length of z and of a code.
        mapping_layers: fully connected layers from z to w.
    """

    size: int = 1024
    channel_base: int = 32768
    channel_max: int = 512
    code_width: int = 512
    mapping_layers: int = 8

    def __post_init__(self) -> None:
        if self.size < 2 * BASE or self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two from {2 * BASE} on, got {self.size}")
        if min(self.channels(self.size), self.code_width, self.mapping_layers) < 1:
            raise ValueError(f"every layer needs channels, a code a width, the mapping a layer; got {self}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the feature maps: 4, 8, ..., size."""
        return tuple(2**power for power in range(BASE.bit_length() - 1, self.size.bit_length()))

    @property
    def layer_resolutions(self) -> tuple[int, ...]:
        """The resolution of every styled layer: one at 4, then two each. Noise comes one per layer."""
        return (BASE, *(resolution for resolution in self.resolutions[1:] for _ in range(2)))

    @property
    def code_resolutions(self) -> tuple[int, ...]:
        """The resolution each code steers: code i drives layer i, the last one only the last toRGB."""
        return (*self.layer_resolutions, self.size)

    def channels(self, resolution: int) -> int:
        """Channels of the features of this resolution."""
        return min(self.channel_max, self.channel_base // resolution)

    def cut(self, size: int) -> StyleGAN2Config:
        """The part of this generator up to ``size``."""
        if size not in self.resolutions[1:]:
            raise ModelError(f"cannot cut this generator to {size}x{size}; it makes pictures at "
                             f"{', '.join(map(str, self.resolutions[1:]))}")
        return replace(self, size=size)


CONFIG_F_1024 = StyleGAN2Config()
CONFIG_F_512 = StyleGAN2Config(512)
CONFIG_F_256 = StyleGAN2Config(256)
TINY_64 = StyleGAN2Config(64, channel_base=512, channel_max=32, code_width=32, mapping_layers=2)
PRESETS = {"stylegan2-1024": CONFIG_F_1024, "stylegan2-512": CONFIG_F_512, "stylegan2-256": CONFIG_F_256,
           "stylegan2-64-tiny": TINY_64}


def mix_styles(coarse: Tensor, fine: Tensor, crossover: int | Tensor) -> Tensor:
    """Style mixing ([StyleGAN] Section 3.1): the first ``crossover`` codes of ``coarse``, the others of ``fine``.

    Args:
        coarse: codes in W+, ``[B, L, code_width]``.
        fine: codes of the same shape.
        crossover: 0 to L; an integer, or one for every picture, int64 ``[B]``.

    Returns:
        Codes ``[B, L, code_width]``.
    """
    if coarse.ndim != 3 or coarse.shape != fine.shape:
        raise ModelError(f"style mixing takes two tensors of codes [batch, codes, width], got {list(coarse.shape)} and "
                         f"{list(fine.shape)}")
    index = torch.arange(coarse.shape[1], device=coarse.device)
    limit = torch.as_tensor(crossover, device=coarse.device).reshape(-1, 1)
    return torch.where((index < limit)[:, :, None], coarse, fine)


class StyleGAN2(GenerativePrior):
    """Mapping and synthesis network.

    Code i steers layer i; the toRGB of a resolution shares its code with the first layer of the next. The picture is
    the sum of all toRGBs, each upsampled to the next resolution, so a generator that was cut makes the picture there.

    Attributes:
        layers: styled layers, coarse to fine: one at 4x4, then two per resolution, the first of which upsamples.
        to_rgb: one per resolution.
        constant: ``[1, C, 4, 4]``, the input of the first layer.
    """

    def __init__(self, config: StyleGAN2Config = CONFIG_F_1024) -> None:
        super().__init__()
        self.config = config
        self.size = config.size
        self.code_width = width = config.code_width
        self.code_resolutions = config.code_resolutions
        self.feature_channels = {resolution: config.channels(resolution) for resolution in config.resolutions}
        self.mapping = MappingNetwork(width, config.mapping_layers)
        self.register_buffer("mean_code", torch.zeros(width))
        channels = [config.channels(resolution) for resolution in config.layer_resolutions]
        self.constant = nn.Parameter(torch.randn(1, channels[0], BASE, BASE))  # N(0, 1): [StyleGAN2] Appendix B
        self.layers = nn.ModuleList(
            StyledLayer(a, b, resolution, width, up=index % 2 == 1) for index, (a, b, resolution)
            in enumerate(zip(channels[:1] + channels, channels, config.layer_resolutions, strict=False)))
        self.to_rgb = nn.ModuleList(ToRGB(count, width) for count in self.feature_channels.values())
        self.filter = BilinearFilter()

    def map(self, z: Tensor) -> Tensor:
        return self.mapping(z)

    @torch.no_grad()
    def measure_mean_code(self, count: int = 10_000, seed: int = 0) -> None:
        """Set `mean_code` to the mean of ``count`` mapped latents, for truncation after training."""
        self.mean_code.copy_(mean_code(self.mapping, self.code_width, count, seed))

    def random_noise(self, batch: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Fresh noise from N(0, 1) for every layer, ``[batch, 1, r, r]``, in the parameters' type and on their device.

        Args:
            batch: pictures.
            generator: for repeatable noise; on any device.
        """
        device = self.mean_code.device if generator is None else generator.device
        return [torch.randn(batch, 1, resolution, resolution, generator=generator, device=device).to(self.mean_code)
                for resolution in self.config.layer_resolutions]

    def synthesize(self, codes: Tensor, noise: list[Tensor] | None, offsets: Offsets) -> Synthesis:
        """Codes ``[B, L, code_width]`` -> picture and features; ``noise`` as `random_noise` gives it."""
        given = self._check_noise(noise, codes.shape[0])
        x = with_offsets(self.layers[0](self.constant, codes[:, 0], given[0]), offsets)
        picture = self.to_rgb[0](x, codes[:, 1])
        features = {BASE: x}
        for index, resolution in enumerate(self.config.resolutions[1:], start=1):
            for layer in (2 * index - 1, 2 * index):
                x = self.layers[layer](x, codes[:, layer], given[layer])
            x = with_offsets(x, offsets)
            picture = self.filter.upsample(picture) + self.to_rgb[index](x, codes[:, 2 * index + 1])
            features[resolution] = x  # [B, C, resolution, resolution]
        return Synthesis(picture, features)

    def _check_noise(self, noise: list[Tensor] | None, batch: int) -> list[Tensor] | list[None]:
        sides = self.config.layer_resolutions
        if noise is None:
            return [None] * len(sides)
        if len(noise) != len(sides):
            raise ModelError(f"this generator has {len(sides)} noise inputs, got {len(noise)}")
        for index, (values, side) in enumerate(zip(noise, sides, strict=True)):
            if values.ndim != 4 or values.shape[0] not in (1, batch) or values.shape[1:] != (1, side, side):
                raise ModelError(f"noise {index} must have the shape [{batch}, 1, {side}, {side}] (or 1 first), got "
                                 f"{list(values.shape)}")
        return noise
