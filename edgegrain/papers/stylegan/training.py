"""The training of a StyleGAN2: non-saturating loss, lazy R1, lazy path lengths and adaptive augmentation.

[StyleGAN2] is Karras et al. 2019, arXiv:1912.04958, [ADA] Karras et al. 2020, arXiv:2006.06676.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import ModelError
from codec_contract.pixels import dequantize
from edgegrain.pictures.packed import batches
from edgegrain.training.adversarial import Discriminator, load_discriminator, non_saturating, r1_penalty
from edgegrain.training.checkpoint import CHECKPOINT, Run, frozen_copy, open_checkpoint
from edgegrain.training.data import training_pictures, write_prior_samples
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import Family, RunOptions, Trainer
from edgegrain.training.losses import running_mean
from edgegrain.training.optimizers import descend, update_averages
from edgegrain.training.recipe import Recipe
from server_decoder.stylegan2.networks import (
    CONFIG_F_256,
    CONFIG_F_1024,
    TINY_64,
    StyleGAN2,
    StyleGAN2Config,
    load_stylegan2,
    mix_styles,
    save_stylegan2,
)

# [StyleGAN2] Appendix B, unless said otherwise.
R1_EVERY, PATH_EVERY = 16, 8  # steps between penalties that count so many times (lazy regularization, Section 3.1)
PATH = 2.0  # weight of the path lengths, independent of the resolution
PATH_PART = 0.5  # of the batch they are measured on: they need the most memory (ours)
MIXING = 0.9  # share of pictures whose layers from a random one on take the codes of another latent
# [ADA] Section 3. The target is of r_t, the mean sign of the discriminator's scores of real training pictures: 0 is no
# overfitting, 1 complete; p rises above the target and falls below it. Beyond the limit augmentations appear in
# generated pictures ([ADA] Section 2.2).
TARGET, LIMIT = 0.6, 0.8
ADJUST_EVERY = 4  # steps


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Recipe(Recipe):
    """The recipe of a run; the defaults are those of [StyleGAN2] Appendix B unless said otherwise."""

    network: StyleGAN2Config = CONFIG_F_1024
    batch: int = 32
    learning_rate: float = 2e-3  # of Adam with beta_1 = 0, beta_2 = 0.99, for both networks
    warm_up: int = 100
    r1: float = 10.0  # weight gamma of R1, gamma / 2 * |gradient|^2 on real pictures
    ema: float = 10_000  # half-life of the averaged generator, in pictures
    ema_ramp: float = 0.05  # the half-life is at most this part of the pictures seen; 0: no ramp ([ADA])
    adaptation_pictures: int = 500_000  # fewest in which p, of augmentations, rises from 0 to 1; 0: none ([StyleGAN2])
    bf16: bool = True  # bfloat16 where it is safe; both regularizers stay in float32 (ours)
    pictures: int = 5_000_000  # of a run whose length the command line leaves open; less than [StyleGAN2]'s (ours)
    random_pictures: int = 0  # when no data is given (trial runs)


def r1_weight(size: int, batch: int) -> float:
    """A first guess at gamma, ``0.0002 * pixels / batch``: smaller pictures and larger batches need less ([ADA])."""
    return 2e-4 * size**2 / batch


# Half the channels of configuration F from 64 x 64 on, as [ADA] has at 256 x 256.
_HALF_256 = replace(CONFIG_F_256, channel_base=16384)
_OURS = StyleGAN2Recipe(network=_HALF_256, batch=16, r1=r1_weight(256, 16))

STYLEGAN2_RECIPES: dict[str, StyleGAN2Recipe] = {  # name -> recipe
    # Ours: one GPU, some thousand to some ten thousand pictures; [GRAIN] Table 3. StyleGAN2's published runs on LSUN
    # give churches ten times the R1 of cats.
    "prior-cats-256": _OURS,
    "prior-churches-256": replace(_OURS, r1=10 * _OURS.r1),
    # Configuration F: batch 32 on 8 GPUs in all, R1 of 10, no augmentation, 25 million pictures.
    "stylegan2-1024-paper": StyleGAN2Recipe(adaptation_pictures=0, ema_ramp=0.0, pictures=25_000_000),
    # [ADA]'s table of hyperparameters, the column of 256 x 256: batch 64 in all, R1 of 1, half-life 20,000, as long.
    "ada-256-paper": StyleGAN2Recipe(
        network=_HALF_256, batch=64, learning_rate=2.5e-3, r1=1.0, ema=20_000, ema_ramp=0.0, pictures=25_000_000
    ),
    # Seconds on a CPU; random pictures without --data.
    "smoke-prior": StyleGAN2Recipe(
        network=TINY_64,
        batch=8,
        warm_up=5,
        r1=r1_weight(64, 8),
        ema=200,
        adaptation_pictures=2_000,
        bf16=False,
        pictures=640,
        random_pictures=64,
    ),
}


NETWORKS = "stylegan2.safetensors"
"""The result of a run: averaged generator and discriminator, as `load_stylegan2` reads them."""
FAMILY = "stylegan2"


@dataclass
class StyleGAN2Run(Run):
    """The state of a training run."""

    recipe: StyleGAN2Recipe
    model: StyleGAN2
    average: StyleGAN2
    discriminator: Discriminator = field(kw_only=True)
    steps: int = 0  # taken in all sessions; the lazy regularizers follow them
    p: float = 0.0  # probability of every augmentation
    path_length: float = 0.0  # running mean of the path lengths
    family = FAMILY
    prefix = "generator"

    def networks(self) -> dict[str, nn.Module]:
        return {**super().networks(), "discriminator": self.discriminator}

    def state(self) -> dict[str, Any]:
        """Values that the next session continues with."""
        return {"steps": self.steps, "p": self.p, "path_length": self.path_length}

    def save_weights(self, folder: Path) -> None:
        """Measure the mean code of the averaged generator and write ``stylegan2.safetensors``."""
        self.average.measure_mean_code()
        metadata = {"pictures_seen": str(self.pictures)}
        save_stylegan2(folder / NETWORKS, self.average, self.discriminator, force=True, metadata=metadata)


def start_run(recipe: StyleGAN2Recipe, start: str | Path | None = None) -> StyleGAN2Run:
    """A run at its first step. ``start``: a StyleGAN2 to fine-tune, or the folder of a run, which gives the sizes; a
    larger generator is cut to the recipe's pictures, and gets a new discriminator."""
    torch.manual_seed(recipe.seed)
    if start is None:
        generator, discriminator = StyleGAN2(recipe.network), Discriminator(recipe.network)
    else:
        path = Path(start) / NETWORKS if Path(start).is_dir() else Path(start)
        generator = load_stylegan2(path, cut_to=recipe.network.size)
        discriminator = own_discriminator(path, generator) or Discriminator(generator.config)
        recipe = replace(recipe, network=generator.config)
    return StyleGAN2Run(recipe, generator, frozen_copy(generator), discriminator=discriminator)


