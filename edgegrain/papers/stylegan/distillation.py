"""Distillation of a StyleGAN2 into a MobileStyleGAN: the student learns the teacher's pictures (arXiv:2104.04767).

The student is trained in the form in which it is used: convolutions of constant weights, no demodulation at run time.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError, ModelError
from edgegrain.papers.stylegan.training import own_discriminator
from edgegrain.training.adversarial import (
    AdversarialConfig,
    AdversarialLoss,
    Discriminator,
    DiscriminatorConfig,
    joint_loss,
)
from edgegrain.training.checkpoint import CHECKPOINT, Run, frozen_copy, open_checkpoint
from edgegrain.training.data import UNSEEN_SEED, levels_psnr, mean_figures, rounded_levels, write_prior_samples
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import Family, RunOptions, Trainer
from edgegrain.training.losses import MetricNetworks, weighted_sum
from edgegrain.training.optimizers import optimizers
from edgegrain.training.recipe import Recipe
from server_decoder.mobile_stylegan import (
    MOBILE_STYLEGAN_256,
    MOBILE_STYLEGAN_1024,
    MobileStyleGAN,
    MobileStyleGANConfig,
    WaveletHead,
    fit_rgb_heads,
    save_mobile_stylegan,
)
from server_decoder.prior_store import find_prior
from server_decoder.stylegan2.layers import MAPPING_RATE
from server_decoder.stylegan2.networks import StyleGAN2, StyleGAN2Config, load_stylegan2, mix_styles


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe(Recipe):
    """The recipe of a run. ``adversarial`` has the teacher's pictures as the real ones; its discriminator is the
    teacher's own where the teacher's file has one of the student's size."""

    student: MobileStyleGANConfig = MOBILE_STYLEGAN_1024  # its codes and mapping network are the teacher's
    lpips: float = 1.0  # weight of LPIPS, on pictures of at most 256 x 256; 0 needs no weights
    adversarial: AdversarialConfig | None = None
    batch: int = 16
    learning_rate: float = 5e-4  # of Adam; annealed to a hundredth (cosine)
    warm_up: int = 200
    bf16: bool = True  # bfloat16 where the device computes in it
    random_teacher: bool = False  # a trial run: the teacher has random weights if none is given
    hold: ClassVar[float] = 0.0
    clip_gradient: ClassVar[float] = 1.0
    bands: ClassVar[float] = 1.0  # weight of the absolute and squared error of the Haar bands, at every resolution


def _adversarial(size: int) -> AdversarialConfig:
    # Half the weight of the others, as in the paper's public code; it joins when the pictures are nearly right.
    return AdversarialConfig(weight=0.5, begins=0.3, warms_up=0.2, discriminator=DiscriminatorConfig(size))


DISTILLATION_RECIPES: dict[str, DistillationRecipe] = {  # name -> recipe
    # For GRAIN at 256 x 256: the last block makes the picture, as in the default prior once it is cut there.
    "mobile-256": DistillationRecipe(student=MOBILE_STYLEGAN_256, adversarial=_adversarial(256)),
    # The paper's generator.
    "mobile-1024": DistillationRecipe(adversarial=_adversarial(1024), batch=4),
    "smoke-mobile": DistillationRecipe(
        student=MobileStyleGANConfig(64, "wavelet", 512, 32, code_width=32, mapping_layers=2),
        lpips=0.0,
        adversarial=replace(_adversarial(64), discriminator=DiscriminatorConfig(64, 8, 16)),
        batch=8,
        learning_rate=1e-2,
        warm_up=5,
        ema=0.9,
        bf16=False,
        random_teacher=True,
    ),
}


STUDENT = "mobile_stylegan.safetensors"
"""The result of a run: the averaged student, as `load_mobile_stylegan` reads it."""
FAMILY = "distillation"


class Student(nn.Module):
    """A MobileStyleGAN and wavelet heads on its coarser features, so that every block has its own target
    (arXiv:2104.04767, Section 3); a finished generator keeps only its last head."""

    def __init__(self, generator: MobileStyleGAN) -> None:
        super().__init__()
        self.generator, self.heads = generator, nn.ModuleDict()
        for resolution, channels in generator.feature_channels.items():
            if 2 * resolution < generator.size:
                self.heads[str(resolution)] = WaveletHead(channels, generator.code_width)

    def forward(self, codes: Tensor) -> list[Tensor]:
        """Codes ``[B, L, code_width]`` -> pictures ``[B, 3, r, r]``, coarse to fine, the last of full size."""
        picture, features = self.generator(codes)
        last = {resolution: index for index, resolution in enumerate(self.generator.code_resolutions)}
        return [head(features[int(name)], codes[:, last[int(name)]]) for name, head in self.heads.items()] + [picture]


