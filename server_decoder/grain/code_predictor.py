"""Scale-specific code prediction ([GRAIN] 3.3, Fig. 3): invertible features f_inv -> codes in W+.

Every code of the generator is predicted from the invertible features of the resolution it steers. At each scale those
are joined with the features of the next finer scale and reduced to the base resolution by convolutions of stride 2;
branches of further such convolutions end at 1x1, and a linear layer computes the code. Codes of resolutions that the
decoder does not reach (4x4 and 8x8 when the LR is 16x16) reuse the coarsest scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from server_decoder.grain.rrdb_decoder import NEGATIVE_SLOPE, initialize


@dataclass(frozen=True)
class CodesConfig:
    """Shape of the predictor; the defaults are the paper's.

    Attributes:
        widths: channels of the joined features at every scale of the decoder, coarse to fine, or one number for all;
            where f_inv has another width, a 1x1 convolution adapts it.
        branch: output channels of a branch's convolutions, all of stride 2. They end at 1x1, so their number fixes the
            base resolution: four start at 16x16.
        branch_per: ``"code"``, or ``"resolution"``: codes of one resolution have only their linear layers apart.
        source: ``"scales"``, or ``"coarsest"``: all codes from the coarsest features alone, as pSp's map from one
            encoding to all styles; the ablation of [GRAIN] Table 2.
        offsets: resolutions of the generator's features to which a convolution of f_inv is added. Codes act on all
            positions alike, so they alone cannot place an eye; an addition at a low resolution can, as in GLEAN's
            latent bank and in inversion to feature space (Yao et al., arXiv 2202.02183). A new model adds zero.
    """

    widths: int | tuple[int, ...] = 64
    branch: tuple[int, ...] = (64, 128, 256, 512)
    branch_per: str = "code"
    source: str = "scales"
    offsets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.branch_per not in ("code", "resolution"):
            raise ValueError(f"unknown branch_per {self.branch_per!r}; expected 'code' or 'resolution'")
        if self.source not in ("scales", "coarsest"):
            raise ValueError(f"unknown source {self.source!r}; expected 'scales' or 'coarsest'")

    @property
    def base(self) -> int:
        """Side of the features that the branches take."""
        return 1 << len(self.branch)


def resolution_of_codes(code_resolutions: Sequence[int]) -> tuple[int, ...]:
    """The resolution whose features predict each code.

    The paper divides StyleGAN2's 18 codes into nine pairs, for 4x4 to 1024x1024, although code 1 also steers the first
    layer at 8x8. Any generator with two codes per resolution is treated alike; else a code belongs to the layer it
    steers (MobileStyleGAN cut to 256x256: 13 codes for seven resolutions).
    """
    distinct = list(dict.fromkeys(code_resolutions))
    if len(code_resolutions) == 2 * len(distinct):
        return tuple(resolution for resolution in distinct for _ in range(2))
    return tuple(code_resolutions)


def halving(channels: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution of stride 2 and leaky ReLU."""
    return nn.Sequential(nn.Conv2d(channels, out_channels, 3, stride=2, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE))


def offset_convolution(inv_channels: Mapping[int, int], gen_channels: Mapping[int, int], side: int) -> nn.Conv2d:
    """From f_inv at ``side``, or averaged down to it, to the generator's channels there."""
    if side not in gen_channels or side > max(inv_channels):
        raise ValueError(
            f"no offset is possible at {side}x{side}: f_inv comes at {sorted(inv_channels)}, the "
            f"generator's features at {sorted(gen_channels)}"
        )
    return nn.Conv2d(inv_channels.get(side, inv_channels[min(inv_channels)]), gen_channels[side], 3, padding=1)


