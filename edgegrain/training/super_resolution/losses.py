"""Losses of enlarged windows, and the evaluation of a run on whole held-out pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.quantization import dequantize
from edgegrain.metrics.face_regions import squares
from edgegrain.metrics.lpips import LPIPS, cropped
from edgegrain.metrics.periodic_peaks import added_peaks, has_peaks, periodic_peaks
from edgegrain.training.data import levels_psnr, picture_levels, rounded_levels, write_samples
from edgegrain.training.losses import GridLoss
from edgegrain.training.super_resolution.pairs import CELL, Pairs
from edgegrain.training.super_resolution.recipes import SuperResolutionLosses
from server_decoder.grain.fusion import BicubicEnlargement
from server_decoder.super_resolution.network import SuperResolution
from server_decoder.window import Window


def window_loss(weights: SuperResolutionLosses, enlarged: Tensor, target: Tensor, restored: Tensor,
                lpips: LPIPS | None, offset: tuple[int, int] | None, grid: GridLoss | None = None
                ) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum, and every unweighted term, detached.

    Args:
        weights: of the terms.
        enlarged, target: windows at the enlarged size.
        restored: the same windows of the network's input.
        lpips: may be None if its weight is 0.
        offset: rows and columns at which the crop for LPIPS begins, as in `edgegrain.training.losses.picture_loss`.
        grid: of the run; None leaves its term out.
    """
    terms = detail_terms(weights, enlarged, target, lpips, offset)
    factor = enlarged.shape[-1] // restored.shape[-1]
    if weights.reduced or weights.input:
        mean = F.avg_pool2d(enlarged, factor)
        terms["reduced"] = (mean - F.avg_pool2d(target, factor)).abs().mean()
        terms["input"] = (mean - restored).abs().mean()
    total = sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros(()))
    detached = {name: value.detach() for name, value in terms.items()}
    if weights.grid and grid is not None:
        part, detached["grid"] = grid(enlarged, target, CELL * factor)
        total = total + weights.grid * part
    return total, detached


def half_loss(weights: SuperResolutionLosses, enlarged: Tensor, target: Tensor, lpips: LPIPS | None,
              offset: tuple[int, int] | None) -> Tensor:
    """The loss of factor 2 as a step of factor 4, by `SuperResolutionLosses.half`.

    Args:
        weights: of the terms.
        enlarged: windows at twice the size.
        target: the originals at four times the size; their 2x2 box means count.
        lpips, offset: as in `window_loss`.
    """
    terms = detail_terms(weights, enlarged, F.avg_pool2d(target, 2), lpips, offset)
    return weights.half * sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros(()))


def detail_terms(weights: SuperResolutionLosses, enlarged: Tensor, target: Tensor, lpips: LPIPS | None,
                 offset: tuple[int, int] | None) -> dict[str, Tensor]:
    """The unweighted terms that compare an enlarged window with its original of the same size."""
    terms = {}
    if weights.l1:
        terms["l1"] = (enlarged - target).abs().mean()
    if weights.lpips and lpips is not None:
        if offset is not None:
            enlarged, target = cropped(enlarged, offset), cropped(target, offset)
        terms["lpips"] = lpips(enlarged, target).mean()
    return terms


def cut_windows(picture: Tensor, windows: list[list[Window]]) -> Tensor:
    """The windows of pictures ``[B, 3, S, S]``, those of the first picture first."""
    return torch.stack([picture[index, :, top : top + size, left : left + size]
                        for index, of_picture in enumerate(windows) for top, left, size in of_picture])


SHEET = 4  # pictures of the sample sheet


class SuperResolutionValidation:
    """Held-out pairs, and the evaluation of networks on them, one whole picture after the other."""

    def __init__(self, pairs: Pairs, factor: int, lpips: LPIPS | None, device: torch.device) -> None:
        """The figures of bicubic enlargement are computed once, here.

        Args:
            pairs: to evaluate on.
            factor: of the enlargement.
            lpips: AlexNet's, on the device; None to leave it out.
            device: of the networks.
        """
        self._pairs, self._factor, self._lpips, self._device = pairs, factor, lpips, device
        self._peaks = [periodic_peaks(np.asarray(original)) if has_peaks(original) else {}
                       for original in pairs.originals]
        size = pairs.restored.shape[1]
        self._bicubic = BicubicEnlargement(size, factor * size).to(device)
        rows = [self._compared(self._bicubic(self._restored(index)), index) for index in range(len(pairs))]
        self._of_bicubic = {f"{name}_bicubic": value for name, value in _means(rows).items()}

    @torch.no_grad()
    def figures(self, network: SuperResolution) -> dict[str, float]:
        """Means over rounded pictures.

        ``psnr`` (dB) and ``lpips_alex``, and both of the bicubic enlargement; ``input_levels``, the mean absolute
        difference of the box mean from the restored picture, in levels; ``peaks_2`` to ``peaks_16``, by how many dB
        peaks of that period in the spectrum are higher than the original's.
        """
        rows = []
        for index, known in enumerate(self._peaks):
            restored = self._restored(index)
            enlarged = network(restored, self._factor)
            levels = rounded_levels(enlarged)
            row = self._compared(enlarged, index)
            change = F.avg_pool2d(levels, self._factor) - rounded_levels(restored)
            row["input_levels"] = float(change.abs().mean())
            if known:
                picture = levels[0].permute(1, 2, 0).cpu().numpy().astype(np.uint8)
                row |= {f"peaks_{period}": height for period, height in added_peaks(picture, known).items()}
            rows.append(row)
        return _means(rows) | self._of_bicubic

    @torch.no_grad()
    def sheet(self, network: SuperResolution, path: Path) -> None:
        """Write a sheet: left eyes, right eyes and mouths of bicubic enlargement, of the network and of originals."""
        count = min(SHEET, len(self._pairs))
        rows: list[list[Tensor]] = [[], [], []]
        for index in range(count):
            restored = self._restored(index)
            for row, picture in zip(rows, (self._bicubic(restored), network(restored, self._factor),
                                           dequantize(self._original(index))), strict=True):
                row.append(squares(picture))
        write_samples([torch.cat(row) for row in rows], path)

    def _compared(self, enlarged: Tensor, index: int) -> dict[str, float]:
        levels, original = rounded_levels(enlarged), self._original(index)
        row = {"psnr": levels_psnr(levels, original)}
        if self._lpips is not None:
            with torch.no_grad():
                row["lpips_alex"] = float(self._lpips(dequantize(levels), dequantize(original)))
        return row

    def _restored(self, index: int) -> Tensor:
        return dequantize(picture_levels(self._pairs.restored[index], self._device))

    def _original(self, index: int) -> Tensor:
        return picture_levels(self._pairs.originals[index], self._device)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([row[name] for row in rows])), 3 if name == "psnr" else 4) for name in rows[0]}