@torch.no_grad()
def adopt_teacher(student: MobileStyleGAN, teacher: StyleGAN2) -> None:
    """Copy the teacher's mapping network, which stays frozen, mean code, noise and, if of the same shape, input to a
    student. Equalized learning rates are multiplied into the mapping network's weights."""
    mine, theirs = student.config, teacher.config
    if (mine.code_width, mine.mapping_layers) != (theirs.code_width, theirs.mapping_layers):
        raise ModelError(
            f"the student takes codes of {mine.code_width} from {mine.mapping_layers} mapping layers, the teacher has "
            f"{theirs.code_width} and {theirs.mapping_layers}; set student.code_width and student.mapping_layers to "
            "these, or pass another teacher"
        )
    gains = {"weight": MAPPING_RATE / math.sqrt(theirs.code_width), "bias": MAPPING_RATE}
    student.mapping.load_state_dict(
        {name: tensor * gains[name.rpartition(".")[2]] for name, tensor in teacher.mapping.state_dict().items()}
    )
    student.mapping.requires_grad_(False)
    student.mean_code.copy_(teacher.mean_code)
    if student.input.shape == teacher.constant.shape:
        student.input.copy_(teacher.constant)
    convs = ["conv", *(f"blocks.{index}.{conv}" for index in range(len(student.blocks)) for conv in ("conv1", "conv2"))]
    for index, conv in enumerate(convs):  # a wavelet student has two fewer than the teacher has layers
        student.get_buffer(f"{conv}.noise").copy_(teacher.get_buffer(f"layers.{index}.noise"))


def teacher_codes(codes: Tensor, count: int) -> Tensor:
    """A student's codes ``[B, L, code_width]`` for a teacher of ``count``, whose further layers get the last one."""
    missing = count - codes.shape[1]
    return torch.cat([codes, codes[:, -1:].expand(-1, missing, -1)], dim=1)


def band_loss(picture: Tensor, target: Tensor) -> Tensor:
    """Mean absolute plus mean squared difference of the orthonormal Haar bands of pictures ``[B, 3, S, S]``; the target
    may be larger."""
    if target.shape != picture.shape:
        target = F.adaptive_avg_pool2d(target, picture.shape[-1])
    error = picture.float() - target.float()
    a, b, c, d = (error[..., row::2, column::2] for row in (0, 1) for column in (0, 1))
    bands = 0.5 * torch.stack([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d])
    return bands.abs().mean() + bands.pow(2).mean()


@dataclass
class DistilRun(Run):
    """The state of a training run; ``teacher``: its name, for the student's file."""

    model: Student
    average: Student
    teacher: str = ""
    family = FAMILY
    prefix = "student"

    def save_weights(self, folder: Path) -> None:
        """Write ``mobile_stylegan.safetensors``."""
        generator, metadata = self.average.generator, {"teacher": self.teacher, "pictures_seen": str(self.pictures)}
        heads = fit_rgb_heads(generator, pictures=32) if generator.config.head == "wavelet" else {}
        save_mobile_stylegan(generator, folder / STUDENT, heads, metadata, force=True)


def start_run(recipe: DistillationRecipe, teacher: StyleGAN2, discriminator: Discriminator | None = None) -> DistilRun:
    """A run at its first step; without ``discriminator`` that of the recipe has random weights."""
    torch.manual_seed(recipe.seed)
    generator = MobileStyleGAN(recipe.student)
    adopt_teacher(generator, teacher)
    student = Student(generator)
    adversarial = AdversarialLoss(recipe.adversarial, discriminator) if recipe.adversarial is not None else None
    return DistilRun(recipe, student, frozen_copy(student), adversarial)


def load_run(folder: Path, teacher: StyleGAN2, discriminator: Discriminator | None = None) -> DistilRun:
    """The run of a folder, on the CPU, with the teacher it began with; the discriminator's weights are replaced."""
    with open_checkpoint(folder, FAMILY) as stored:
        run = start_run(DistillationRecipe.from_dict(stored.config), teacher, discriminator)
        expected = copy.deepcopy(list(run.model.generator.mapping.parameters()))
        run.load(stored)
        if not all(map(torch.equal, run.model.generator.mapping.parameters(), expected)):
            raise ModelError(f"{folder} began with another teacher than the one given; pass --teacher with that one")
        return run


HELD_OUT = 16  # latents for the evaluation
MIXING = 0.5  # share of pictures whose layers from a random one on take the codes of another latent
TRUNCATION = 0.5, 1.0  # psi of the codes
LPIPS_SIZE = 256  # the paper's: larger pictures are averaged down for LPIPS


