"""The training of GLEAN ([GLEAN] 3.2) and GCFSR ([GCFSR] 3.5), and the evaluation on held-out pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from codec_contract.pixels import dequantize
from edgegrain.metrics.lpips import LPIPS
from edgegrain.papers.face_sr.degradations import enlarge, reduce_levels
from edgegrain.papers.face_sr.recipes import FACE_SR_RECIPES, FaceSRRecipe, Factors
from edgegrain.papers.face_sr.run import FAMILY, FaceSRRun, load_run, start_run
from edgegrain.papers.gcfsr.network import GCFSR, LARGEST_FACTOR
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.pictures.packed import batches
from edgegrain.training.adversarial import joint_loss, resumed
from edgegrain.training.checkpoint import CHECKPOINT
from edgegrain.training.data import (
    UNSEEN_SEED,
    held_out_pictures,
    levels_psnr,
    require_pictures,
    rounded_levels,
    training_pictures,
    without,
    write_samples,
)
from edgegrain.training.distributed import Distributed, mixed_precision
from edgegrain.training.family import Family, RunOptions
from edgegrain.training.losses import GridLoss, MetricNetworks, needed_metric_weights, picture_loss, random_offset
from edgegrain.training.optimizers import annealed, descend, early_decay, optimizers, update_averages
from edgegrain.training.prior_files import recipe_discriminator, recipe_prior
from edgegrain.training.recipe import continued
from server_decoder.stylegan2.networks import StyleGAN2Config

VGG_LAYER = 3  # conv4_3, of those that LPIPS compares


class Inputs(NamedTuple):
    """Inputs of a network.

    Attributes:
        picture: ``[B, 3, s, s]`` in [-1, 1]: GLEAN's LR, or GCFSR's, enlarged to its size.
        factors: ``[B]``, the factors of the reduction; 0 where they are unknown (the blind form).
    """

    picture: Tensor
    factors: Tensor


def draw_sides(factors: Factors, size: int, count: int, rng: np.random.Generator) -> list[int]:
    """Sides of ``count`` LRs of pictures of this size, with random factors; the factor is ``size / side``."""
    if factors.continuous:
        low, high = np.log2(factors.choices[0]), np.log2(factors.choices[-1])
        drawn = 2 ** rng.uniform(low, high, count)
    else:
        drawn = rng.choice(factors.choices, count)
    return [round(size / float(factor)) for factor in drawn]


def draw_inputs(recipe: FaceSRRecipe, pictures: Tensor, rng: np.random.Generator) -> Inputs:
    """Inputs of a training batch from its pictures, integers 0...255 ``[B, 3, S, S]``."""
    if recipe.degradation is not None:
        degraded = torch.stack([recipe.degradation.degrade(picture, rng) for picture in pictures])
        return Inputs(dequantize(degraded), pictures.new_zeros(len(pictures)))
    if isinstance(recipe.network, GLEANConfig) or recipe.factors is None:
        return inputs_at(recipe, pictures, recipe.size / lr_side(recipe))
    sides = draw_sides(recipe.factors, recipe.size, len(pictures), rng)
    parts = [inputs_at(recipe, picture[None], recipe.size / side)
             for picture, side in zip(pictures, sides, strict=True)]
    return Inputs(torch.cat([part.picture for part in parts]), torch.cat([part.factors for part in parts]))


def inputs_at(recipe: FaceSRRecipe, pictures: Tensor, factor: float) -> Inputs:
    """Inputs from pictures, integers 0...255 ``[B, 3, S, S]``, all reduced by one factor."""
    lr = dequantize(reduce_levels(pictures, round(recipe.size / factor), recipe.reduction))
    known = torch.full((len(pictures),), recipe.size / lr.shape[-1], device=pictures.device)
    return Inputs(lr if isinstance(recipe.network, GLEANConfig) else enlarge(lr, recipe.size), known)


def lr_side(recipe: FaceSRRecipe) -> int:
    """Side of the LRs of the first evaluation."""
    if isinstance(recipe.network, GLEANConfig):
        return recipe.network.lr
    return round(recipe.size / (recipe.factors or Factors()).evaluated[0])


def restore(network: GLEAN | GCFSR, picture: Tensor, factors: Tensor) -> Tensor:
    """Pictures ``[B, 3, S, S]``, about [-1, 1], float32; ``factors`` gives the strength for networks that take one."""
    if isinstance(network, GLEAN):
        return network(picture).float()
    return network(picture, None if network.config.blind else factors / LARGEST_FACTOR).float()


class FaceSRTrainer:
    """A run on its device, one step at a time.

    Attributes:
        steps: taken in this session.
        skipped: steps whose gradient was not finite and that changed nothing.
    """

    def __init__(self, run: FaceSRRun, distributed: Distributed, pictures: np.ndarray,
                 networks: MetricNetworks | None = None, vgg: LPIPS | None = None, held_out: np.ndarray | None = None
                 ) -> None:
        """Moves the run's networks to the device.

        Args:
            run: the run.
            distributed: device and processes.
            pictures: to train on, uint8 ``[N, S, S, 3]``.
            networks: LPIPS, on the device.
            vgg: for the perceptual loss.
            held_out: to evaluate on, as ``pictures``; None for a trainer that does not evaluate.
        """
        recipe, networks = run.recipe, networks or MetricNetworks()
        self.run, self.distributed = run, distributed
        self.pictures_in_set = len(pictures)
        self.steps, self.skipped = 0, 0
        self._lpips, self._vgg = networks.lpips, vgg.to(distributed.device) if vgg is not None else None
        if run.adversarial is not None:
            run.adversarial.use(networks)
        discriminators = [] if run.adversarial is None else [run.adversarial.discriminator]
        distributed.move((run.model, run.average, *discriminators), convolutional=True)
        moving = {name: parameter for name, parameter in run.model.named_parameters() if parameter.requires_grad}
        averages = dict(run.average.named_parameters())
        self.parameters = list(moving.values())
        self._averages: list[Tensor] = [averages[name] for name in moving]
        self._optimizers = optimizers(self.parameters, recipe.learning_rate, recipe.muon, recipe.weight_decay)
        seed = distributed.seed(recipe.seed, run.pictures)
        self._random, self._grid = np.random.default_rng(seed), GridLoss()
        self._feed = batches(pictures, recipe.batch, seed, distributed.device)
        self._validation = None if held_out is None else FaceSRValidation(
            recipe, held_out, networks, distributed.device)

    def step(self, progress: float) -> dict[str, Tensor]:
        """One batch at this progress (0...1) of the run: the loss and its unweighted terms, detached."""
        run, recipe, distributed = self.run, self.run.recipe, self.distributed
        picture = next(self._feed).to(distributed.device)
        inputs = draw_inputs(recipe, picture, self._random)
        target = dequantize(picture)
        with mixed_precision(distributed.device, recipe.bf16):
            restored = restore(run.model, inputs.picture.contiguous(memory_format=distributed.layout), inputs.factors)
            loss, terms = self._loss(restored, target, inputs.factors, progress)
        rate = annealed(recipe.learning_rate, progress, self.steps, warm_up=recipe.warm_up, hold=recipe.hold)
        if not descend(loss, self.parameters, self._optimizers, rate, distributed,
                       clip=recipe.clip_gradient):
            self.skipped += 1
        if run.adversarial is not None and run.adversarial.learns(progress, self.steps):
            with mixed_precision(distributed.device, recipe.bf16):
                terms |= run.adversarial.update_discriminator(restored, target, distributed.average_gradients)
        self.steps += 1
        run.pictures += recipe.batch * distributed.world
        update_averages(self._averages, self.parameters,
                        early_decay(recipe.ema, run.pictures // (recipe.batch * distributed.world)))
        return {"loss": loss.detach(), **terms}

    def evaluate(self) -> dict[str, float]:
        """`FaceSRValidation.figures` of the averaged network."""
        return {} if self._validation is None else self._validation.figures(self.run.average)

    def draw_samples(self, path: Path) -> None:
        if self._validation is not None:
            self._validation.sheet(self.run.average, path)

    def _loss(self, restored: Tensor, target: Tensor, factors: Tensor, progress: float
              ) -> tuple[Tensor, dict[str, Tensor]]:
        run, recipe = self.run, self.run.recipe
        # Some pictures have no loss but the adversarial one, once that has begun.
        alone = recipe.adversarial_alone > 0 and run.adversarial is not None and run.adversarial.joins(progress)
        compared = factors > recipe.adversarial_alone if alone else torch.ones_like(factors, dtype=torch.bool)
        loss, terms = joint_loss(restored, lambda seen: self._compare(seen, target, compared), run.adversarial,
                                 progress, target)
        return loss, {name: value.detach() for name, value in terms.items()}

    def _compare(self, restored: Tensor, target: Tensor, compared: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses other than the adversarial one, of those pictures of the batch that have any."""
        recipe = self.run.recipe
        if not compared.any():
            return torch.zeros((), device=restored.device), {}
        loss, terms = picture_loss(recipe.loss, restored[compared], target[compared], self._lpips, None,
                                   offset=random_offset(recipe.lpips_shift), grid=self._grid)
        if self._vgg is not None:
            terms["perceptual"] = perceptual_loss(
                self._vgg, restored[compared], target[compared], squared=recipe.squared)
            loss = loss + recipe.perceptual * terms["perceptual"]
        return compared.float().mean() * loss, terms  # so that a picture counts the same in every batch


