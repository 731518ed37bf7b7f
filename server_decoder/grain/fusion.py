"""The upscaling priors decoding module ([GRAIN] 3.4): invertible and generative features become one picture.

At three resolutions f_inv and f_gen are concatenated, weighted by squeeze and excitation (SE) and convolved; all are
upsampled to the full size, concatenated, weighted and convolved again.

It deviates from the paper in one point: the module's output is added to an existing picture, and its last convolution
starts at zero. With the invertible picture as base a new model restores exactly the invertible decoder's picture.
Two sharp pictures whose edges differ in position are worse half mixed than either of them, so gradient descent from one
does not reach the other: if the generator's picture is the better one, it is the better base.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.exact_square import cubic
from server_decoder.grain.rrdb_decoder import convolutions, initialize


def enlargement_matrix(small: int, large: int) -> npt.NDArray[np.float64]:
    """``[large, small]``: every row holds the weights of one sample of the larger line; rows sum to 1.

    Samples beyond the edge are those at the edge.
    """
    centres = (np.arange(large) + 0.5) * small / large - 0.5
    first = np.floor(centres).astype(int) - 1
    matrix = np.zeros((large, small))
    for tap in range(4):
        position = first + tap
        np.add.at(matrix, (np.arange(large), position.clip(0, small - 1)), cubic(centres - position))
    return matrix


class BicubicEnlargement(nn.Module):
    """``[B, C, s, s]`` -> ``[B, C, S, S]``, in the input's type."""

    matrix: Tensor

    def __init__(self, small: int, large: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.from_numpy(enlargement_matrix(small, large)).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.matrix.to(x.dtype)
        return matrix @ (x @ matrix.T)


@dataclass(frozen=True)
class FusionConfig:
    """Shape of the module; the defaults are the paper's, its widths those of the authors' model.

    ``kind`` ``"pictures"`` is the ablation "image-level fusion" of [GRAIN] Table 2, which concatenates the invertible
    and the style picture and has only the ``head``. ``base`` is the picture that the output is added to:
    ``"invertible"`` or ``"style"``; ``"none"`` (the paper's, which the authors' checkpoints need) if it is the picture
    itself. ``project`` are channels of f_gen after a 1x1 convolution before the concatenation, per resolution; () for
    no such convolution (the paper's): generators are wide where small decoders are narrow.
    """

    kind: str = "features"
    base: str = "invertible"
    sizes: tuple[int, ...] = (256, 512, 1024)  # of the fused features, each twice the one before; last the picture's
    widths: tuple[int, ...] = (128, 64, 32)  # channels after each resolution's convolutions
    head: tuple[int, ...] = (128, 128, 64, 64)  # hidden channels of the 3x3 convolutions at full size
    project: tuple[int, ...] = ()
    reduction: int = 16  # of the SE blocks

    def __post_init__(self) -> None:
        if self.kind not in ("features", "pictures"):
            raise ValueError(f"unknown kind of fusion {self.kind!r}; expected 'features' or 'pictures'")
        if self.base not in ("invertible", "style", "none"):
            raise ValueError(f"unknown base of the fusion {self.base!r}; expected 'invertible', 'style' or 'none'")
        if any(b != 2 * a for a, b in itertools.pairwise(self.sizes)):
            raise ValueError(f"fusion sizes must double, got {list(self.sizes)}")
        if len(self.widths) != len(self.sizes) or len(self.project) not in (0, len(self.sizes)):
            raise ValueError(
                f"fusion at {len(self.sizes)} sizes needs as many widths (and projections, if any), got "
                f"{list(self.widths)} and {list(self.project)}"
            )


class SqueezeExcitation(nn.Module):
    """Channel weights from channel means (Hu et al., CVPR 2018): two linear layers without bias, ReLU, sigmoid."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(channel_means(x)).to(x.dtype)

    def weights(self, means: Tensor) -> Tensor:
        """``[B, C, 1, 1]`` -> the channels' weights in 0...1, ``[B, C, 1, 1]``."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(means.to(self.squeeze.weight.dtype)))))


class FusionScale(nn.Module):
    """f_inv and f_gen of one resolution: concatenation, SE, two convolutions.

    ``gen_channels`` 0: the prior has no features here, f_inv passes alone. (MobileStyleGAN's last features at 1024 are
    those of 512x512; they reach full size through that scale.)
    """

    def __init__(self, inv_channels: int, gen_channels: int, width: int, project: int | None, reduction: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(gen_channels, project, 1) if project is not None and gen_channels else None
        channels = inv_channels + (gen_channels if self.project is None else self.project.out_channels)
        self.attention = SqueezeExcitation(channels, reduction)
        self.convs = convolutions((channels, width, width))

    def forward(self, f_inv: Tensor, f_gen: Tensor | None) -> Tensor:
        if f_gen is not None and self.project is not None:
            f_gen = self.project(f_gen)
        x = f_inv if f_gen is None else torch.cat([f_inv, f_gen], 1)
        return self.convs(self.attention(x))


class FeatureFusion(nn.Module):
    """(f_inv, f_gen) -> the summand of the base, ``[B, 3, S, S]``."""

    def __init__(self, config: FusionConfig, inv_channels: Mapping[int, int], gen_channels: Mapping[int, int]) -> None:
        """Channels of f_inv and of f_gen by side."""
        super().__init__()
        self.config = config
        if missing := sorted(set(config.sizes) - set(inv_channels)):
            raise ValueError(f"fusion at {missing} is not possible: f_inv comes at {sorted(inv_channels)}")
        project = config.project or (None,) * len(config.sizes)
        self.scales = nn.ModuleList(
            FusionScale(inv_channels[size], gen_channels.get(size, 0), width, narrow, config.reduction)
            for size, width, narrow in zip(config.sizes, config.widths, project, strict=True)
        )
        channels = sum(config.widths)
        self.attention = SqueezeExcitation(channels, config.reduction)
        self.head = convolutions((channels, *config.head))
        self.to_rgb = nn.Conv2d((channels, *config.head)[-1], 3, 3, padding=1)
        _initialize(self)

    def forward(self, f_inv: Sequence[Tensor], f_gen: Mapping[int, Tensor]) -> Tensor:
        """``f_inv``: coarse to fine, all scales of the decoder; ``f_gen``: by resolution."""
        full, fused = self.config.sizes[-1], []
        by_size = {feature.shape[-1]: feature for feature in f_inv}
        for size, scale in zip(self.config.sizes, self.scales, strict=True):
            x = scale(by_size[size], f_gen.get(size))  # [B, width, size, size]
            fused.append(F.interpolate(x, scale_factor=full // size, mode="nearest") if size < full else x)
        return self.to_rgb(self.head(self.attention(torch.cat(fused, 1))))


class PictureFusion(nn.Module):
    """Invertible and style picture -> the summand of the base; the paper's ablation."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.head = convolutions((6, *config.head))
        self.to_rgb = nn.Conv2d((6, *config.head)[-1], 3, 3, padding=1)
        _initialize(self)

    def forward(self, invertible: Tensor, style: Tensor) -> Tensor:
        return self.to_rgb(self.head(torch.cat([invertible, style], 1)))


def channel_means(x: Tensor) -> Tensor:
    """``[B, C, H, W]`` -> ``[B, C, 1, 1]``."""
    return x.mean((2, 3), keepdim=True)


@torch.no_grad()
def _initialize(fusion: FeatureFusion | PictureFusion) -> None:
    for module in fusion.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:  # those of squeeze and excitation have none
            initialize(module)
    for parameter in fusion.to_rgb.parameters():
        parameter.zero_()
