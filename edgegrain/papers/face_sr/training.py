"""The training of GLEAN ([GLEAN] 3.2, supplementary 1) and GCFSR ([GCFSR] 3.5, 4): recipes, run, trainer, validation.

The recipes named like the papers' networks have the papers' constants. Those named ``...-faces-256...`` are ours: they
learn in hours on a CPU. docs/training.md lists the differences.
"""

from __future__ import annotations

import copy
import io
import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from codec_contract.errors import ModelError
from codec_contract.pixels import dequantize
from edgegrain.papers.convert import Names, rename
from edgegrain.papers.face_sr.bundle import REDUCTIONS, FaceSR, load_face_sr, save_face_sr, weight_name
from edgegrain.papers.gcfsr import network as gcfsr
from edgegrain.papers.gcfsr.network import GCFSR, LARGEST_FACTOR, GCFSRConfig
from edgegrain.papers.glean import network as glean
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.pictures.packed import batches
from edgegrain.training.adversarial import (
    PROJECTED,
    AdversarialConfig,
    AdversarialLoss,
    DiscriminatorConfig,
    joint_loss,
)
from edgegrain.training.checkpoint import CHECKPOINT, Run, open_checkpoint, take_weights
from edgegrain.training.data import (
    HELD_OUT,
    UNSEEN_SEED,
    compared,
    held_out_pictures,
    mean_figures,
    training_pictures,
    write_samples,
)
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import NONE, Family, RunOptions, Trainer
from edgegrain.training.grain.start import grow, random_prior, recipe_discriminator, recipe_prior, trained_decoder
from edgegrain.training.losses import GridLoss, LossWeights, MetricNetworks, feature_loss, picture_loss, random_offset
from edgegrain.training.recipe import RestorationRecipe
from server_decoder.generative_prior import GenerativePrior, prior_digest
from server_decoder.grain.fusion import BicubicEnlargement
from server_decoder.grain.grain import PriorConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from server_decoder.stylegan2.networks import CONFIG_F_512, CONFIG_F_1024, TINY_64


@lru_cache(maxsize=256)
def area_matrix(large: int, small: int) -> Tensor:
    """``[small, large]``: every row has the weights of the mean over one sample of the smaller line."""
    rows, columns = torch.arange(small, dtype=torch.float64)[:, None], torch.arange(large, dtype=torch.float64)
    factor = large / small
    overlap = (torch.minimum((rows + 1) * factor, columns + 1) - torch.maximum(rows * factor, columns)).clamp_min(0)
    return (overlap / overlap.sum(1, keepdim=True)).float()


def reduce_levels(picture: Tensor, side: int, kind: str) -> Tensor:
    """Integers 0...255 ``[B, 3, S, S]`` -> ``[B, 3, side, side]``, rounded half up: the ``"area"`` mean, the exact
    encoder's if ``side`` divides S, or ``"bicubic"``, antialiased as in Pillow."""
    if kind == "area":
        matrix = area_matrix(picture.shape[-1], side).to(picture.device)
        small = matrix @ (picture.float() @ matrix.T)
    else:
        small = F.interpolate(picture.float(), (side, side), mode="bicubic", antialias=True)
    return small.add(0.5).floor().clamp(0, 255)


_enlargement = lru_cache(maxsize=256)(BicubicEnlargement)


def enlarge(lr: Tensor, size: int) -> Tensor:
    """Bicubic enlargement of ``[B, C, s, s]`` to ``size``, as in `GCFSRUpscaler`."""
    enlarged: Tensor = _enlargement(lr.shape[-1], size).to(lr.device)(lr)
    return enlarged