class ScaleFeatures(nn.Module):
    """One scale's f_inv, joined with the next finer scale's, on its way down to the base resolution."""

    def __init__(self, channels: int, widths: Sequence[int], *, predicts: bool) -> None:
        """``widths``: of the joined features here and after every halving down to the base resolution; ``predicts``:
        false if the scale only passes its features, of ``channels``, to the next coarser one."""
        super().__init__()
        self.adapt = nn.Conv2d(channels, widths[0], 1) if channels != widths[0] else None
        self.halve = halving(widths[0], widths[1]) if len(widths) > 1 else None
        rest = itertools.pairwise(widths[1:])
        self.reduce = nn.Sequential(*(halving(a, b) for a, b in rest)) if predicts else None

    def forward(self, f_inv: Tensor, finer: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The features that the next coarser scale joins with its own, and the features at the base resolution."""
        x = f_inv if self.adapt is None else self.adapt(f_inv)
        x = x if finer is None else x + finer
        x = x if self.halve is None else self.halve(x)
        return x, None if self.reduce is None else self.reduce(x)


class CodePredictor(nn.Module):
    """f_inv, coarse to fine -> offsets of the codes from the mean latent, ``[B, L, code_width]``.

    Attributes:
        scale_of_code: for every code the side of the features it is predicted from.
        branch_of_code: for every code the index of its branch.
    """

    def __init__(
        self,
        config: CodesConfig,
        features: Mapping[int, int],
        code_resolutions: Sequence[int],
        code_width: int = 512,
        gen_channels: Mapping[int, int] | None = None,
    ) -> None:
        """``features``: channels of f_inv by side, coarse to fine; the others, ``gen_channels`` only for offsets, are
        those of the `GenerativePrior`."""
        super().__init__()
        self.config = config
        sides = list(features)
        if sides[0] < config.base:
            raise ValueError(
                f"{len(config.branch)} branch convolutions start at {config.base}x{config.base}, but the "
                f"coarsest features are {sides[0]}x{sides[0]}; give fewer"
            )
        widths = [config.widths] * len(sides) if isinstance(config.widths, int) else list(config.widths)
        if len(widths) != len(sides):
            raise ValueError(f"the decoder has {len(sides)} scales, the code predictor's widths are {widths}")
        # Below the coarsest scale the width stays.
        extra = (sides[0] // config.base).bit_length() - 1
        used = sides[:1] if config.source == "coarsest" else sides
        resolutions = resolution_of_codes(code_resolutions)
        self.scale_of_code = tuple(min(max(resolution, used[0]), used[-1]) for resolution in resolutions)
        self.scales = nn.ModuleDict()
        for index, side in enumerate(used):
            own = [*widths[index::-1], *widths[:1] * extra]
            self.scales[str(side)] = ScaleFeatures(features[side], own, predicts=side in self.scale_of_code)
        keys = range(len(resolutions)) if config.branch_per == "code" else resolutions
        names = list(dict.fromkeys(keys))
        self.branch_of_code = [names.index(key) for key in keys]
        channels = (widths[0], *config.branch)
        self.branches = nn.ModuleList()
        for _ in names:
            steps = [halving(a, b) for a, b in itertools.pairwise(channels)]
            self.branches.append(nn.Sequential(*steps, nn.Flatten()))
        self.codes = nn.ModuleList(nn.Linear(channels[-1], code_width) for _ in resolutions)
        self.offsets = nn.ModuleDict(
            {str(side): offset_convolution(features, gen_channels or {}, side) for side in config.offsets}
        )
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                initialize(module)
                if module in self.offsets.values():
                    module.weight.zero_()
            elif isinstance(module, nn.Linear):
                # Codes deviate by 0.1 from the mean latent, for features of unit variance; W itself by a few tenths.
                nn.init.normal_(module.weight, std=0.1 / module.in_features**0.5)
                nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """``features``: f_inv ``[B, C, s, s]`` of every scale, coarse to fine."""
        base: dict[int, Tensor | None] = {}
        finer = None
        for f_inv in reversed(features[: len(self.scales)]):
            side = f_inv.shape[-1]
            finer, base[side] = self.scales[str(side)](f_inv, finer)  # [B, widths[0], base, base]
        branches: dict[int, Tensor] = {}
        codes = []
        wide = next(self.codes.parameters()).dtype  # float32, also where convolutions are not
        for side, branch, linear in zip(self.scale_of_code, self.branch_of_code, self.codes, strict=True):
            if branch not in branches:
                branches[branch] = self.branches[branch](base[side])  # [B, branch[-1]]
            codes.append(linear(branches[branch].to(wide)))
        return torch.stack(codes, 1)

    def predict_offsets(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """``features`` as in `forward` -> the offsets of the generator's features, by resolution."""
        by_side, coarsest = {f_inv.shape[-1]: f_inv for f_inv in features}, features[0]
        offsets = {}
        for name, convolution in self.offsets.items():
            side = int(name)
            source = by_side[side] if side in by_side else F.avg_pool2d(coarsest, coarsest.shape[-1] // side)
            offsets[side] = convolution(source)
        return offsets