class DistillationTrainer(Trainer):
    """The training of a student."""

    run: DistilRun
    convolutional = False

    def __init__(self, run: DistilRun, teacher: StyleGAN2, distributed: Distributed, networks: MetricNetworks) -> None:
        super().__init__(run, distributed, 0, networks)
        self.teacher = teacher.to(distributed.device)
        self._random = torch.Generator().manual_seed(self.seed)

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        return optimizers(self.parameters, self.run.recipe.learning_rate, 0, 0, betas=(0.9, 0.999))

    def step(self, progress: float) -> dict[str, Tensor]:
        run, recipe = self.run, self.run.recipe
        codes, target = self._draw(recipe.batch, self._random)
        with self.precision():
            pictures = run.model(codes)
            final = pictures[-1].float()
            found = {"bands": torch.stack([band_loss(picture, target) for picture in pictures]).mean()}
            if self.networks.lpips is not None:
                found["lpips"] = self._lpips(final, target).mean()
            loss, terms = joint_loss(final, lambda _: weighted_sum(recipe, found), run.adversarial, progress, target)
        if self.descend(loss, progress):
            self.update_averages()
        terms |= self.train_discriminator(final, target, progress)
        self.count()
        return terms

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The averaged student against its teacher on unseen latents: PSNR (dB) of rounded pictures, and LPIPS."""
        random, rows = torch.Generator().manual_seed(UNSEEN_SEED), []
        for _ in range(HELD_OUT):
            codes, target = self._draw(1, random)
            picture, target = (each.clamp(-1, 1) for each in (self.run.average.generator(codes).picture, target))
            rows.append({"psnr": levels_psnr(rounded_levels(picture), rounded_levels(target))})
            if self.networks.lpips is not None:
                rows[-1]["lpips_alex"] = float(self._lpips(picture, target))
        return mean_figures(rows)

    def draw_samples(self, path: Path) -> None:
        write_prior_samples(self.run.average.generator, path)

    def _lpips(self, picture: Tensor, target: Tensor) -> Tensor:
        assert self.networks.lpips is not None
        size = min(LPIPS_SIZE, picture.shape[-1])
        return self.networks.lpips(F.adaptive_avg_pool2d(picture, size), F.adaptive_avg_pool2d(target, size))

    @torch.no_grad()
    def _draw(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes of the student, ``[count, L, code_width]``, and the teacher's pictures of them."""
        teacher, device = self.teacher, self.distributed.device
        student = self.run.model.generator
        z = torch.randn(2 * count, student.code_width, generator=random).to(device)
        first, second = (student.broadcast(w) for w in teacher.map(z).chunk(2))
        crossover = torch.randint(1, student.code_count, (count,), generator=random)
        mixed = torch.rand(count, generator=random) < MIXING
        codes = mix_styles(first, second, torch.where(mixed, crossover, student.code_count))
        low, high = TRUNCATION
        psi = (low + (high - low) * torch.rand(count, 1, 1, generator=random)).to(device)
        codes = teacher.mean_code + psi * (codes - teacher.mean_code)
        return codes, teacher(teacher_codes(codes, teacher.code_count)).picture.float()


def open_trainer(
    recipe: DistillationRecipe, options: RunOptions, folder: Path, distributed: Distributed
) -> DistillationTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    resumes = (folder / CHECKPOINT).exists()
    teacher, discriminator = load_teacher(recipe, options.teacher)
    networks = MetricNetworks.load(options.weights, distributed.device, needed=bool(recipe.lpips))
    teacher = teacher.eval().requires_grad_(False)
    if resumes:
        run = load_run(folder, teacher, discriminator)
        run.resume(recipe, discriminator, student=run.recipe.student)
    else:
        run = start_run(recipe, teacher, discriminator)
    run.teacher = str(options.teacher or "")
    return DistillationTrainer(run, teacher, distributed, networks)


def load_teacher(recipe: DistillationRecipe, given: str | Path | None) -> tuple[StyleGAN2, Discriminator | None]:
    """A StyleGAN2 cut to the student's size and, if of that size, its discriminator; a random one in trial runs."""
    if given is None:
        if not recipe.random_teacher:
            raise EdgegrainError("this recipe distils a StyleGAN2; pass --teacher with its file")
        return random_teacher(recipe), None
    path = find_prior(given)
    teacher = load_stylegan2(path, cut_to=recipe.student.size)
    return teacher, own_discriminator(path, teacher)


def random_teacher(recipe: DistillationRecipe) -> StyleGAN2:
    """A generator with random weights for trial runs, the same for the same seed, with pictures near [-1, 1]."""
    student = recipe.student
    sizes = student.size, student.channel_base, student.channel_max, student.code_width, student.mapping_layers
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(recipe.seed)
        teacher = StyleGAN2(StyleGAN2Config(*sizes))
        for head in teacher.to_rgb:  # each adds a deviation of about 1 to the sum
            head.get_parameter("conv.weight").mul_(0.25)
    teacher.measure_mean_code()
    return teacher


DISTILLATION = Family(
    FAMILY,
    "MobileStyleGAN, distilled from a StyleGAN2",
    DistillationRecipe,
    DISTILLATION_RECIPES,
    open_trainer,
    lambda recipe: 640 if recipe.random_teacher else 2_000_000,
    takes=("teacher", "weights"),
)
