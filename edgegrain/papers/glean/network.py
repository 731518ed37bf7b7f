"""GLEAN: a frozen generator as a bank of details between an encoder and a decoder ([GLEAN], Chan et al., CVPR 2021).

    LR ─ RRDBs ─ f(lr) ─ … ─ f(8) ─ f(4) ─ linear ── a code for every layer of the bank
           │       │          │       │
           │      conv       conv    conv              encoder
           │       │          │       │
           │   ┌ g(lr) ←── g(8) ←── g(4)               bank: StyleGAN2 or MobileStyleGAN, its weights frozen
           │   └→ g(2 lr) ─→ … ─→ g(size)
           │         │               │
           └─ up ─ concat ─ up ─ … ─ concat ─ conv ─ picture        decoder

At the resolutions of the encoder the bank's features and the encoder's are concatenated and convolved on their way
through the bank; beyond them the bank's features go to the decoder. The bank's own picture and the layers of the
authors' public code that change it are not used. With `GLEANConfig.scales` the decoder has the scales of GRAIN's, which
begin at f(lr); the bank's features join them as the encoder's join the bank's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import PriorConfig
from server_decoder.grain.rrdb_decoder import (
    FACES_256_LR16_SLIM,
    NEGATIVE_SLOPE,
    RRDB,
    DecoderScale,
    Scale,
    Upsample,
    initialize,
    weaken_residuals,
)
from server_decoder.mobile_stylegan import MOBILE_STYLEGAN_256
from server_decoder.stylegan2.networks import CONFIG_F_1024

KIND = "glean"
RGB = 3
BASE = 4


@dataclass(frozen=True)
class GLEANConfig:
    """Shape of the network; the defaults are the authors' for 64x (16 to 1024)."""

    prior: PriorConfig = PriorConfig("stylegan2", CONFIG_F_1024)  # the bank
    lr: int = 16  # side of the LR, a power of two from 8 on
    rrdb: int = 23  # RRDB blocks of the encoder
    width: int = 64  # their channels
    growth: int = 32  # of their dense blocks
    head: int = 64  # channels before the picture, of the paper's decoder
    widest: int = 512  # most channels of encoder and decoder; the bank has 512 at low resolutions
    code_channels: int = 0  # of the 4 x 4 features that the codes come from; 0 for the encoder's coarsest ones
    join_kernel: int = 3  # side of the convolutions that join both kinds of features in the bank
    # Of the decoder, from twice the LR's side on, as GRAIN's invertible decoder has them: bilinear interpolation, the
    # bank's features, blocks. It can begin with that decoder's weights. (): the paper's, one convolution a scale.
    scales: tuple[Scale, ...] = ()
    around_mean: bool = False  # codes are offsets from the mean code; else they are the codes, as in the paper

    def __post_init__(self) -> None:
        if self.lr < 2 * BASE or self.lr & (self.lr - 1):
            raise ValueError(f"lr must be a power of two from {2 * BASE} on, got {self.lr}")
        if self.lr >= (size := self.prior.size):
            raise ValueError(f"the bank makes pictures of {size}, the LR must be smaller than that, got {self.lr}")
        if self.scales and (found := [scale.size for scale in self.scales]) != self.sizes:
            raise ValueError(f"the decoder's scales are {self.sizes}, got {found}")

    @property
    def sizes(self) -> list[int]:
        """Sides of the decoder's scales: twice the LR's to the picture's."""
        return [self.lr << step for step in range(1, (self.prior.size // self.lr).bit_length())]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return {"kind": KIND, **asdict(self)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> GLEANConfig:
        """The configuration that `as_dict` described."""
        plain = {name: value for name, value in fields.items() if name != "kind"}
        scales = tuple(Scale(**scale) for scale in plain.get("scales", ()))
        return cls(**{**plain, "prior": PriorConfig.from_dict(plain["prior"]), "scales": scales})


# For hours on a CPU or minutes on a GPU. RRDBs and scales are those of FACES_256_LR16_SLIM.
_BANK, _OURS = PriorConfig("mobile-stylegan", MOBILE_STYLEGAN_256, compact=True), FACES_256_LR16_SLIM.scales[1:]
_LIGHT = GLEANConfig(
    _BANK, rrdb=2, width=160, widest=48, code_channels=8, join_kernel=1, around_mean=True, scales=_OURS
)
PRESETS: dict[str, GLEANConfig] = {  # name -> configuration
    **{f"glean-1024-x{1024 // lr}": GLEANConfig(lr=lr) for lr in (16, 32, 64, 128)},
    "glean-256-x16-light": _LIGHT,
}


class RRDBFeatures(nn.Module):
    """ESRGAN's trunk without its upsampling: convolution, RRDB blocks and convolution with a residual connection."""

    def __init__(self, config: GLEANConfig) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(RGB, config.width, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(config.width, config.growth) for _ in range(config.rrdb)))
        self.conv_body = nn.Conv2d(config.width, config.width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_first(x)
        return x + self.conv_body(self.body(x))


class FeatureFusion(nn.Module):
    """Features and others that join them, concatenated and convolved; a new one passes the first ones unchanged."""

    def __init__(self, channels: int, joining: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + joining, channels, kernel, padding=kernel // 2)
        with torch.no_grad():
            self.conv.weight.zero_()
            nn.init.dirac_(self.conv.weight[:, :channels])
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, joining: Tensor) -> Tensor:
        return self.conv(torch.cat([x, joining.to(x.dtype)], 1))


class Doubling(nn.Module):
    """The paper's scale: a 3x3 convolution to four times the channels, pixel shuffle, and the bank's features of that
    size, if it has any, next to these."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * out_channels, 3, padding=1)

    def forward(self, x: Tensor, details: Mapping[int, Tensor]) -> Tensor:
        x = F.pixel_shuffle(self.conv(x), 2)
        g = details.get(x.shape[-1])
        return x if g is None else torch.cat([x, g.to(x.dtype)], 1)


class FusedScale(nn.Module):
    """A scale of GRAIN's decoder that takes the bank's features, if it has any of that size, before its blocks."""

    def __init__(self, channels: int, scale: Scale, bank: int) -> None:
        super().__init__()
        self.upsample = Upsample(channels, scale.channels, "bilinear")
        self.fusion = FeatureFusion(scale.channels, bank, 1) if bank else None
        self.scale = DecoderScale(scale)

    def forward(self, x: Tensor, details: Mapping[int, Tensor]) -> Tensor:
        x = self.upsample(x)
        if self.fusion is not None:
            x = self.fusion(x, details[x.shape[-1]])
        return self.scale(x)


class GLEAN(nn.Module):
    """LR ``[B, 3, lr, lr]`` in [-1, 1] -> picture ``[B, 3, S, S]`` in about [-1, 1]. The bank inside is frozen."""

    def __init__(self, config: GLEANConfig = PRESETS["glean-1024-x64"], prior: GenerativePrior | None = None) -> None:
        """Random weights, except for the given ``prior``."""
        super().__init__()
        self.config = config
        self.prior = config.prior.build() if prior is None else prior
        if (found := self.prior.size) != (size := config.prior.size):
            raise ModelError(f"the bank must make pictures of {size}x{size}, this one makes {found}x{found}")
        self.prior.requires_grad_(False).eval()
        bank = self.prior.feature_channels
        finest = min(bank[max(bank)], config.widest)

        def channels(side: int) -> int:
            return min(bank.get(side, finest), config.widest)

        self.features = RRDBFeatures(config)
        self.head = nn.Conv2d(config.width, channels(config.lr), 3, padding=1)
        sides = [config.lr >> step for step in range((config.lr // BASE).bit_length())]  # lr, ..., 8, 4
        self.down = nn.ModuleList(_halving(channels(a), channels(b)) for a, b in pairwise(sides))
        last = config.code_channels or channels(BASE)
        self.to_codes = nn.Sequential(
            nn.Conv2d(channels(BASE), last, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Flatten(),
            nn.Linear(BASE * BASE * last, self.prior.code_count * self.prior.code_width),
        )
        self.fusions = nn.ModuleDict()
        for side in reversed(sides):
            self.fusions[str(side)] = FeatureFusion(bank[side], channels(side), config.join_kernel)
        up, head = nn.ModuleList(), list[nn.Module]()
        if config.scales:
            width = config.width
            for scale in config.scales:
                up.append(FusedScale(width, scale, bank.get(scale.size, 0)))
                width = scale.channels
        else:
            width = channels(config.lr)
            for side in config.sizes:
                up.append(Doubling(width, channels(side)))
                width = channels(side) + bank.get(side, 0)
            head = [nn.Conv2d(width, config.head, 3, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE)]
            width = config.head
        self.to_rgb = nn.Sequential(*head, nn.Conv2d(width, RGB, 3, padding=1))
        self.up = up
        self._initialize()

    def train(self, mode: bool = True) -> GLEAN:
        """As `nn.Module.train`, but the bank stays in evaluation mode."""
        super().train(mode)
        self.prior.eval()
        return self

    @torch.no_grad()
    def _initialize(self) -> None:
        for name, module in self.named_modules():
            done = name.startswith(("prior.", "features.body.", "fusions.")) or ".fusion." in name
            if isinstance(module, nn.Conv2d) and not done:
                initialize(module)
        weaken_residuals(self.up)
        linear = cast(nn.Linear, self.to_codes[-1])
        nn.init.normal_(linear.weight, std=0.1 * linear.in_features**-0.5)
        nn.init.zeros_(linear.bias)

    def forward(self, lr: Tensor) -> Tensor:
        """Restore faces."""
        side, features = self.config.lr, self.features(lr)
        x = F.leaky_relu(self.head(features), NEGATIVE_SLOPE)
        encoded = {side: x}
        for down in self.down:
            side //= 2
            encoded[side] = down(encoded[2 * side])
        codes = self.to_codes(encoded[BASE]).unflatten(1, (self.prior.code_count, -1))
        if self.config.around_mean:
            codes = codes + self.prior.mean_code
        joins = {int(name): partial(fusion, joining=encoded[int(name)]) for name, fusion in self.fusions.items()}
        details = self.prior(codes, offsets=joins).features
        x = features if self.config.scales else x
        for up in self.up:
            x = up(x, details)
        return self.to_rgb(x)


def _halving(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride=2, padding=1),
        nn.LeakyReLU(NEGATIVE_SLOPE),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.LeakyReLU(NEGATIVE_SLOPE),
    )