def open_trainer(recipe: FaceSRRecipe, options: RunOptions, folder: Path, distributed: Distributed) -> FaceSRTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    require_pictures(options, recipe.random_pictures)
    prior = recipe_prior(recipe, options.prior)
    discriminator = recipe_discriminator(recipe, options.discriminator)
    weights = needed_metric_weights(options.weights, needed=recipe.needs_metrics, faces=False)
    if (folder / CHECKPOINT).exists():
        run = load_run(folder, prior)
        run.adversarial = resumed(run.adversarial, recipe.adversarial, discriminator)
        drawn = prior is None and isinstance(recipe.network, GLEANConfig)  # the bank, from the run's seed
        run.recipe = continued(recipe, network=run.recipe.network, seed=(run.recipe if drawn else recipe).seed,
                               adversarial=None if run.adversarial is None else run.adversarial.config)
    else:
        run = start_run(recipe, prior, discriminator, options.init_from)
    recipe = run.recipe
    pictures = training_pictures(without(options, recipe.generated), folder, recipe.size, count=recipe.random_pictures,
                                 seed=recipe.seed)
    networks = MetricNetworks.load(weights, distributed.device, faces=False)
    vgg = LPIPS(weights, "vgg").requires_grad_(False) if recipe.perceptual and weights is not None else None
    return FaceSRTrainer(run, distributed, pictures, networks, vgg, held_out_pictures(options, pictures))


