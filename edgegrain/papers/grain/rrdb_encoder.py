"""The float encoder of GRAIN: an RRDB network behind stride-2 convolutions ([GRAIN] 3.2 (1)).

Parameters carry the names of the public checkpoints, so those load strictly. A float encoder is not exact: runtimes
round differently, so a few LR bytes differ between them. `edge_encoder.twin` is the exact one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from codec_contract.bundle.manifest import RRDB_ENCODER_WEIGHTS
from codec_contract.errors import ExportError
from codec_contract.files import write_atomically
from codec_contract.pixels import HALF_RANGE, dequantize, network_input, pictures_of, unit_to_levels
from edge_encoder.integer_network import INPUT
from edge_encoder.twin import box_mean
from edgegrain.papers.bundle_parts import GraphWriter, float_encoder, state_digest
from edgegrain.papers.convert import TensorFile, fill, open_tensors
from export.bundle.writer import EncoderPart
from export.encoder.graph import Add, EncoderGraph, Scale, rounding_nodes
from server_decoder.grain.rrdb_decoder import NEGATIVE_SLOPE, RESIDUAL_SCALE, RRDB

if TYPE_CHECKING:  # exporting needs no training
    from edgegrain.training.grain.recipes import RRDBEncoderConfig


@dataclass(frozen=True)
class FloatEncoderConfig:
    """Shape of the encoder; the defaults are the paper's for 1024 -> 16."""

    channels: int = 64  # of the features everywhere
    growth: int = 32  # channels that every convolution of a dense block adds
    blocks: int = 10  # RRDBs at LR size
    scale: int = 6  # stride-2 convolutions; the LR's side is the picture's over 2^scale

    @property
    def name(self) -> str:
        return f"rrdb-c{self.channels}-g{self.growth}-b{self.blocks}-s{self.scale}"