@dataclass(frozen=True)
class BlindDegradation:
    """``x = [(y * k) reduced by r + n] as JPEG, enlarged again`` ([GFPGAN] Wang et al., CVPR 2021, equation 4.1).

    [GCFSR] 4 uses the same; the ranges are those of GFPGAN's public training options.
    """

    kernel: int = 41  # side of the blur kernel
    sigma: tuple[float, float] = (0.1, 10.0)  # its deviation, from and to; half of the kernels are elliptic
    factor: tuple[float, float] = (0.8, 8.0)  # r, from and to
    noise: tuple[float, float] = (0.0, 20.0)  # its deviation in levels, from and to
    quality: tuple[int, int] = (60, 100)  # of the JPEG, from and to

    def degrade(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        """Integers 0...255 ``[3, S, S]`` -> integers 0...255 of the same shape, on the picture's device."""
        side, device = picture.shape[-1], picture.device
        blurred = self._blur(picture.float().cpu()[None], rng)
        small = max(1, round(side / rng.uniform(*self.factor)))
        x = F.interpolate(blurred, (small, small), mode="bilinear")[0]
        noise = rng.standard_normal(tuple(x.shape), np.float32) * rng.uniform(*self.noise)
        x = (x + torch.from_numpy(noise.astype(np.float32))).round().clamp(0, 255)
        file = io.BytesIO()
        quality = int(rng.integers(*self.quality, endpoint=True))
        Image.fromarray(x.permute(1, 2, 0).to(torch.uint8).numpy()).save(file, "JPEG", quality=quality)
        read = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float()
        x = F.interpolate(read, (side, side), mode="bilinear")[0]
        return x.round().clamp(0, 255).to(device)

    def _blur(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        wide, narrow = rng.uniform(*self.sigma), rng.uniform(*self.sigma)
        if rng.random() < 0.5:
            narrow = wide
        angle, radius = rng.uniform(-math.pi, math.pi), self.kernel // 2
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
        kernel = np.exp(-0.5 * ((along / wide) ** 2 + (across / narrow) ** 2))
        weights = torch.from_numpy((kernel / kernel.sum()).astype(np.float32)).expand(3, 1, -1, -1)
        # Reflection needs a picture larger than the kernel's radius.
        padding = "reflect" if picture.shape[-1] > radius else "replicate"
        return F.conv2d(F.pad(picture, (radius,) * 4, mode=padding), weights, groups=3)


@dataclass(frozen=True)
class Factors:
    """The factors s by which pictures are reduced."""

    choices: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0, 64.0)  # [GCFSR] 3.5; ascending, all equally likely
    continuous: bool = False  # any between the first and the last; octaves are equally likely, as among the choices
    evaluated: tuple[float, ...] = (16.0, 8.0, 32.0)  # that a run is evaluated at, the most important one first


_L1 = LossWeights(l1=1.0, lpips=0.0, identity=0.0, lr=0.0)


@dataclass(frozen=True, kw_only=True)
class FaceSRRecipe(RestorationRecipe):
    """The recipe of a run."""

    network: GLEANConfig | GCFSRConfig
    loss: LossWeights = _L1  # weights of the terms that compare pictures; those of LRs, codes and identity do not count
    perceptual: float = 0.0  # weight of the difference of VGG16's features (conv4_3)
    squared: bool = False  # that difference is squared, as in [GLEAN] (supplementary, equation 2), or absolute
    adversarial: AdversarialConfig | None = None
    reduction: str = "bicubic"  # the papers', or "area", the exact mean that phones send
    factors: Factors | None = None  # of GCFSR; None for GLEAN, whose LR has one size, and for the blind form
    degradation: BlindDegradation | None = None  # of GCFSR's blind form
    iterations: int = 300_000  # of a run whose length the command line leaves open
    weight_decay: float = 0.0  # of Adam (AdamW's, decoupled)
    bf16: bool = False  # bfloat16 where autocast allows it and the device computes in it

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"unknown reduction {self.reduction!r}; expected one of {', '.join(REDUCTIONS)}")
        if isinstance(self.network, GCFSRConfig) and bool(self.factors) == bool(self.degradation):
            raise ValueError("GCFSR needs factors or, for its blind form, a degradation")

    @property
    def prior(self) -> PriorConfig | None:
        return self.network.prior if isinstance(self.network, GLEANConfig) else None

    @property
    def size(self) -> int:
        """Side of the pictures."""
        return self.network.prior.size if isinstance(self.network, GLEANConfig) else self.network.size

    @property
    def needs_metrics(self) -> bool:
        """True if a loss needs the weights of LPIPS."""
        projected = self.adversarial is not None and self.adversarial.projected
        return bool(self.loss.lpips or self.loss.regions or self.perceptual or projected)


