"""Training of a StyleGAN2: the non-saturating game with lazy R1, lazy path lengths and adaptive augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError
from codec_contract.quantization import dequantize, quantize
from edgegrain.pictures.packed import batches, made_up, pack, stored_pictures
from edgegrain.training.adversarial import r1_penalty
from edgegrain.training.distributed import Placement, mixed_precision, placed
from edgegrain.training.stylegan import run as prior_run
from edgegrain.training.stylegan.augment import AdaptiveProbability, augment
from edgegrain.training.stylegan.recipes import PriorTrainingConfig
from edgegrain.training.stylegan.regularizers import PathLength, lazy_adam, path_lengths
from edgegrain.training.stylegan.run import CHECKPOINT, PriorRun, begin
from edgegrain.training.time_budget import Journal, Turn
from server_decoder.generative_prior import GenerativePrior
from server_decoder.stylegan2.synthesis import StyleGAN2, mix_styles

LOG_EVERY = 20  # steps
SAMPLES = 16  # pictures on a sheet
TRUNCATION = 0.7


def train_prior(
    config: PriorTrainingConfig, *, out: Path, pictures: int, data: Path | None = None, start: Path | None = None,
    budget_seconds: float = 0, exclude: tuple[str, ...] = (), resume: bool = False, save_every: int = 20_000,
    device: str = "auto", report: Callable[[float, str], None] | None = None,
) -> dict[str, float]:
    """Train a prior; returns the figures of the last steps.

    Writes ``log.jsonl``, ``samples.png``, the checkpoint and ``stylegan2.safetensors`` (averaged generator and
    discriminator) into ``out``, every ``save_every`` pictures, at the end and on Ctrl-C or SIGTERM.

    Args:
        config: the recipe.
        out: folder of the run.
        pictures: real ones to see in all.
        data: folder of training pictures; None where the recipe makes some up.
        start: file of a StyleGAN2 to fine-tune, instead of random weights.
        budget_seconds: end after this time; 0: no limit.
        exclude: name patterns of pictures to leave out.
        resume: continue the run in ``out``; the sizes are the stored run's.
        save_every: pictures between checkpoints.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        report: is told the finished part of the run and a line about it, every few seconds.

    Raises:
        FileExistsError: ``out`` holds a run and ``resume`` is false.
        EdgegrainError: pictures, device, start or checkpoint cannot be had.
    """
    out.mkdir(parents=True, exist_ok=True)
    if resume and (out / CHECKPOINT).exists():
        run = prior_run.load(out)
        run.config = replace(config, network=run.config.network)
    elif (out / CHECKPOINT).exists():
        raise FileExistsError(f"{out / CHECKPOINT} exists; pass --resume to continue it or choose another folder")
    else:
        run = begin(config, start)
    shard = _pictures(run.config, data, exclude, out.parent / "packed")
    with placed(device) as place:
        trainer = PriorTrainer(run, place, shard)
        log = Journal(out / "log.jsonl" if place.first else None)
        log.write({"config": run.config.as_dict(), "pictures_in_set": len(shard), "seen": run.pictures})
        turn, next_save = Turn(place, run.pictures, pictures, budget_seconds), run.pictures + save_every
        latest: dict[str, Tensor] = {}  # the regularizers' terms do not come with every step
        with turn.ends_on_signal():
            while (progress := turn.progress(run.pictures)) is not None:
                latest |= trainer.step()
                if run.steps % LOG_EVERY == 0:
                    log.write({"pictures": run.pictures, "per_second": turn.rate(run.pictures), **_plain(latest)})
                if report and place.first and run.steps % 5 == 0:
                    report(progress, f"{run.pictures:,} pictures, p {run.p:.2f}")
                if run.pictures >= next_save:
                    next_save += save_every
                    _keep(trainer, out)
        _keep(trainer, out)
        log.write({"pictures": run.pictures, "end": not turn.interrupted})
    return {"pictures": run.pictures, "p": run.p, "skipped": trainer.skipped} | _plain(latest)


class PriorTrainer:
    """A run on its device, one step at a time.

    Attributes:
        skipped: updates whose gradient was not finite and that changed nothing.
    """

    def __init__(self, run: PriorRun, place: Placement, shard: np.ndarray) -> None:
        """Moves the run's networks to the device. ``shard``: uint8 ``[N, S, S, 3]``."""
        config = run.config
        self.run, self.place, self.skipped = run, place, 0
        for network in (run.generator, run.average, run.discriminator):
            network.to(place.device)
            place.share(network)
        self._generator = list(run.generator.parameters())
        self._discriminator = list(run.discriminator.parameters())
        self._average: list[Tensor] = list(run.average.parameters())
        self._adam_generator = lazy_adam(self._generator, config.learning_rate, config.path_every if config.path else 0)
        self._adam_discriminator = lazy_adam(self._discriminator, config.learning_rate,
                                             config.r1_every if config.r1 else 0)
        self._path = PathLength(run.path_length)
        self._adaptation = AdaptiveProbability(config.adaptation, run.p) if config.adaptation is not None else None
        self._turn_steps = 0
        seed = config.seed + run.pictures + 1_000_003 * place.rank
        torch.manual_seed(seed)
        self._feed = batches(shard, config.batch, seed, place.device)

    def step(self) -> dict[str, Tensor]:
        """One batch for the discriminator, one for the generator, and the regularizers whose turn it is."""
        run, config, place = self.run, self.run.config, self.place
        warm = min(1.0, (self._turn_steps + 1) / max(config.warm_up, 1))
        real = dequantize(next(self._feed).to(place.device, non_blocking=True))

        terms = self._learn_discriminator(real, warm)
        if config.r1 and run.steps % config.r1_every == 0:
            # The gradient is taken at what the discriminator sees, which spares a second derivative of the warp.
            penalty = r1_penalty(run.discriminator, augment(real, run.p))
            self._update(self._adam_discriminator, self._discriminator,
                         0.5 * config.r1 * config.r1_every * penalty, warm)
            terms["r1"] = penalty.detach()

        terms |= self._learn_generator(warm)
        if config.path and run.steps % config.path_every == 0:
            count = max(1, round(config.batch * config.path_part))
            with torch.autocast(place.device.type, enabled=False):
                codes = self._codes(count)
                lengths = path_lengths(self._synthesize(codes), codes)
            self._update(self._adam_generator, self._generator,
                         config.path * config.path_every * self._path.penalty(lengths), warm)
            run.path_length = float(self._path.mean)
            terms["path_length"] = self._path.mean

        run.steps += 1
        self._turn_steps += 1
        run.pictures += config.batch * place.world
        self._follow()
        return terms

    def _learn_discriminator(self, real: Tensor, warm: float) -> dict[str, Tensor]:
        run, config, place = self.run, self.run.config, self.place
        run.discriminator.requires_grad_(True)
        with self._autocast():
            with torch.no_grad():
                fake = self._synthesize(self._codes(config.batch)).float()
            real_scores = run.discriminator(augment(real, run.p)).float()
            fake_scores = run.discriminator(augment(fake, run.p)).float()
        loss = F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()
        self._update(self._adam_discriminator, self._discriminator, loss, warm)
        sign = _mean(real_scores.detach().sign().mean(), place)
        terms = {"discriminator": loss.detach(), "sign": sign}
        if self._adaptation is not None:
            self._adaptation.observe(sign, config.batch * place.world)
            run.p = self._adaptation.p
            terms |= {"p": torch.tensor(run.p), "overfitting": torch.tensor(self._adaptation.overfitting)}
        return terms

    def _learn_generator(self, warm: float) -> dict[str, Tensor]:
        run, config = self.run, self.run.config
        run.discriminator.requires_grad_(False)
        with self._autocast():
            fake = self._synthesize(self._codes(config.batch))
            scores = run.discriminator(augment(fake, run.p)).float()
        loss = F.softplus(-scores).mean()  # non-saturating: Goodfellow et al. 2014
        self._update(self._adam_generator, self._generator, loss, warm)
        return {"generator": loss.detach()}

    def _codes(self, count: int) -> Tensor:
        """Codes in W+, ``[count, L, code_width]``, some mixed ([StyleGAN] Section 3.1)."""
        generator, device = self.run.generator, self.place.device
        first, second = generator.map(torch.randn(2 * count, generator.code_width, device=device)).chunk(2)
        crossover = torch.randint(1, generator.code_count, (count,), device=device)
        mixed = torch.rand(count, device=device) < self.run.config.mixing
        crossover = torch.where(mixed, crossover, generator.code_count)
        return mix_styles(generator.broadcast(first), generator.broadcast(second), crossover)

    def _synthesize(self, codes: Tensor) -> Tensor:
        generator = self.run.generator
        return generator(codes, generator.random_noise(len(codes))).picture

    def _update(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor,
                warm: float) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.place.average_gradients(parameters)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not torch.isfinite(nn.utils.get_total_norm(gradients)):
            self.skipped += 1
            return
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("full_lr", group["lr"]) * warm
        optimizer.step()

    @torch.no_grad()
    def _follow(self) -> None:
        """The averaged generator, with a half-life in pictures."""
        run, config = self.run, self.run.config
        half_life = min(config.ema, config.ema_ramp * run.pictures) if config.ema_ramp else config.ema
        decay = 0.5 ** (config.batch * self.place.world / max(half_life, 1e-8))
        torch._foreach_lerp_(self._average, [*self._generator], 1 - decay)

    def _autocast(self) -> torch.autocast:
        return mixed_precision(self.place.device, self.run.config.bf16)


