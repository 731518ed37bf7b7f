"""The loop that every stage runs in, made for preemptible machines.

A run stops at ``pictures`` or at ``budget_seconds``, whichever comes first, and anneals towards that end. It writes a
checkpoint at every evaluation, at the end and on Ctrl-C or SIGTERM, and continues from it, from weights alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError
from codec_contract.quantization import dequantize, quantize, unit_to_levels
from edgegrain.pictures.packed import batches, first_pictures, made_up, pack, stored_pictures
from edgegrain.training import rate
from edgegrain.training.adversarial import Opponent
from edgegrain.training.distributed import Placement, mixed_precision, placed
from edgegrain.training.grain.checkpoint import CHECKPOINT, Run, load_run, save_run
from edgegrain.training.grain.initialize import begin, stand_in_prior
from edgegrain.training.grain.stages import StageConfig
from edgegrain.training.grain.validation import Judges, evaluate, evaluate_codes, sample_sheet
from edgegrain.training.jitter import jitter
from edgegrain.training.losses import code_loss, lr_loss, picture_loss, random_offset, rate_loss
from edgegrain.training.optimizers import annealed, optimizers
from edgegrain.training.synthetic import synthetic_faces
from edgegrain.training.time_budget import Journal, Turn, take_turn
from server_decoder.generative_prior import GenerativePrior

LOG_EVERY = 25  # steps
VARIANCE_SAMPLES = 1024  # latents that the variance of W is estimated from
HELD_OUT = 16  # pictures that a run is evaluated on
UNSEEN_SEED = 2**40  # of the synthetic ones; training counts up from far below


def train(config: StageConfig, *, out: Path, pictures: int, data: Path | None = None, weights: Path | None = None,
          prior: GenerativePrior | None = None, discriminator: nn.Module | None = None, start: Path | None = None,
          decoder_from: Path | None = None, fusion_base: str = "", budget_seconds: float = 0,
          exclude: tuple[str, ...] = (), validation: Path | None = None, resume: bool = False,
          evaluate_every: int = 4000, device: str = "auto", compiled: bool = False,
          report: Callable[[float, str], None] | None = None) -> dict[str, float]:
    """Run a stage; returns the last evaluation. See the module for what stops it and what it writes.

    Args:
        config: the stage.
        out: folder of the run: checkpoint, ``log.jsonl``, ``samples.png``.
        pictures: to see in this stage.
        data: folder of training pictures; None where the configuration makes some up.
        weights: folder of the LPIPS and identity weights; None if the losses need neither.
        prior: the generator, for stages with one; None for one with random weights.
        discriminator: trained before; None for the configuration's own, from random weights.
        start: run or bundle to begin with, instead of random weights.
        decoder_from: run or bundle whose invertible decoder, with its encoder, takes the place of that of ``start``.
        fusion_base: the picture that the fusion adds to, where it is to be another than that of ``start``.
        budget_seconds: end the run after this time; 0: no limit.
        exclude: name patterns of pictures to leave out.
        validation: folder whose first pictures are evaluated on; by default those of ``data``.
        resume: continue the run in ``out``.
        evaluate_every: pictures between evaluations.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        compiled: decode through `torch.compile` in training steps.
        report: is told the finished part of the run and a line about it, every few seconds.

    Raises:
        FileExistsError: ``out`` holds a run and ``resume`` is false.
        EdgegrainError: pictures, metric weights, device, start or checkpoint cannot be had.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    prior = prior or (stand_in_prior(config) if config.made_up else None)
    if resume and (out / CHECKPOINT).exists():
        run = load_run(out, prior)
        shapes = run.config  # of the stored run; everything else may be chosen anew
        run.config = replace(config, encoder=shapes.encoder, decoder=shapes.decoder, correction=shapes.correction,
                             stage=shapes.stage, trains=shapes.trains)
    elif (out / CHECKPOINT).exists():
        raise FileExistsError(f"{out / CHECKPOINT} exists; pass --resume to continue it or choose another folder")
    else:
        run = begin(config, start, prior, decoder_from=decoder_from, fusion_base=fusion_base)
    config = run.config
    shard, held_out = _pictures(config, data, validation, exclude, out.parent / "packed", run.model.prior)
    if weights is None and (config.loss.lpips or config.loss.identity):
        raise EdgegrainError("the losses need the LPIPS and identity weights; pass --weights with their folder")
    if config.adversarial is not None and run.opponent is None:
        run.opponent = Opponent(config.adversarial, discriminator)
    if compiled:
        run.model.compile_decoder()
    with placed(device) as place:
        trainer = Trainer(run, place, shard, Judges.load(weights, place.device, faces=bool(config.loss.identity)))
        journal = Journal(out / "log.jsonl" if place.first else None)
        journal.write({"config": config.as_dict(), "pictures_in_set": len(shard), "seen": run.pictures})
        turn = Turn(place, run.pictures, pictures, budget_seconds)
        return take_turn(turn, trainer, journal, keep=lambda end: _look(trainer, held_out, out, journal, end),
                         keep_every=evaluate_every, log_every=LOG_EVERY, report=report)


