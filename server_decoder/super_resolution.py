"""A network that makes a restored picture 2 or 4 times as large.

A U-Net path from S to S/8 sees the whole face and its coordinates, so it tells an eye from hair. A doubling adds to the
bilinear enlargement of the picture a residual that a sub-pixel convolution makes of features at half its size (Shi et
al. 2016, "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network",
3): the U-Net's at S, and for factor 4 finer ones at 2S. One set of weights serves both factors: the picture of factor 2
is a step of factor 4.

What follows the U-Net is local. `SuperResolution.forward_windows` computes it on windows, which makes training
affordable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.bundle.manifest import ENLARGEMENTS
from codec_contract.errors import ModelError
from server_decoder.generative_prior import Area, Window
from server_decoder.grain.rrdb_decoder import INITIAL_RESIDUAL, NEGATIVE_SLOPE, ResidualBlock, initialize
from server_decoder.weight_file import (
    WeightKind,
    described_network,
    fill_network,
    read_config,
    read_record,
    save_network,
)

PERIOD = 4
"""In pixels; periods that divide it are removed too."""
# Sums to 1 and is exact in float16. The longer it is, the narrower the removed bands, 1/32 of a cycle per pixel here,
# and the fainter the echoes of an edge.
_COMB = tuple((8 - abs(k)) / 64 for k in range(-7, 8))
_REACH = PERIOD * (len(_COMB) // 2)


def notch_filter(picture: Tensor) -> Tensor:
    """Remove what repeats every `PERIOD` pixels in each neighbourhood of ±28 pixels; ``[B, 3, H, W]`` of any values.

    The local mean of the pixels at the same place of a period, less the local mean of all, is subtracted. Areas of one
    colour, and colours that change linearly, stay as they are, except near the picture's edges, whose pixels are
    repeated beyond them.
    """
    channels, half = picture.shape[1], PERIOD // 2
    x = F.pad(picture, (_REACH + half,) * 4, mode="replicate")
    column = torch.tensor([[[[weight] for weight in _COMB]]] * channels, dtype=x.dtype, device=x.device)
    row = torch.tensor([[[_COMB]]] * channels, dtype=x.dtype, device=x.device)
    x = F.conv2d(x, column, dilation=(PERIOD, 1), groups=channels)
    same_place = F.conv2d(x, row, dilation=(1, PERIOD), groups=channels)
    # The mean over a period around a pixel, with weights 1, 2, 2, 2, 1: two means of even sides.
    around = F.avg_pool2d(F.avg_pool2d(same_place, PERIOD, 1), 2, 1)
    return picture - (same_place[..., half:-half, half:-half] - around)


# Factor on `initialize` for convolutions without an activation: features of a new network keep a deviation of about 1.
# Without it they reach 10, and the first steps of the heads change the picture by several levels.
_LINEAR = 1 / nn.init.calculate_gain("leaky_relu", NEGATIVE_SLOPE)


@dataclass(frozen=True)
class SuperResolutionConfig:
    """The shape of the network.

    Attributes:
        widths: channels at S, S/2, S/4 and so on; the last is the coarsest scale.
        down: residual blocks at the same scales on the way down.
        up: residual blocks on the way up, at all but the coarsest scale.
        fine_widths: channels at 2S; empty for a network of factor 2 alone.
        fine_blocks: residual blocks at 2S.
    """

    widths: tuple[int, ...] = (48, 64, 96, 128)
    down: tuple[int, ...] = (1, 2, 3, 6)
    up: tuple[int, ...] = (3, 2, 3)
    fine_widths: tuple[int, ...] = (32,)
    fine_blocks: tuple[int, ...] = (3,)

    def __post_init__(self) -> None:
        scales, fine = len(self.widths), len(self.fine_widths)
        if not scales or (len(self.down), len(self.up)) != (scales, scales - 1):
            raise ValueError(
                f"{scales} widths need {scales} numbers of blocks down and {scales - 1} up, got "
                f"{len(self.down)} and {len(self.up)}"
            )
        if not 0 <= fine < len(ENLARGEMENTS) or len(self.fine_blocks) != fine:
            raise ValueError(
                f"expected widths and blocks of 0 or 1 fine scales, got {fine} and {len(self.fine_blocks)}"
            )

    @property
    def period(self) -> int:
        """Sides of pictures are multiples of it."""
        return 2 ** (len(self.widths) - 1)

    @property
    def factors(self) -> tuple[int, ...]:
        """Factors that the network has weights for."""
        return ENLARGEMENTS[: len(self.fine_widths) + 1]

    def cut(self, doublings: int) -> SuperResolutionConfig:
        """The shape without the doublings after the first ``doublings``."""
        fine = slice(doublings - 1)
        return replace(self, fine_widths=self.fine_widths[fine], fine_blocks=self.fine_blocks[fine])

    def margin(self, doublings: int) -> int:
        """Pixels of S around a window that its doublings depend on."""
        # The first head reaches one. Bilinear enlargement does too; then follow, at 2S, `mix`, blocks and their head.
        return 1 if doublings == 1 else 2 + self.fine_blocks[0]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SuperResolutionConfig:
        """The configuration that `as_dict` described."""
        return cls(**{name: tuple(value) for name, value in values.items()})


class Step(NamedTuple):
    """A doubling: its picture ``[B, 3, 2s, 2s]`` and the features ``[B, C, s, s]`` that it was made of."""

    picture: Tensor
    features: Tensor


class FineFeatures(nn.Module):
    """Features at twice the resolution."""

    def __init__(self, channels: int, out_channels: int, blocks: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, out_channels, 1)  # before the enlargement, where it is four times cheaper
        self.mix = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.blocks = _blocks(out_channels, blocks)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, C, s, s]`` -> ``[B, C', 2s, 2s]``."""
        return cast(Tensor, self.blocks(F.leaky_relu(self.mix(doubled(self.narrow(features))), NEGATIVE_SLOPE)))


