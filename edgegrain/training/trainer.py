"""The trainer of a run: what all families share of a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgegrain.training.checkpoint import Run
from edgegrain.training.distributed import Distributed, mixed_precision
from edgegrain.training.losses import MetricNetworks
from edgegrain.training.optimizers import annealed, descend, early_decay, optimizers, update_averages

NONE = MetricNetworks()


class Trainer:
    """A run on its device, one step at a time.

    Attributes:
        pictures_in_set: number of training pictures, for the log.
        parameters, averages: the weights that are trained, and their averages.
        steps: taken in this session.
        skipped: steps whose gradient was not finite and that changed nothing.
        seed: of what is drawn in steps.
    """

    run: Any
    convolutional = True
    """True to store the networks in the layout that suits convolutions."""

    def __init__(self, run: Run, distributed: Distributed, pictures_in_set: int, networks: MetricNetworks = NONE
                 ) -> None:
        """Moves the run's networks to the device; ``networks`` of the losses are on it."""
        self.run, self.distributed, self.pictures_in_set, self.networks = run, distributed, pictures_in_set, networks
        if run.adversarial is not None:
            run.adversarial.use(networks)
        self.steps = self.skipped = 0
        self.seed = distributed.seed(run.recipe.seed, run.pictures)
        distributed.move(run.networks().values(), convolutional=self.convolutional)
        self.trained = {name: weights for name, weights in run.model.named_parameters() if weights.requires_grad}
        averages = dict(run.average.named_parameters())
        self.parameters = list(self.trained.values())
        self.averages: list[Tensor] = [averages[name] for name in self.trained]
        self.optimizers = self.make_optimizers()

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of `parameters`."""
        recipe = self.run.recipe
        return optimizers(self.parameters, recipe.learning_rate, recipe.muon, recipe.weight_decay)

    def step(self, progress: float) -> dict[str, Tensor]:
        """Train on one batch at this progress (0...1) of the run; returns values to log, the most important first."""
        raise NotImplementedError

    def evaluate(self) -> dict[str, float]:
        """Figures of the averaged network on the pictures of ``--validation``, by default the first of the training
        pictures."""
        raise NotImplementedError

    def draw_samples(self, path: Path) -> None:
        """Write a sheet of the averaged network's pictures."""
        raise NotImplementedError

    def precision(self) -> torch.autocast:
        """Autocast to bfloat16 where the recipe wants it and the device computes in it."""
        return mixed_precision(self.distributed.device, self.run.recipe.bf16)

    def learning_rate(self, progress: float) -> float:
        recipe = self.run.recipe
        return annealed(recipe.learning_rate, progress, self.steps, warm_up=recipe.warm_up, hold=recipe.hold)

    def descend(self, loss: Tensor, progress: float) -> bool:
        """Step on a loss; False, and counted, if its gradients are not finite."""
        done = descend(loss, self.parameters, self.optimizers, self.learning_rate(progress), self.distributed,
                       clip=self.run.recipe.clip_gradient)
        self.skipped += not done
        return done

    def train_discriminator(self, picture: Tensor, originals: Tensor, progress: float) -> dict[str, Tensor]:
        """A step of the discriminator, if there is one and it is due; returns values to log."""
        adversarial = self.run.adversarial
        if adversarial is None or not adversarial.learns(progress, self.steps):
            return {}
        with self.precision():
            terms: dict[str, Tensor] = adversarial.update_discriminator(picture, originals, self.distributed)
            return terms

    def count(self) -> None:
        """One more step, and its pictures."""
        self.steps += 1
        self.run.pictures += self.run.recipe.batch * self.distributed.world

    def update_averages(self) -> None:
        """Move the averaged weights towards the trained ones."""
        recipe = self.run.recipe
        steps = self.run.pictures // (recipe.batch * self.distributed.world)  # of all sessions
        update_averages(self.averages, self.parameters, early_decay(recipe.ema, steps))
