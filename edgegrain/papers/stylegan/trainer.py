"""The training of a StyleGAN2: non-saturating loss, lazy R1, lazy path lengths and adaptive augmentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.quantization import dequantize
from edgegrain.papers.stylegan.augment import AdaptiveProbability, augment
from edgegrain.papers.stylegan.recipes import STYLEGAN2_RECIPES, StyleGAN2Recipe
from edgegrain.papers.stylegan.regularizers import PathLength, lazy_adam, path_lengths
from edgegrain.papers.stylegan.run import FAMILY, StyleGAN2Run, load_run, start_run
from edgegrain.pictures.packed import batches
from edgegrain.training.adversarial import r1_penalty
from edgegrain.training.checkpoint import CHECKPOINT
from edgegrain.training.data import require_pictures, training_pictures, without, write_prior_samples
from edgegrain.training.distributed import Distributed, mixed_precision
from edgegrain.training.family import Family, RunOptions
from edgegrain.training.optimizers import finite_gradients, update_averages
from server_decoder.stylegan2.synthesis import mix_styles


class PriorTrainer:
    """A run on its device, one step at a time.

    Attributes:
        steps: taken in this session.
        skipped: updates whose gradient was not finite and that changed nothing.
    """

    def __init__(self, run: StyleGAN2Run, distributed: Distributed, pictures: np.ndarray) -> None:
        """Moves the run's networks to the device. ``pictures``: uint8 ``[N, S, S, 3]``."""
        recipe = run.recipe
        self.run, self.distributed, self.steps, self.skipped = run, distributed, 0, 0
        self.pictures_in_set = len(pictures)
        distributed.move(run.networks().values())
        self._generator = list(run.generator.parameters())
        self._discriminator = list(run.discriminator.parameters())
        self._average: list[Tensor] = list(run.average.parameters())
        self._adam_generator = lazy_adam(self._generator, recipe.learning_rate, recipe.path_every if recipe.path else 0)
        self._adam_discriminator = lazy_adam(self._discriminator, recipe.learning_rate,
                                             recipe.r1_every if recipe.r1 else 0)
        self._path = PathLength(run.path_length)
        self._adaptation = AdaptiveProbability(recipe.adaptation, run.p) if recipe.adaptation is not None else None
        self._latest: dict[str, Tensor] = {}
        seed = distributed.seed(recipe.seed, run.pictures)
        torch.manual_seed(seed)
        self._feed = batches(pictures, recipe.batch, seed, distributed.device)

    def step(self, progress: float = 0.0) -> dict[str, Tensor]:
        """One batch for the discriminator, one for the generator, and the regularizers that are due.

        Returns the latest values, as the regularizers do not take part in every step.
        """
        run, recipe, distributed = self.run, self.run.recipe, self.distributed
        warm = min(1.0, (self.steps + 1) / max(recipe.warm_up, 1))
        real = dequantize(next(self._feed).to(distributed.device, non_blocking=True))

        terms = self._train_discriminator(real, warm)
        if recipe.r1 and run.steps % recipe.r1_every == 0:
            # The gradient is taken at the augmented pictures, which avoids a second derivative of the warp.
            penalty = r1_penalty(run.discriminator, augment(real, run.p))
            self._update(self._adam_discriminator, self._discriminator,
                         0.5 * recipe.r1 * recipe.r1_every * penalty, warm)
            terms["r1"] = penalty.detach()

        terms |= self._train_generator(warm)
        if recipe.path and run.steps % recipe.path_every == 0:
            count = max(1, round(recipe.batch * recipe.path_part))
            with torch.autocast(distributed.device.type, enabled=False):
                codes = self._codes(count)
                lengths = path_lengths(self._synthesize(codes), codes)
            self._update(self._adam_generator, self._generator,
                         recipe.path * recipe.path_every * self._path.penalty(lengths), warm)
            run.path_length = float(self._path.mean)
            terms["path_length"] = self._path.mean

        run.steps += 1
        self.steps += 1
        run.pictures += recipe.batch * distributed.world
        self._update_average()
        self._latest |= terms
        return self._latest

    def evaluate(self) -> dict[str, float]:
        """The values of the last steps, for there is no metric."""
        return {"p": self.run.p} | {name: round(float(value), 5) for name, value in self._latest.items()}

    def draw_samples(self, path: Path) -> None:
        write_prior_samples(self.run.average, path)

    def _train_discriminator(self, real: Tensor, warm: float) -> dict[str, Tensor]:
        run, recipe, distributed = self.run, self.run.recipe, self.distributed
        run.discriminator.requires_grad_(True)
        with self._autocast():
            with torch.no_grad():
                fake = self._synthesize(self._codes(recipe.batch)).float()
            real_scores = run.discriminator(augment(real, run.p)).float()
            fake_scores = run.discriminator(augment(fake, run.p)).float()
        loss = F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()
        self._update(self._adam_discriminator, self._discriminator, loss, warm)
        sign = _mean(real_scores.detach().sign().mean(), distributed)
        terms = {"discriminator": loss.detach(), "sign": sign}
        if self._adaptation is not None:
            self._adaptation.observe(sign, recipe.batch * distributed.world)
            run.p = self._adaptation.p
            terms |= {"p": torch.tensor(run.p), "overfitting": torch.tensor(self._adaptation.overfitting)}
        return terms

    def _train_generator(self, warm: float) -> dict[str, Tensor]:
        run, recipe = self.run, self.run.recipe
        run.discriminator.requires_grad_(False)
        with self._autocast():
            fake = self._synthesize(self._codes(recipe.batch))
            scores = run.discriminator(augment(fake, run.p)).float()
        loss = F.softplus(-scores).mean()  # non-saturating: Goodfellow et al. 2014
        self._update(self._adam_generator, self._generator, loss, warm)
        return {"generator": loss.detach()}

    def _codes(self, count: int) -> Tensor:
        """Codes in W+, ``[count, L, code_width]``, some mixed ([StyleGAN] Section 3.1)."""
        generator, device = self.run.generator, self.distributed.device
        first, second = generator.map(torch.randn(2 * count, generator.code_width, device=device)).chunk(2)
        crossover = torch.randint(1, generator.code_count, (count,), device=device)
        mixed = torch.rand(count, device=device) < self.run.recipe.mixing
        crossover = torch.where(mixed, crossover, generator.code_count)
        return mix_styles(generator.broadcast(first), generator.broadcast(second), crossover)

    def _synthesize(self, codes: Tensor) -> Tensor:
        generator = self.run.generator
        return generator(codes, generator.random_noise(len(codes))).picture

    def _update(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor,
                warm: float) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.distributed.average_gradients(parameters)
        if not finite_gradients(parameters):
            self.skipped += 1
            return
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("full_lr", group["lr"]) * warm
        optimizer.step()

    def _update_average(self) -> None:
        """The averaged generator, with a half-life in pictures."""
        run, recipe = self.run, self.run.recipe
        half_life = min(recipe.ema, recipe.ema_ramp * run.pictures) if recipe.ema_ramp else recipe.ema
        decay = 0.5 ** (recipe.batch * self.distributed.world / max(half_life, 1e-8))
        update_averages(self._average, self._generator, decay)

    def _autocast(self) -> torch.autocast:
        return mixed_precision(self.distributed.device, self.run.recipe.bf16)