# [GLEAN] supplementary 1 and [GCFSR] 3.5 have the same weight.
_GAN = AdversarialConfig(weight=0.01, discriminator=CONFIG_F_1024, learning_rate=2e-3)


# [GLEAN] supplementary 1: MSE, 1e-2 perceptual (squared, VGG16), 1e-2 adversarial with StyleGAN's discriminator; cosine
# annealing from 1e-4 in 300,000 iterations of 8 faces. It names no R1. conv4_3 is the authors' public code's choice.
def _glean(factor: int) -> FaceSRRecipe:
    network, loss = glean.PRESETS[f"glean-1024-x{factor}"], replace(_L1, l1=0.0, l2=1.0)
    adversarial = replace(_GAN, learning_rate=1e-4, r1=0.0)
    return FaceSRRecipe(network=network, loss=loss, perceptual=0.01, squared=True, adversarial=adversarial)


# [GCFSR] 3.5 (equation 7): L1 1, perceptual 0.01, adversarial 0.01 (non-saturating); 4: Adam at 2e-3 for both networks,
# 300,000 iterations of 24 pictures. R1 of 10 every 16 steps and conv4_3 are the authors' public code's choice.
_GCFSR = FaceSRRecipe(
    network=GCFSRConfig(), perceptual=0.01, adversarial=_GAN, factors=Factors(), batch=24, learning_rate=2e-3, hold=1.0
)

_SHORT = FaceSRRecipe(network=GLEANConfig(), reduction="area", batch=4, hold=0.5, clip_gradient=1.0)
_OURS = replace(_SHORT, iterations=6000, warm_up=50, lpips_shift=1.0, bf16=True)
# Ours, for a CPU: the default bundle's losses, and exact area means as LRs, as phones send them. LPIPS at every phase,
# a loss of its own and a discriminator on frozen features, which joins in the second half, keep a grid off the skin.
# Weights have equalized learning rates, entries around 1: steps must be larger than elsewhere. After 280 pictures LPIPS
# on 8 unseen faces was .408 with these rates, .450 with 0.4 times as much; the enlarged LRs have .630.
_GCFSR_256 = replace(
    _OURS,
    network=gcfsr.PRESETS["gcfsr-256-light"],
    factors=Factors(continuous=True),
    loss=replace(_L1, lpips=1.0, regions=0.3, grid=2.0),
    adversarial=replace(PROJECTED, warms_up=0.5, begins=0.55),
    learning_rate=5e-3,
    muon=10.0,
    weight_decay=1e-4,
    ema=0.995,
)
# Begins with a trained GRAIN decoder, so with its learning rate.
_GLEAN_256 = replace(
    _OURS,
    network=glean.PRESETS["glean-256-x16-light"],
    loss=replace(_L1, lpips=1.2, regions=0.3, grid=4.0),
    adversarial=replace(PROJECTED, begins=0.0, ratio=0.12),
    learning_rate=2e-4,
    ema=0.998,
)

_BANK = PriorConfig("stylegan2", TINY_64)
_TINY_GLEAN = GLEANConfig(
    _BANK, 16, rrdb=1, width=16, growth=8, head=8, widest=16, code_channels=8, join_kernel=1, around_mean=True
)
_TINY_GCFSR = GCFSRConfig(64, 8, channel_base=512, channel_max=24, code_width=24, code_channels=12)
_SMOKE = replace(_SHORT, iterations=40, warm_up=10, ema=0.9, weight_decay=1e-4, random_pictures=24)
_SMOKE_GLEAN = replace(_SMOKE, network=_TINY_GLEAN, learning_rate=1e-2, muon=1.0)
_FACTORS = Factors((4.0, 16.0), continuous=True, evaluated=(4.0, 8.0))
_SMOKE_GCFSR = replace(_SMOKE, network=_TINY_GCFSR, factors=_FACTORS, learning_rate=4e-3, muon=5.0)

