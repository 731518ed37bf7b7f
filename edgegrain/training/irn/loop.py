"""The training of IRN and IRN+ ([IRN], section 3 and appendix 2), made for preemptible machines like the other loops.

A step downscales crops, rounds y, draws another z and restores: L = lambda_1 L_recon + lambda_2 L_guide +
lambda_3 L_distr' while pre-training (eq. 10); with a discriminator, the Jensen-Shannon divergence stands for L_distr'
and a perceptual term joins (eq. 11).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from codec_contract.errors import EdgegrainError
from edgegrain.metrics.lpips import LPIPS
from edgegrain.pictures.crops import Photographs, crops, pack_photographs
from edgegrain.pictures.packed import list_pictures, made_up
from edgegrain.training.distributed import Placement, mixed_precision, placed
from edgegrain.training.irn import run as irn_run
from edgegrain.training.irn.losses import (
    bicubic_reduction,
    deceiving_loss,
    divergence,
    guide_loss,
    latent_loss,
    perceptual_loss,
    reconstruction_loss,
)
from edgegrain.training.irn.recipes import IRNTraining
from edgegrain.training.irn.run import CHECKPOINT, IRNRun, begin
from edgegrain.training.optimizers import ConvolutionMuon, is_matrix
from edgegrain.training.time_budget import Journal, Turn, take_turn
from server_decoder.irn.network import IRN, round_to_levels

LOG_EVERY = 20  # steps
HELD_OUT = 8  # crops that a run is measured on
_MADE_UP = 24  # pictures of a trial run
_UNSEEN_SEED = 2**40


def train_irn(
    config: IRNTraining, *, out: Path, pictures: int = 0, data: Path | None = None, validation: Path | None = None,
    weights: Path | None = None, start: Path | None = None, budget_seconds: float = 0, resume: bool = False,
    save_every: int = 20_000, device: str = "auto", report: Callable[[float, str], None] | None = None,
) -> dict[str, float]:
    """Train; returns the averaged network's figures on crops that are held out.

    Writes ``log.jsonl``, ``samples.png``, the checkpoint and ``irn.safetensors`` into ``out``, every ``save_every``
    crops, at the end and on Ctrl-C or SIGTERM.

    Args:
        config: the recipe.
        out: folder of the run.
        pictures: crops to see in all; 0: the recipe's iterations.
        data: folder of photographs; None where the recipe makes some up.
        validation: folder of photographs to measure on; by default ``data``.
        weights: folder of the LPIPS weights, whose VGG16 the perceptual term looks through; None if it is not used.
        start: trained weights to begin with.
        budget_seconds: end after this time, annealed towards it; 0: no limit.
        resume: continue the run in ``out``; the network's shape is the stored run's.
        save_every: crops between checkpoints.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        report: is told the finished part of the run and a line about it, every few seconds.

    Raises:
        FileExistsError: ``out`` holds a run and ``resume`` is false.
        EdgegrainError: pictures, weights, device or checkpoint do not fit or cannot be had.
    """
    if config.losses.perceptual and weights is None:
        raise EdgegrainError("the perceptual loss needs the LPIPS weights; pass --weights with their folder")
    features = LPIPS(weights, "vgg").requires_grad_(False) if config.losses.perceptual and weights is not None else None
    out.mkdir(parents=True, exist_ok=True)
    if resume and (out / CHECKPOINT).exists():
        run = irn_run.load(out)
        run.config = replace(config, network=run.config.network, judge=run.config.judge, crop=run.config.crop)
    elif (out / CHECKPOINT).exists():
        raise FileExistsError(f"{out / CHECKPOINT} exists; pass --resume to continue it or choose another folder")
    else:
        run = begin(config, start)
    config = run.config
    photographs = _photographs(config, data, out.parent / "packed")
    unseen = photographs if validation is None else _photographs(config, validation, out.parent / "packed")
    held_out = next(crops(unseen, HELD_OUT, config.crop, _UNSEEN_SEED))
    with placed(device) as place:
        trainer = Trainer(run, place, photographs, features)
        log = Journal(out / "log.jsonl" if place.first else None)
        log.write({"config": config.as_dict(), "pictures_in_set": len(photographs), "seen": run.pictures})
        turn = Turn(place, run.pictures, pictures or config.iterations * config.batch, budget_seconds)
        figures = take_turn(turn, trainer, log, keep=lambda end: _keep(trainer, held_out, out, log),
                            keep_every=save_every, log_every=LOG_EVERY, report=report)
        return figures | {"pictures": run.pictures, "skipped": trainer.skipped}


def learning_rate(config: IRNTraining, progress: float, step: int) -> float:
    """Warm-up, then halved at every mark that the run has passed."""
    passed = sum(progress >= mark for mark in config.halve_at)
    return config.learning_rate * min(1.0, (step + 1) / config.warm_up) * 0.5**passed


class Trainer:
    """A run on its device, one step at a time.

    Attributes:
        steps: taken since this process began, or resumed, the run.
        skipped: steps whose gradient was not finite and that changed nothing.
    """

    def __init__(self, run: IRNRun, place: Placement, photographs: Photographs, features: LPIPS | None) -> None:
        """Moves all networks to the device."""
        self.run, self.place, config = run, place, run.config
        self.features = features.to(place.device) if features is not None else None
        self.steps = self.skipped = 0
        for network in run.networks().values():
            network.to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as elsewhere
            place.share(network)
        if run.judge is not None:
            run.judge.train()
        self._parameters = list(run.model.parameters())
        self._optimizers = _optimizers(self._parameters, config)
        self._judge_optimizer = None if run.judge is None else torch.optim.Adam(
            run.judge.parameters(), config.learning_rate, config.betas)
        seed = config.seed + run.pictures + 1_000_003 * place.rank
        self._crops = crops(photographs, config.batch, config.crop, seed, place.device)
        self._random = torch.Generator(place.device).manual_seed(seed)

    def step(self, progress: float) -> dict[str, Tensor]:
        """One batch at this progress (0...1) of the run: the unweighted terms of the loss, detached."""
        run, config = self.run, self.run.config
        x = next(self._crops).contiguous(memory_format=torch.channels_last)
        self.steps += 1
        run.pictures += config.batch * self.place.world
        if run.judge is not None and progress < config.judge_alone:
            with torch.no_grad():
                restored = self._restore(run.model, x)[0]
            return self._teach_judge(x, restored, progress)
        with mixed_precision(self.place.device, config.bf16):
            restored, y, z = self._restore(run.model, x)
        terms = {"reconstruction": reconstruction_loss(restored, x), "guide": guide_loss(y, x)}
        if run.judge is None:
            terms["distribution"] = latent_loss(z, config.network.z_std)
        else:
            run.judge.requires_grad_(False)
            terms["distribution"] = deceiving_loss(run.judge(restored))
            run.judge.requires_grad_(True)
        if self.features is not None:
            terms["perceptual"] = perceptual_loss(self.features, restored, x)
        self._update(sum((getattr(config.losses, name) * term for name, term in terms.items()), torch.zeros(())),
                     progress)
        taught = {} if run.judge is None else self._teach_judge(x, restored.detach(), progress)
        return {name: term.detach() for name, term in terms.items()} | taught

    @torch.no_grad()
    def evaluate(self, held_out: Tensor) -> dict[str, float]:
        """The averaged network on held-out crops: PSNR (dB, RGB) with z = 0 and of the bicubic pair, PSNR of y to the
        bicubic reduction, the mean absolute difference (levels) between two random z, deviation of the true z."""
        model, x = self.run.average, held_out.to(self.place.device)
        y, z = model(x)
        y = round_to_levels(y)
        likeliest = model.inverse(y, torch.zeros_like(z)).clamp(0, 1)
        one, other = (model.inverse(y, model.sample_z(y, self._random)).clamp(0, 1) for _ in range(2))
        reduced = round_to_levels(bicubic_reduction(x, y.shape[-1]))
        enlarged = F.interpolate(reduced, x.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)
        figures = {"psnr": _psnr(likeliest, x), "psnr_bicubic": _psnr(enlarged, x), "psnr_y": _psnr(y, reduced),
                   "z_difference": 255 * float((one - other).abs().mean()), "z_std": float(z.std())}
        return {name: round(value, 4) for name, value in figures.items()}

    def _restore(self, model: IRN, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, z = model(x)
        return model.inverse(round_to_levels(y), model.sample_z(y, self._random)), y, z

    def _teach_judge(self, real: Tensor, restored: Tensor, progress: float) -> dict[str, Tensor]:
        judge, optimizer = self.run.judge, self._judge_optimizer
        if judge is None or optimizer is None:
            raise EdgegrainError("this recipe has no discriminator")
        value = divergence(judge(real), judge(restored))
        optimizer.zero_grad(set_to_none=True)
        (-value).backward()
        self.place.average_gradients(list(judge.parameters()))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.run.config, progress, self.steps - 1)
        optimizer.step()
        return {"divergence": value.detach()}

    def _update(self, loss: Tensor, progress: float) -> None:
        config = self.run.config
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()
        self.place.average_gradients(self._parameters)
        if not torch.nn.utils.clip_grad_norm_(self._parameters, config.clip).isfinite():
            self.skipped += 1
            return
        rate = learning_rate(config, progress, self.steps - 1)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * (config.muon if isinstance(optimizer, ConvolutionMuon) else 1.0)
            optimizer.step()
        with torch.no_grad():
            decay = min(config.ema, self.steps / (self.steps + 10))  # short runs forget their beginning sooner
            averages: list[Tensor] = list(self.run.average.parameters())
            torch._foreach_lerp_(averages, [*self._parameters], 1 - decay)


def _optimizers(parameters: list[torch.nn.Parameter], config: IRNTraining) -> list[torch.optim.Optimizer]:
    """Adam as published, or Muon for the weights that are matrices and Adam for the rest."""
    matrices = [parameter for parameter in parameters if config.muon and is_matrix(parameter)]
    kept = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in parameters if id(parameter) not in kept]
    result: list[torch.optim.Optimizer] = [
        torch.optim.Adam(others, config.learning_rate, config.betas, weight_decay=config.weight_decay)]
    return result + ([ConvolutionMuon(matrices, config.learning_rate)] if matrices else [])


def _photographs(config: IRNTraining, folder: Path | None, cache: Path) -> Photographs:
    if folder is not None:
        return pack_photographs(list_pictures(folder), cache)
    if not config.made_up:
        raise EdgegrainError("pass --data with a folder of photographs")
    return Photographs.of(list(made_up(_MADE_UP, 2 * config.crop, config.seed)))


def _psnr(picture: Tensor, target: Tensor) -> float:
    """Mean over pictures in [0, 1] that are rounded first."""
    error = (round_to_levels(picture) - target).pow(2).mean((1, 2, 3)).clamp_min(1e-10)
    return float(-10 * error.log10().mean())


@torch.no_grad()
def _sheet(model: IRN, x: Tensor, path: Path) -> None:
    """PNG with one column per crop: the crop, y enlarged without smoothing, the restored crop."""
    y, _ = model(x)
    y = round_to_levels(y)
    restored = model.inverse(y, y.new_zeros(1, model.config.z_channels, 1, 1).expand(len(y), -1, *y.shape[2:]))
    shown = y.repeat_interleave(model.config.factor, 2).repeat_interleave(model.config.factor, 3)
    sheet = torch.cat(list(torch.cat([x, shown, restored], 2)), 2).clamp(0, 1)
    Image.fromarray(np.asarray(sheet.mul(255).add(0.5).floor().permute(1, 2, 0).cpu(), np.uint8)).save(path)


def _keep(trainer: Trainer, held_out: Tensor, out: Path, log: Journal) -> dict[str, float]:
    """Figures, sheet, checkpoint; the first process only."""
    figures: dict[str, float] = {}
    if trainer.place.first:
        figures = trainer.evaluate(held_out)
        log.write({"pictures": trainer.run.pictures, "validation": figures})
        _sheet(trainer.run.average, held_out.to(trainer.place.device), out / "samples.png")
        irn_run.save(out, trainer.run)
    trainer.place.wait()
    return figures
