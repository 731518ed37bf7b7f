"""IRN-Color: invertible decolorization (Xiao et al., *Invertible Rescaling Network and Its Extensions*, IJCV 2023,
arXiv 2210.04188).

One bijection between a picture x and a pair (y, z) of the same height and width: y is a grey picture that looks like
the luminance of x and carries its colour in faint patterns, z is the rest. Training sets z to 0 before the inverse, so
y alone gives the colours back.

    x ── 3x3 matrix ──┬── luminance    h1 ──┬── InvBlocks ──┬── y, 1 channel
                      └── chrominance  h2 ──┘               └── z, 2 channels

The InvBlocks are those of `server_decoder.irn.network`. Pictures are ``[B, 3, H, W]`` in [0, 1], as there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.irn.network import RGB, InvBlock, mix_colours

GREY = 1
TO_YUV = torch.tensor([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.100]])
"""The matrix of a new network: Y, U and V of ITU-R BT.470, as in the authors' public code."""


@dataclass(frozen=True)
class IRNColorConfig:
    """Shape of the network; the defaults are those of the authors' public options.

    Attributes:
        blocks: InvBlocks.
        growth: channels that each convolution of a dense block adds.
        clamp: c; the exponent lies in (-c, c).
    """

    blocks: int = 8
    growth: int = 32
    clamp: float = 1.0

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.growth < 1 or self.clamp <= 0:
            raise ValueError(f"blocks, growth and clamp must be positive, got {self}")


class IRNColor(nn.Module):
    """x <-> (y, z). ``forward`` decolorizes, ``inverse`` colorizes; with the same z they are inverse to each other."""

    def __init__(self, config: IRNColorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IRNColorConfig()
        self.matrix = nn.Parameter(TO_YUV.clone())
        self.blocks = nn.ModuleList(
            InvBlock(GREY, RGB - GREY, config.growth, config.clamp) for _ in range(config.blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Picture ``[B, 3, H, W]`` in [0, 1] -> y ``[B, 1, H, W]``, not yet quantized, and z ``[B, 2, H, W]``.

        Raises:
            ModelError: it is no picture.
        """
        if x.dim() != 4 or x.shape[1] != RGB:
            raise ModelError(f"IRN-Color takes pictures [B, 3, H, W], got {list(x.shape)}")
        mixed = mix_colours(x, self.matrix)
        h1, h2 = mixed[:, :GREY], mixed[:, GREY:]
        for block in self.blocks:
            h1, h2 = block(h1, h2)
        return h1, h2

    def inverse(self, y: Tensor, z: Tensor | None = None) -> Tensor:
        """y and z, sizes as `forward` gives them -> picture ``[B, 3, H, W]`` in about [0, 1]; None for a z of 0."""
        h1, h2 = y, y.new_zeros(len(y), RGB - GREY, *y.shape[2:]) if z is None else z
        for block in reversed(self.blocks):
            h1, h2 = block.inverse(h1, h2)  # type: ignore[operator]  # a ModuleList forgets its elements' class
        return mix_colours(torch.cat([h1, h2], 1), torch.linalg.inv(self.matrix))
