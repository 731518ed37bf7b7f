"""IRN: invertible image rescaling ([IRN], Xiao et al., ECCV 2020).

One bijection between a picture x and a pair (y, z): y is a small picture that looks like a bicubic reduction of x, z is
the lost detail. Training makes z follow one normal distribution for all pictures, so z need not be stored: the inverse
of (y, another z) differs from x by faint detail only.

                     ┌─────────────── one module, x to half its sides ───────────────┐
    x ── Haar ──┬── low  h1 ──────────(+)───────────┬──────────┐   ┌── y, 3 channels
                │                      φ             ρ, η      │ … │
                └── high h2 ───────────┴───── exp(·)(×) ──(+)──┘   └── z, the rest

    h1' = h1 + φ(h2)          h2' = h2 ⊙ exp(ρ(h1')) + η(h1')         eight such blocks a module
    h1  = h1' - φ(h2)         h2  = (h2' - η(h1')) ⊙ exp(-ρ(h1'))     backwards

Pictures are ``[B, 3, H, W]`` in [0, 1] here, as in the authors' models; `Upscaler` uses the ranges of the contract.
``z_std`` is an addition: the papers' z has a deviation of 1, which small networks with few blocks cannot scale down to
picture detail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from server_decoder.stylegan2.layers import full_precision

KIND = "irn"
RGB = 3
NEGATIVE_SLOPE = 0.2
INITIAL_SCALE = 0.1
"""Factor on the initial weights of dense blocks, as in the authors' public code; their last convolution is zero."""


