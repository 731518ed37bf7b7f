"""GCFSR: generative and controllable face super-resolution without any prior ([GCFSR], He et al., CVPR 2022).

One network restores a face that was reduced by any factor s of 4 to 64; s itself is an input, and may also be chosen
freely: it controls how much detail is hallucinated.

    x, enlarged ─ f(u) ─ f(u-1) ─ … ─ f(l) ──┬── convolutions ─ linear ── codes w
                   │      │           │      │
                 Conv   Conv        Conv     c                       s ── linear per level ── sigma
                   │      │           │      │
                  (×)    (×)         (×) ── (+) ← (×) ─ style block
                   │      │           │      └── h(l) ─ up, two style blocks ─ … ─ h(u)
                   └──────┴───────────┴── sigma_enc, sigma_gen weigh both at every level (equation 4)

    y(i) = up(y(i-1)) + toRGB(h(i))                                                    (equation 5)

Style blocks are StyleGAN2's. As in the authors' public code, the generated features are weighed and joined with the
encoded ones before bias and activation of their style block; in the paper's equation 4 this comes after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from codec_contract.pixels import dequantize, unit_to_levels
from server_decoder.grain.fusion import BicubicEnlargement
from server_decoder.stylegan2.layers import (
    EPSILON,
    BilinearFilter,
    EqualizedConv,
    EqualizedLinear,
    StyledLayer,
    ToRGB,
    activate,
    per_channel,
)

KIND = "gcfsr"
RGB = 3
BASE = 4  # side of the features that the codes are predicted from
LARGEST_FACTOR = 64.0
"""s is divided by it: [GCFSR] 3.5 normalizes s to [0, 1], the public code by 64."""
BLIND_STRENGTH = 1.0
"""The normalized s of the blind form ([GCFSR] 4: "a constant value (e.g., 1)")."""


@dataclass(frozen=True)
class GCFSRConfig:
    """Sizes of a GCFSR; the defaults are the paper's at 1024 x 1024."""

    size: int = 1024  # 2^u, side of the picture
    start: int = 16  # 2^l, side of the coarsest features, at most the smallest LR's
    channel_base: int = 32768  # features of side r have min(channel_max, channel_base // r) channels, as in StyleGAN2
    channel_max: int = 512  # most channels
    code_width: int = 512  # length of a code
    code_channels: int = 256  # of the 4 x 4 features from which the codes come: 256, or 512 in the blind form
    blind: bool = False  # the strength is constant, for unknown degradations without a factor ([GCFSR] 4)
    # The weights of encoded and generated features keep their signs, as in the authors' public code, whose checkpoints
    # need it; equation 4 of the paper takes magnitudes.
    signed: bool = False
    rounded: bool = False  # the enlarged LR is rounded to levels and clipped to 0...255, as in the authors' public code

    def __post_init__(self) -> None:
        for name, side in (("size", self.size), ("start", self.start)):
            if side < 2 * BASE or side & (side - 1):
                raise ValueError(f"{name} must be a power of two from {2 * BASE} on, got {side}")
        if self.size <= self.start:
            raise ValueError(f"size must be larger than start, got {self.size} and {self.start}")
        if min(self.channels(self.size), self.code_width, self.code_channels) < 1:
            raise ValueError(f"every layer needs channels, a code a width; got {self}")

    @property
    def levels(self) -> tuple[int, ...]:
        """Sides of the features: start, 2 start, ..., size."""
        return tuple(2**power for power in range(self.start.bit_length() - 1, self.size.bit_length()))

    def channels(self, side: int) -> int:
        """Channels of the features of this side."""
        return min(self.channel_max, self.channel_base // side)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back. The last field came later and is left out if false."""
        return {"kind": KIND, **{name: value for name, value in asdict(self).items() if name != "rounded" or value}}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> GCFSRConfig:
        """The configuration that `as_dict` described."""
        return cls(**{name: value for name, value in fields.items() if name != "kind"})


PRESETS: dict[str, GCFSRConfig] = {  # name -> configuration
    "gcfsr-1024": GCFSRConfig(),
    "gcfsr-512-blind": GCFSRConfig(512, code_channels=512, blind=True),
    # For hours on a CPU or minutes on a GPU.
    "gcfsr-256-light": GCFSRConfig(256, 8, channel_base=8192, channel_max=160, code_width=128, code_channels=32),
}


class EncoderLayer(nn.Module):
    """A 3x3 convolution, bias and leaky ReLU; at the same size or at half of it ([GCFSR] equation 1)."""

    def __init__(self, channels: int, out_channels: int, *, down: bool = False) -> None:
        super().__init__()
        self.conv = EqualizedConv(channels, out_channels, 3, down=down)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.conv(x))


