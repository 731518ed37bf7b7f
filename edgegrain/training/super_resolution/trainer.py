"""The training of enlargers: restored pictures whole at their own size, windows of them at the enlarged one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import ModelError
from codec_contract.pixels import dequantize
from edgegrain.metrics.face_regions import squares
from edgegrain.metrics.lpips import LPIPS, cropped
from edgegrain.metrics.pixel_scores import added_peaks, has_peaks, periodic_peaks
from edgegrain.training.adversarial import AdversarialLoss, joint_loss, resumed
from edgegrain.training.checkpoint import CHECKPOINT, open_checkpoint, prefixed
from edgegrain.training.data import levels_psnr, picture_levels, require_pictures, rounded_levels, write_samples
from edgegrain.training.distributed import Distributed, mixed_precision
from edgegrain.training.family import Family, RunOptions
from edgegrain.training.losses import GridLoss, MetricNetworks, needed_metric_weights, random_offset
from edgegrain.training.optimizers import annealed, descend, early_decay, optimizers, update_averages
from edgegrain.training.recipe import continued
from edgegrain.training.super_resolution.pairs import (
    CELL,
    Pairs,
    TrainingPairs,
    WindowBatch,
    training_pairs,
    window_batches,
)
from edgegrain.training.super_resolution.recipes import (
    SUPER_RESOLUTION_RECIPES,
    SuperResolutionLosses,
    SuperResolutionRecipe,
)
from export.bundle.enlarger import find_enlarger
from server_decoder.grain.fusion import BicubicEnlargement
from server_decoder.super_resolution import (
    WEIGHTS,
    SuperResolution,
    holds_super_resolution,
    load_super_resolution,
    save_super_resolution,
)
from server_decoder.window import Window

FAMILY = "super_resolution"


@dataclass
class SuperResolutionRun:
    """The state of a training run.

    Attributes:
        model: the network that the optimizer changes.
        average: the same with averaged weights, which is evaluated and stored.
        adversarial: the discriminator, in recipes that have one.
        pictures: seen so far.
    """

    recipe: SuperResolutionRecipe
    model: SuperResolution
    average: SuperResolution
    adversarial: AdversarialLoss | None = None
    pictures: int = 0
    family = FAMILY

    def networks(self) -> dict[str, nn.Module]:
        """All networks by their prefix in a checkpoint."""
        networks: dict[str, nn.Module] = {"model": self.model, "average": self.average}
        return networks if self.adversarial is None else {**networks, "discriminator": self.adversarial.discriminator}

    def tensors(self) -> dict[str, Tensor]:
        return prefixed(self.networks())

    def state(self) -> dict[str, Any]:
        return {}

    def save_weights(self, folder: Path) -> None:
        """Write ``super_resolution.safetensors``, large weights as int8, as bundles hold them."""
        training = {"config": self.recipe.as_dict(), "pictures_seen": self.pictures}
        save_super_resolution(self.average, folder / WEIGHTS, training=training, compact=True, force=True)


def start_run(recipe: SuperResolutionRecipe, start: str | Path | None = None) -> SuperResolutionRun:
    """A run at its first step.

    Args:
        recipe: of the run.
        start: a ``super_resolution.safetensors``, a folder with one, or a bundle with an enlarger, to begin with.
    """
    torch.manual_seed(recipe.seed)
    model = SuperResolution(recipe.network)
    if start is not None:
        trained = load_super_resolution(start) if holds_super_resolution(start) else find_enlarger(start).network()
        if trained.config != recipe.network.cut(len(trained.config.factors)):  # a bundle may have one of two doublings
            raise ModelError(f"{start} holds {trained.config}, the recipe has {recipe.network}")
        model.load_state_dict({**model.state_dict(), **trained.state_dict()})
    adversarial = AdversarialLoss(recipe.adversarial) if recipe.adversarial is not None else None
    return SuperResolutionRun(recipe, model, copy.deepcopy(model).eval().requires_grad_(False), adversarial)


def load_run(folder: Path) -> SuperResolutionRun:
    """The run of a folder, on the CPU."""
    with open_checkpoint(folder, FAMILY) as stored:
        run = start_run(SuperResolutionRecipe.from_dict(stored.config))
        for prefix, network in run.networks().items():
            network.load_state_dict(stored.part(prefix))
        run.pictures = stored.pictures
        return run


class SuperResolutionTrainer:
    """A run on its device, one step at a time.

    Attributes:
        steps: taken in this session.
        skipped: steps whose gradient was not finite and that changed nothing.
    """

    def __init__(self, run: SuperResolutionRun, distributed: Distributed, pairs: TrainingPairs,
                 networks: MetricNetworks) -> None:
        """Moves the run's networks to the device.

        Args:
            run: the run.
            distributed: device and processes.
            pairs: to train and to evaluate on.
            networks: LPIPS, on the device.
        """
        recipe = run.recipe
        self.run, self.distributed = run, distributed
        self.pictures_in_set = len(pairs.full) + (0 if pairs.half is None else len(pairs.half))
        self.steps, self.skipped = 0, 0
        self._lpips = networks.lpips
        if run.adversarial is not None:
            run.adversarial.use(networks)
        distributed.move(run.networks().values(), convolutional=True)
        self._parameters, self._averages = list(run.model.parameters()), list(run.average.parameters())
        self._optimizers = optimizers(self._parameters, recipe.learning_rate, recipe.muon, recipe.weight_decay)
        seed = distributed.seed(recipe.seed, run.pictures)
        self._feed = window_batches(recipe, pairs.full, seed, distributed.device)
        self._half_feed = None if pairs.half is None else window_batches(
            recipe.of_half_size, pairs.half, seed + 1, distributed.device)
        self._grid = GridLoss()
        self._choice = np.random.default_rng([recipe.seed, run.pictures])  # the same in all processes
        self._validation = SuperResolutionValidation(pairs.held_out, recipe.factor, self._lpips, distributed.device)

    def step(self, progress: float) -> dict[str, Tensor]:
        """One batch at this progress (0...1) of the run: the loss and its unweighted terms, detached."""
        run, recipe = self.run, self.run.recipe
        if self._half_feed is not None and self._choice.random() < recipe.half_part:
            terms = self._half_step(next(self._half_feed), progress)
        else:
            terms = self._full_step(next(self._feed), progress)
        self.steps += 1
        run.pictures += recipe.batch * self.distributed.world
        update_averages(self._averages, self._parameters,
                        early_decay(recipe.ema, run.pictures // (recipe.batch * self.distributed.world)))
        return terms

    def evaluate(self) -> dict[str, float]:
        """`SuperResolutionValidation.figures` of the averaged network."""
        return self._validation.figures(self.run.average)

    def draw_samples(self, path: Path) -> None:
        self._validation.sheet(self.run.average, path)

    def _half_step(self, batch: WindowBatch, progress: float) -> dict[str, Tensor]:
        """A step of the first doubling alone; its terms have names of their own."""
        recipe = self.run.recipe
        with mixed_precision(self.distributed.device, recipe.bf16):
            picture = dequantize(batch.picture).contiguous(memory_format=self.distributed.layout)
            enlarged, = self.run.model.forward_windows(picture, batch.windows, recipe.of_half_size.factor)
            loss, terms = window_loss(recipe.loss, enlarged.float(), dequantize(batch.target),
                                      cut_windows(picture, batch.windows), self._lpips,
                                      random_offset(recipe.lpips_shift), self._grid)
        self._descend(loss, progress)
        return {"half_loss": loss.detach(), **{f"half_{name}": value for name, value in terms.items()}}

    def _full_step(self, batch: WindowBatch, progress: float) -> dict[str, Tensor]:
        run, recipe, distributed = self.run, self.run.recipe, self.distributed
        with mixed_precision(distributed.device, recipe.bf16):
            picture = dequantize(batch.picture).contiguous(memory_format=distributed.layout)
            steps = run.model.forward_windows(picture, batch.windows, recipe.factor)
            enlarged, target = steps[-1].float(), dequantize(batch.target)
            loss, terms = self._loss(enlarged, target, picture, batch, progress)
            if len(steps) > 1 and recipe.loss.half:
                loss = loss + half_loss(recipe.loss, steps[0].float(), target, self._lpips,
                                        random_offset(recipe.lpips_shift))
        self._descend(loss, progress)
        if run.adversarial is not None and run.adversarial.learns(progress, self.steps):
            with mixed_precision(distributed.device, recipe.bf16):
                terms |= run.adversarial.update_discriminator(
                    enlarged[:batch.real], target[:batch.real], distributed.average_gradients)
        return {"loss": loss.detach(), **terms}

    def _descend(self, loss: Tensor, progress: float) -> None:
        recipe = self.run.recipe
        rate = annealed(recipe.learning_rate, progress, self.steps, warm_up=recipe.warm_up, hold=recipe.hold)
        if not descend(loss, self._parameters, self._optimizers, rate, self.distributed, clip=recipe.clip_gradient):
            self.skipped += 1

    def _loss(self, enlarged: Tensor, target: Tensor, picture: Tensor, batch: WindowBatch, progress: float
              ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss at the enlarged size, with its adversarial part once that has begun."""
        recipe = self.run.recipe
        real = slice(batch.real)
        return joint_loss(
            enlarged, lambda seen: window_loss(recipe.loss, seen, target, cut_windows(picture, batch.windows),
                                               self._lpips, random_offset(recipe.lpips_shift), self._grid),
            self.run.adversarial, progress, target[real], real)