@dataclass(frozen=True)
class IRNConfig:
    """Shape of the network; defaults: the paper's 4x model ([IRN] appendix 2: two modules of eight InvBlocks)."""

    blocks: tuple[int, ...] = (8, 8)  # InvBlocks of each module, the one at the picture's resolution first
    growth: int = 32  # channels that each convolution of a dense block adds
    clamp: float = 1.0  # c; the exponent lies in (-c, c)
    z_std: float = 1.0  # deviation of z
    scale: int = 2  # factor of every module: 2 for Haar transforms, 3 and more for trained ones (`CellTransform`)

    def __post_init__(self) -> None:
        if self.scale < 2:
            raise ValueError(f"a module reduces by 2 or more, got {self.scale}")
        if not self.blocks or min(self.blocks) < 1:
            raise ValueError(f"every module needs an InvBlock, got {list(self.blocks)}")
        if self.growth < 1 or self.clamp <= 0 or self.z_std <= 0:
            raise ValueError(f"growth, clamp and z_std must be positive, got {self}")

    @property
    def factor(self) -> int:
        """Factor between the sides of picture and LR."""
        return self.scale ** len(self.blocks)

    @property
    def z_channels(self) -> int:
        """Channels of z at the size of y: together with y's they hold as many numbers as the picture."""
        return RGB * (self.factor**2 - 1)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back.

        The last field is left out at its default: it came later, and an LR contract hashes these values.
        """
        return {"kind": KIND, **{name: value for name, value in asdict(self).items() if (name, value) != ("scale", 2)}}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> IRNConfig:
        """The configuration that `as_dict` described."""
        plain = {name: value for name, value in fields.items() if name != "kind"}
        return cls(**{**plain, "blocks": tuple(plain["blocks"])})


PRESETS: dict[str, IRNConfig] = {  # name -> configuration
    "irn-x2": IRNConfig(blocks=(8,)),
    "irn-x3": IRNConfig(blocks=(12,), scale=3),  # the authors' public options
    "irn-x4": IRNConfig(),
    "irn-x8": IRNConfig(blocks=(8, 8, 8)),
    # For a few minutes on a CPU: most blocks where they cost a sixteenth of a full-resolution convolution.
    "irn-x2-light": IRNConfig(blocks=(4,), growth=16, z_std=0.002),
    "irn-x4-light": IRNConfig(blocks=(1, 3), growth=16, z_std=0.002),
    "irn-x4-wide": IRNConfig(blocks=(1, 4), growth=32, z_std=0.002),
}


class HaarTransform(nn.Module):
    """Each 2x2 cell (a, b; c, d) -> its mean and three differences: ``[B, C, 2h, 2w]`` <-> ``[B, 4C, h, w]``.

    The bands come one after the other, all channels of the means first, so that the first three channels of a picture's
    transform, and of the transform of that, are a smaller picture in [0, 1].
    """

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
        c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
        return torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 1) / 4

    def inverse(self, bands: Tensor) -> Tensor:
        m, h, v, d = bands.chunk(4, 1)  # mean; horizontal, vertical and diagonal difference
        cells = [m + h + v + d, m - h + v - d, m + h - v - d, m - h - v + d]
        return F.pixel_shuffle(torch.stack(cells, 2).flatten(1, 2), 2)


class CellTransform(nn.Module):
    """Each s x s cell, in reading order, times a trained matrix: ``[B, C, s h, s w]`` <-> ``[B, s^2 C, h, w]``.

    For factors that no Haar transform has. Bands come as in `HaarTransform`; in a new network the first one is the mean
    and the others are the cell's pixels, as in the authors' public code.

    Attributes:
        inverse_matrix: the one of a network that is not trained any more, as ONNX cannot invert; () to compute it. A
            tensor alone would be stored as float16.
    """

    inverse_matrix: tuple[Tensor, ...] = ()

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        matrix = torch.eye(scale**2)
        matrix[0] = 1 / scale**2
        self.matrix = nn.Parameter(matrix)

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):  # levels are rounded
            cells = F.pixel_unshuffle(x.float(), self.scale).unflatten(1, (-1, self.scale**2))
            return torch.einsum("kl,bclhw->bkchw", self.matrix, cells).flatten(1, 2)

    def inverse(self, bands: Tensor) -> Tensor:
        (matrix,) = self.inverse_matrix or (torch.linalg.inv(self.matrix),)
        with full_precision(bands):
            cells = torch.einsum("lk,bkchw->bclhw", matrix, bands.float().unflatten(1, (self.scale**2, -1)))
            return F.pixel_shuffle(cells.flatten(1, 2), self.scale)


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each of which sees the input and all earlier outputs; zero in a new network."""

    def __init__(self, inputs: int, outputs: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(inputs + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(inputs + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(inputs + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(inputs + 4 * growth, outputs, 3, padding=1)
        for conv, gain in zip(self.convs(), (*[INITIAL_SCALE] * 4, 0.0), strict=True):
            weight, bias = conv.parameters()
            nn.init.xavier_normal_(weight, gain)
            nn.init.zeros_(bias)

    def convs(self) -> tuple[nn.Conv2d, ...]:
        """The convolutions in order; all but the last are followed by a leaky ReLU."""
        return self.conv1, self.conv2, self.conv3, self.conv4, self.conv5

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs()[:-1]:
            x = torch.cat([x, F.leaky_relu(conv(x), NEGATIVE_SLOPE)], 1)
        return self.conv5(x)


class InvBlock(nn.Module):
    """The coupling of the low band h1 and the high bands h2 ([IRN] eq. 1 to 4)."""

    def __init__(self, low: int, high: int, growth: int, clamp: float) -> None:
        super().__init__()
        self.clamp = clamp
        self.phi = DenseBlock(high, low, growth)
        self.rho = DenseBlock(low, high, growth)
        self.eta = DenseBlock(low, high, growth)

    def forward(self, h1: Tensor, h2: Tensor) -> tuple[Tensor, Tensor]:
        h1 = h1 + self.phi(h2)
        return h1, h2 * torch.exp(self.exponent(h1)) + self.eta(h1)

    def inverse(self, h1: Tensor, h2: Tensor) -> tuple[Tensor, Tensor]:
        """The bands before the block, from those after it."""
        h2 = (h2 - self.eta(h1)) * torch.exp(-self.exponent(h1))
        return h1 - self.phi(h2), h2

    def exponent(self, h1: Tensor) -> Tensor:
        """c (2 sigmoid(rho) - 1): no block scales by more than e^c, so values stay bounded."""
        return self.clamp * (2 * torch.sigmoid(self.rho(h1)) - 1)


class DownscalingModule(nn.Module):
    """Transform of cells and InvBlocks: ``[B, C, s h, s w]`` <-> ``[B, s^2 C, h, w]``."""

    def __init__(self, channels: int, blocks: int, growth: int, clamp: float, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.transform = HaarTransform() if scale == 2 else CellTransform(scale)
        self.blocks = nn.ModuleList(InvBlock(RGB, scale**2 * channels - RGB, growth, clamp) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        bands = self.transform(x)
        h1, h2 = bands[:, :RGB], bands[:, RGB:]
        for block in self.blocks:
            h1, h2 = block(h1, h2)
        return torch.cat([h1, h2], 1)

    def inverse(self, x: Tensor) -> Tensor:
        h1, h2 = x[:, :RGB], x[:, RGB:]
        for block in reversed(self.blocks):
            h1, h2 = block.inverse(h1, h2)  # type: ignore[operator]  # a ModuleList forgets its elements' class
        return self.transform.inverse(torch.cat([h1, h2], 1))

    @torch.no_grad()
    def cells(self) -> Tensor:
        """What every band of a channel sums up, ``[s^2, s, s]``: the bands of cells with a single 1."""
        units = torch.eye(self.scale**2).view(-1, 1, self.scale, self.scale)
        return self.transform(units).flatten(1).T.view(-1, self.scale, self.scale)


class IRN(nn.Module):
    """x <-> (y, z). ``forward`` downscales, ``inverse`` upscales; with the same z they are inverse to each other."""

    def __init__(self, config: IRNConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IRNConfig()
        self.stages = nn.ModuleList(
            DownscalingModule(RGB * config.scale ** (2 * depth), blocks, config.growth, config.clamp, config.scale)
            for depth, blocks in enumerate(config.blocks)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Picture ``[B, 3, H, W]`` in [0, 1], sides multiples of the factor -> y ``[B, 3, h, w]``, not yet quantized,
        and z ``[B, z_channels, h, w]``."""
        for stage in self.stages:
            x = stage(x)
        return x[:, :RGB], x[:, RGB:]

    def inverse(self, y: Tensor, z: Tensor) -> Tensor:
        """y and z, sizes as `forward` gives them -> picture ``[B, 3, H, W]`` in about [0, 1]."""
        x = torch.cat([y, z], 1)
        for stage in reversed(self.stages):
            x = stage.inverse(x)  # type: ignore[operator]  # as above
        return x

    def sample_z(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A z for ``y``: normal, mean 0, deviation ``z_std``."""
        shape = (len(y), self.config.z_channels, *y.shape[2:])
        return self.config.z_std * torch.randn(shape, generator=generator, device=y.device)


def round_to_levels(y: Tensor) -> Tensor:
    """y in [0, 1] rounded to 256 levels; the gradient passes straight through ([IRN] 3.4)."""
    levels = y.clamp(0, 1).mul(255).add(0.5).floor().div(255)
    return y + (levels - y).detach()


class Upscaler(nn.Module):
    """The decoder of a network that is not trained any more: LR in [-1, 1] -> picture in about [-1, 1].

    Attributes:
        z: ``[1, z_channels, 1, 1]``, zero, the likeliest z, used if none is given.
    """

    z: Tensor

    def __init__(self, irn: IRN) -> None:
        super().__init__()
        self.irn = irn
        self.register_buffer("z", torch.zeros(1, irn.config.z_channels, 1, 1), persistent=False)
        for module in irn.modules():
            if isinstance(module, CellTransform):
                module.inverse_matrix = (torch.linalg.inv(module.matrix.detach()),)

    def forward(self, lr: Tensor, z: Tensor | None = None) -> Tensor:
        """``z``: ``[B, z_channels, h, w]``, or a shape that broadcasts to it."""
        y = (lr + 1) / 2
        return self.irn.inverse(y, (self.z if z is None else z) + 0 * y[:, :1]) * 2 - 1
