"""Evaluation of a run of GLEAN or GCFSR on held-out pictures, compared with the bicubic enlargement of the same LRs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from codec_contract.quantization import dequantize
from edgegrain.papers.face_sr.degradations import enlarge
from edgegrain.papers.face_sr.lr_inputs import Inputs, draw_inputs, inputs_at, lr_side, restore
from edgegrain.papers.face_sr.recipes import FaceSRRecipe
from edgegrain.papers.gcfsr.network import GCFSR
from edgegrain.papers.glean.network import GLEAN
from edgegrain.training.data import UNSEEN_SEED, levels_psnr, rounded_levels, write_samples
from edgegrain.training.losses import MetricNetworks

SHEET = 8  # pictures of the sample sheet
_AT_ONCE = 4


class Case(NamedTuple):
    """Inputs of one evaluation.

    Attributes:
        suffix: of the figures' names.
        inputs: of all held-out pictures; the factors are those passed to the network.
        bicubic: True to evaluate the bicubic enlargement too.
    """

    suffix: str
    inputs: Inputs
    bicubic: bool = True


class FaceSRValidation:
    """Held-out pictures, their LRs, and the evaluation of networks on them."""

    def __init__(self, recipe: FaceSRRecipe, pictures: np.ndarray, networks: MetricNetworks, device: torch.device
                 ) -> None:
        """``pictures``: uint8 ``[N, S, S, 3]``."""
        self._size, self._networks = recipe.size, networks
        self._pictures = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float().to(device)
        self._cases = _cases(recipe, self._pictures)
        self._small = nn.functional.interpolate(
            dequantize(self._pictures[:SHEET]), lr_side(recipe), mode="area") if recipe.degradation is None else None
        self._bicubic: dict[str, float] | None = None

    def figures(self, network: GLEAN | GCFSR) -> dict[str, float]:
        """Means over rounded restorations: PSNR (dB) and, with LPIPS weights, LPIPS with AlexNet.

        ``lpips_alex_off_grid`` is `LPIPS.off_grid` of the first inputs.
        ``psnr_bicubic`` and ``lpips_alex_bicubic`` are those of the enlarged LR (blind form: of the degraded picture).
        For GCFSR they are at the first factor of ``factors.evaluated``; ``..._x8`` at another, from LRs of that size,
        and ``..._strength_8`` from the first LRs at another strength.
        """
        found: dict[str, float] = {}
        for case in self._cases:
            parts = zip(case.inputs.picture.split(_AT_ONCE), case.inputs.factors.split(_AT_ONCE), strict=True)
            with torch.no_grad():
                restored = torch.cat([restore(network, picture, factors) for picture, factors in parts])
            found |= self._measure(restored, case.suffix)
        if self._bicubic is None:
            self._bicubic = {}
            for case in self._cases:
                if case.bicubic:
                    self._bicubic |= self._measure(enlarge(case.inputs.picture, self._size), "_bicubic" + case.suffix)
        return found | self._bicubic

    @torch.no_grad()
    def sheet(self, network: GLEAN | GCFSR, path: Path) -> None:
        """PNG with one column per picture: original, LR, its bicubic enlargement, and the restoration of every case."""
        first = self._cases[0].inputs.picture[:SHEET]
        rows = [dequantize(self._pictures[:SHEET])]
        if self._small is not None:
            rows.append(self._small)
        rows.append(enlarge(first, self._size))
        rows += [restore(network, case.inputs.picture[:SHEET], case.inputs.factors[:SHEET]) for case in self._cases]
        write_samples(rows, path)

    @torch.no_grad()
    def _measure(self, restored: Tensor, suffix: str) -> dict[str, float]:
        levels = rounded_levels(restored)
        figures = {"psnr" + suffix: round(float(np.mean(
            [levels_psnr(y, x) for y, x in zip(levels, self._pictures, strict=True)])), 3)}
        if self._networks.lpips is not None:
            distances = [float(self._networks.lpips(dequantize(y)[None], dequantize(x)[None]))
                         for y, x in zip(levels, self._pictures, strict=True)]
            figures["lpips_alex" + suffix] = round(float(np.mean(distances)), 4)
            if not suffix:  # seven times the time
                elsewhere = [float(self._networks.lpips.off_grid(dequantize(y)[None], dequantize(x)[None]))
                             for y, x in zip(levels, self._pictures, strict=True)]
                figures["lpips_alex_off_grid"] = round(float(np.mean(elsewhere)), 4)
        return figures


def _cases(recipe: FaceSRRecipe, pictures: Tensor) -> list[Case]:
    if recipe.factors is None:
        return [Case("", draw_inputs(recipe, pictures, np.random.default_rng(UNSEEN_SEED)))]
    first, *others = recipe.factors.evaluated
    main = inputs_at(recipe, pictures, first)
    strengths = [Case(f"_strength_{other:g}", Inputs(main.picture, torch.full_like(main.factors, other)), False)
                 for other in others]
    return [Case("", main), *(Case(f"_x{other:g}", inputs_at(recipe, pictures, other)) for other in others), *strengths]
