"""The paper's encoder in training: an RRDB network whose LR is quantized ([GRAIN] 3.2 (1) and (2)).

It is a float network, so LRs may differ by a level between runtimes. Our recipes train the exact encoder instead
(`edge_encoder.twin`).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from codec_contract.bundle.file_names import RRDB_ENCODER_WEIGHTS
from codec_contract.bundle.manifest import Manifest
from codec_contract.files import write_atomically
from codec_contract.quantization import dequantize, unit_to_levels
from edge_encoder.twin import box_mean
from edgegrain.papers.grain.rrdb_encoder import FloatEncoderConfig, RRDBEncoder, load_rrdb_encoder
from edgegrain.papers.grain.rrdb_graph import rrdb_graph
from edgegrain.training.grain.recipes import RRDBEncoderConfig
from export.bundle.writer import EncoderPart, float_encoder
from server_decoder.weight_file import state_digest

LEVELS = 255


class TrainedRRDBEncoder(nn.Module):
    """Pictures as integers 0...255 in, LR levels out, as `edge_encoder.twin.EncoderTwin`."""

    def __init__(self, config: RRDBEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.network = RRDBEncoder(FloatEncoderConfig(config.width, config.growth, config.rrdb, config.halvings))

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

    def bundle_part(self) -> EncoderPart:
        """The encoder as the part of a bundle."""
        return rrdb_encoder(self.network.eval(), self.config.hr)


def bundle_start(manifest: Manifest) -> tuple[RRDBEncoderConfig, dict[str, Tensor]]:
    """Configuration and weights of the float encoder of a bundle."""
    manifest.verify_file(RRDB_ENCODER_WEIGHTS)
    encoder = load_rrdb_encoder(manifest.path(RRDB_ENCODER_WEIGHTS))
    shape = encoder.config
    return (RRDBEncoderConfig(manifest.hr, manifest.lr, shape.channels, shape.growth, shape.blocks),
            {f"network.{name}": tensor for name, tensor in encoder.state_dict().items()})


def rrdb_encoder(encoder: RRDBEncoder, hr: int) -> EncoderPart:
    """The part of a bundle for pictures of ``hr`` x ``hr``.

    Raises:
        ExportError: the encoder cannot halve ``hr`` often enough.
    """
    state = {name: tensor.detach().contiguous() for name, tensor in encoder.state_dict().items()}

    def write_weights(folder: Path) -> None:
        write_atomically(folder / RRDB_ENCODER_WEIGHTS, save(state))

    digest = state_digest(state, repr(sorted(asdict(encoder.config).items())))
    return float_encoder(rrdb_graph(encoder, hr), digest, write_weights)
