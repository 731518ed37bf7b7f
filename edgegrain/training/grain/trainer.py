"""The training of GRAIN's stages ([GRAIN] 3.5), and their evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codec_contract.errors import EdgegrainError
from codec_contract.pixels import dequantize, pictures_of
from edgegrain.metrics.picture_metrics import mean_saturation
from edgegrain.pictures.packed import batches
from edgegrain.training import data, losses
from edgegrain.training.adversarial import AdversarialLoss, joint_loss
from edgegrain.training.checkpoint import CHECKPOINT
from edgegrain.training.data import HELD_OUT, UNSEEN_SEED, picture_levels, rounded_levels, synthetic_faces
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import Family, RunOptions, Trainer
from edgegrain.training.grain import rate
from edgegrain.training.grain.model import FAMILY, Autoencoder, GrainRun, load_run
from edgegrain.training.grain.recipes import GRAIN_RECIPES, GrainRecipe
from edgegrain.training.grain.start import recipe_discriminator, recipe_prior, resolve_start, start_run
from edgegrain.training.losses import GRID_PERIOD, MetricNetworks
from edgegrain.training.optimizers import optimizers
from server_decoder.generative_prior import Area, Window

WINDOW_PART = 0.75  # of the steps of a recipe with windows


class GrainTrainer(Trainer):
    """The training of a stage."""

    run: GrainRun

    def __init__(
        self, run: GrainRun, distributed: Distributed, networks: MetricNetworks, seen: np.ndarray, unseen: np.ndarray
    ) -> None:
        """Pictures to train and to evaluate on are uint8 ``[N, S, S, 3]``."""
        super().__init__(run, distributed, len(seen), networks)
        recipe, self._held_out = run.recipe, unseen
        self._rate_target = rate.RateTarget(recipe.target_bytes) if recipe.target_bytes else None
        # Photographs are first in a batch: the discriminator must not learn the prior's faults as real.
        self._real = real = recipe.batch - recipe.synthetic_count
        # The same in all processes: they wait for each other, and a step with a window is much shorter.
        self._choice = np.random.default_rng([recipe.seed, run.pictures])
        self._feed = batches(seen, real, self.seed, distributed.device) if real else None
        prior, count = run.model.prior, recipe.synthetic_count
        self._synthetic = synthetic_faces(prior, count, self.seed, bf16=True) if prior is not None and count else None
        self._grid = losses.GridLoss()
        self._variance: Tensor | None = None
        if prior is not None and recipe.loss.codes:  # psi 1, so that the variance of these codes is that of W
            z = torch.randn(1024, prior.code_width, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                self._variance = prior.map(z.to(prior.mean_code.device)).var(0).mean()
            self._unseen = next(synthetic_faces(prior, HELD_OUT, UNSEEN_SEED, psi_range=(1.0, 1.0)))

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """Those of the networks and, if a rate is trained, Adam with a rate of its own for its model."""
        recipe = self.run.recipe
        of_rate = [weights for name, weights in self.trained.items() if name.startswith("rate.")]
        others = [weights for name, weights in self.trained.items() if not name.startswith("rate.")]
        made = optimizers(others, recipe.learning_rate, recipe.muon)
        if of_rate:
            factor = rate.LEARNING_RATE / recipe.learning_rate
            made.append(torch.optim.Adam([{"params": of_rate, "factor": factor}], lr=rate.LEARNING_RATE))
        return made

    def step(self, progress: float) -> dict[str, Tensor]:
        run, recipe = self.run, self.run.recipe
        picture, codes = self._draw()
        if recipe.lr_steps:
            run.model.lr_step = int(self._choice.choice(recipe.lr_steps))
        window = draw_window(recipe, self._choice)
        weights = recipe.loss if window is None else replace(recipe.loss, region_gain=0.0, regions=0.0, identity=0.0)
        identity = self.networks.identity if progress >= recipe.identity_from else None
        trains_encoder = "encoder" in recipe.trains

        def compare(seen: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            offset, lpips = losses.random_offset(recipe.lpips_shift), self.networks.lpips
            return losses.picture_loss(weights, seen, target, lpips, identity, offset=offset, grid=self._grid)

        with self.precision():
            restored = run.model(picture, noise=trains_encoder and progress < recipe.noise_until, window=window)
            target = dequantize(picture) if window is None else Area.of(window).of_maps(dequantize(picture))
            made, originals = restored.picture, target[: self._real]
            loss, terms = joint_loss(made, compare, run.adversarial, progress, originals, slice(self._real))
            if trains_encoder:
                part, more = losses.lr_loss(recipe.loss, restored.lr, restored.box)
                loss, terms = loss + part, terms | more
            if restored.rate is not None:
                part, more = losses.weighted_sum(recipe.loss, {"rate": restored.rate})
                if self._rate_target is not None and restored.lr_bytes is not None:
                    part = part * self._rate_target.factor(restored.lr_bytes)
                loss, terms = loss + part, terms | more
            if codes is not None and restored.codes is not None and self._variance is not None:
                part, more = losses.code_loss(recipe.loss, restored.codes[-len(codes) :], codes, self._variance)
                loss, terms = loss + part, terms | more
        # As many pictures of both: by the deviation within a batch it would tell a batch of four from one of one.
        return self.finish_step(loss, terms, progress, made[: self._real], originals)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Figures of the averaged weights at each step of the levels; with a loss on codes also ``codes``, the error of
        those predicted for generated pictures, in units of the variance of W (the mean code has 1)."""
        result: dict[str, float] = {}
        model = self.run.average
        for step in sorted(set(self.run.recipe.lr_steps) or {model.lr_step}):
            model.lr_step = step
            found = evaluate(model, self._held_out, self.networks)
            result |= {f"{name}_step_{step}": value for name, value in found.items()} if result else found
        model.lr_step = self.run.recipe.lr_step
        if self._variance is not None:
            pictures, codes = self._unseen
            error = (model(rounded_levels(pictures)).codes - codes).pow(2).mean()
            result["codes"] = round(float(error / self._variance), 4)
        return result

    @torch.no_grad()
    def draw_samples(self, path: Path) -> None:
        """Write a sheet with one column per picture: original, enlarged LR, and the pictures up to the stage's."""
        model = self.run.average
        outputs = ["invertible", "style", "final"]
        outputs = outputs[: outputs.index(model.output) + 1]
        columns = []
        for picture in self._held_out[:8]:  # one by one: all at 1024x1024 took three times the memory of a step
            x = picture_levels(picture, self.distributed.device)
            restored = [model(x, output=output) for output in outputs]
            columns.append([dequantize(x), restored[0].lr, *(each.picture for each in restored)])
        data.write_samples([torch.cat(row) for row in zip(*columns, strict=True)], path)

    def _draw(self) -> tuple[Tensor, Tensor | None]:
        """Integers 0...255 ``[B, 3, S, S]``, synthetic pictures last, and the codes of those."""
        parts, codes = [], None
        if self._feed is not None:
            photographs = next(self._feed).to(self.distributed.device)
            parts.append(data.jitter(photographs) if self.run.recipe.jitter else photographs)
        if self._synthetic is not None:
            faces, codes = next(self._synthetic)
            parts.append(rounded_levels(faces))
        picture = parts[0] if len(parts) == 1 else torch.cat(parts)
        return picture.contiguous(memory_format=self.distributed.layout), codes