def perceptual_loss(vgg: LPIPS, picture: Tensor, target: Tensor, *, squared: bool) -> Tensor:
    """Mean squared or absolute difference of VGG16's conv4_3, after its ReLU, of pictures in [-1, 1].

    The authors' public codes of both papers take that layer before its ReLU; [GLEAN] squares (supplementary, equation
    2).
    """
    with torch.no_grad():
        wanted = vgg.activations(target)[VGG_LAYER].float()
    difference = vgg.activations(picture)[VGG_LAYER].float() - wanted
    return difference.square().mean() if squared else difference.abs().mean()


def _takes(recipe: FaceSRRecipe) -> set[str]:
    names = {"data", "validation", "exclude", "weights", "init_from"}
    if isinstance(recipe.network, GLEANConfig):
        names |= {"prior"}
    if recipe.adversarial is not None and isinstance(recipe.adversarial.discriminator, StyleGAN2Config):
        names |= {"discriminator"}
    return names


def _describe(recipe: FaceSRRecipe) -> str:
    if isinstance(recipe.network, GLEANConfig):
        reduced = f"{recipe.network.lr}x{recipe.network.lr}"
    elif recipe.factors is None:
        reduced = "unknown degradations"
    else:
        reduced = f"factors {recipe.factors.choices[0]:g} to {recipe.factors.choices[-1]:g}"
    return (f"{recipe.kind.upper():5}  {recipe.size}x{recipe.size} from {reduced}, {recipe.iterations:,} iterations of "
            f"{recipe.batch}")


FACE_SR = Family(FAMILY, "GLEAN and GCFSR", FaceSRRecipe, FACE_SR_RECIPES, _describe, open_trainer, _takes,
                 lambda recipe: recipe.iterations * recipe.batch, evaluate_every=4000)


SHEET = 8  # pictures of the sample sheet
_AT_ONCE = 4