def load_run(folder: Path) -> StyleGAN2Run:
    """The run of a folder, on the CPU: weights and counters are exactly those that were saved."""
    with open_checkpoint(folder, FAMILY) as stored:
        run = start_run(StyleGAN2Recipe.from_dict(stored.config)).load(stored)
        run.steps, run.p, run.path_length = (stored.state[name] for name in ("steps", "p", "path_length"))
        return run


def own_discriminator(path: Path, generator: StyleGAN2) -> Discriminator | None:
    """The discriminator in a generator's file; None if it has none, or one for larger pictures."""
    try:
        return load_discriminator(path, generator.config)
    except ModelError:
        return None


# Rate of the running mean of the path length ([StyleGAN2] Appendix B: beta_pl = 0.99).
PATH_RATE = 0.01


def path_lengths(picture: Tensor, codes: Tensor, noise: Tensor | None = None) -> Tensor:
    """Path lengths ``[B]``, the change of a picture by a step in W+: ``|J^T y|`` for random y ([StyleGAN2] 3.2), here
    ``noise``; differentiable. ``picture``, ``[B, 3, r, r]``, is made of ``codes``, ``[B, L, code_width]``.

    The length is divided by the square root of the number of pixels and codes, so that it grows with neither, and the
    paper's weight ``ln 2 / (r^2 (ln r - ln 2))`` is 2 at any r: a generator has ``2 (ln r - ln 2) / ln 2`` codes.
    """
    noise = torch.randn_like(picture) if noise is None else noise
    (gradient,) = torch.autograd.grad((picture * noise).sum(), codes, create_graph=True)
    pixels, layers = picture.shape[2] * picture.shape[3], codes.shape[1]
    return (gradient.float().pow(2).sum((1, 2)) / (pixels * layers)).sqrt()