FACE_SR_RECIPES: dict[str, FaceSRRecipe] = {  # name -> recipe
    **{f"glean-1024-x{factor}": _glean(factor) for factor in (8, 16, 32, 64)},
    "gcfsr-1024": _GCFSR,
    "gcfsr-512-blind": replace(
        _GCFSR,
        network=gcfsr.PRESETS["gcfsr-512-blind"],
        factors=None,
        degradation=BlindDegradation(),
        adversarial=replace(_GAN, discriminator=CONFIG_F_512),
    ),
    "glean-faces-256-lr16": _GLEAN_256,
    "gcfsr-faces-256": _GCFSR_256,
    "smoke-glean": _SMOKE_GLEAN,
    "smoke-gcfsr": _SMOKE_GCFSR,
    "smoke-gcfsr-blind": replace(
        _SMOKE_GCFSR,
        network=replace(_TINY_GCFSR, blind=True),
        factors=None,
        degradation=BlindDegradation(kernel=7, sigma=(0.1, 1.0), factor=(1.0, 4.0)),
        adversarial=AdversarialConfig(discriminator=DiscriminatorConfig(64, 8, 16), warms_up=0.2, begins=0.5),
    ),
}


FAMILY = "face_sr"


@dataclass
class FaceSRRun(Run):
    """The state of a training run. Both GLEANs share one bank, which is in no file of a run, only its hash."""

    recipe: FaceSRRecipe
    model: FaceSR
    average: FaceSR
    family = FAMILY
    frozen = ("prior.",)

    def state(self) -> dict[str, Any]:
        """The hash of GLEAN's bank."""
        return {"bank": prior_digest(self.model.prior) if isinstance(self.model, GLEAN) else ""}

    def save_weights(self, folder: Path) -> None:
        """Write ``glean.safetensors`` or ``gcfsr.safetensors``."""
        training = {"config": self.recipe.as_dict(), "pictures_seen": self.pictures}
        save_face_sr(self.average, folder / weight_name(self.average), training, force=True)


def start_run(
    recipe: FaceSRRecipe,
    prior: GenerativePrior | None = None,
    discriminator: nn.Module | None = None,
    start: str | Path | None = None,
) -> FaceSRRun:
    """A run at its first step. ``prior``: GLEAN's bank; None for random weights, as for ``discriminator``.

    ``start``: trained weights, or the folder of a run that holds them. For GLEAN also a GRAIN decoder
    (`begin_with_grain`): a run, a bundle by name or folder, or a folder of the zoo.
    """
    torch.manual_seed(recipe.seed)
    if isinstance(recipe.network, GLEANConfig):
        prior = random_prior(recipe.network.prior, recipe.seed) if prior is None else prior
        model: FaceSR = GLEAN(recipe.network, prior)
    else:
        model = GCFSR(recipe.network)
    if start is not None:
        weights = Path(start) / weight_name(model) if Path(start).is_dir() else Path(start)
        if isinstance(model, GLEAN) and not weights.is_file():
            begin_with_grain(model, trained_decoder(start))
        else:
            take_weights(model, load_face_sr(weights, prior), start)
    average = copy.deepcopy(model, {id(prior): prior})  # around the same bank
    adversarial = AdversarialLoss(recipe.adversarial, discriminator) if recipe.adversarial is not None else None
    return FaceSRRun(recipe, model, average.eval().requires_grad_(False), adversarial)


def load_run(folder: Path, prior: GenerativePrior | None = None) -> FaceSRRun:
    """The run of a folder, on the CPU; ``prior``: GLEAN's bank, as in `start_run`."""
    with open_checkpoint(folder, FAMILY) as stored:
        run = start_run(FaceSRRecipe.from_dict(stored.config), prior)
        if isinstance(run.model, GLEAN) and stored.state["bank"] != prior_digest(run.model.prior):
            raise ModelError(f"{folder} was trained with another bank than the one given; pass --prior with that one")
        return run.load(stored)


def begin_with_grain(network: GLEAN, trained: RRDBDecoder) -> None:
    """Give RRDBs, scales and RGB head the weights of a decoder that has grown from ``trained`` to their shape."""
    config = network.config
    first = Scale(config.lr, config.width, rrdb=config.rrdb, growth=config.growth)
    decoder = RRDBDecoder(DecoderConfig((first, *config.scales), "bilinear", head=()))
    grow(decoder, trained)
    weights = {rename(name, _GLEAN_NAMES): tensor for name, tensor in decoder.state_dict().items()}
    network.load_state_dict({**network.state_dict(), **weights})


