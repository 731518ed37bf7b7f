"""The training of enlargers: restored pictures whole at their own size, windows of them at the enlarged one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.errors import ModelError
from codec_contract.pixels import dequantize
from edgegrain.metrics.lpips import LPIPS, cropped
from edgegrain.metrics.picture_metrics import squares
from edgegrain.metrics.pixel_scores import added_peaks, has_peaks, periodic_peaks
from edgegrain.training.adversarial import AdversarialLoss, joint_loss
from edgegrain.training.checkpoint import CHECKPOINT, Run, frozen_copy, open_checkpoint
from edgegrain.training.data import compared, mean_figures, picture_levels, rounded_levels, write_samples
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import Family, RunOptions, Trainer
from edgegrain.training.losses import GridLoss, MetricNetworks, random_offset, weighted_sum
from edgegrain.training.super_resolution.pairs import CELL, Pairs, training_pairs, window_batches
from edgegrain.training.super_resolution.recipes import (
    SUPER_RESOLUTION_RECIPES,
    SuperResolutionLosses,
    SuperResolutionRecipe,
)
from export.bundle.enlarger import find_enlarger
from server_decoder.generative_prior import Window
from server_decoder.grain.fusion import BicubicEnlargement
from server_decoder.super_resolution import (
    WEIGHTS,
    SuperResolution,
    holds_super_resolution,
    load_super_resolution,
    save_super_resolution,
)

FAMILY = "super_resolution"


@dataclass
class SuperResolutionRun(Run):
    """The state of a training run."""

    model: SuperResolution
    average: SuperResolution
    family = FAMILY

    def save_weights(self, folder: Path) -> None:
        """Write ``super_resolution.safetensors``, large weights as int8, as bundles hold them."""
        training = {"config": self.recipe.as_dict(), "pictures_seen": self.pictures}
        save_super_resolution(self.average, folder / WEIGHTS, training=training, compact=True, force=True)


def start_run(recipe: SuperResolutionRecipe, start: str | Path | None = None) -> SuperResolutionRun:
    """A run at its first step; ``start``: a ``super_resolution.safetensors``, a folder with one, or a bundle with an
    enlarger, to begin with."""
    torch.manual_seed(recipe.seed)
    model = SuperResolution(recipe.network)
    if start is not None:
        trained = load_super_resolution(start) if holds_super_resolution(start) else find_enlarger(start).network()
        if trained.config != recipe.network.cut(len(trained.config.factors)):  # a bundle may have one of two doublings
            raise ModelError(f"{start} holds {trained.config}, the recipe has {recipe.network}")
        model.load_state_dict({**model.state_dict(), **trained.state_dict()})
    adversarial = AdversarialLoss(recipe.adversarial) if recipe.adversarial is not None else None
    return SuperResolutionRun(recipe, model, frozen_copy(model), adversarial)


def load_run(folder: Path) -> SuperResolutionRun:
    """The run of a folder, on the CPU."""
    with open_checkpoint(folder, FAMILY) as stored:
        return start_run(SuperResolutionRecipe.from_dict(stored.config)).load(stored)


SHEET = 4  # pictures of the sample sheet


class SuperResolutionTrainer(Trainer):
    """The training of an enlarger."""

    run: SuperResolutionRun

    def __init__(
        self, run: SuperResolutionRun, distributed: Distributed, networks: MetricNetworks, pairs: Pairs, held_out: Pairs
    ) -> None:
        """The pairs are those of `training_pairs`."""
        super().__init__(run, distributed, len(pairs), networks)
        recipe, self._lpips, self._grid = run.recipe, networks.lpips, GridLoss()
        self._feed = window_batches(recipe, pairs, self.seed, distributed.device)
        self._held_out = held_out
        self._peaks = [
            periodic_peaks(np.asarray(original)) if has_peaks(original) else {} for original in self._held_out.originals
        ]
        self._bicubic = BicubicEnlargement(recipe.size, recipe.factor * recipe.size).to(distributed.device)
        rows = [
            compared(self._bicubic(self._restored(index)), self._original(index), self._lpips)
            for index in range(len(self._held_out))
        ]
        self._of_bicubic = {f"{name}_bicubic": value for name, value in mean_figures(rows).items()}

    def step(self, progress: float) -> dict[str, Tensor]:
        run, recipe, batch = self.run, self.run.recipe, next(self._feed)
        with self.precision():
            picture = dequantize(batch.picture).contiguous(memory_format=self.distributed.layout)
            steps = run.model.forward_windows(picture, batch.windows, recipe.factor)
            enlarged, target = steps[-1].float(), dequantize(batch.target)
            loss, terms = joint_loss(
                enlarged,
                lambda seen: window_loss(
                    recipe.loss,
                    seen,
                    target,
                    cut_windows(picture, batch.windows),
                    self._lpips,
                    random_offset(recipe.lpips_shift),
                    self._grid,
                ),
                run.adversarial,
                progress,
                target,
            )
            if len(steps) > 1 and recipe.loss.half:
                loss = loss + half_loss(
                    recipe.loss, steps[0].float(), target, self._lpips, random_offset(recipe.lpips_shift)
                )
        return self.finish_step(loss, terms, progress, enlarged, target)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Means over rounded whole pictures: PSNR (dB) and LPIPS, and both of the bicubic enlargement;
        ``input_levels``, the mean absolute difference of the box mean from the restored picture; ``peaks_2`` to
        ``peaks_16``, by how many dB peaks of that period in the spectrum are higher than the original's."""
        rows, factor = [], self.run.recipe.factor
        for index, known in enumerate(self._peaks):
            restored = self._restored(index)
            enlarged = self.run.average(restored, factor)
            levels = rounded_levels(enlarged)
            row = compared(enlarged, self._original(index), self._lpips)
            row["input_levels"] = float((F.avg_pool2d(levels, factor) - rounded_levels(restored)).abs().mean())
            if known:
                picture = levels[0].permute(1, 2, 0).cpu().numpy().astype(np.uint8)
                row |= {f"peaks_{period}": height for period, height in added_peaks(picture, known).items()}
            rows.append(row)
        return mean_figures(rows) | self._of_bicubic

    @torch.no_grad()
    def draw_samples(self, path: Path) -> None:
        """Write a sheet: left eyes, right eyes and mouths of bicubic enlargement, of the network and of originals."""
        columns = []
        for index in range(min(SHEET, len(self._held_out))):
            restored = self._restored(index)
            columns.append(
                [
                    squares(picture)
                    for picture in (
                        self._bicubic(restored),
                        self.run.average(restored, self.run.recipe.factor),
                        dequantize(self._original(index)),
                    )
                ]
            )
        write_samples([torch.cat(row) for row in zip(*columns, strict=True)], path)

    def _restored(self, index: int) -> Tensor:
        return dequantize(picture_levels(self._held_out.restored[index], self.distributed.device))

    def _original(self, index: int) -> Tensor:
        return picture_levels(self._held_out.originals[index], self.distributed.device)