def learning_rate(config: StageConfig, progress: float, step: int) -> float:
    """What `annealed` makes of the stage's learning rate."""
    return annealed(config.learning_rate, progress, step, warm_up=config.warm_up, hold=config.hold)


class Trainer:
    """A run on its device, one step at a time.

    Attributes:
        steps: taken since this process began, or resumed, the run.
        skipped: steps whose gradient was not finite and that changed nothing.
    """

    def __init__(self, run: Run, place: Placement, shard: np.ndarray, judges: Judges) -> None:
        """Moves the run's networks to the device."""
        config = run.config
        self.run, self.place, self.judges = run, place, judges
        self.steps, self.skipped, self._resumed = 0, 0, run.pictures > 0
        run.model.to(place.device)
        run.average.to(place.device)
        place.share(run.model)
        place.share(run.average)
        if run.opponent is not None:
            run.opponent.discriminator.to(place.device)
            place.share(run.opponent.discriminator)
        trained = {name: parameter for name, parameter in run.model.named_parameters() if parameter.requires_grad}
        self.parameters = list(trained.values())
        averages = dict(run.average.named_parameters())
        self._averages: list[Tensor] = [averages[name] for name in trained]
        self._moving: list[Tensor] = list(self.parameters)
        of_rate = [parameter for name, parameter in trained.items() if name.startswith("rate.")]
        others = [parameter for name, parameter in trained.items() if not name.startswith("rate.")]
        self.optimizers = optimizers(others, config.learning_rate, config.muon)
        if of_rate:
            self.optimizers.append(torch.optim.Adam(of_rate, lr=rate.LEARNING_RATE))
            self.optimizers[-1].param_groups[0]["factor"] = rate.LEARNING_RATE / config.learning_rate
        # Synthetic pictures come last in a batch; the discriminator must not take the prior's faults for real.
        self._real = real = config.batch - config.synthetic_count
        seed = config.seed + run.pictures + 1_000_003 * place.rank
        if place.rank:  # else every process would draw the same noise
            torch.manual_seed(seed)
        self._feed = batches(shard, real, seed, place.device) if real else None
        prior, count = run.model.prior, config.synthetic_count
        self._synthetic = synthetic_faces(
            prior, sys.maxsize, seed, batch=count, psi_range=config.truncation, dtype=torch.bfloat16,
        ) if prior is not None and count else None
        self._variance = _variance_of_w(prior) if config.loss.codes else None
        # Psi 1, so that the variance of these codes is that of W.
        self._unseen = next(synthetic_faces(prior, HELD_OUT, UNSEEN_SEED, batch=HELD_OUT, psi_range=(1.0, 1.0))
                            ) if prior is not None and config.loss.codes else None

    def step(self, progress: float) -> dict[str, Tensor]:
        """One batch at this progress (0...1) of the run: the loss and its terms, detached."""
        run, config, place = self.run, self.run.config, self.place
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, progress, self.steps) * group["factor"]
        adversarial = config.adversarial if run.opponent is not None else None
        picture, codes = self._draw()
        with mixed_precision(place.device):
            restored = run.model(picture, noise=progress < config.noise_until and "encoder" in config.trains)
            target = dequantize(picture)
            loss, terms = picture_loss(config.loss, restored.picture, target, self.judges.lpips,
                                       self.judges.identity if progress >= config.identity_from else None,
                                       offset=random_offset(config.lpips_shift))
            if "encoder" in config.trains:
                part, more = lr_loss(config.loss, restored.lr, restored.box)
                loss, terms = loss + part, terms | more
            if restored.rate is not None:
                part, more = rate_loss(config.loss, restored.rate)
                loss, terms = loss + part, terms | more
            if codes is not None and restored.codes is not None and self._variance is not None:
                part, more = code_loss(config.loss, restored.codes[-len(codes):], codes, self._variance)
                loss, terms = loss + part, terms | more
            if adversarial is not None and run.opponent is not None and progress >= adversarial.begins:
                part = run.opponent.loss(restored.picture, target[:self._real])
                loss, terms = loss + adversarial.weight * part, terms | {"adversarial": part.detach()}
        run.model.zero_grad(set_to_none=True)
        loss.backward()
        place.average_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, config.clip_gradient)
        if torch.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        else:
            self.skipped += 1
            terms["skipped"] = torch.tensor(float(self.skipped))
        if adversarial is not None and run.opponent is not None and progress >= adversarial.warms_up \
                and self.steps % adversarial.every == 0:
            with mixed_precision(place.device):
                terms |= run.opponent.learn(restored.picture, target[:self._real], place.average_gradients)
        self.steps += 1
        run.pictures += config.batch * place.world
        with torch.no_grad():  # a young average of a new run would otherwise keep the random beginning
            decay = config.ema if self._resumed else min(config.ema, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self._averages, self._moving, 1 - decay)
        return {"loss": loss.detach(), **terms}

    def evaluate(self, held_out: np.ndarray) -> dict[str, float]:
        """Figures of the averaged weights on pictures uint8 ``[N, S, S, 3]`` that training does not see."""
        result = evaluate(self.run.average, held_out, self.judges)
        if self._unseen is not None and self._variance is not None:
            result |= evaluate_codes(self.run.average, self._unseen, self._variance)
        return result

    def _draw(self) -> tuple[Tensor, Tensor | None]:
        """Integers 0...255 ``[B, 3, S, S]``, synthetic pictures last, and the codes of those."""
        parts = [next(self._feed).to(self.place.device)] if self._feed is not None else []
        if self.run.config.jitter:
            parts = [jitter(part) for part in parts]
        codes = None
        if self._synthetic is not None:
            faces = next(self._synthetic)
            codes = faces.codes
            parts.append(unit_to_levels(faces.pictures).add(0.5).floor().clamp(0, 255))
        picture = parts[0] if len(parts) == 1 else torch.cat(parts)
        return picture.contiguous(memory_format=torch.channels_last), codes


