"""An enlarger that sees a generator's features: [GRAIN] 3.4's fusion at the scales from 64x64 to 1024x1024."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import ModelError
from codec_contract.quantization import dequantize
from edgegrain.training.data import rounded_levels
from export.decoder.sources import DecoderSource
from server_decoder.generative_prior import GenerativePrior, Synthesis
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb import NEGATIVE_SLOPE
from server_decoder.super_resolution.network import (
    CoarsePath,
    Doubling,
    Step,
    SuperResolution,
    SuperResolutionConfig,
    doubled,
)

_SCALES = (4, 2, 1)  # the restored picture's side, by that of the features that join the coarse path
_EPSILON = 1e-4


class PriorFeatures:
    """Restored pictures -> what a generator makes for their LRs. Everything is frozen.

    A payload's own LR is not at hand in training; that of the restored picture takes its place.
    """

    def __init__(self, source: DecoderSource, prior: GenerativePrior) -> None:
        """A trained code predictor, with its encoder, around a generator.

        Args:
            source: encoder and GRAIN, whose generator may be cut.
            prior: the generator whole; it has the codes of the cut one, and more, which take its last code.

        Raises:
            ModelError: the source has no code predictor, or for another generator.
        """
        if not isinstance(source.decoder, Grain) or source.decoder.prior is None:
            raise ModelError(f"{source.name} has no code predictor; name a GRAIN of the zoo")
        codes = source.decoder.prior.code_resolutions
        if prior.code_resolutions[:len(codes)] != codes:
            raise ModelError(f"{source.name} predicts codes for the resolutions {codes}, the generator has "
                             f"{prior.code_resolutions}")
        self._encode, self._grain = source.encode, source.decoder.eval().requires_grad_(False)
        self.prior = prior.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> PriorFeatures:
        return self  # frozen

    @torch.no_grad()
    def __call__(self, picture: Tensor) -> Synthesis:
        """``picture``: ``[B, 3, S, S]`` in [-1, 1], of the encoder's size."""
        levels = rounded_levels(picture.float()).permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
        lr = torch.from_numpy(self._encode(levels)).permute(0, 3, 1, 2).float().to(picture.device)
        _, f_inv = self._grain.decoder.forward_features(dequantize(lr))
        assert self._grain.codes is not None  # there is a prior
        codes = self.prior.mean_code + self._grain.codes(f_inv)
        more = self.prior.code_count - codes.shape[1]
        codes = torch.cat([codes, codes[:, -1:].expand(-1, more, -1)], 1)
        return self.prior(codes, None, self._grain.codes.predict_offsets(f_inv))


class CoarsePathWithPrior(CoarsePath):
    """The coarse path with the generator's features up to S added to its own.

    Those at 2S and the picture at 4S follow as further channels, their fine pixels as channels too, so that windows are
    cut from all of them alike.
    """

    def __init__(self, config: SuperResolutionConfig, size: int, features: PriorFeatures) -> None:
        super().__init__(config)
        self.features, self.size = features, size
        channels = features.prior.feature_channels
        self.joins = nn.ModuleDict({str(scale): nn.Conv2d(channels[size // scale], config.widths[0], 1)
                                    for scale in _SCALES})
        self.fine = nn.Conv2d(channels[2 * size], config.fine_widths[0], 1)

    def forward(self, picture: Tensor) -> Tensor:
        """``[B, 3, S, S]`` -> ``[B, widths[0] + 4 * fine_widths[0] + 48, S, S]``."""
        x, generated = super().forward(picture), self.features(picture)
        for name, join in self.joins.items():
            joined = join(_normalized(generated.features[self.size // int(name)]))
            x = x + (joined if int(name) == 1 else F.interpolate(joined, size=x.shape[2:], mode="bilinear",
                                                                 align_corners=False))
        fine = F.pixel_unshuffle(self.fine(_normalized(generated.features[2 * self.size])), 2)
        return torch.cat([x, fine, F.pixel_unshuffle(generated.picture, 4).to(x.dtype)], 1)


class PriorEnlarger(SuperResolution):
    """`SuperResolution` that joins a generator's features. With new joins, which are zero, it gives the same pictures
    as without."""

    def __init__(self, trained: SuperResolution, size: int, features: PriorFeatures) -> None:
        """As ``trained``, for pictures of ``size`` x ``size``."""
        super().__init__(trained.config)
        config = self.config
        self.coarse = CoarsePathWithPrior(config, size, features)
        self.of_picture = nn.Conv2d(3, config.fine_widths[1], 3, padding=1)
        self.load_state_dict(trained.state_dict(), strict=False)
        for join in (*self.coarse.joins.values(), self.coarse.fine, self.of_picture):
            for parameter in join.parameters():
                nn.init.zeros_(parameter)

    def _enlarge(self, features: Tensor, picture: Tensor, levels: range) -> list[Step]:
        widths = self.config.widths[0], 4 * self.config.fine_widths[0], 48
        x, fine, generated = features.split(widths, 1)
        joined = [F.pixel_shuffle(fine, 2), self.of_picture(F.pixel_shuffle(generated, 4))]
        steps = []
        doublings = [module for module in self.fine if isinstance(module, Doubling)]
        for doubling, more in zip(doublings[: levels.stop], joined, strict=False):
            x = doubling.blocks(F.leaky_relu(doubling.mix(doubled(doubling.narrow(x))), NEGATIVE_SLOPE) + more)
            picture = doubled(picture) + doubling.head(x)
            steps.append(Step(picture, x))
        return steps


def _normalized(features: Tensor) -> Tensor:
    """Channels of every picture at a mean square of 1."""
    return features * torch.rsqrt(features.float().square().mean((2, 3), keepdim=True) + _EPSILON).to(features.dtype)
