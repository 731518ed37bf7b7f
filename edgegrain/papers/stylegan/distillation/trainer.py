"""Distillation of a StyleGAN2 into a MobileStyleGAN: the student learns the teacher's pictures (arXiv:2104.04767).

The student is trained in the form in which it is used: convolutions of constant weights, no demodulation at run time.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.errors import EdgegrainError, ModelError
from edgegrain.metrics.lpips import LPIPS
from edgegrain.papers.stylegan.distillation.recipes import DISTILLATION_RECIPES, DistillationRecipe
from edgegrain.papers.stylegan.distillation.run import (
    FAMILY,
    DistilRun,
    load_run,
    read_recipe,
    start_run,
    teacher_codes,
)
from edgegrain.papers.stylegan.distillation.wavelets import band_loss
from edgegrain.training.adversarial import resumed
from edgegrain.training.checkpoint import CHECKPOINT
from edgegrain.training.data import UNSEEN_SEED, levels_psnr, rounded_levels, write_prior_samples
from edgegrain.training.distributed import Distributed, mixed_precision
from edgegrain.training.family import Family, RunOptions
from edgegrain.training.losses import needed_metric_weights
from edgegrain.training.optimizers import annealed, descend, early_decay, optimizers, update_averages
from edgegrain.training.recipe import continued
from server_decoder.prior_store import find_prior
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.synthesis import StyleGAN2, StyleGAN2Config, mix_styles
from server_decoder.stylegan2.weights import load_discriminator, load_stylegan2

PICTURES = 2_000_000
SMOKE_PICTURES = 640
HELD_OUT = 16  # latents for the evaluation
LPIPS_SIZE = 256  # the paper's: larger pictures are averaged down for LPIPS


class DistillationTrainer:
    """A run on its device, one step at a time.

    Attributes:
        steps: taken in this session.
        skipped: steps whose gradient was not finite and that changed nothing.
    """

    pictures_in_set = 0

    def __init__(self, run: DistilRun, teacher: StyleGAN2, distributed: Distributed, lpips: LPIPS | None) -> None:
        """Moves all networks to the device."""
        self.run, self.distributed = run, distributed
        self.teacher = teacher.to(distributed.device)
        self.lpips = lpips.to(distributed.device) if lpips is not None else None
        self.steps, self.skipped = 0, 0
        distributed.move(run.networks().values())
        trained = [(parameter, average) for parameter, average in zip(
            run.student.parameters(), run.average.parameters(), strict=True) if parameter.requires_grad]
        self._parameters = [parameter for parameter, _ in trained]
        self._averages: list[Tensor] = [average for _, average in trained]
        self._optimizers = optimizers(self._parameters, run.recipe.learning_rate, 0, 0, betas=(0.9, 0.999),
                                      adam=torch.optim.Adam)
        self._random = torch.Generator().manual_seed(distributed.seed(run.recipe.seed, run.pictures))

    def step(self, progress: float) -> dict[str, Tensor]:
        """One batch at this progress (0...1) of the run: the unweighted terms of the loss, detached."""
        run, recipe, distributed = self.run, self.run.recipe, self.distributed
        codes, target = self._draw(recipe.batch, self._random)
        adversarial = run.adversarial
        with mixed_precision(distributed.device, recipe.bf16):
            pictures = run.student(codes)
            final = pictures[-1].float()
            bands = torch.stack([band_loss(picture, target) for picture in pictures]).mean()
            loss, terms = recipe.bands * bands, {"bands": bands.detach()}
            if self.lpips is not None:
                distance = self.lpips(_at_most(final, LPIPS_SIZE), _at_most(target, LPIPS_SIZE)).mean()
                loss, terms = loss + recipe.lpips * distance, terms | {"lpips": distance.detach()}
            if adversarial is not None and adversarial.joins(progress):
                part = adversarial.generator_loss(final, target)
                loss, terms = loss + adversarial.config.weight * part, terms | {"adversarial": part.detach()}
        self._update(loss, progress)
        if adversarial is not None and adversarial.learns(progress, self.steps):
            with mixed_precision(distributed.device, recipe.bf16):
                terms |= adversarial.update_discriminator(final, target, distributed.average_gradients)
        self.steps += 1
        run.pictures += recipe.batch * distributed.world
        return terms

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The averaged student against its teacher on unseen latents: PSNR (dB) of rounded pictures, and LPIPS."""
        student, decibels, distance = self.run.average, 0.0, 0.0
        random = torch.Generator().manual_seed(UNSEEN_SEED)
        for _ in range(HELD_OUT):
            codes, target = self._draw(1, random)
            picture = student.generator(codes).picture.clamp(-1, 1)
            target = target.clamp(-1, 1)
            decibels += levels_psnr(rounded_levels(picture), rounded_levels(target)) / HELD_OUT
            if self.lpips is not None:
                distance += float(self.lpips(_at_most(picture, LPIPS_SIZE), _at_most(target, LPIPS_SIZE))) / HELD_OUT
        figures = {"psnr": round(decibels, 3)}
        return figures | ({"lpips_alex": round(distance, 4)} if self.lpips is not None else {})

    def draw_samples(self, path: Path) -> None:
        write_prior_samples(self.run.average.generator, path)

    @torch.no_grad()
    def _draw(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes of the student, ``[count, L, code_width]``, and the teacher's pictures of them."""
        recipe, teacher, device = self.run.recipe, self.teacher, self.distributed.device
        student = self.run.student.generator
        z = torch.randn(2 * count, student.code_width, generator=random).to(device)
        first, second = (student.broadcast(w) for w in teacher.map(z).chunk(2))
        crossover = torch.randint(1, student.code_count, (count,), generator=random)
        mixed = torch.rand(count, generator=random) < recipe.mixing
        codes = mix_styles(first, second, torch.where(mixed, crossover, student.code_count))
        low, high = recipe.truncation
        psi = (low + (high - low) * torch.rand(count, 1, 1, generator=random)).to(device)
        codes = teacher.mean_code + psi * (codes - teacher.mean_code)
        return codes, teacher(teacher_codes(codes, teacher.code_count)).picture.float()

    def _update(self, loss: Tensor, progress: float) -> None:
        recipe = self.run.recipe
        rate = annealed(recipe.learning_rate, progress, self.steps, warm_up=recipe.warm_up, hold=0.0)
        if not descend(loss, self._parameters, self._optimizers, rate, self.distributed, clip=1.0):
            self.skipped += 1
            return
        update_averages(self._averages, self._parameters,
                        early_decay(recipe.ema, self.run.pictures // (recipe.batch * self.distributed.world)))


def open_trainer(recipe: DistillationRecipe, options: RunOptions, folder: Path, distributed: Distributed
                 ) -> DistillationTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    weights = needed_metric_weights(options.weights, needed=bool(recipe.lpips), faces=False)
    resumes = (folder / CHECKPOINT).exists()
    if resumes and recipe.random_teacher and options.teacher is None:
        recipe = continued(recipe, seed=read_recipe(folder).seed)  # which the teacher is drawn from
    teacher, discriminator = load_teacher(recipe, options.teacher)
    lpips = LPIPS(weights).requires_grad_(False) if recipe.lpips and weights is not None else None
    teacher = teacher.eval().requires_grad_(False)
    name = str(options.teacher) if isinstance(options.teacher, str | Path) else ""
    if resumes:
        run = load_run(folder, teacher, discriminator, name)
        run.adversarial = resumed(run.adversarial, recipe.adversarial, discriminator)
        run.recipe = continued(recipe, student=run.recipe.student,
                               adversarial=None if run.adversarial is None else run.adversarial.config)
    else:
        run = start_run(recipe, teacher, discriminator, name)
    return DistillationTrainer(run, teacher, distributed, lpips)


def load_teacher(recipe: DistillationRecipe, given: torch.nn.Module | str | Path | None
                 ) -> tuple[StyleGAN2, Discriminator | None]:
    """A StyleGAN2 cut to the student's size, and its discriminator if the file has one of that size.

    Args:
        recipe: of the run.
        given: the network, its file, or the name of a fetched prior; None for one with random weights, in trial runs.

    Raises:
        EdgegrainError: there is no teacher, or it is no StyleGAN2 that large.
    """
    if isinstance(given, StyleGAN2):
        return given, None
    if not isinstance(given, str | Path):
        if not recipe.random_teacher:
            raise EdgegrainError("this recipe distils a StyleGAN2; pass --teacher with its file")
        return random_teacher(recipe), None
    path = find_prior(given)
    teacher = load_stylegan2(path, cut_to=recipe.student.size)
    try:
        return teacher, load_discriminator(path, teacher.config)
    except ModelError:  # it has none, or one for larger pictures
        return teacher, None


def random_teacher(recipe: DistillationRecipe) -> StyleGAN2:
    """A generator with random weights for trial runs, the same for the same seed, with pictures near [-1, 1]."""
    student = recipe.student
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        teacher = StyleGAN2(StyleGAN2Config(student.size, student.channel_base, student.channel_max,
                                            student.code_width, student.mapping_layers))
    with torch.no_grad():
        for head in teacher.to_rgb:  # each adds a deviation of about 1 to the sum
            head.get_parameter("conv.weight").mul_(0.25)
    teacher.measure_mean_code()
    return teacher


def _at_most(picture: Tensor, size: int) -> Tensor:
    return F.adaptive_avg_pool2d(picture, size) if picture.shape[-1] > size else picture


def _takes(recipe: DistillationRecipe) -> set[str]:
    return {"teacher"} | ({"weights"} if recipe.lpips else set())


def _describe(recipe: DistillationRecipe) -> str:
    return f"{recipe.student.size}x{recipe.student.size}, {recipe.student.head} head, batch {recipe.batch}"


DISTILLATION = Family(FAMILY, "MobileStyleGAN, distilled from a StyleGAN2", DistillationRecipe, DISTILLATION_RECIPES,
                      _describe, open_trainer, _takes,
                      lambda recipe: SMOKE_PICTURES if recipe.random_teacher else PICTURES)
