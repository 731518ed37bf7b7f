"""Distillation of a StyleGAN2 into a MobileStyleGAN: the teacher draws, the student copies (arXiv:2104.04767).

The student is trained in the form it is used in: convolutions of constant weights, nothing demodulated at run time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.errors import EdgegrainError
from edgegrain.metrics.lpips import LPIPS
from edgegrain.training.distributed import Placement, mixed_precision, placed
from edgegrain.training.stylegan.distillation import run as distil_run
from edgegrain.training.stylegan.distillation.recipes import DistilConfig
from edgegrain.training.stylegan.distillation.run import CHECKPOINT, DistilRun, Student, begin, teacher_codes
from edgegrain.training.stylegan.distillation.wavelets import band_loss
from edgegrain.training.stylegan.loop import sample_sheet
from edgegrain.training.time_budget import Journal, Turn, take_turn
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.synthesis import StyleGAN2, mix_styles

LOG_EVERY = 20  # steps
HELD_OUT = 16  # latents the student is measured on
LPIPS_SIZE = 256  # the paper's: larger pictures are averaged down for LPIPS
_UNSEEN_SEED = 2**40


def distil(
    config: DistilConfig, teacher: StyleGAN2, *, out: Path, pictures: int, discriminator: Discriminator | None = None,
    teacher_name: str = "", weights: Path | None = None, budget_seconds: float = 0, resume: bool = False,
    save_every: int = 20_000, device: str = "auto", report: Callable[[float, str], None] | None = None,
) -> dict[str, float]:
    """Distil; returns the averaged student's figures on latents it has not seen.

    Writes ``log.jsonl``, ``samples.png``, the checkpoint and ``mobile_stylegan.safetensors`` into ``out``, every
    ``save_every`` pictures, at the end and on Ctrl-C or SIGTERM.

    Args:
        config: the recipe.
        teacher: a generator of the student's size.
        out: folder of the run.
        pictures: of the teacher's, to see in all.
        discriminator: the teacher's, to begin with; None for the recipe's own, from random weights.
        teacher_name: for the student's file.
        weights: folder of the LPIPS weights; None if the recipe needs none.
        budget_seconds: end after this time; 0: no limit.
        resume: continue the run in ``out``; the sizes are the stored run's.
        save_every: pictures between checkpoints.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        report: is told the finished part of the run and a line about it, every few seconds.

    Raises:
        FileExistsError: ``out`` holds a run and ``resume`` is false.
        EdgegrainError: teacher, weights, device or checkpoint do not fit or cannot be had.
    """
    if config.lpips and weights is None:
        raise EdgegrainError("the loss needs the LPIPS weights; pass --weights with their folder")
    lpips = LPIPS(weights).requires_grad_(False) if config.lpips and weights is not None else None
    out.mkdir(parents=True, exist_ok=True)
    teacher = teacher.eval().requires_grad_(False)
    if resume and (out / CHECKPOINT).exists():
        run = distil_run.load(out, teacher, discriminator)
        run.config = replace(config, student=run.config.student, adversarial=run.config.adversarial)
    elif (out / CHECKPOINT).exists():
        raise FileExistsError(f"{out / CHECKPOINT} exists; pass --resume to continue it or choose another folder")
    else:
        run = begin(config, teacher, discriminator)
    with placed(device) as place:
        trainer = Distiller(run, teacher, place, lpips)
        log = Journal(out / "log.jsonl" if place.first else None)
        log.write({"config": run.config.as_dict(), "teacher": teacher_name, "seen": run.pictures})
        turn = Turn(place, run.pictures, pictures, budget_seconds)
        figures = take_turn(turn, trainer, log, keep=lambda end: _keep(trainer, out, log, teacher_name),
                            keep_every=save_every, log_every=LOG_EVERY, report=report)
        return figures | {"pictures": run.pictures, "skipped": trainer.skipped}


class Distiller:
    """A run on its device, one step at a time.

    Attributes:
        steps: taken since this process began, or resumed, the run.
        skipped: steps whose gradient was not finite and that changed nothing.
    """

    def __init__(self, run: DistilRun, teacher: StyleGAN2, place: Placement, lpips: LPIPS | None) -> None:
        """Moves all networks to the device."""
        self.run, self.teacher, self.place = run, teacher.to(place.device), place
        self.lpips = lpips.to(place.device) if lpips is not None else None
        self.steps = self.skipped = 0
        for network in (run.student, run.average):
            network.to(place.device)
            place.share(network)
        if run.opponent is not None:
            run.opponent.discriminator.to(place.device)
            place.share(run.opponent.discriminator)
        trained = [(parameter, average) for parameter, average in zip(
            run.student.parameters(), run.average.parameters(), strict=True) if parameter.requires_grad]
        self._parameters = [parameter for parameter, _ in trained]
        self._averages: list[Tensor] = [average for _, average in trained]
        self._adam = torch.optim.Adam(self._parameters, lr=run.config.learning_rate)
        self._random = torch.Generator().manual_seed(run.config.seed + run.pictures + 1_000_003 * place.rank)

    def step(self, progress: float) -> dict[str, Tensor]:
        """One batch at this progress (0...1) of the run: the unweighted terms of the loss, detached."""
        run, config, place = self.run, self.run.config, self.place
        codes, target = self._lesson(config.batch, self._random)
        opponent = run.opponent if config.adversarial is not None else None
        with mixed_precision(place.device, config.bf16):
            pictures = run.student(codes)
            final = pictures[-1].float()
            bands = torch.stack([band_loss(picture, target) for picture in pictures]).mean()
            loss, terms = config.bands * bands, {"bands": bands.detach()}
            if self.lpips is not None:
                distance = self.lpips(_at_most(final, LPIPS_SIZE), _at_most(target, LPIPS_SIZE)).mean()
                loss, terms = loss + config.lpips * distance, terms | {"lpips": distance.detach()}
            if opponent is not None and progress >= opponent.config.begins:
                advice = opponent.loss(final, target)
                loss, terms = loss + opponent.config.weight * advice, terms | {"adversarial": advice.detach()}
        self._update(loss, progress)
        if opponent is not None and progress >= opponent.config.warms_up and self.steps % opponent.config.every == 0:
            with mixed_precision(place.device, config.bf16):
                terms |= opponent.learn(final, target, place.average_gradients)
        self.steps += 1
        run.pictures += config.batch * place.world
        return terms

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The averaged student against its teacher on unseen latents: PSNR (dB) of rounded pictures, and LPIPS."""
        student, squared, distance = self.run.average, 0.0, 0.0
        random = torch.Generator().manual_seed(_UNSEEN_SEED)
        for _ in range(HELD_OUT):
            codes, target = self._lesson(1, random)
            picture = student.generator(codes).picture.clamp(-1, 1)
            target = target.clamp(-1, 1)
            squared += float((picture - target).pow(2).mean()) / HELD_OUT
            if self.lpips is not None:
                distance += float(self.lpips(_at_most(picture, LPIPS_SIZE), _at_most(target, LPIPS_SIZE))) / HELD_OUT
        figures = {"psnr": round(10 * math.log10(4 / max(squared, 1e-8)), 3)}
        return figures | ({"lpips_alex": round(distance, 4)} if self.lpips is not None else {})

    @torch.no_grad()
    def _lesson(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes of the student, ``[count, L, code_width]``, and the teacher's pictures of them."""
        config, teacher, device = self.run.config, self.teacher, self.place.device
        student = self.run.student.generator
        z = torch.randn(2 * count, student.code_width, generator=random).to(device)
        first, second = (student.broadcast(w) for w in teacher.map(z).chunk(2))
        crossover = torch.randint(1, student.code_count, (count,), generator=random)
        mixed = torch.rand(count, generator=random) < config.mixing
        codes = mix_styles(first, second, torch.where(mixed, crossover, student.code_count))
        low, high = config.truncation
        psi = (low + (high - low) * torch.rand(count, 1, 1, generator=random)).to(device)
        codes = teacher.mean_code + psi * (codes - teacher.mean_code)
        return codes, teacher(teacher_codes(codes, teacher.code_count)).picture.float()

    def _update(self, loss: Tensor, progress: float) -> None:
        config = self.run.config
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        self.place.average_gradients(self._parameters)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        if not torch.isfinite(norm):
            self.skipped += 1
            return
        annealed = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self._adam.param_groups:
            group["lr"] = config.learning_rate * annealed * min(1.0, (self.steps + 1) / config.warm_up)
        self._adam.step()
        with torch.no_grad():  # a young average would otherwise keep the random beginning
            decay = min(config.ema, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self._averages, [*self._parameters], 1 - decay)


def _at_most(picture: Tensor, size: int) -> Tensor:
    return F.adaptive_avg_pool2d(picture, size) if picture.shape[-1] > size else picture


def _keep(trainer: Distiller, out: Path, log: Journal, teacher: str) -> dict[str, float]:
    """Figures, sheet, checkpoint; the first process only."""
    figures: dict[str, float] = {}
    if trainer.place.first:
        figures = trainer.evaluate()
        log.write({"pictures": trainer.run.pictures, "validation": figures})
        student: Student = trainer.run.average
        sample_sheet(student.generator, out / "samples.png")
        distil_run.save(out, trainer.run, teacher)
    trainer.place.wait()
    return figures