@torch.no_grad()
def sample_sheet(prior: GenerativePrior, path: Path, count: int = SAMPLES, psi: float = TRUNCATION) -> None:
    """PNG with pictures of the same latents at every call, truncated, in a grid that is nearly square."""
    z = torch.randn(count, prior.code_width, generator=torch.Generator().manual_seed(0)).to(prior.mean_code.device)
    codes = prior.truncate(prior.broadcast(prior.map(z)), psi)
    pictures = torch.cat([prior(code[None]).picture for code in codes])
    columns = math.ceil(math.sqrt(count))
    rows = [torch.cat(list(row), 2) for row in pictures.split(columns)]
    rows[-1] = F.pad(rows[-1], (0, rows[0].shape[2] - rows[-1].shape[2]))
    Image.fromarray(quantize(torch.cat(rows, 1).permute(1, 2, 0).float().cpu().numpy())).save(path)


def _pictures(config: PriorTrainingConfig, data: Path | None, exclude: tuple[str, ...], cache: Path) -> np.ndarray:
    if data is not None:
        return pack(stored_pictures(data, exclude), config.network.size, cache)
    if not config.made_up:
        raise EdgegrainError("no training pictures; pass --data with their folder")
    return made_up(config.made_up, config.network.size, config.seed)


def _plain(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: round(float(value), 5) for name, value in terms.items()}


def _keep(trainer: PriorTrainer, out: Path) -> None:
    """Mean code, sheet, checkpoint; the first process only."""
    if trainer.place.first:
        average: StyleGAN2 = trainer.run.average
        average.measure_mean_code()
        sample_sheet(average, out / "samples.png")
        prior_run.save(out, trainer.run)
    trainer.place.wait()


def _mean(value: Tensor, place: Placement) -> Tensor:
    """The mean over all processes."""
    if place.world > 1:
        dist.all_reduce(value)
        value = value / place.world
    return value
