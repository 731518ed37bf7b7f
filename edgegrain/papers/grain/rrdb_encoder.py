"""The float encoder of GRAIN: an RRDB network behind stride-2 convolutions ([GRAIN] 3.2 (1)).

Parameters carry the names of the public checkpoints, so those load strictly. A float encoder is not exact: runtimes
round differently, so a few LR bytes differ between them. `edge_encoder.twin` is the exact one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from codec_contract.errors import BundleError, ImageError
from codec_contract.quantization import network_input, pictures_of
from edgegrain.papers.public_checkpoint import read_tensors
from server_decoder.grain.rrdb import NEGATIVE_SLOPE, RRDB


@dataclass(frozen=True)
class FloatEncoderConfig:
    """Shape of the encoder; the defaults are the paper's for 1024 -> 16.

    Attributes:
        channels: feature channels everywhere.
        growth: channels that every convolution of a dense block adds.
        blocks: RRDBs at LR size.
        scale: stride-2 convolutions; the LR's side is the picture's over 2^scale.
    """

    channels: int = 64
    growth: int = 32
    blocks: int = 10
    scale: int = 6

    @property
    def name(self) -> str:
        return f"rrdb-c{self.channels}-g{self.growth}-b{self.blocks}-s{self.scale}"


class RRDBEncoder(nn.Module):
    """Picture ``[B, 3, H, W]`` in [-1, 1] -> LR ``[B, 3, H / 2^scale, W / 2^scale]`` in about [-1, 1]."""

    def __init__(self, config: FloatEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FloatEncoderConfig()
        width = config.channels
        self.conv_first = _conv(3, width)
        # Sequences with an activation, as in the checkpoints: "body.0.0.weight".
        self.body = nn.Sequential(*(
            nn.Sequential(_conv(width, width, stride=2), nn.LeakyReLU(NEGATIVE_SLOPE)) for _ in range(config.scale)))
        self.RRDB_trunk = nn.Sequential(*(RRDB(width, config.growth) for _ in range(config.blocks)))
        self.trunk_conv = _conv(width, width)
        self.out = nn.Sequential(_conv(width, width), nn.LeakyReLU(NEGATIVE_SLOPE), _conv(width, 3))

    def forward(self, picture: Tensor) -> Tensor:
        shallow = self.body(self.conv_first(picture))  # [B, channels, h, w]
        return self.out(shallow + self.trunk_conv(self.RRDB_trunk(shallow)))

    @torch.inference_mode()
    def encode(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 ``[N, H, W, 3]`` -> uint8 ``[N, h, w, 3]``, quantized by the rule of the contract.

        Raises:
            ImageError: ``rgb`` is not uint8 of that shape, or a side is not divisible by the factor of the reduction.
        """
        factor = 2**self.config.scale
        if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[3] != 3 or any(s % factor for s in rgb.shape[1:3]):
            raise ImageError(f"the encoder takes uint8 [N, H, W, 3] with sides divisible by {factor}, got {rgb.dtype} "
                             f"{list(rgb.shape)}")
        return pictures_of(self(torch.from_numpy(network_input(rgb))).numpy())


def load_rrdb_encoder(path: str | Path) -> RRDBEncoder:
    """An encoder from a ``.safetensors`` file or a torch checkpoint; nothing but tensors is unpickled.

    Official checkpoints hold the encoder under ``enc.`` inside ``state_dict``. The sizes follow from the tensors;
    every tensor must be used and none may be missing.

    Raises:
        ModelError: the file cannot be read, or holds program code.
        BundleError: the file holds no such encoder.
    """
    found = read_tensors(Path(path))
    tensors = {key.removeprefix("state_dict."): value for key, value in found.items() if key.startswith("state_dict.")}
    tensors = tensors or found
    prefixed = {key.removeprefix("enc."): value for key, value in tensors.items() if key.startswith("enc.")}
    state = prefixed or tensors
    scale = len({match[1] for key in state if (match := re.match(r"body\.(\d+)\.", key))})
    blocks = len({match[1] for key in state if (match := re.match(r"RRDB_trunk\.(\d+)\.", key))})
    try:
        channels = int(state["conv_first.weight"].shape[0])
        growth = int(state["RRDB_trunk.0.RDB1.conv1.weight"].shape[0])
        encoder = RRDBEncoder(FloatEncoderConfig(channels, growth, blocks, scale))
        encoder.load_state_dict(state, strict=True)
    except (KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise BundleError(f"{path} holds no RRDB encoder of GRAIN's layout: {error}") from error
    return encoder.eval()


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1)

