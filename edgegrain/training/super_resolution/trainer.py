"""The training of enlargers: restored pictures whole at their own size, windows of them at the enlarged one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from codec_contract.quantization import dequantize
from edgegrain.training.adversarial import joint_loss, resumed
from edgegrain.training.config import continued
from edgegrain.training.distributed import Distributed, mixed_precision
from edgegrain.training.family import Family, RunOptions
from edgegrain.training.grid_loss import GridLoss
from edgegrain.training.losses import random_offset
from edgegrain.training.metric_networks import MetricNetworks, needed_metric_weights
from edgegrain.training.optimizers import annealed, descend, early_decay, optimizers, update_averages
from edgegrain.training.run_folder import CHECKPOINT
from edgegrain.training.super_resolution.losses import cut_windows, half_loss, window_loss
from edgegrain.training.super_resolution.pairs import TrainingPairs, training_pairs
from edgegrain.training.super_resolution.recipes import SUPER_RESOLUTION_RECIPES, SuperResolutionRecipe
from edgegrain.training.super_resolution.run import FAMILY, SuperResolutionRun, load_run, start_run
from edgegrain.training.super_resolution.validation import SuperResolutionValidation
from edgegrain.training.super_resolution.windows import WindowBatch, window_batches
from edgegrain.training.training_pictures import require_pictures


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
        config = run.config
        self.run, self.distributed = run, distributed
        self.pictures_in_set = len(pairs.full) + (0 if pairs.half is None else len(pairs.half))
        self.steps, self.skipped = 0, 0
        self._lpips = networks.lpips
        if run.adversarial is not None:
            run.adversarial.use(networks)
        distributed.move(run.networks().values(), convolutional=True)
        self._parameters, self._averages = list(run.model.parameters()), list(run.average.parameters())
        self._optimizers = optimizers(self._parameters, config.learning_rate, config.muon, config.weight_decay)
        seed = distributed.seed(config.seed, run.pictures)
        self._feed = window_batches(config, pairs.full, seed, distributed.device)
        self._half_feed = None if pairs.half is None else window_batches(
            config.of_half_size, pairs.half, seed + 1, distributed.device)
        self._grid = GridLoss()
        self._choice = np.random.default_rng([config.seed, run.pictures])  # the same in all processes
        self._validation = SuperResolutionValidation(pairs.held_out, config.factor, self._lpips, distributed.device)

    def step(self, progress: float) -> dict[str, Tensor]:
        """One batch at this progress (0...1) of the run: the loss and its unweighted terms, detached."""
        run, config = self.run, self.run.config
        if self._half_feed is not None and self._choice.random() < config.half_part:
            terms = self._half_step(next(self._half_feed), progress)
        else:
            terms = self._full_step(next(self._feed), progress)
        self.steps += 1
        run.pictures += config.batch * self.distributed.world
        update_averages(self._averages, self._parameters,
                        early_decay(config.ema, run.pictures // (config.batch * self.distributed.world)))
        return terms

    def _half_step(self, batch: WindowBatch, progress: float) -> dict[str, Tensor]:
        """A step of the first doubling alone; its terms have names of their own."""
        config = self.run.config
        with mixed_precision(self.distributed.device, config.bf16):
            picture = dequantize(batch.picture).contiguous(memory_format=self.distributed.layout)
            enlarged, = self.run.model.forward_windows(picture, batch.windows, config.of_half_size.factor)
            loss, terms = window_loss(config.loss, enlarged.float(), dequantize(batch.target),
                                      cut_windows(picture, batch.windows), self._lpips,
                                      random_offset(config.lpips_shift), self._grid)
        self._descend(loss, progress)
        return {"half_loss": loss.detach(), **{f"half_{name}": value for name, value in terms.items()}}

    def _full_step(self, batch: WindowBatch, progress: float) -> dict[str, Tensor]:
        run, config, distributed = self.run, self.run.config, self.distributed
        with mixed_precision(distributed.device, config.bf16):
            picture = dequantize(batch.picture).contiguous(memory_format=distributed.layout)
            steps = run.model.forward_windows(picture, batch.windows, config.factor)
            enlarged, target = steps[-1].float(), dequantize(batch.target)
            loss, terms = self._loss(enlarged, target, picture, batch, progress)
            if len(steps) > 1 and config.loss.half:
                loss = loss + half_loss(config.loss, steps[0].float(), target, self._lpips,
                                        random_offset(config.lpips_shift))
        self._descend(loss, progress)
        if run.adversarial is not None and run.adversarial.learns(progress, self.steps):
            with mixed_precision(distributed.device, config.bf16):
                terms |= run.adversarial.update_discriminator(
                    enlarged[:batch.real], target[:batch.real], distributed.average_gradients)
        return {"loss": loss.detach(), **terms}

    def _descend(self, loss: Tensor, progress: float) -> None:
        config = self.run.config
        rate = annealed(config.learning_rate, progress, self.steps, warm_up=config.warm_up, hold=config.hold)
        if not descend(loss, self._parameters, self._optimizers, rate, self.distributed, clip=config.clip_gradient):
            self.skipped += 1

    def evaluate(self) -> dict[str, float]:
        """`SuperResolutionValidation.figures` of the averaged network."""
        return self._validation.figures(self.run.average)

    def draw_samples(self, path: Path) -> None:
        self._validation.sheet(self.run.average, path)

    def _loss(self, enlarged: Tensor, target: Tensor, picture: Tensor, batch: WindowBatch, progress: float
              ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss at the enlarged size, with its adversarial part once that has begun."""
        config = self.run.config
        real = slice(batch.real)
        return joint_loss(
            enlarged, lambda seen: window_loss(config.loss, seen, target, cut_windows(picture, batch.windows),
                                               self._lpips, random_offset(config.lpips_shift), self._grid),
            self.run.adversarial, progress, target[real], real)


def open_trainer(config: SuperResolutionRecipe, options: RunOptions, folder: Path, distributed: Distributed
                 ) -> SuperResolutionTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    require_pictures(options, config.random_pictures)
    weights = needed_metric_weights(options.weights, needed=config.needs_lpips, faces=False)
    if (folder / CHECKPOINT).exists():
        run = load_run(folder)
        run.adversarial = resumed(run.adversarial, config.adversarial)
        run.config = continued(config, network=run.config.network, size=run.config.size,
                               adversarial=None if run.adversarial is None else run.adversarial.config)
    else:
        run = start_run(config, options.init_from)
    pairs = training_pairs(run.config, options, folder)
    networks = MetricNetworks.load(weights, distributed.device, faces=False)
    return SuperResolutionTrainer(run, distributed, pairs, networks)


def _takes(config: SuperResolutionRecipe) -> set[str]:
    return {"data", "validation", "exclude", "init_from"} | ({"weights"} if config.needs_lpips else set())


def _describe(config: SuperResolutionRecipe) -> str:
    large = config.factor * config.size
    return (f"{config.size}x{config.size} to {large}x{large}, {config.iterations:,} iterations of {config.batch} "
            f"pictures with {config.windows} windows of {config.window}x{config.window}")


SUPER_RESOLUTION = Family(
    FAMILY, "Super-resolution of restored pictures", SuperResolutionRecipe, SUPER_RESOLUTION_RECIPES, _describe,
    open_trainer, _takes, lambda config: config.iterations * config.batch, evaluate_every=1000)