class RRDBEncoder(nn.Module):
    """Picture ``[B, 3, H, W]`` in [-1, 1] -> LR ``[B, 3, H / 2^scale, W / 2^scale]`` in about [-1, 1]."""

    def __init__(self, config: FloatEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FloatEncoderConfig()
        conv, leaky = partial(nn.Conv2d, kernel_size=3, padding=1), partial(nn.LeakyReLU, NEGATIVE_SLOPE)
        width = config.channels
        self.conv_first = conv(3, width)
        # Sequences with an activation, as in the checkpoints: "body.0.0.weight".
        self.body = nn.Sequential(*(nn.Sequential(conv(width, width, stride=2), leaky()) for _ in range(config.scale)))
        self.RRDB_trunk = nn.Sequential(*(RRDB(width, config.growth) for _ in range(config.blocks)))
        self.trunk_conv = conv(width, width)
        self.out = nn.Sequential(conv(width, width), leaky(), conv(width, 3))

    def forward(self, picture: Tensor) -> Tensor:
        shallow = self.body(self.conv_first(picture))  # [B, channels, h, w]
        return self.out(shallow + self.trunk_conv(self.RRDB_trunk(shallow)))

    @torch.inference_mode()
    def encode(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 ``[N, H, W, 3]`` -> uint8 ``[N, h, w, 3]``, quantized by the rule of the contract."""
        return pictures_of(self(torch.from_numpy(network_input(rgb))).numpy())


def load_rrdb_encoder(path: str | Path) -> RRDBEncoder:
    """An encoder from a ``.safetensors`` file or an official checkpoint, which holds it under ``state_dict.enc.``."""
    source = open_tensors(Path(path), ("state_dict.", "enc."))
    encoder = RRDBEncoder(encoder_config(source))
    fill(encoder, source, {"*": "{0}"})
    return encoder.eval()


def encoder_config(source: TensorFile, prefix: str = "") -> FloatEncoderConfig:
    """The sizes of the encoder whose names begin with ``prefix`` in a file."""
    return FloatEncoderConfig(
        channels=source.dimension(f"{prefix}conv_first.weight", 0),
        growth=source.dimension(f"{prefix}RRDB_trunk.0.RDB1.conv1.weight", 0),
        blocks=source.count(prefix + "RRDB_trunk.{}."),
        scale=source.count(prefix + "body.{}."),
    )


def rrdb_graph(encoder: RRDBEncoder, hr: int) -> EncoderGraph:
    """The encoder for pictures of ``hr`` x ``hr``, with quantization and its inverse inside."""
    lr = hr >> encoder.config.scale
    if lr < 1 or lr << encoder.config.scale != hr:
        raise ExportError(f"{hr} cannot be halved {encoder.config.scale} times, as {encoder.config.name} does")
    writer = GraphWriter(NEGATIVE_SLOPE)

    def residual(name: str, source: str, branch: str) -> str:
        return writer.add(Add(name, writer.add(Scale(f"{name}.scaled", branch, RESIDUAL_SCALE)), source))

    picture = writer.add(Scale("picture", INPUT, 1 / HALF_RANGE, -1.0))
    shallow = writer.conv("conv_first", picture, encoder.conv_first)
    for name, module in encoder.body.named_modules():
        if isinstance(module, nn.Conv2d):
            shallow = writer.leaky(writer.conv(f"body.{name}", shallow, module))
    trunk = shallow
    for index, block in enumerate(cast(Sequence[RRDB], encoder.RRDB_trunk)):
        name, x = f"RRDB_trunk.{index}", trunk
        for part, dense in enumerate(block.dense_blocks(), 1):
            inner = f"{name}.RDB{part}"
            x = residual(inner, x, writer.dense(inner, x, dense.convs()))
        trunk = residual(name, trunk, x)
    features = writer.add(Add("features", shallow, writer.conv("trunk_conv", trunk, encoder.trunk_conv)))
    first, _, last = cast(Sequence[nn.Conv2d], encoder.out)
    hidden = writer.leaky(writer.conv("out.0", features, first))
    writer.nodes += rounding_nodes(writer.conv("out.2", hidden, last), HALF_RANGE, HALF_RANGE)
    return EncoderGraph(encoder.config.name, hr, lr, tuple(writer.nodes), exact=False)


def bundle_graph(path: Path, hr: int) -> EncoderGraph:
    """The graph of the weights in a bundle for pictures of ``hr`` x ``hr``."""
    return rrdb_graph(load_rrdb_encoder(path), hr)


class TrainedRRDBEncoder(nn.Module):
    """Pictures as integers 0...255 in, LR levels out, as `edge_encoder.twin.EncoderTwin`."""

    def __init__(self, config: RRDBEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.network = RRDBEncoder(FloatEncoderConfig(config.width, config.growth, config.rrdb, config.halvings))

    def forward(self, picture: Tensor, *, noise: bool = False) -> tuple[Tensor, Tensor]:
        """``[B, 3, hr, hr]`` -> levels ``[B, 3, lr, lr]`` float32, rounded with a straight gradient, and the area mean;
        ``noise``: +-1/2 level instead of rounding ([GRAIN] 3.2 (2))."""
        box = box_mean(picture, self.config.hr // self.config.lr)
        value = unit_to_levels(self.network(dequantize(picture)).float())
        if noise:
            return (value + torch.rand_like(value) - 0.5).clamp(0, 255), box
        value = value.clamp(0, 255)
        return value + (torch.floor(value.detach() + 0.5) - value.detach()), box

    def bundle_part(self) -> EncoderPart:
        """The encoder as the part of a bundle."""
        return rrdb_encoder(self.network.eval(), self.config.hr)


def rrdb_encoder(encoder: RRDBEncoder, hr: int) -> EncoderPart:
    """The part of a bundle for pictures of ``hr`` x ``hr``."""
    state = {name: tensor.detach().contiguous() for name, tensor in encoder.state_dict().items()}

    def write_weights(folder: Path) -> None:
        write_atomically(folder / RRDB_ENCODER_WEIGHTS, save(state))

    digest = state_digest(state, repr(sorted(asdict(encoder.config).items())))
    return float_encoder(rrdb_graph(encoder, hr), digest, write_weights)
