"""The paper's encoder in training: an RRDB network whose LR is quantized ([GRAIN] 3.2 (1) and (2)).

It is a float network, so LRs may differ by a level between runtimes. Our recipes train the exact encoder instead
(`edge_encoder.twin`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codec_contract.quantization import dequantize, unit_to_levels
from edge_encoder.twin import box_mean
from server_decoder.grain.rrdb_encoder import FloatEncoderConfig, RRDBEncoder

LEVELS = 255


@dataclass(frozen=True)
class RRDBEncoderConfig:
    """Sizes and shape; the shape is the paper's for 1024 -> 16 by default.

    Attributes:
        hr: side of the square input, in pixels.
        lr: side of the square output, in pixels: ``hr`` halved once or more.
        width: feature channels everywhere.
        growth: channels that every convolution of a dense block adds.
        rrdb: RRDBs at LR size.
    """

    hr: int
    lr: int
    width: int = 64
    growth: int = 32
    rrdb: int = 10

    def __post_init__(self) -> None:
        if self.halvings < 1 or self.lr << self.halvings != self.hr:
            raise ValueError(f"the RRDB encoder halves sides: {self.hr} -> {self.lr} is not possible")

    @property
    def halvings(self) -> int:
        return (self.hr // self.lr).bit_length() - 1

    @property
    def network(self) -> FloatEncoderConfig:
        return FloatEncoderConfig(self.width, self.growth, self.rrdb, self.halvings)

    @property
    def name(self) -> str:
        return self.network.name


class TrainedRRDBEncoder(nn.Module):
    """Pictures as integers 0...255 in, LR levels out, as `edge_encoder.twin.EncoderTwin`."""

    def __init__(self, config: RRDBEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.network = RRDBEncoder(config.network)

    def forward(self, picture: Tensor, *, noise: bool = False) -> tuple[Tensor, Tensor]:
        """Encode pictures.

        Args:
            picture: ``[B, 3, hr, hr]``, integers 0...255 in any float dtype.
            noise: add uniform noise of +-1/2 level instead of rounding ([GRAIN] 3.2 (2), training only).

        Returns:
            LR levels ``[B, 3, lr, lr]`` float32 in 0...255 (integers unless ``noise``; rounding passes the gradient
            on), and the area mean, rounded.
        """
        box = box_mean(picture, self.config.hr // self.config.lr)
        value = unit_to_levels(self.network(dequantize(picture)).float())
        if noise:
            return (value + torch.rand_like(value) - 0.5).clamp(0, LEVELS), box
        value = value.clamp(0, LEVELS)
        return value + (torch.floor(value.detach() + 0.5) - value.detach()), box
