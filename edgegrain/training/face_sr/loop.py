"""The training of GLEAN ([GLEAN] supplementary 1) and GCFSR ([GCFSR] 3.5), made for preemptible machines.

Both restore faces from LRs that nothing learns to make: the picture is reduced (or degraded), the network restores it,
and pixels, VGG16's features, LPIPS and a discriminator judge the result, by the recipe's weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError
from codec_contract.quantization import dequantize
from edgegrain.metrics.lpips import LPIPS
from edgegrain.pictures.packed import batches, first_pictures, made_up, pack, stored_pictures
from edgegrain.training.distributed import Placement, mixed_precision, placed
from edgegrain.training.face_sr import run as face_sr_run
from edgegrain.training.face_sr.lr_inputs import draw_inputs, restore
from edgegrain.training.face_sr.recipes import FaceSRTraining
from edgegrain.training.face_sr.run import CHECKPOINT, FaceSRRun, begin
from edgegrain.training.face_sr.validation import Examination
from edgegrain.training.grain.validation import Judges
from edgegrain.training.losses import picture_loss, random_offset
from edgegrain.training.optimizers import annealed, optimizers
from edgegrain.training.time_budget import Journal, Turn, take_turn
from server_decoder.generative_prior import GenerativePrior

LOG_EVERY = 25  # steps
HELD_OUT = 16  # pictures that a run is evaluated on
VGG_LAYER = 3  # conv4_3, of those that LPIPS compares


def train_face_sr(
    config: FaceSRTraining, *, out: Path, pictures: int = 0, data: Path | None = None, weights: Path | None = None,
    validation: Path | None = None, prior: GenerativePrior | None = None, discriminator: nn.Module | None = None,
    start: Path | None = None, budget_seconds: float = 0, exclude: tuple[str, ...] = (), resume: bool = False,
    evaluate_every: int = 4000, device: str = "auto", report: Callable[[float, str], None] | None = None,
) -> dict[str, float]:
    """Train; returns the averaged network's figures on held-out pictures (`Examination.figures`).

    Writes ``log.jsonl``, ``samples.png``, the checkpoint and ``glean.safetensors`` or ``gcfsr.safetensors`` into
    ``out``, every ``evaluate_every`` pictures, at the end and on Ctrl-C or SIGTERM.

    Args:
        config: the recipe.
        out: folder of the run.
        pictures: to see in all; 0: the recipe's iterations.
        data: folder of training pictures; None where the recipe makes some up.
        weights: folder of the LPIPS weights; None if the losses need none.
        validation: folder whose first pictures are evaluated on; by default those of ``data``.
        prior: GLEAN's bank; None for GCFSR and for a bank with random weights.
        discriminator: trained before; None for the recipe's own, from random weights.
        start: trained weights, or the folder of a run that holds them, to begin with.
        budget_seconds: end after this time, annealed towards it; 0: no limit.
        exclude: name patterns of pictures to leave out.
        resume: continue the run in ``out``; the network's shape is the stored run's.
        evaluate_every: pictures between evaluations, each with a checkpoint.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        report: is told the finished part of the run and a line about it, every few seconds.

    Raises:
        FileExistsError: ``out`` holds a run and ``resume`` is false.
        EdgegrainError: pictures, weights, bank, device or checkpoint do not fit or cannot be had.
    """
    if weights is None and (config.loss.lpips or config.perceptual):
        raise EdgegrainError("the losses need the LPIPS weights; pass --weights with their folder")
    out.mkdir(parents=True, exist_ok=True)
    if resume and (out / CHECKPOINT).exists():
        run = face_sr_run.load(out, prior)
        run.config = replace(config, network=run.config.network, adversarial=run.config.adversarial)
    elif (out / CHECKPOINT).exists():
        raise FileExistsError(f"{out / CHECKPOINT} exists; pass --resume to continue it or choose another folder")
    else:
        run = begin(config, prior, discriminator, start)
    config = run.config
    shard, held_out = _pictures(config, data, validation, exclude, out.parent / "packed")
    with placed(device) as place:
        judges = Judges.load(weights, place.device, faces=False)
        vgg = LPIPS(weights, "vgg").requires_grad_(False) if config.perceptual and weights is not None else None
        trainer = FaceSRTrainer(run, place, shard, judges.lpips, vgg)
        examination = Examination(config, held_out, judges, place.device)
        journal = Journal(out / "log.jsonl" if place.first else None)
        journal.write({"config": config.as_dict(), "pictures_in_set": len(shard), "seen": run.pictures})
        turn = Turn(place, run.pictures, pictures or config.iterations * config.batch, budget_seconds)

        def keep(end: bool | None) -> dict[str, float]:
            figures: dict[str, float] = {}
            if place.first:
                figures = examination.figures(run.average)
                journal.write({"pictures": run.pictures, "validation": figures} | ({} if end is None else {"end": end}))
                examination.sheet(run.average, out / "samples.png")
                face_sr_run.save(out, run)
            place.wait()
            return figures

        figures = take_turn(turn, trainer, journal, keep=keep, keep_every=evaluate_every, log_every=LOG_EVERY,
                            report=report)
        return figures | {"pictures": run.pictures, "skipped": trainer.skipped} if figures else {}


class FaceSRTrainer:
    """A run on its device, one step at a time.

    Attributes:
        steps: taken since this process began, or resumed, the run.
        skipped: steps whose gradient was not finite and that changed nothing.
    """

    def __init__(self, run: FaceSRRun, place: Placement, shard: np.ndarray, lpips: LPIPS | None, vgg: LPIPS | None
                 ) -> None:
        """Moves the run's networks to the device. ``shard``: uint8 ``[N, S, S, 3]``."""
        config = run.config
        self.run, self.place = run, place
        self.steps, self.skipped, self._resumed = 0, 0, run.pictures > 0
        self._lpips, self._vgg = lpips, vgg.to(place.device) if vgg is not None else None
        networks: list[nn.Module] = [run.model, run.average]
        networks += [run.opponent.discriminator] if run.opponent is not None else []
        for network in networks:
            network.to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as elsewhere
            place.share(network)
        moving = {name: parameter for name, parameter in run.model.named_parameters() if parameter.requires_grad}
        averages = dict(run.average.named_parameters())
        self.parameters = list(moving.values())
        self._averages: list[Tensor] = [averages[name] for name in moving]
        self._optimizers = optimizers(self.parameters, config.learning_rate, config.muon, config.weight_decay)
        seed = config.seed + run.pictures + 1_000_003 * place.rank
        self._random = np.random.default_rng(seed)
        self._feed = batches(shard, config.batch, seed, place.device)

    def step(self, progress: float) -> dict[str, Tensor]:
        """One batch at this progress (0...1) of the run: the loss and its unweighted terms, detached."""
        run, config, place = self.run, self.run.config, self.place
        picture = next(self._feed).to(place.device)
        inputs = draw_inputs(config, picture, self._random)
        target = dequantize(picture)
        with mixed_precision(place.device, config.bf16):
            restored = restore(run.model, inputs.picture.contiguous(memory_format=torch.channels_last), inputs.factors)
            loss, terms = self._loss(restored, target, inputs.factors, progress)
        run.model.zero_grad(set_to_none=True)
        loss.backward()
        place.average_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, config.clip_gradient or math.inf)
        if torch.isfinite(norm):
            rate = annealed(config.learning_rate, progress, self.steps, warm_up=config.warm_up, hold=config.hold)
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["factor"]
                optimizer.step()
        else:
            self.skipped += 1
        if config.adversarial is not None and run.opponent is not None and progress >= config.adversarial.warms_up \
                and self.steps % config.adversarial.every == 0:
            with mixed_precision(place.device, config.bf16):
                terms |= run.opponent.learn(restored, target, place.average_gradients)
        self.steps += 1
        run.pictures += config.batch * place.world
        with torch.no_grad():  # a young average of a new run would otherwise keep the random beginning
            decay = config.ema if self._resumed else min(config.ema, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self._averages, [*self.parameters], 1 - decay)
        return {"loss": loss.detach(), **terms}

    def _loss(self, restored: Tensor, target: Tensor, factors: Tensor, progress: float
              ) -> tuple[Tensor, dict[str, Tensor]]:
        run, config = self.run, self.run.config
        adversarial = config.adversarial if config.adversarial and progress >= config.adversarial.begins else None
        # Some pictures have no other judge than the discriminator, once there is one.
        alone = adversarial is not None and config.adversarial_alone > 0
        compared = factors > config.adversarial_alone if alone else torch.ones_like(factors, dtype=torch.bool)
        loss = torch.zeros((), device=restored.device)
        terms: dict[str, Tensor] = {}
        if compared.any():
            part = compared.float().mean()  # so that a picture counts the same in every batch
            loss, terms = picture_loss(config.loss, restored[compared], target[compared], self._lpips, None,
                                       offset=random_offset(config.lpips_shift))
            if self._vgg is not None:
                terms["perceptual"] = perceptual_loss(
                    self._vgg, restored[compared], target[compared], squared=config.squared)
                loss = loss + config.perceptual * terms["perceptual"]
            loss = part * loss
        if adversarial is not None and run.opponent is not None:
            terms["adversarial"] = run.opponent.loss(restored, target)
            loss = loss + adversarial.weight * terms["adversarial"]
        return loss, {name: value.detach() for name, value in terms.items()}


def perceptual_loss(vgg: LPIPS, picture: Tensor, target: Tensor, *, squared: bool) -> Tensor:
    """Mean squared or absolute difference of VGG16's conv4_3, after its ReLU, of pictures in [-1, 1].

    The authors' public codes of both papers take that layer before its ReLU; [GLEAN] squares (supplementary, equation
    2).
    """
    with torch.no_grad():
        wanted = vgg.activations(target)[VGG_LAYER].float()
    difference = vgg.activations(picture)[VGG_LAYER].float() - wanted
    return difference.square().mean() if squared else difference.abs().mean()


def _pictures(config: FaceSRTraining, data: Path | None, validation: Path | None, exclude: tuple[str, ...],
              cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Training pictures and the few to evaluate on."""
    if data is not None:
        return (pack(stored_pictures(data, exclude), config.size, cache),
                first_pictures(validation or data, HELD_OUT, config.size))
    if not config.made_up:
        raise EdgegrainError("no training pictures; pass --data with their folder")
    shard = made_up(config.made_up, config.size, config.seed)
    return shard, shard[:HELD_OUT]