@torch.no_grad()
def _variance_of_w(prior: GenerativePrior | None) -> Tensor | None:
    if prior is None:
        return None
    device = prior.mean_code.device
    z = torch.randn(VARIANCE_SAMPLES, prior.code_width, generator=torch.Generator().manual_seed(0)).to(device)
    return prior.map(z).var(0).mean()


def _pictures(config: StageConfig, data: Path | None, validation: Path | None, exclude: tuple[str, ...],
              cache: Path, prior: GenerativePrior | None) -> tuple[np.ndarray, np.ndarray]:
    """Training pictures and the few to evaluate on."""
    size = config.encoder.hr
    if data is None:
        if not config.made_up:
            raise EdgegrainError("no training pictures; pass --data with their folder")
        if config.synthetic == 1 and prior is not None:
            faces = next(synthetic_faces(prior, HELD_OUT, UNSEEN_SEED, batch=HELD_OUT, psi_range=config.truncation))
            held_out = quantize(faces.pictures.permute(0, 2, 3, 1).cpu().numpy())
            return held_out, held_out
        shard = made_up(config.made_up, size, config.seed)
        return shard, shard[:HELD_OUT]
    return pack(stored_pictures(data, exclude), size, cache), first_pictures(validation or data, HELD_OUT, size)


def _look(trainer: Trainer, held_out: np.ndarray, out: Path, journal: Journal, end: bool | None
          ) -> dict[str, float]:
    """Evaluate, draw the sheet, save; the first process only."""
    run, result = trainer.run, {}
    if trainer.place.first:
        result = trainer.evaluate(held_out)
        journal.write({"pictures": run.pictures, "validation": result} | ({} if end is None else {"end": end}))
        sample_sheet(run.average, held_out[:8], out / "samples.png")
        save_run(out, run)
    trainer.place.wait()
    return result