_GLEAN_NAMES: Names = {  # in GRAIN's decoder -> in a GLEAN that begins with one
    "conv_first.*": "features.conv_first.{0}",
    "scales.0.blocks.*": "features.body.{0}",
    "scales.0.conv.*": "features.conv_body.{0}",
    "scales.#.*": lambda index, end: f"up.{index - 1}.scale.{end}",
    "upsamples.#.*": "up.{0}.upsample.{1}",
    "head.*": "to_rgb.{0}",
}
VGG_LAYER = 3
"""conv4_3, of those that LPIPS compares; the authors' public codes of both papers take it before its ReLU."""


class Inputs(NamedTuple):
    """Inputs of a network: pictures ``[B, 3, s, s]`` in [-1, 1], GLEAN's LRs, or GCFSR's, enlarged to its size, and the
    factors of the reduction, ``[B]``; 0 where they are unknown (the blind form)."""

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
    if isinstance(recipe.network, GLEANConfig):
        return inputs_at(recipe, pictures, recipe.size / recipe.network.lr)
    assert recipe.factors is not None
    sides = draw_sides(recipe.factors, recipe.size, len(pictures), rng)
    parts = [inputs_at(recipe, one[None], recipe.size / side) for one, side in zip(pictures, sides, strict=True)]
    return Inputs(*map(torch.cat, zip(*parts, strict=True)))


def inputs_at(recipe: FaceSRRecipe, pictures: Tensor, factor: float) -> Inputs:
    """Inputs from pictures, integers 0...255 ``[B, 3, S, S]``, all reduced by one factor."""
    lr = dequantize(reduce_levels(pictures, round(recipe.size / factor), recipe.reduction))
    known = torch.full((len(pictures),), recipe.size / lr.shape[-1], device=pictures.device)
    return Inputs(lr if isinstance(recipe.network, GLEANConfig) else enlarge(lr, recipe.size), known)


def restore(network: FaceSR, picture: Tensor, factors: Tensor) -> Tensor:
    """Pictures ``[B, 3, S, S]``, about [-1, 1], float32; ``factors`` gives the strength for networks that take one."""
    if isinstance(network, GLEAN):
        return network(picture).float()
    return network(picture, None if network.config.blind else factors / LARGEST_FACTOR).float()


STRENGTH = "_strength_"
_AT_ONCE = 4


def _cases(recipe: FaceSRRecipe, pictures: Tensor) -> dict[str, Inputs]:
    """Inputs of the evaluation, those of all held-out pictures, by the suffix of its figures' names."""
    if recipe.factors is None:
        return {"": draw_inputs(recipe, pictures, np.random.default_rng(UNSEEN_SEED))}
    first, *others = recipe.factors.evaluated
    main = inputs_at(recipe, pictures, first)
    return {
        "": main,
        **{f"_x{other:g}": inputs_at(recipe, pictures, other) for other in others},
        **{f"{STRENGTH}{other:g}": Inputs(main.picture, torch.full_like(main.factors, other)) for other in others},
    }


