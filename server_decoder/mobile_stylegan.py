"""MobileStyleGAN (Belousov, arXiv:2104.04767): a StyleGAN2 distilled to separable convolutions and Haar wavelets; and
the RGB heads at which it is cut to smaller pictures.

A layer multiplies its input by the style (modulation), convolves with constant weights, adds noise and bias, and ends
in a leaky ReLU. Demodulation is folded into the constant weights, so nothing but the modulation depends on the code.
Upsampling is an inverse Haar transform: a quarter of the channels is the low band, the rest the details.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.generative_prior import Area, GenerativePrior, Noise, Offsets, Synthesis, Window, with_offset
from server_decoder.stylegan2.layers import NEGATIVE_SLOPE, MappingNetwork
from server_decoder.weight_file import WeightKind, described_network, fill, read_config, read_weights, save_network

_BASE = 4  # side of the learned constant
WHOLE = 64
"""Up to this resolution a window's features are computed for the whole picture: they take a third of the time, and
everything that depends on places, such as offsets, stays as it is."""
_REACH = 2  # pixels around a block's output that it depends on, at its own resolution: two 3x3 convolutions

FORMAT = "edgegrain-mobile-stylegan-1"
_HEADS = "heads."  # prefix of a file's RGB heads by resolution


@dataclass(frozen=True)
class MobileStyleGANConfig:
    """Sizes of a MobileStyleGAN.

    A ``"wavelet"`` head is a modulated 1x1 convolution to the 12 Haar bands of the picture, so the last block works at
    half the side; an ``"rgb"`` one is a plain 1x1 convolution on the last block, which works at the full side (a prior
    that was cut).
    """

    size: int = 1024  # side of its picture, a power of two
    head: str = "wavelet"
    channel_base: int = 32768  # a layer at resolution r has ``min(channel_max, channel_base // r)`` channels
    channel_max: int = 512  # most channels of a layer, a multiple of four
    code_width: int = 512  # length of z and of a code
    mapping_layers: int = 8  # fully connected layers from z to w

    def __post_init__(self) -> None:
        if self.head not in ("wavelet", "rgb"):
            raise ValueError(f"unknown head {self.head!r}; expected one of wavelet, rgb")
        smallest = 2 * _BASE * (2 if self.head == "wavelet" else 1)  # one block
        if self.size < smallest or self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two from {smallest} on with a {self.head} head, got {self.size}")
        if any(self.channels(resolution) < 4 or self.channels(resolution) % 4 for resolution in self.resolutions):
            raise ValueError(f"every layer needs a multiple of four channels, one part per Haar band; got {self}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the feature maps: 4, 8, ..."""
        last = self.size // 2 if self.head == "wavelet" else self.size
        return tuple(2**power for power in range(2, last.bit_length()))

    @property
    def code_resolutions(self) -> tuple[int, ...]:
        """The resolution each code steers: one code for 4x4, two per block, one for a wavelet head."""
        blocks = tuple(resolution for resolution in self.resolutions[1:] for _ in range(2))
        return (_BASE, *blocks, *self.resolutions[-1:] * (self.head == "wavelet"))

    def channels(self, resolution: int) -> int:
        return min(self.channel_max, self.channel_base // resolution)

    def cut(self, size: int) -> MobileStyleGANConfig:
        """The part of this generator up to ``size``, with an RGB head there."""
        if size not in self.resolutions[1:]:
            raise ModelError(
                f"cannot cut this generator to {size}x{size}; its features come at "
                f"{', '.join(map(str, self.resolutions[1:]))}"
            )
        return replace(self, size=size, head="rgb")


MOBILE_STYLEGAN_1024 = MobileStyleGANConfig()
MOBILE_STYLEGAN_256 = MOBILE_STYLEGAN_1024.cut(256)


def inverse_haar(bands: Tensor) -> Tensor:
    """Inverse Haar transform, doubled: ``[B, 4C, H, W]`` -> ``[B, C, 2H, 2W]``, channels-last in memory.

    The bands are consecutive, C channels each: ll, the average, then the differences b1 between rows, b2 between
    columns, b3 between diagonals. A 2x2 cell becomes (ll + b1 + b2 + b3, ll + b1 - b2 - b3; ll - b1 + b2 - b3,
    ll - b1 - b2 + b3). The orthonormal transform has a factor of 1/2, which the callers put into their modulation.
    """
    batch, channels, height, width = bands.shape
    ll, b1, b2, b3 = bands.permute(0, 2, 3, 1).chunk(4, 3)  # channels-last: contiguous writes
    upper, lower, even, odd = ll + b1, ll - b1, b2 + b3, b2 - b3
    rows = [torch.cat([upper + even, upper - even], 3), torch.cat([lower + odd, lower - odd], 3)]
    rows_of_cells = torch.stack(rows, 2)  # [B, H, 2, W, 2C]
    return rows_of_cells.reshape(batch, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)


class Affine(nn.Linear):
    """A code's affine map to a style: one factor per channel."""

    def __init__(self, code_width: int, channels: int) -> None:
        super().__init__(code_width, channels)
        nn.init.normal_(self.weight, std=code_width**-0.5)
        nn.init.ones_(self.bias)


def modulate(x: Tensor, style: Tensor) -> Tensor:
    """``x`` ``[B, C, H, W]`` times ``style`` ``[B, C]``, in the type of ``x``."""
    # In mixed precision styles are float32; a product of both types would make maps twice as large, and three times as
    # slow on a CPU, before the convolution rounds them again.
    return x * style.to(x.dtype)[:, :, None, None]


class SeparableConv(nn.Module):
    """A depthwise 3x3 convolution and a 1x1 convolution with bias."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class StyledConv(nn.Module):
    """Modulation, convolution, noise, bias, leaky ReLU."""

    noise: Tensor

    def __init__(self, conv: nn.Conv2d | SeparableConv, channels: int, resolution: int, code_width: int) -> None:
        super().__init__()
        self.affine = Affine(code_width, channels)
        self.conv = conv
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))

    def forward(self, x: Tensor, code: Tensor, noise: Tensor | None) -> Tensor:
        return self.convolve(modulate(x, self.affine(code)), noise)

    def convolve(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """The steps after the modulation."""
        x = self.conv(x)
        # In place, where it saves two passes over memory: a convolution's gradient does not need its output.
        x.add_((self.noise_strength * (self.noise if noise is None else noise)).to(x.dtype))
        return F.leaky_relu_(x, NEGATIVE_SLOPE)


class Block(nn.Module):
    """Twice the resolution: modulation and inverse Haar transform, then two styled convolutions."""

    def __init__(self, channels: int, out_channels: int, resolution: int, code_width: int) -> None:
        super().__init__()
        self.affine = Affine(code_width, channels)
        self.conv1 = StyledConv(SeparableConv(channels // 4, out_channels), channels // 4, resolution, code_width)
        self.conv2 = StyledConv(SeparableConv(out_channels, out_channels), out_channels, resolution, code_width)

    def forward(self, x: Tensor, code1: Tensor, code2: Tensor, noise: Noise) -> Tensor:
        """``code1`` steers the transform and the first convolution, ``code2`` the second."""
        # The first convolution's modulation commutes with the transform: one multiplication at the low resolution.
        style = 0.5 * self.affine(code1) * self.conv1.affine(code1).repeat(1, 4)
        x = self.conv1.convolve(inverse_haar(modulate(x, style)), noise[0])
        return self.conv2(x, code2, noise[1])


class WaveletHead(nn.Module):
    """Modulated 1x1 convolution to the picture's Haar bands, then their inverse transform."""

    def __init__(self, channels: int, code_width: int) -> None:
        super().__init__()
        self.affine = Affine(code_width, channels)
        self.conv = nn.Conv2d(channels, 12, 1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return inverse_haar(0.5 * self.conv(modulate(x, self.affine(code))))


class MobileStyleGAN(GenerativePrior):
    """The generator. Its codes: one for the first convolution, two per block, one for a wavelet head (16 at 1024)."""

    def __init__(self, config: MobileStyleGANConfig = MOBILE_STYLEGAN_1024) -> None:
        super().__init__()
        self.config = config
        self.size = config.size
        self.code_width = width = config.code_width
        self.code_resolutions = config.code_resolutions
        self.feature_channels = {resolution: config.channels(resolution) for resolution in config.resolutions}
        channels = list(self.feature_channels.values())
        first, last, sizes = channels[0], channels[-1], config.resolutions[1:]
        self.mapping = MappingNetwork(width, config.mapping_layers, plain=True)
        self.register_buffer("mean_code", torch.zeros(width))
        self.input = nn.Parameter(torch.randn(1, first, _BASE, _BASE))
        self.conv = StyledConv(nn.Conv2d(first, first, 3, padding=1), first, _BASE, width)
        self.blocks = nn.ModuleList(map(Block, channels, channels[1:], sizes, itertools.repeat(width)))
        self.head = WaveletHead(last, width) if config.head == "wavelet" else nn.Conv2d(last, 3, 1)

    @property
    def measured(self) -> frozenset[str]:
        """The mean code, and the RGB head of a cut generator (`server_decoder.mobile_stylegan`)."""
        heads = set() if isinstance(self.head, WaveletHead) else {"head.weight", "head.bias"}
        return super().measured | heads

    def synthesize(self, codes: Tensor, noise: Noise, offsets: Offsets, window: Window | None = None) -> Synthesis:
        """``window``: features from `WHOLE` on are the part that its picture depends on."""
        if window and (fine := [resolution for resolution in offsets if resolution > WHOLE]):
            raise ModelError(f"a window has no offsets above {WHOLE}x{WHOLE}, got some at {fine}")
        needed = self._needed(window) if window else {}
        x = with_offset(self.conv(self.input, codes[:, 0], noise[0]), offsets.get(_BASE))
        features, covered = {_BASE: x}, Area(0, 0, _BASE, _BASE)
        blocks: Any = self.blocks
        for index, block in enumerate(blocks):
            first, resolution, covered = 1 + 2 * index, _BASE << (index + 1), covered.doubled()
            own = noise[first : first + 2]
            if needed:
                stored = (block.conv1.noise, block.conv2.noise)
                own = [covered.of_maps(a if b is None else b) for a, b in zip(stored, own, strict=True)]
            x = with_offset(block(x, codes[:, first], codes[:, first + 1], own), offsets.get(resolution))
            if resolution in needed:
                x, covered = needed[resolution].of_maps(x, covered), needed[resolution]
            features[resolution] = x
        return Synthesis(self.head(x, codes[:, -1]) if isinstance(self.head, WaveletHead) else self.head(x), features)

    def _needed(self, window: Window) -> dict[int, Area]:
        """The part of the features that a window's picture depends on, by resolution from `WHOLE` on."""
        area, last = Area.of(window), self.config.resolutions[-1]
        if window.size < 1 or area.grown(0, self.size) != area:
            raise ModelError(f"{window} is no part of a picture of {self.size}x{self.size}")
        if last < self.size:
            if any(edge % 2 for edge in area):
                raise ModelError(f"a window of this generator begins and ends at even pixels, got {window}")
            area = area.halved()
        needed: dict[int, Area] = {}
        for resolution in reversed(self.config.resolutions):
            if resolution < min(WHOLE, last):
                break
            needed[resolution] = area
            area = area.grown(_REACH, resolution).halved()
        return needed


_KIND = WeightKind(
    "MobileStyleGAN",
    "config",
    lambda fields: MobileStyleGANConfig(**fields),
    {"format": FORMAT},
    "edgegrain prior fetch writes one",
)


def save_mobile_stylegan(
    model: MobileStyleGAN,
    path: str | Path,
    heads: Mapping[int, nn.Conv2d] | None = None,
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> Path:
    """Write a generator, float32, with 1x1 RGB ``heads`` by resolution, for `load_mobile_stylegan` to cut it there, and
    more entries of the header: origin and licence of the weights."""
    state = dict(model.state_dict())
    for size, head in (heads or {}).items():
        state |= {f"{_HEADS}{size}.{name}": tensor for name, tensor in head.state_dict().items()}
    return save_network(path, _KIND, asdict(model.config), state, entries=metadata, dtype=torch.float32, force=force)


def load_mobile_stylegan(
    path: str | Path, config: MobileStyleGANConfig | None = None, *, cut_to: int | None = None
) -> MobileStyleGAN:
    """A generator from a weight file, in evaluation mode, its parameters frozen; ``config`` are the expected sizes.

    ``cut_to`` leaves out the blocks above this resolution and takes the file's RGB head there.
    """
    stored, state = read_config(path, _KIND), read_weights(path, _KIND)
    wanted = stored if cut_to in (None, stored.size) else stored.cut(cut_to)
    if config is not None and config != wanted:
        hint = f"; cut_to={config.size} cuts it" if cut_to is None and config.size < stored.size else ""
        raise ModelError(f"{path} holds a generator of {wanted}, expected {config}{hint}")
    if wanted != stored:
        state = _cut(state, wanted, path)
    model = described_network(path, lambda: MobileStyleGAN(wanted))
    fill(model, {name: tensor for name, tensor in state.items() if not name.startswith(_HEADS)}, path)
    return model.eval().requires_grad_(False)


def _cut(state: Mapping[str, Tensor], config: MobileStyleGANConfig, path: str | Path) -> dict[str, Tensor]:
    """The tensors of a whole generator that a cut one keeps."""
    prefix = f"{_HEADS}{config.size}."
    head = {name.replace(prefix, "head."): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not head:
        sizes = sorted({int(name.split(".")[1]) for name in state if name.startswith(_HEADS)})
        raise ModelError(
            f"{path} has no RGB head at {config.size}x{config.size}; it has heads at "
            f"{', '.join(map(str, sizes)) or 'no resolution'}"
        )
    left_out = (_HEADS, "head.", *(f"blocks.{index}." for index in range(len(config.resolutions) - 1, 20)))
    return {name: tensor for name, tensor in state.items() if not name.startswith(left_out)} | head


@torch.no_grad()
def fit_rgb_heads(
    model: MobileStyleGAN,
    sizes: Iterable[int] | None = None,
    pictures: int = 32,
    seed: int = 0,
    report: Callable[[float], None] = lambda part: None,
) -> dict[int, nn.Conv2d]:
    """One 1x1 convolution from features to RGB per resolution (None: all from 32 on), fitted by least squares to
    ``pictures`` of the whole generator, with truncations between 0.5 and 1. ``report`` gets the progress, 0...1."""
    sizes = list(sizes or (size for size in model.feature_channels if size >= 32))
    rng = np.random.default_rng(seed)
    device = model.mean_code.device
    moments: dict[int, tuple[Tensor, Tensor]] = {}
    for index in range(pictures):
        z = torch.from_numpy(rng.standard_normal((1, model.code_width), dtype=np.float32)).to(device)
        codes = model.truncate(model.broadcast(model.map(z)), float(rng.uniform(0.5, 1)))
        picture, features = model(codes)
        for size in sizes:
            x = torch.cat([features[size].flatten(2)[0], features[size].new_ones(1, size * size)])  # [C + 1, size²]
            y = F.adaptive_avg_pool2d(picture, size).flatten(2)[0]  # [3, size²]
            xx, xy = moments.get(size, (0.0, 0.0))
            moments[size] = (xx + (x @ x.T).double(), xy + (x @ y.T).double())
        report((index + 1) / pictures)
    return {size: _solve(*moments[size]) for size in sizes}


def _solve(xx: Tensor, xy: Tensor) -> nn.Conv2d:
    """``xx`` ``[C + 1, C + 1]``: second moments of features and 1; ``xy`` ``[C + 1, 3]``: those with the picture."""
    ridge = 1e-6 * xx.diagonal()[:-1].mean()  # keeps the weights of nearly equal channels bounded
    solution = torch.linalg.solve(xx + ridge * torch.eye(len(xx), dtype=xx.dtype, device=xx.device), xy).float()
    head = nn.Conv2d(len(xx) - 1, 3, 1, device=xx.device).requires_grad_(False)
    head.weight.copy_(solution[:-1].T[:, :, None, None])
    head.bias.copy_(solution[-1])  # type: ignore[union-attr]
    return head