def open_trainer(recipe: StyleGAN2Recipe, options: RunOptions, folder: Path, distributed: Distributed
                 ) -> PriorTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    require_pictures(options, recipe.random_pictures)
    if (folder / CHECKPOINT).exists():
        run = load_run(folder)
        run.recipe = replace(recipe, network=run.recipe.network)
        if recipe.adaptation is None:
            run.p = 0.0
    else:
        run = start_run(recipe, options.start)
    pictures = training_pictures(without(options, recipe.generated), folder, run.recipe.network.size,
                                 count=recipe.random_pictures, seed=recipe.seed)
    return PriorTrainer(run, distributed, pictures)


def _mean(value: Tensor, distributed: Distributed) -> Tensor:
    """The mean over all processes."""
    if distributed.world > 1:
        dist.all_reduce(value)
        value = value / distributed.world
    return value


def _describe(recipe: StyleGAN2Recipe) -> str:
    return (f"{recipe.network.size}x{recipe.network.size}, batch {recipe.batch}, R1 {recipe.r1:.3g}, "
            f"{'adaptive augmentation' if recipe.adaptation is not None else 'no augmentation'}")


STYLEGAN2 = Family(FAMILY, "StyleGAN2, a generator for a domain", StyleGAN2Recipe, STYLEGAN2_RECIPES, _describe,
                   open_trainer, lambda recipe: {"data", "exclude", "init_from"},
                   lambda recipe: recipe.pictures)