class Case(NamedTuple):
    """Inputs of one evaluation.

    Attributes:
        suffix: of the figures' names.
        inputs: of all held-out pictures; the factors are those passed to the network.
        bicubic: True to evaluate the bicubic enlargement too.
    """

    suffix: str
    inputs: Inputs
    bicubic: bool = True


class FaceSRValidation:
    """Held-out pictures, their LRs, and the evaluation of networks on them."""

    def __init__(self, recipe: FaceSRRecipe, pictures: np.ndarray, networks: MetricNetworks, device: torch.device
                 ) -> None:
        """``pictures``: uint8 ``[N, S, S, 3]``."""
        self._size, self._networks = recipe.size, networks
        self._pictures = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float().to(device)
        self._cases = _cases(recipe, self._pictures)
        self._small = nn.functional.interpolate(
            dequantize(self._pictures[:SHEET]), lr_side(recipe), mode="area") if recipe.degradation is None else None
        self._bicubic: dict[str, float] | None = None

    def figures(self, network: GLEAN | GCFSR) -> dict[str, float]:
        """Means over rounded restorations: PSNR (dB) and, with LPIPS weights, LPIPS with AlexNet.

        ``lpips_alex_off_grid`` is `LPIPS.off_grid` of the first inputs.
        ``psnr_bicubic`` and ``lpips_alex_bicubic`` are those of the enlarged LR (blind form: of the degraded picture).
        For GCFSR they are at the first factor of ``factors.evaluated``; ``..._x8`` at another, from LRs of that size,
        and ``..._strength_8`` from the first LRs at another strength.
        """
        found: dict[str, float] = {}
        for case in self._cases:
            parts = zip(case.inputs.picture.split(_AT_ONCE), case.inputs.factors.split(_AT_ONCE), strict=True)
            with torch.no_grad():
                restored = torch.cat([restore(network, picture, factors) for picture, factors in parts])
            found |= self._measure(restored, case.suffix)
        if self._bicubic is None:
            self._bicubic = {}
            for case in self._cases:
                if case.bicubic:
                    self._bicubic |= self._measure(enlarge(case.inputs.picture, self._size), "_bicubic" + case.suffix)
        return found | self._bicubic

    @torch.no_grad()
    def sheet(self, network: GLEAN | GCFSR, path: Path) -> None:
        """PNG with one column per picture: original, LR, its bicubic enlargement, and the restoration of every case."""
        first = self._cases[0].inputs.picture[:SHEET]
        rows = [dequantize(self._pictures[:SHEET])]
        if self._small is not None:
            rows.append(self._small)
        rows.append(enlarge(first, self._size))
        rows += [restore(network, case.inputs.picture[:SHEET], case.inputs.factors[:SHEET]) for case in self._cases]
        write_samples(rows, path)

    @torch.no_grad()
    def _measure(self, restored: Tensor, suffix: str) -> dict[str, float]:
        levels = rounded_levels(restored)
        figures = {"psnr" + suffix: round(float(np.mean(
            [levels_psnr(y, x) for y, x in zip(levels, self._pictures, strict=True)])), 3)}
        if self._networks.lpips is not None:
            distances = [float(self._networks.lpips(dequantize(y)[None], dequantize(x)[None]))
                         for y, x in zip(levels, self._pictures, strict=True)]
            figures["lpips_alex" + suffix] = round(float(np.mean(distances)), 4)
            if not suffix:  # seven times the time
                elsewhere = [float(self._networks.lpips.off_grid(dequantize(y)[None], dequantize(x)[None]))
                             for y, x in zip(levels, self._pictures, strict=True)]
                figures["lpips_alex_off_grid"] = round(float(np.mean(elsewhere)), 4)
        return figures


def _cases(recipe: FaceSRRecipe, pictures: Tensor) -> list[Case]:
    if recipe.factors is None:
        return [Case("", draw_inputs(recipe, pictures, np.random.default_rng(UNSEEN_SEED)))]
    first, *others = recipe.factors.evaluated
    main = inputs_at(recipe, pictures, first)
    strengths = [Case(f"_strength_{other:g}", Inputs(main.picture, torch.full_like(main.factors, other)), False)
                 for other in others]
    return [Case("", main), *(Case(f"_x{other:g}", inputs_at(recipe, pictures, other)) for other in others), *strengths]