def path_penalty(lengths: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared deviation of path lengths ``[B]`` from their running mean a ([StyleGAN2] Eq. 4), and a, after it was
    updated with them; 0 at first."""
    mean = running_mean(mean.to(lengths.device), lengths.detach().mean(), 1 - PATH_RATE)
    return (lengths - mean).pow(2).mean(), mean


def lazy_adam(parameters: Iterable[nn.Parameter], learning_rate: float, every: int) -> torch.optim.Adam:
    """Adam, stepped by `descend`, for a network whose regularizer has its own step every ``every`` steps.

    k = ``every`` steps of the loss and one of the regularizer move the weights as k steps of their sum would: with
    ``c = k / (k + 1)`` the learning rate is multiplied by c, and the decay rates are raised to the power of c
    ([StyleGAN2] Appendix B).
    """
    c = every / (every + 1)
    rate = learning_rate * c
    return torch.optim.Adam([{"params": list(parameters), "factor": rate}], lr=rate, betas=(0.0, 0.99**c))


class PriorTrainer(Trainer):
    """The training of a StyleGAN2; ``skipped`` counts updates of either network."""

    run: StyleGAN2Run
    convolutional = False

    def __init__(self, run: StyleGAN2Run, distributed: Distributed, pictures: np.ndarray) -> None:
        """``pictures``: uint8 ``[N, S, S, 3]``."""
        super().__init__(run, distributed, len(pictures))
        recipe = run.recipe
        self._discriminator = list(run.discriminator.parameters())
        self._adam_discriminator = lazy_adam(self._discriminator, recipe.learning_rate, R1_EVERY)
        for_p = recipe.adaptation_pictures
        self._adaptation = AdaptiveProbability(for_p, run.p) if for_p else None
        self._latest: dict[str, Tensor] = {}
        torch.manual_seed(self.seed)
        self._feed = batches(pictures, recipe.batch, self.seed, distributed.device)

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        return [lazy_adam(self.parameters, self.run.recipe.learning_rate, PATH_EVERY)]

    def step(self, progress: float = 0.0) -> dict[str, Tensor]:
        """One batch for the discriminator, one for the generator, and the regularizers that are due.

        Returns the latest values, as the regularizers do not take part in every step.
        """
        run, recipe, distributed = self.run, self.run.recipe, self.distributed
        warm = min(1.0, (self.steps + 1) / max(recipe.warm_up, 1))
        real = dequantize(next(self._feed).to(distributed.device, non_blocking=True))

        terms = self._train_discriminator(real, warm)
        if run.steps % R1_EVERY == 0:
            # The gradient is taken at the augmented pictures, which avoids a second derivative of the warp.
            penalty = r1_penalty(run.discriminator, augment(real, run.p))
            self._update(0.5 * recipe.r1 * R1_EVERY * penalty, warm, discriminator=True)
            terms["r1"] = penalty.detach()

        terms |= self._train_generator(warm)
        if run.steps % PATH_EVERY == 0:
            count = max(1, round(recipe.batch * PATH_PART))
            with torch.autocast(distributed.device.type, enabled=False):
                codes = self._codes(count)
                lengths = path_lengths(self._synthesize(codes), codes)
                penalty, terms["path_length"] = path_penalty(lengths, torch.tensor(run.path_length))
            self._update(PATH * PATH_EVERY * penalty, warm)
            run.path_length = float(terms["path_length"])

        run.steps += 1
        self.count()
        self.update_averages()
        self._latest |= terms
        return self._latest

    def evaluate(self) -> dict[str, float]:
        """The values of the last steps, for there is no metric."""
        return {"p": self.run.p} | {name: round(float(value), 5) for name, value in self._latest.items()}

    def draw_samples(self, path: Path) -> None:
        write_prior_samples(self.run.average, path)

    def _train_discriminator(self, real: Tensor, warm: float) -> dict[str, Tensor]:
        run, recipe, world = self.run, self.run.recipe, self.distributed.world
        run.discriminator.requires_grad_(True)
        with self.precision():
            with torch.no_grad():
                fake = self._synthesize(self._codes(recipe.batch)).float()
            real_scores = run.discriminator(augment(real, run.p)).float()
            fake_scores = run.discriminator(augment(fake, run.p)).float()
        loss, _ = non_saturating(real_scores, fake_scores)
        self._update(loss, warm, discriminator=True)
        sign = real_scores.detach().sign().mean()
        if world > 1:
            dist.all_reduce(sign)
            sign /= world
        terms = {"discriminator": loss.detach(), "sign": sign}
        if self._adaptation is not None:
            self._adaptation.observe(sign, recipe.batch * world)
            run.p = self._adaptation.p
            terms |= {"p": torch.tensor(run.p), "overfitting": torch.tensor(self._adaptation.overfitting)}
        return terms

    def _train_generator(self, warm: float) -> dict[str, Tensor]:
        run = self.run
        run.discriminator.requires_grad_(False)
        with self.precision():
            fake = self._synthesize(self._codes(run.recipe.batch))
            scores = run.discriminator(augment(fake, run.p)).float()
        _, loss = non_saturating(scores, scores)
        self._update(loss, warm)
        return {"generator": loss.detach()}

    def _codes(self, count: int) -> Tensor:
        """Codes in W+, ``[count, L, code_width]``, some mixed ([StyleGAN] Section 3.1)."""
        generator, device = self.run.model, self.distributed.device
        w = generator.map(torch.randn(2 * count, generator.code_width, device=device))
        first, second = generator.broadcast(w).chunk(2)
        crossover = torch.randint(1, generator.code_count, (count,), device=device)
        mixed = torch.rand(count, device=device) < MIXING
        return mix_styles(first, second, torch.where(mixed, crossover, generator.code_count))

    def _synthesize(self, codes: Tensor) -> Tensor:
        generator = self.run.model
        return generator(codes, generator.random_noise(len(codes))).picture

    def _update(self, loss: Tensor, warm: float, *, discriminator: bool = False) -> None:
        parameters, optimizers = self.parameters, self.optimizers
        if discriminator:
            parameters, optimizers = self._discriminator, [self._adam_discriminator]
        self.skipped += not descend(loss, parameters, optimizers, warm, self.distributed)

    def update_averages(self) -> None:
        """The averaged generator, with a half-life in pictures."""
        run, recipe = self.run, self.run.recipe
        half_life = min(recipe.ema, recipe.ema_ramp * run.pictures) if recipe.ema_ramp else recipe.ema
        decay = 0.5 ** (recipe.batch * self.distributed.world / max(half_life, 1e-8))
        update_averages(self.averages, self.parameters, decay)


def open_trainer(recipe: StyleGAN2Recipe, options: RunOptions, folder: Path, distributed: Distributed) -> PriorTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    if (folder / CHECKPOINT).exists():
        run = load_run(folder)
        run.recipe = replace(recipe, network=run.recipe.network)
        if not recipe.adaptation_pictures:
            run.p = 0.0
    else:
        run = start_run(recipe, options.init_from)
    return PriorTrainer(run, distributed, training_pictures(recipe, options, folder, run.recipe.network.size))


STYLEGAN2 = Family(
    FAMILY,
    "StyleGAN2, a generator for a domain",
    StyleGAN2Recipe,
    STYLEGAN2_RECIPES,
    open_trainer,
    lambda recipe: recipe.pictures,
    takes=("data", "exclude", "init_from"),
)


# Adaptive discriminator augmentation ([ADA]). The discriminator sees real and generated pictures only through random
# transformations, each with probability p; p is adapted to the overfitting of the discriminator. The generator learns
# the untransformed distribution as long as p stays below about 0.8 ([ADA] Section 2.2). All geometry is one affine warp
# with bilinear sampling: flips, quarter rotations and whole-pixel shifts are exact, the rest is a little softer than
# with the paper's wavelet filter at twice the resolution (Appendix B).

# Strengths: [ADA] Appendix B. Translations are parts of the side; scales, contrast and saturation are powers of two.
INTEGER_SHIFT = 0.125
SCALE = 0.2
SHIFT = 0.125
BRIGHTNESS = 0.2
CONTRAST = 0.5
SATURATION = 1.0


class AdaptiveProbability:
    """The controller of p, the probability of every transformation; ``overfitting``: r_t at the last adjustment."""

    def __init__(self, pictures: int, p: float = 0.0) -> None:
        """``pictures``: smallest number in which p rises from 0 to 1."""
        self._pictures, self.p, self.overfitting = pictures, p, 0.0
        self._signs: list[Tensor] = []

    def observe(self, sign: Tensor, pictures: int) -> None:
        """Record the mean sign of a step's scores of real ``pictures``, of all processes; adjust p every few steps."""
        self._signs.append(sign.detach())
        if len(self._signs) < ADJUST_EVERY:
            return
        self.overfitting = float(torch.stack(self._signs).mean())
        step = pictures * len(self._signs) / self._pictures
        self.p = min(max(self.p + math.copysign(step, self.overfitting - TARGET), 0.0), LIMIT)
        self._signs.clear()


def augment(pictures: Tensor, p: float) -> Tensor:
    """Pictures ``[B, 3, S, S]`` about [-1, 1], transformed independently; differentiable."""
    if p <= 0:
        return pictures
    with torch.autocast(pictures.device.type, enabled=False):  # bfloat16 does not resolve half a pixel
        return recolour(warp(pictures, geometry(pictures, p)), colours(pictures, p))


def geometry(pictures: Tensor, p: float) -> Tensor:
    """Random maps ``[B, 2, 3]`` from output to input coordinates, both -1...1 from edge to edge."""
    draw = _Draw(pictures, p)
    side = pictures.shape[-1]

    # Pixel blitting: moves pixels without resampling them.
    matrix = _linear(draw.choose(draw.integers(2) * 2.0 - 1.0, 1.0), 0.0, 0.0, 1.0)
    matrix = matrix @ _rotation(draw.choose(draw.integers(4) * (math.pi / 2), 0.0))
    shift = [(draw.uniform(-INTEGER_SHIFT, INTEGER_SHIFT) * side).round() * (2 / side) for _ in "xy"]
    matrix = matrix @ _linear(1.0, 0.0, 0.0, 1.0, *draw.choose(torch.stack(shift), 0.0))

    # General geometry. Two rotations of smaller probability replace one of p, as either may be the identity:
    # 1 - (1 - q)^2 = p ([ADA] Appendix B).
    once = 1 - math.sqrt(1 - p)
    scale = draw.choose(torch.exp2(draw.normal(SCALE)), 1.0)
    matrix = matrix @ _linear(scale, 0.0, 0.0, scale)
    matrix = matrix @ _rotation(draw.choose(draw.uniform(-math.pi, math.pi), 0.0, once))
    stretch = draw.choose(torch.exp2(draw.normal(SCALE)), 1.0)
    matrix = matrix @ _linear(stretch, 0.0, 0.0, 1 / stretch)
    matrix = matrix @ _rotation(draw.choose(draw.uniform(-math.pi, math.pi), 0.0, once))
    shift = [draw.normal(2 * SHIFT) for _ in "xy"]
    return (matrix @ _linear(1.0, 0.0, 0.0, 1.0, *draw.choose(torch.stack(shift), 0.0)))[:, :2]


Values = Tensor | float


def _linear(a: Values, b: Values, c: Values, d: Values, x: Values = 0.0, y: Values = 0.0) -> Tensor:
    """The maps ``[B, 3, 3]`` from (u, v, 1) to (a u + b v + x, c u + d v + y, 1), of values ``[B]`` and constants."""
    values = (a, b, x, c, d, y, 0.0, 0.0, 1.0)
    like = next(value for value in values if isinstance(value, Tensor))
    full = [value if isinstance(value, Tensor) else torch.full_like(like, value) for value in values]
    return torch.stack(full, 1).unflatten(1, (3, 3))


def _rotation(angle: Tensor) -> Tensor:
    return _linear(angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def warp(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Sample pictures along affine maps ``[B, 2, 3]``; the outside is mirrored."""
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def colours(pictures: Tensor, p: float) -> Tensor:
    """Random affine maps of colour, ``[B, 3, 4]`` on (r, g, b, 1): brightness and contrast, then a reflection, a
    rotation and a scaling that move no grey off its axis."""
    draw = _Draw(pictures, p)
    brightness = draw.choose(draw.normal(BRIGHTNESS), 0.0)
    contrast = draw.choose(torch.exp2(draw.normal(CONTRAST)), 1.0)
    sign = draw.choose(1 - 2 * draw.integers(2), 1.0)  # -1: light greys become dark
    hue = draw.choose(draw.uniform(-math.pi, math.pi), 0.0)
    saturation = draw.choose(torch.exp2(draw.normal(SATURATION)), 1.0)
    grey = torch.full((3, 3), 1 / 3, device=pictures.device)  # projects onto the axis of greys
    around = torch.eye(3, device=pictures.device) - grey
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=pictures.device) / math.sqrt(3)
    brightness, contrast, sign, hue, saturation = (
        values[:, None, None] for values in (brightness, contrast, sign, hue, saturation)
    )
    linear = contrast * (sign * grey + saturation * (hue.cos() * around + hue.sin() * cross))
    return torch.cat([linear, (contrast * sign * brightness).expand(-1, 3, 1)], 2)


def recolour(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Apply maps ``[B, 3, 4]`` to every pixel of ``[B, 3, S, S]``."""
    return (matrix[..., :3] @ pictures.flatten(2).float() + matrix[..., 3:]).view(pictures.shape)


class _Draw:
    """Random numbers, one per picture, on the pictures' device."""

    def __init__(self, pictures: Tensor, p: float) -> None:
        self._batch, self._device, self._p = len(pictures), pictures.device, p

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(self._batch, device=self._device)

    def normal(self, deviation: float) -> Tensor:
        return deviation * torch.randn(self._batch, device=self._device)

    def integers(self, count: int) -> Tensor:
        return torch.randint(count, (self._batch,), device=self._device).float()

    def choose(self, values: Tensor, neutral: float, probability: float | None = None) -> Tensor:
        """Values ``[..., B]`` of the pictures for which the transformation happens, else the identity's value."""
        happens = torch.rand(self._batch, device=self._device) < (self._p if probability is None else probability)
        return torch.where(happens, values, neutral)