def draw_window(recipe: GrainRecipe, rng: np.random.Generator) -> Window | None:
    """A random window for a step's pictures, or None for a step with whole ones."""
    if not recipe.window or rng.random() >= WINDOW_PART:
        return None
    positions = (recipe.encoder.hr - recipe.window) // GRID_PERIOD + 1
    top, left = (GRID_PERIOD * int(index) for index in rng.integers(positions, size=2))
    return Window(top, left, recipe.window)


def open_trainer(recipe: GrainRecipe, options: RunOptions, folder: Path, distributed: Distributed) -> GrainTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    resumes = (folder / CHECKPOINT).exists()
    start = None if options.init_from is None or resumes else resolve_start(options.init_from)
    prior = recipe_prior(recipe, options.prior)
    discriminator = recipe_discriminator(recipe.adversarial, options.discriminator, resumes=resumes)
    projected = recipe.adversarial and recipe.adversarial.projected
    needed, faces = recipe.loss.lpips or recipe.loss.regions or recipe.loss.identity or projected, recipe.loss.identity
    networks = MetricNetworks.load(options.weights, distributed.device, needed=bool(needed), faces=bool(faces))
    torch.manual_seed(recipe.seed)
    if resumes:
        run = load_run(folder, prior)
        _refuse_other_values(recipe, run.recipe, folder)
        kept = {name: getattr(run.recipe, name) for name in ("encoder", "decoder", "correction", "lr_step")}
        run.resume(recipe, discriminator, **kept)
    else:
        run = start_run(recipe, start, prior)
    recipe = run.recipe
    if options.data is None and recipe.random_pictures and recipe.synthetic == 1 and prior is not None:
        generated, _ = next(synthetic_faces(prior, HELD_OUT, UNSEEN_SEED))
        pictures = unseen = pictures_of(generated.cpu().numpy())
    else:
        pictures = data.training_pictures(recipe, options, folder, recipe.encoder.hr)
        unseen = data.held_out_pictures(options, pictures)
    if start is not None and not run.pictures:
        _fit_rate(run, pictures)
    if recipe.adversarial is not None and run.adversarial is None:
        run.adversarial = AdversarialLoss(recipe.adversarial, discriminator)
    return GrainTrainer(run, distributed, networks, pictures, unseen)