def open_trainer(
    recipe: SuperResolutionRecipe, options: RunOptions, folder: Path, distributed: Distributed
) -> SuperResolutionTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    needed = bool(recipe.loss.lpips or recipe.adversarial)
    networks = MetricNetworks.load(options.weights, distributed.device, needed=needed)
    if (folder / CHECKPOINT).exists():
        run = load_run(folder)
        run.resume(recipe, network=run.recipe.network, size=run.recipe.size)
    else:
        run = start_run(recipe, options.init_from)
    return SuperResolutionTrainer(run, distributed, networks, *training_pairs(run.recipe, options, folder))


SUPER_RESOLUTION = Family(
    FAMILY,
    "Super-resolution of restored pictures",
    SuperResolutionRecipe,
    SUPER_RESOLUTION_RECIPES,
    open_trainer,
    lambda recipe: recipe.iterations * recipe.batch,
    evaluate_every=1000,
)


def window_loss(
    weights: SuperResolutionLosses,
    enlarged: Tensor,
    target: Tensor,
    restored: Tensor,
    lpips: LPIPS | None,
    offset: tuple[int, int] | None,
    grid: GridLoss | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum, and every unweighted term, detached.

    Args:
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
    total, detached = weighted_sum(weights, terms)
    if weights.grid and grid is not None:
        part, detached["grid"] = grid(enlarged, target, CELL * factor)
        total = total + weights.grid * part
    return total, detached


def half_loss(
    weights: SuperResolutionLosses,
    enlarged: Tensor,
    target: Tensor,
    lpips: LPIPS | None,
    offset: tuple[int, int] | None,
) -> Tensor:
    """The loss of windows at twice the size against the 2x2 box means of the originals, as a step of factor 4, by
    `SuperResolutionLosses.half`."""
    terms = detail_terms(weights, enlarged, F.avg_pool2d(target, 2), lpips, offset)
    return weights.half * weighted_sum(weights, terms)[0]


def detail_terms(
    weights: SuperResolutionLosses,
    enlarged: Tensor,
    target: Tensor,
    lpips: LPIPS | None,
    offset: tuple[int, int] | None,
) -> dict[str, Tensor]:
    """The unweighted terms that compare an enlarged window with its original of the same size."""
    terms = {}
    if weights.l1:
        terms["l1"] = (enlarged - target).abs().mean()
    if weights.lpips and lpips is not None:
        terms["lpips"] = lpips(cropped(enlarged, offset), cropped(target, offset)).mean()
    return terms


def cut_windows(picture: Tensor, windows: list[list[Window]]) -> Tensor:
    """The windows of pictures ``[B, 3, S, S]``, those of the first picture first."""
    return torch.stack(
        [
            picture[index, :, top : top + size, left : left + size]
            for index, of_picture in enumerate(windows)
            for top, left, size in of_picture
        ]
    )