def open_trainer(recipe: SuperResolutionRecipe, options: RunOptions, folder: Path, distributed: Distributed
                 ) -> SuperResolutionTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    require_pictures(options, recipe.random_pictures)
    weights = needed_metric_weights(options.weights, needed=recipe.needs_lpips, faces=False)
    if (folder / CHECKPOINT).exists():
        run = load_run(folder)
        run.adversarial = resumed(run.adversarial, recipe.adversarial)
        run.recipe = continued(recipe, network=run.recipe.network, size=run.recipe.size,
                               adversarial=None if run.adversarial is None else run.adversarial.config)
    else:
        run = start_run(recipe, options.init_from)
    pairs = training_pairs(run.recipe, options, folder)
    networks = MetricNetworks.load(weights, distributed.device, faces=False)
    return SuperResolutionTrainer(run, distributed, pairs, networks)


def _takes(recipe: SuperResolutionRecipe) -> set[str]:
    return {"data", "validation", "exclude", "init_from"} | ({"weights"} if recipe.needs_lpips else set())


def _describe(recipe: SuperResolutionRecipe) -> str:
    large = recipe.factor * recipe.size
    return (f"{recipe.size}x{recipe.size} to {large}x{large}, {recipe.iterations:,} iterations of {recipe.batch} "
            f"pictures with {recipe.windows} windows of {recipe.window}x{recipe.window}")


SUPER_RESOLUTION = Family(
    FAMILY, "Super-resolution of restored pictures", SuperResolutionRecipe, SUPER_RESOLUTION_RECIPES, _describe,
    open_trainer, _takes, lambda recipe: recipe.iterations * recipe.batch, evaluate_every=1000)


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