def _refuse_other_values(recipe: GrainRecipe, stored: GrainRecipe, folder: Path) -> None:
    """Refuse values that only the beginning of a run can change."""
    for name, wanted, there, other in (
        ("stage", recipe.stage, stored.stage, recipe.stage != stored.stage),
        ("trains", *(",".join(each.trains) for each in (recipe, stored)), set(recipe.trains) != set(stored.trains)),
        ("loss.rate", recipe.loss.rate, stored.loss.rate, bool(recipe.loss.rate) != bool(stored.loss.rate)),
        ("lr_step", recipe.lr_step, stored.lr_step, recipe.lr_step not in (1, stored.lr_step)),
        ("correction", recipe.correction, stored.correction, stored.correction and not recipe.correction),
    ):
        if other:
            raise EdgegrainError(
                f"{folder} has {name}={there}, the recipe {name}={wanted}; resume with the run's own recipe or --set "
                f"{name}={there}, or begin another run with --init-from {folder}"
            )


@torch.no_grad()
def _fit_rate(run: GrainRun, pictures: np.ndarray) -> None:
    """Fit the rate model, if there is one, to the LRs of the encoder that the run begins with."""
    if run.model.rate is None or run.average.rate is None:
        return
    some = pictures[:: max(1, len(pictures) // rate.FIT_PICTURES)]
    levels = torch.cat([run.model.encode(picture_levels(picture))[0] for picture in some])
    with torch.enable_grad():
        rate.fit(run.model.rate, levels / run.model.lr_step)
    run.average.rate.load_state_dict(run.model.rate.state_dict())


GRAIN = Family(
    FAMILY,
    "GRAIN, one stage",
    GrainRecipe,
    GRAIN_RECIPES,
    open_trainer,
    lambda recipe: 160 if recipe.random_pictures else 27_000,
    evaluate_every=4000,
)


@torch.no_grad()
def evaluate(model: Autoencoder, pictures: np.ndarray, networks: MetricNetworks) -> dict[str, float]:
    """Means over held-out pictures, uint8 ``[N, S, S, 3]``: PSNR (dB), LPIPS on its grid and off it, identity distance.

    For a final picture also LPIPS with f_gen set to zero and of the invertible picture, which show the contribution of
    the prior, and of the generator's picture, which shows if its codes still match. While a rate is trained, also the
    expected bytes of an LR, and its saturation relative to that of the area average.
    """
    rows: list[dict[str, float]] = []
    saturation: list[float] = []
    device = next(model.parameters()).device
    for picture in pictures:
        x = picture_levels(picture, device)
        restored = model(x)
        row = data.compared(restored.picture, x, networks.lpips, off_grid=True)
        if networks.identity is not None:
            seen = dequantize(rounded_levels(restored.picture))
            row["identity"] = float(networks.identity.distance(seen, dequantize(x)))
        if networks.lpips is not None and model.output == "final":
            for name, options in (
                ("without_prior", {"prior_gain": 0.0}),
                ("invertible", {"output": "invertible"}),
                ("style", {"output": "style"}),
            ):
                other = data.compared(model(x, **options).picture, x, networks.lpips)
                row[f"lpips_alex_{name}"] = other["lpips_alex"]
        if restored.lr_bytes is not None:
            row["lr_bytes"] = float(restored.lr_bytes)
            saturation += [float(mean_saturation(each)) for each in (restored.lr, restored.box)]
        rows.append(row)
    result = data.mean_figures(rows, lr_bytes=1)
    if (originals := sum(saturation[1::2])) > 0:  # 0: grey pictures
        result["lr_saturation"] = round(sum(saturation[::2]) / originals, 3)
    return result
