"""The network of IRN-Compression that restores LRs that went through JPEG (Xiao et al., *Invertible Rescaling Network
and Its Extensions*, IJCV 2023, arXiv 2210.04188; the authors' code calls it CRM).

    picture ── IRN ── LR ── JPEG ── this network ── LR, restored ── inverse IRN ── picture

ESRGAN's network without upsampling and without a residual connection from the LR: the output is the LR itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.grain.rrdb import RRDB
from server_decoder.irn.network import RGB


@dataclass(frozen=True)
class JPEGRestorerConfig:
    """Shape of the network; the defaults are those of the authors' public options.

    Attributes:
        channels: feature channels everywhere.
        growth: channels that every convolution of a dense block adds.
        blocks: RRDBs.
    """

    channels: int = 64
    growth: int = 32
    blocks: int = 8

    def __post_init__(self) -> None:
        if min(self.channels, self.growth, self.blocks) < 1:
            raise ValueError(f"channels, growth and blocks must be positive, got {self}")


class JPEGRestorer(nn.Module):
    """LR from a JPEG file ``[B, 3, h, w]`` in [0, 1] -> LR before JPEG ``[B, 3, h, w]`` in about [0, 1].

    Parameters carry the names of the public checkpoints.
    """

    def __init__(self, config: JPEGRestorerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or JPEGRestorerConfig()
        self.conv_first = nn.Conv2d(RGB, config.channels, 3, padding=1)
        self.RRDB_trunk = nn.Sequential(*(RRDB(config.channels, config.growth) for _ in range(config.blocks)))
        self.trunk_conv = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.conv_last = nn.Conv2d(config.channels, RGB, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        """Errors: `ModelError` if it is no LR."""
        if lr.dim() != 4 or lr.shape[1] != RGB:
            raise ModelError(f"the JPEG restorer takes LRs [B, 3, h, w], got {list(lr.shape)}")
        shallow = self.conv_first(lr)  # [B, channels, h, w]
        return self.conv_last(shallow + self.trunk_conv(self.RRDB_trunk(shallow)))