class FaceSRTrainer(Trainer):
    """The training of GLEAN or GCFSR."""

    run: FaceSRRun

    def __init__(
        self,
        run: FaceSRRun,
        distributed: Distributed,
        pictures: np.ndarray,
        networks: MetricNetworks = NONE,
        held_out: np.ndarray | None = None,
    ) -> None:
        """Pictures to train and to evaluate on, by default the first of them, are uint8 ``[N, S, S, 3]``."""
        super().__init__(run, distributed, len(pictures), networks)
        recipe = run.recipe
        self._random, self._grid = np.random.default_rng(self.seed), GridLoss()
        self._feed = batches(pictures, recipe.batch, self.seed, distributed.device)
        unseen = torch.from_numpy(np.array(pictures[:HELD_OUT] if held_out is None else held_out))
        self._held_out = unseen.permute(0, 3, 1, 2).float().to(distributed.device)
        self._cases = _cases(recipe, self._held_out)

    def step(self, progress: float) -> dict[str, Tensor]:
        run, distributed = self.run, self.distributed
        picture = next(self._feed).to(distributed.device)
        inputs = draw_inputs(run.recipe, picture, self._random)
        target = dequantize(picture)
        with self.precision():
            restored = restore(run.model, inputs.picture.contiguous(memory_format=distributed.layout), inputs.factors)
            compare = partial(self._compare, target=target)
            loss, terms = joint_loss(restored, compare, run.adversarial, progress, target)
        return self.finish_step(loss, terms, progress, restored, target)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Means over rounded restorations: PSNR (dB) and, with LPIPS weights, LPIPS with AlexNet, also off the grid.

        ``..._bicubic`` are those of the enlarged LR (blind form: of the degraded picture). For GCFSR they are at the
        first factor of ``factors.evaluated``; ``..._x8`` at another, from LRs of that size, and ``..._strength_8`` from
        the first LRs at another strength.
        """
        found: dict[str, float] = {}
        for suffix, inputs in self._cases.items():
            parts = zip(*(tensor.split(_AT_ONCE) for tensor in inputs), strict=True)
            found |= self._measure(torch.cat([restore(self.run.average, *part) for part in parts]), suffix)
        return found | self._of_bicubic

    @cached_property
    def _of_bicubic(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for suffix, inputs in self._cases.items():
            if not suffix.startswith(STRENGTH):
                found |= self._measure(enlarge(inputs.picture, self.run.recipe.size), f"_bicubic{suffix}")
        return found

    def _measure(self, restored: Tensor, suffix: str) -> dict[str, float]:
        lpips, pairs = self.networks.lpips, zip(restored, self._held_out, strict=True)
        rows = [compared(y[None], x[None], lpips, off_grid=not suffix) for y, x in pairs]  # takes 7 times as long
        return {name + suffix: mean for name, mean in mean_figures(rows).items()}

    @torch.no_grad()
    def draw_samples(self, path: Path) -> None:
        """PNG with one column per picture: original, LR, its bicubic enlargement, and the restoration of every case."""
        recipe, first, pictures = self.run.recipe, self._cases[""], dequantize(self._held_out[:8])
        rows = [pictures]
        if recipe.degradation is None:
            rows.append(F.interpolate(pictures, round(recipe.size / float(first.factors[0])), mode="area"))
        rows.append(enlarge(first.picture[:8], recipe.size))
        rows += [restore(self.run.average, *(tensor[:8] for tensor in inputs)) for inputs in self._cases.values()]
        write_samples(rows, path)

    def _compare(self, restored: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses other than the adversarial one."""
        recipe = self.run.recipe
        lpips, vgg, offset = self.networks.lpips, self.networks.vgg, random_offset(recipe.lpips_shift)
        loss, terms = picture_loss(recipe.loss, restored, target, lpips, None, offset=offset, grid=self._grid)
        if vgg is not None:
            part = feature_loss(vgg, VGG_LAYER, restored, target, squared=recipe.squared)
            loss, terms = loss + recipe.perceptual * part, terms | {"perceptual": part.detach()}
        return loss, terms


def open_trainer(recipe: FaceSRRecipe, options: RunOptions, folder: Path, distributed: Distributed) -> FaceSRTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    prior = recipe_prior(recipe, options.prior)
    resumes = (folder / CHECKPOINT).exists()
    discriminator = recipe_discriminator(recipe.adversarial, options.discriminator, resumes=resumes)
    networks = MetricNetworks.load(
        options.weights, distributed.device, needed=recipe.needs_metrics, vgg=recipe.perceptual > 0
    )
    if resumes:
        run = load_run(folder, prior)
        run.resume(recipe, discriminator, network=run.recipe.network)
    else:
        run = start_run(recipe, prior, discriminator, options.init_from)
    recipe = run.recipe
    pictures = training_pictures(recipe, options, folder, recipe.size)
    return FaceSRTrainer(run, distributed, pictures, networks, held_out_pictures(options, pictures))


FACE_SR = Family(
    FAMILY,
    "GLEAN and GCFSR",
    FaceSRRecipe,
    FACE_SR_RECIPES,
    open_trainer,
    lambda recipe: recipe.iterations * recipe.batch,
    evaluate_every=4000,
)