class CoarsePath(nn.Module):
    """A U-Net: the picture with the coordinates of its pixels -> features at its own resolution."""

    def __init__(self, config: SuperResolutionConfig) -> None:
        super().__init__()
        widths = config.widths
        pairs = list(zip(widths, widths[1:], strict=False))
        self.first = nn.Conv2d(3, widths[0], 3, padding=1)
        # Of the coordinates: apart, because they are the same for every picture of a batch.
        self.place = nn.Conv2d(2, widths[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(_blocks(width, count) for width, count in zip(widths, config.down, strict=True))
        self.reduce = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.up = nn.ModuleList(_blocks(width, count) for width, count in zip(widths, config.up, strict=False))

    def forward(self, picture: Tensor) -> Tensor:
        """``[B, 3, S, S]`` -> ``[B, widths[0], S, S]``."""
        return self.scales(F.leaky_relu(self.first(picture) + self.place(coordinates(picture)), NEGATIVE_SLOPE))

    def scales(self, x: Tensor) -> Tensor:
        """The first features -> the last ones."""
        skips = []
        for blocks, reduce in zip(self.down, self.reduce, strict=False):
            x = blocks(x)
            skips.append(x)
            x = F.leaky_relu(reduce(x), NEGATIVE_SLOPE)
        x = self.down[-1](x)
        for blocks, narrow, skip in reversed(list(zip(self.up, self.narrow, skips, strict=True))):
            x = blocks(skip + doubled(narrow(x)))
        return x


class SuperResolution(nn.Module):
    """Restored picture ``[B, 3, S, S]`` in [-1, 1] -> ``[B, 3, 2S, 2S]`` or ``[B, 3, 4S, 4S]``, not clipped.

    A new network gives the bilinear enlargement, for factor 4 in two steps of 2.
    """

    def __init__(self, config: SuperResolutionConfig | None = None) -> None:
        super().__init__()
        self.config = config or SuperResolutionConfig()
        widths = (self.config.widths[0], *self.config.fine_widths)
        self.coarse = CoarsePath(self.config)
        self.fine = nn.ModuleList(
            FineFeatures(a, b, blocks)
            for a, b, blocks in zip(widths, widths[1:], self.config.fine_blocks, strict=False)
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, 12, 3, padding=1) for width in widths)  # 3 channels, 2x2 pixels
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                initialize(module)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                module.conv2.weight.mul_(INITIAL_RESIDUAL)
            elif isinstance(module, FineFeatures):
                module.narrow.weight.mul_(_LINEAR)
            elif isinstance(module, CoarsePath):
                for narrow in module.narrow:  # added to a skip connection
                    cast(nn.Conv2d, narrow).weight.mul_(0.5 * _LINEAR)
        for head in self.heads:
            cast(nn.Conv2d, head).weight.zero_()

    def forward(self, picture: Tensor, factor: int | None = None) -> Tensor:
        """Enlarge whole pictures by 2 or 4; None is the network's largest factor."""
        return self.forward_steps(picture, factor)[-1].picture

    def forward_steps(self, picture: Tensor, factor: int | None = None) -> list[Step]:
        """The steps of all factors up to this one, ascending; arguments and errors as `forward`."""
        doublings = self._doublings(picture, factor)
        return self.enlarge(self.coarse(picture), picture, doublings)

    def forward_windows(self, picture: Tensor, windows: Sequence[Sequence[Window]], factor: int = 4) -> list[Tensor]:
        """Enlarge windows of pictures: what `forward` gives there, at the cost of the windows.

        The windows of all pictures ``[B, 3, S, S]`` have one size. They become ``[N, 3, 2 * size, 2 * size]`` and, for
        factor 4, ``[N, 3, 4 * size, 4 * size]``; those of the first picture first.
        """
        doublings = self._doublings(picture, factor)
        return self._enlarge_windows(self.coarse(picture), picture, windows, doublings)

    def forward_whole_and_windows(self, picture: Tensor, windows: Sequence[Sequence[Window]]) -> tuple[Tensor, Tensor]:
        """Enlarge whole pictures by 2 and windows of them by 4; the U-Net is computed once."""
        doublings, features = self._doublings(picture, 4), self.coarse(picture)
        whole = self.enlarge(features, picture, 1)[-1].picture
        return whole, self._enlarge_windows(features, picture, windows, doublings)[-1]

    def require_factor(self, factor: int) -> None:
        """Raise ModelError if the network has no weights for this factor."""
        if factor not in self.config.factors:
            raise ModelError(f"the network enlarges by {' or '.join(map(str, self.config.factors))}, not by {factor}")

    def _doublings(self, picture: Tensor, factor: int | None) -> int:
        """The number of doublings of a factor."""
        factor = factor or self.config.factors[-1]
        self.require_factor(factor)
        period = self.config.period
        if picture.shape[-2] % period or picture.shape[-1] % period:
            raise ModelError(f"sides must be multiples of {period}, got {picture.shape[-1]}x{picture.shape[-2]}")
        return ENLARGEMENTS.index(factor) + 1

    def enlarge(self, features: Tensor, picture: Tensor, doublings: int) -> list[Step]:
        """The doublings of a picture, or of a part of it, and of its `coarse` features."""
        steps = []
        for level in range(doublings):
            if level:
                features = self.fine[level - 1](features)
            picture = doubled(picture) + F.pixel_shuffle(self.heads[level](features), 2)
            steps.append(Step(picture, features))
        return steps

    def _enlarge_windows(
        self, features: Tensor, picture: Tensor, windows: Sequence[Sequence[Window]], doublings: int
    ) -> list[Tensor]:
        """The pictures of each doubling in windows."""
        margin = self.config.margin(doublings)
        parts: list[list[Tensor]] = [[] for _ in range(doublings)]
        for index, of_picture in enumerate(windows):
            for window in of_picture:
                # At the picture's edges there is no margin: the convolutions pad there as they do in the whole picture.
                area = Area.of(window).grown(margin, picture.shape[-1])
                enlarged = self.enlarge(
                    area.of_maps(features[index : index + 1]), area.of_maps(picture[index : index + 1]), doublings
                )
                wanted = Area.of(window)
                for found, step in zip(parts, enlarged, strict=True):
                    area, wanted = area.doubled(), wanted.doubled()
                    found.append(wanted.of_maps(step.picture, covers=area))
        return [torch.cat(found) for found in parts]


def doubled(x: Tensor) -> Tensor:
    """Bilinear enlargement of ``[B, C, H, W]`` to twice the sides."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def coordinates(picture: Tensor) -> Tensor:
    """Row and column of every pixel in [-1, 1], ``[1, 2, H, W]``."""
    height, width = picture.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=picture.device).view(1, 1, height, 1)
    columns = torch.linspace(-1, 1, width, device=picture.device).view(1, 1, 1, width)
    return torch.cat([line.expand(1, 1, height, width) for line in (rows, columns)], 1).to(picture.dtype)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*[ResidualBlock(width) for _ in range(count)])


WEIGHTS = "super_resolution.safetensors"
"""Name of the file in the folder of a run."""
_KIND = WeightKind("super-resolution network", "super_resolution", SuperResolutionConfig.from_dict)
_TRAINING = "training"


def save_super_resolution(
    model: SuperResolution,
    path: str | Path,
    *,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
    compact: bool = False,
    force: bool = False,
) -> Path:
    """Write a network; `read_training` reads ``training``, plain JSON values, back."""
    return save_network(
        path,
        _KIND,
        model.config.as_dict(),
        model.state_dict(),
        dtype=dtype,
        compact=compact,
        force=force,
        records={_TRAINING: dict(training or {})},
    )


def load_super_resolution(path: str | Path) -> SuperResolution:
    """The network that `save_super_resolution` wrote, in float32; ``path`` is the file, or the folder of a run."""
    path = weights_path(path)
    config = read_config(path, _KIND)
    model = described_network(path, lambda: SuperResolution(config))
    fill_network(model, path, _KIND)
    return model.eval()


def read_training(path: str | Path) -> dict[str, Any]:
    """The training record in a file's header; empty if there is none."""
    return dict(read_record(weights_path(path), _KIND, _TRAINING, {}))


def holds_super_resolution(path: str | Path) -> bool:
    """True for a file, and for a folder with a ``super_resolution.safetensors``."""
    return weights_path(path).is_file()


def weights_path(path: str | Path) -> Path:
    """The weight file, given by itself or by the folder of a run."""
    return Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
