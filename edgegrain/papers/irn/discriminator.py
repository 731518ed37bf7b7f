"""The discriminator T of IRN+ ([IRN] appendix 2), after SRGAN's: pairs of 3x3 convolutions, then two dense layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import ModelError

NEGATIVE_SLOPE = 0.2
HIDDEN = 100
"""Units of the first dense layer ([IRN] appendix 2)."""


class IRNDiscriminator(nn.Module):
    """Crops ``[B, 3, S, S]`` in [0, 1] -> logits ``[B]``, high for real ones.

    The paper's eight convolutions are four pairs of 64 to 512 channels; the second of a pair halves the sides. All but
    the first are normalized over the batch, as in SRGAN.
    """

    def __init__(self, crop: int, channels: Sequence[int] = (64, 128, 256, 512)) -> None:
        """``crop``: S, a multiple of 2 to the number of pairs.

        Raises:
            ValueError: S cannot be halved that often.
        """
        super().__init__()
        if crop % 2 ** len(channels):
            raise ValueError(f"crops of {crop} cannot be halved {len(channels)} times")
        self.crop = crop
        layers: list[nn.Module] = []
        inputs = 3
        for width in channels:
            for stride in (1, 2):
                layers.append(nn.Conv2d(inputs, width, 3, stride, 1, bias=not layers))
                layers += [nn.BatchNorm2d(width)] if len(layers) > 1 else []
                layers.append(nn.LeakyReLU(NEGATIVE_SLOPE))
                inputs = width
        self.convs = nn.Sequential(*layers)
        side = crop >> len(channels)
        self.dense1 = nn.Linear(inputs * side * side, HIDDEN)
        self.dense2 = nn.Linear(HIDDEN, 1)

    def forward(self, crop: Tensor) -> Tensor:
        if crop.shape[1:] != (3, self.crop, self.crop):
            raise ModelError(f"this discriminator takes crops [B, 3, {self.crop}, {self.crop}], got "
                             f"{list(crop.shape)}")
        features = self.convs(crop).flatten(1)
        return self.dense2(F.leaky_relu(self.dense1(features), NEGATIVE_SLOPE))[:, 0]