class FeatureModulation(nn.Module):
    """The weights of one level's encoded and generated features, by the strength ([GCFSR] equation 4)."""

    def __init__(self, channels: int, *, signed: bool = False) -> None:
        super().__init__()
        self.signed = signed
        self.encoded = EqualizedLinear(1, channels, bias=1.0)  # sigma_1
        self.generated = EqualizedLinear(1, channels, bias=1.0)  # sigma_2
        self.conv = EqualizedConv(channels, channels, 3)

    def forward(self, f: Tensor, strength: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Conv(f), and the weights of both kinds of features."""
        return self.conv(f), self.weights(strength)

    def weights(self, strength: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, 1]`` -> sigma_enc and sigma_gen, ``[B, C]``: their squares sum to 1; positive, if not ``signed``."""
        one, other = self.encoded(strength), self.generated(strength)
        norm = torch.rsqrt(one.square() + other.square() + EPSILON)
        if not self.signed:
            one, other = one.abs(), other.abs()
        return one * norm, other * norm


class ModulatedLayer(StyledLayer):
    """A style block whose features are joined with encoded ones before bias and activation."""

    def forward(self, x: Tensor, code: Tensor, encoded: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        """``encoded`` ``[B, C, r, r]``: Conv(f); ``weights``: sigma_enc and sigma_gen, ``[B, C]``."""
        x = self.conv(x, code)
        x = x + (self.noise * self.noise_strength).to(x.dtype)
        return activate(x * per_channel(weights[1], x) + encoded * per_channel(weights[0], x), self.bias)


class GCFSR(nn.Module):
    """Encoder and generator, trained together from scratch."""

    def __init__(self, config: GCFSRConfig = PRESETS["gcfsr-1024"]) -> None:
        super().__init__()
        self.config = config
        levels, width = config.levels, config.code_width
        channels = {side: config.channels(side) for side in levels}
        self.first = EncoderLayer(RGB, channels[config.size])
        self.down = nn.ModuleList(EncoderLayer(channels[a], channels[b], down=True) for a, b in pairwise(levels[::-1]))
        self.constant = EncoderLayer(channels[config.start], channels[config.start])  # c, in place of a constant
        sides = [config.start >> step for step in range(1, (config.start // BASE).bit_length())]
        widths = [channels[config.start], *(config.channels(side) for side in sides[:-1]), config.code_channels]
        self.to_codes = nn.Sequential(*(EncoderLayer(a, b, down=True) for a, b in pairwise(widths)), nn.Flatten())
        # Two codes per level: its style blocks; the last one is for toRGB alone.
        self.codes = EqualizedLinear(BASE * BASE * config.code_channels, 2 * len(levels) * width)
        self.modulations = nn.ModuleList(FeatureModulation(channels[side], signed=config.signed) for side in levels)
        self.layers = nn.ModuleList()
        for side in levels:
            if side > config.start:
                self.layers.append(StyledLayer(channels[side // 2], channels[side], side, width, up=True))
            self.layers.append(ModulatedLayer(channels[side], channels[side], side, width))
        self.to_rgb = nn.ModuleList(ToRGB(channels[side], width) for side in levels)
        self.filter = BilinearFilter()

    def forward(self, enlarged: Tensor, strength: Tensor | None = None) -> Tensor:
        """Pictures ``[B, 3, size, size]`` in [-1, 1], reduced by the factor s, then enlarged again, both bicubic ->
        restored ones in about [-1, 1]. ``strength``: ``[B]``, s / 64; None for the blind form's, which is constant."""
        return self.forward_levels(enlarged, strength)[-1]

    def forward_levels(self, enlarged: Tensor, strength: Tensor | None = None) -> list[Tensor]:
        """The progressive outputs y(l), ..., y(u) ([GCFSR] equation 5); arguments as in `forward`."""
        if self.config.blind or strength is None:
            sigma = 0 * enlarged[:, 0, 0, :1] + BLIND_STRENGTH
        else:
            sigma = strength.reshape(-1, 1).expand(enlarged.shape[0], 1)
        features = [self.first(enlarged)]
        for down in self.down:
            features.append(down(features[-1]))
        features.reverse()  # coarse to fine
        codes = activate(self.codes(self.to_codes(features[0]))).unflatten(1, (2 * len(features), -1))
        x, pictures = self.constant(features[0]), list[Tensor]()
        for level, (f, modulation) in enumerate(zip(features, self.modulations, strict=True)):
            if level:
                x = self.layers[2 * level - 1](x, codes[:, 2 * level - 1])
            encoded, weights = modulation(f, sigma)
            x = self.layers[2 * level](x, codes[:, 2 * level], encoded, weights)
            y = self.to_rgb[level](x, codes[:, 2 * level + 1])
            pictures.append(self.filter.upsample(pictures[-1]) + y if level else y)
        return pictures


class GCFSRUpscaler(nn.Module):
    """LR in, picture out: bicubic enlargement, then the network: the decoder of a bundle.

    Attributes:
        strength: ``[1]``, the factor between both sizes, used if none is given.
    """

    strength: Tensor

    def __init__(self, network: GCFSR, lr: int) -> None:
        """``lr``: side of the LRs, a divisor of the network's size."""
        super().__init__()
        self.network = network
        self.register_buffer("strength", torch.full((1,), network.config.size / lr), persistent=False)
        self.enlarge = BicubicEnlargement(lr, network.config.size)

    def forward(self, lr: Tensor, strength: Tensor | None = None) -> Tensor:
        """``[B, 3, lr, lr]`` in [-1, 1] -> ``[B, 3, size, size]``. ``strength``: ``[B]``, s between 4 and 64 (not
        divided); None for the factor between both sizes."""
        strength = (self.strength if strength is None else strength) + 0 * lr[:, 0, 0, 0]
        if not self.network.config.rounded:
            return self.network(self.enlarge(lr), strength / LARGEST_FACTOR)
        # In float64, whose sums of weighed levels are exact: many lie halfway between two levels, and runtimes that add
        # in another order would round them differently.
        levels = self.enlarge(unit_to_levels(lr.double()).round()).round().clamp(0, 255)
        return self.network(dequantize(levels).float(), strength / LARGEST_FACTOR)
