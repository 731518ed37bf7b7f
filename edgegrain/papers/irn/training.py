"""The training of IRN and IRN+ ([IRN], section 3 and appendix 2): recipes, losses, crops, and the run.

A step downscales crops, rounds y, draws another z and restores: L = lambda_1 L_recon + lambda_2 L_guide +
lambda_3 L_distr' while pre-training (eq. 10); with a discriminator, the Jensen-Shannon divergence replaces L_distr' and
a perceptual term joins (eq. 11).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.bundle.manifest import IRN_WEIGHTS
from codec_contract.errors import EdgegrainError, ImageError
from codec_contract.pixels import dequantize
from edge_encoder.preprocessing import load_picture
from edgegrain.metrics.lpips import LPIPS, PERIOD
from edgegrain.papers.irn.bundle import load_irn, save_irn
from edgegrain.papers.irn.network import IRN, NEGATIVE_SLOPE, PRESETS, IRNConfig, round_to_levels
from edgegrain.pictures.packed import random_pictures
from edgegrain.pictures.stored_pictures import description, list_pictures
from edgegrain.pictures.writing import write_array
from edgegrain.training.checkpoint import CHECKPOINT, Run, frozen_copy, open_checkpoint, take_weights
from edgegrain.training.data import UNSEEN_SEED, packed_folder, write_samples
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import Family, RunOptions, Trainer
from edgegrain.training.losses import MetricNetworks, feature_loss, weighted_sum
from edgegrain.training.optimizers import descend, optimizers
from edgegrain.training.recipe import Recipe, continued
from server_decoder.grain.fusion import BicubicEnlargement

FAMILY = "irn"
Photographs = Sequence[np.ndarray | Path]
"""uint8 ``[H, W, 3]``, or ``.npy`` files of it."""


@dataclass(frozen=True)
class IRNLosses:
    """Weights of the terms; the first three are sums over a picture, averaged over the batch.

    The defaults are those of pre-training ([IRN] appendix 2: lambda_1 = 1, lambda_2 = 16, lambda_3 = 1 in eq. 10).
    lambda_3 weighs minus the log-likelihood of z in pre-training (L_distr'), the Jensen-Shannon divergence of restored
    and real pictures in IRN+ (L_distr, appendix eq. 1).
    """

    reconstruction: float = (
        1.0  # lambda_1, the absolute error of the picture restored from the rounded y and a random z
    )
    guide: float = 16.0  # lambda_2, the squared error of y against the bicubic reduction
    distribution: float = 1.0  # lambda_3
    perceptual: float = 0.0  # lambda_4, the mean absolute difference of VGG16's last features; IRN+ only
    lpips: float = 0.0  # ours, LPIPS with VGG16, whose features are of five layers; IRN+ only


# [IRN] appendix 2: lambda_1 = 0.01, lambda_2 = 16, lambda_3 = 1, lambda_4 = 0.01 in eq. 11.
IRN_PLUS = IRNLosses(reconstruction=0.01, guide=16.0, distribution=1.0, perceptual=0.01)


@dataclass(frozen=True, kw_only=True)
class IRNRecipe(Recipe):
    """The recipe of a run; the defaults are the published pre-training ([IRN] appendix 2)."""

    network: IRNConfig = PRESETS["irn-x4"]
    loss: IRNLosses = field(default_factory=IRNLosses)
    discriminator: tuple[int, ...] = ()  # channels of its pairs of convolutions; pre-training has none
    discriminator_alone: float = 0.0  # part of the run in which only the discriminator is trained
    batch: int = 16  # crops per step and process
    crop: int = 144  # side in pixels
    iterations: int = 50_000  # of a run whose length the command line leaves open
    learning_rate: float = 2e-4
    halve_at: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)  # the rate, after these parts: 10k, 20k, 30k, 40k of 50k
    muon: float = 0.0  # its learning rate for the weights that are matrices, in multiples of Adam's; 0: all Adam
    ema: float = 0.0
    bf16: bool = False  # bfloat16 in the convolutions; the couplings stay float32
    random_pictures: int = 0  # when no data is given (trial runs)
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    weight_decay: ClassVar[float] = 1e-5
    clip_gradient: ClassVar[float] = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop % self.network.factor:
            raise ValueError(f"crops of {self.crop} are no multiple of the factor {self.network.factor}")
        if self.crop % (period := 2 ** len(self.discriminator)):
            raise ValueError(
                f"the discriminator halves crops {len(self.discriminator)} times, so their side must be a "
                f"multiple of {period}, got {self.crop}"
            )


# 5,000 iterations of the discriminator alone, then 20,000 of both, halved after 5,000 and 10,000 of those.
_PLUS = IRNRecipe(
    loss=IRN_PLUS,
    discriminator=(64, 128, 256, 512),
    discriminator_alone=0.2,
    iterations=25_000,
    learning_rate=1e-4,
    halve_at=(0.4, 0.6),
)
_TINY = IRNConfig(blocks=(1, 1), growth=8, z_std=0.05)
_SMOKE = IRNRecipe(network=_TINY, batch=4, crop=32, warm_up=5, ema=0.8, random_pictures=24)

# The bundle photos-x4: hours of one CPU core. Muon and averaged weights reach a good result sooner. With lambda_2 = 16
# of the paper, LRs are 2.9 instead of 2.3 levels from the bicubic ones of Set5 (experiments/2026-11.md).
_PHOTOS = IRNRecipe(
    network=PRESETS["irn-x4-light"],
    loss=IRNLosses(guide=64.0, distribution=1e-6),
    batch=4,
    crop=64,
    learning_rate=2e-3,
    halve_at=(0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95),
    muon=1.0,
    warm_up=50,
    ema=0.99,
    bf16=True,
)

IRN_RECIPES: dict[str, IRNRecipe] = {  # name -> recipe
    "irn-x4": IRNRecipe(),
    "irn-x2": IRNRecipe(network=PRESETS["irn-x2"]),
    "irn-x3": IRNRecipe(network=PRESETS["irn-x3"]),
    "irn-x8": IRNRecipe(network=PRESETS["irn-x8"]),
    "irn-plus-x4": _PLUS,
    "photos-x2": replace(_PHOTOS, network=PRESETS["irn-x2-light"]),
    "photos-x4": _PHOTOS,
    # At 2e-3 its loss was higher than the smaller network's (experiments/2026-11.md).
    "photos-x4-wide": replace(_PHOTOS, network=PRESETS["irn-x4-wide"], learning_rate=7e-4),
    # IRN+ from zoo/photos-x4, with a discriminator of a quarter of the paper's channels. Where the LR's error outweighs
    # the picture's, the LR soon keeps nothing but its likeness (experiments/2026-11.md).
    "photos-x4-plus": replace(
        _PLUS,
        network=PRESETS["irn-x4-light"],
        loss=IRNLosses(reconstruction=0.05, guide=4.0, lpips=100.0),
        discriminator=(16, 32, 64, 128),
        discriminator_alone=0.03,
        batch=4,
        crop=64,
        learning_rate=1e-3,
        warm_up=50,
        ema=0.99,
    ),
    "smoke-irn": replace(_SMOKE, loss=IRNLosses(distribution=0.1), iterations=120, learning_rate=4e-3),
    "smoke-irn-plus": replace(
        _SMOKE,
        loss=replace(IRN_PLUS, perceptual=0.0),
        discriminator=(4, 8),
        discriminator_alone=0.2,
        iterations=60,
        learning_rate=1e-3,
        halve_at=(0.4, 0.6),
        ema=0.0,
    ),
}


# The losses ([IRN], section 3.3 and appendix 1) are scalars; pictures are [B, 3, H, W] in [0, 1]. Sums over a picture,
# as in the authors' public code: with y a factor^2 smaller than x, lambda_2 = 16 weighs an error per pixel of y at 4x
# as much as one per pixel of x.
def reconstruction_loss(restored: Tensor, picture: Tensor) -> Tensor:
    """L_recon: the absolute error, summed over a picture."""
    return (restored - picture).abs().sum((1, 2, 3)).mean()


def guide_loss(y: Tensor, picture: Tensor) -> Tensor:
    """L_guide: the squared error of y against the bicubic reduction of the picture, summed over y."""
    return (y - bicubic_reduction(picture, y.shape[-1])).pow(2).sum((1, 2, 3)).mean()


def bicubic_reduction(picture: Tensor, side: int) -> Tensor:
    """Antialiased bicubic reduction of a square ``[B, 3, S, S]`` to ``side``, in [0, 1]."""
    return F.interpolate(picture, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def latent_loss(z: Tensor, z_std: float) -> Tensor:
    """L_distr': minus the log-likelihood of z under a normal distribution of deviation ``z_std``, less its constant,
    summed over z."""
    return 0.5 * (z / z_std).pow(2).sum((1, 2, 3)).mean()


def divergence(real: Tensor, restored: Tensor) -> Tensor:
    """The Jensen-Shannon divergence as a discriminator's logits ``[B]`` of real and restored pictures estimate it
    (appendix eq. 1); the discriminator maximises it. 0 for pictures that it cannot distinguish, log 2 at most."""
    return 0.5 * (F.logsigmoid(real).mean() + F.logsigmoid(-restored).mean()) + math.log(2)


def adversarial_loss(restored: Tensor) -> Tensor:
    """The loss of the network in place of the divergence's second term: minus log sigma(T), whose gradient does not
    vanish where the discriminator is certain (Goodfellow et al. 2014, the appendix's [3])."""
    return -F.logsigmoid(restored).mean()


def lpips_loss(features: LPIPS, restored: Tensor, picture: Tensor) -> Tensor:
    """LPIPS with VGG16, averaged over the batch, without the first rows and columns: 0 to 7 of each, drawn at random;
    else the loss would be lowest for a texture that repeats with the network's grid."""
    rows, columns = torch.randint(PERIOD, (2,)).tolist()
    return features(*(dequantize(255 * one[..., rows:, columns:]) for one in (restored, picture))).mean()


class IRNDiscriminator(nn.Module):
    """The discriminator T of IRN+ (appendix 2): crops ``[B, 3, S, S]`` in [0, 1] -> logits ``[B]``, high for real ones.

    The paper's eight convolutions are four pairs of 64 to 512 channels; the second of a pair halves the sides. All but
    the first are normalized over the batch, as in SRGAN.
    """

    def __init__(self, crop: int, channels: Sequence[int] = (64, 128, 256, 512)) -> None:
        """``crop``: S, a multiple of 2 to the number of pairs."""
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in channels:
            for stride in (1, 2):
                layers.append(nn.Conv2d(inputs, width, 3, stride, 1, bias=not layers))
                layers += [nn.BatchNorm2d(width)] if len(layers) > 1 else []
                layers.append(nn.LeakyReLU(NEGATIVE_SLOPE))
                inputs = width
        self.convs = nn.Sequential(*layers)
        side = crop >> len(channels)
        self.dense1 = nn.Linear(inputs * side * side, 100)  # [IRN] appendix 2
        self.dense2 = nn.Linear(100, 1)

    def forward(self, crop: Tensor) -> Tensor:
        features = self.convs(crop).flatten(1)
        return self.dense2(F.leaky_relu(self.dense1(features), NEGATIVE_SLOPE))[:, 0]


def pack_photographs(paths: Sequence[Path], cache: str | Path) -> list[Path]:
    """Files of the pictures, ``.npy`` of uint8 ``[H, W, 3]``, in ``cache``, written on first use."""
    packed = []
    for path in paths:
        key = hashlib.sha256(description(path).encode(errors="surrogateescape")).hexdigest()[:16]
        packed.append(Path(cache) / f"photograph-{key}.npy")
        if not packed[-1].exists():
            picture = load_picture(path)
            write_array(packed[-1], picture.shape, [picture])
    return packed


def crops(
    pictures: Photographs, batch: int, side: int, seed: int, device: torch.device | None = None
) -> Iterator[Tensor]:
    """Endless batches of random crops, float32 ``[batch, 3, side, side]`` in [0, 1], flipped both ways at random
    ([IRN] appendix 2). Every large enough picture gives one crop before any gives a second one."""
    usable = [index for index, picture in enumerate(pictures) if min(_opened(picture).shape[:2]) >= side]
    if not usable:
        raise ImageError(
            f"no picture has sides of {side} pixels, the size of a crop; pass larger pictures, or make the crop smaller"
        )
    rng = np.random.default_rng(seed)
    order: list[int] = []
    while True:
        taken = []
        for _ in range(batch):
            order = order or rng.permutation(usable).tolist()
            picture = _opened(pictures[order.pop()])
            top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[:2])
            crop = picture[top : top + side, left : left + side]
            vertically, horizontally = (2 * int(rng.integers(2)) - 1 for _ in range(2))
            taken.append(crop[::vertically, ::horizontally])
        yield torch.from_numpy(np.stack(taken)).to(device).permute(0, 3, 1, 2).float().div(255)


def _opened(photograph: np.ndarray | Path) -> np.ndarray:
    return np.load(photograph, mmap_mode="r") if isinstance(photograph, Path) else photograph


@dataclass
class IRNRun(Run):
    """The state of a training run; ``discriminator`` is that of IRN+."""

    model: IRN
    average: IRN
    discriminator: IRNDiscriminator | None = None
    family = FAMILY

    def networks(self) -> dict[str, nn.Module]:
        discriminator = {} if self.discriminator is None else {"discriminator": self.discriminator}
        return super().networks() | discriminator

    def save_weights(self, folder: Path) -> None:
        """Write ``irn.safetensors``."""
        training = {"config": self.recipe.as_dict(), "crops_seen": self.pictures}
        save_irn(self.average, folder / IRN_WEIGHTS, training, force=True)


def start_run(recipe: IRNRecipe, start: str | Path | None = None) -> IRNRun:
    """A run at its first step, with random weights or those of an ``irn.safetensors`` or of a folder with one: IRN+
    begins with a pre-trained IRN."""
    torch.manual_seed(recipe.seed)
    model = IRN(recipe.network)
    if start is not None:
        take_weights(model, load_irn(Path(start) / IRN_WEIGHTS if Path(start).is_dir() else Path(start)), start)
    discriminator = IRNDiscriminator(recipe.crop, recipe.discriminator) if recipe.discriminator else None
    return IRNRun(recipe, model, frozen_copy(model), discriminator=discriminator)


def load_run(folder: Path) -> IRNRun:
    """The run of a folder, on the CPU."""
    with open_checkpoint(folder, FAMILY) as stored:
        return start_run(IRNRecipe.from_dict(stored.config)).load(stored)


class IRNTrainer(Trainer):
    """The training of IRN and IRN+ on crops of photographs; ``held_out``: crops ``[N, 3, S, S]`` in [0, 1]."""

    run: IRNRun

    def __init__(
        self, run: IRNRun, distributed: Distributed, pictures: Photographs, held_out: Tensor, networks: MetricNetworks
    ) -> None:
        super().__init__(run, distributed, len(pictures), networks)
        self._held_out, recipe = held_out.to(distributed.device), run.recipe
        self.updates = 0  # of the network
        if run.discriminator is not None:
            weights = self._weights_of_t = list(run.discriminator.train().parameters())
            self._optimizers_of_t = optimizers(weights, recipe.learning_rate, 0, 0, betas=recipe.betas)
        self._crops = crops(pictures, recipe.batch, recipe.crop, self.seed, distributed.device)
        self._random = torch.Generator(distributed.device).manual_seed(self.seed)

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        recipe, adam = self.run.recipe, torch.optim.Adam
        rates = recipe.learning_rate, recipe.muon, recipe.weight_decay
        return optimizers(self.parameters, *rates, betas=recipe.betas, adam=adam)

    def learning_rate(self, progress: float) -> float:
        return learning_rate(self.run.recipe, progress, self.updates)

    def step(self, progress: float) -> dict[str, Tensor]:
        run, recipe = self.run, self.run.recipe
        x = next(self._crops).contiguous(memory_format=self.distributed.layout)
        self.count()
        alone = run.discriminator is not None and progress < recipe.discriminator_alone
        with torch.set_grad_enabled(not alone), self.precision():
            y, z = run.model(x)
            restored = run.model.inverse(round_to_levels(y), run.model.sample_z(y, self._random))
        terms = {} if alone else self._train_network(x, y, z, restored, progress)
        if run.discriminator is not None:
            value = divergence(run.discriminator(x), run.discriminator(restored.detach()))
            rate = learning_rate(recipe, progress, self.steps - 1)
            descend(-value, self._weights_of_t, self._optimizers_of_t, rate, self.distributed)
            terms["divergence"] = value.detach()
        return terms

    def _train_network(self, x: Tensor, y: Tensor, z: Tensor, restored: Tensor, progress: float) -> dict[str, Tensor]:
        run, loss, vgg = self.run, self.run.recipe.loss, self.networks.vgg
        terms = {"reconstruction": reconstruction_loss(restored, x), "guide": guide_loss(y, x)}
        if run.discriminator is None:
            terms["distribution"] = latent_loss(z, run.recipe.network.z_std)
        else:
            run.discriminator.requires_grad_(False)
            terms["distribution"] = adversarial_loss(run.discriminator(restored))
            run.discriminator.requires_grad_(True)
        if vgg is not None and loss.perceptual:
            # The last of VGG16's layers; the authors' public code takes VGG19's.
            terms["perceptual"] = feature_loss(vgg, 4, dequantize(255 * restored), dequantize(255 * x))
        if vgg is not None and loss.lpips:
            terms["lpips"] = lpips_loss(vgg, restored, x)
        total, terms = weighted_sum(loss, terms)
        if self.descend(total, progress):
            self.update_averages()
        self.updates += 1
        return terms

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The averaged network on held-out crops: PSNR (dB, RGB) with z = 0 and of the bicubic pair, PSNR of y to the
        bicubic reduction, the mean absolute difference (levels) between two random z, deviation of the true z."""
        model, x = self.run.average, self._held_out
        y, z = model(x)
        y = round_to_levels(y)
        likeliest = model.inverse(y, torch.zeros_like(z)).clamp(0, 1)
        one, other = (model.inverse(y, model.sample_z(y, self._random)).clamp(0, 1) for _ in range(2))
        reduced = round_to_levels(bicubic_reduction(x, y.shape[-1]))
        enlarged = BicubicEnlargement(y.shape[-1], x.shape[-1]).to(y.device)(reduced).clamp(0, 1)
        figures = {"psnr": _psnr(likeliest, x), "psnr_bicubic": _psnr(enlarged, x), "psnr_y": _psnr(y, reduced)}
        figures |= {"z_difference": 255 * float((one - other).abs().mean()), "z_std": float(z.std())}
        return {name: round(value, 4) for name, value in figures.items()}

    @torch.no_grad()
    def draw_samples(self, path: Path) -> None:
        """One column per crop: the crop, y, the restored crop."""
        x, (y, z) = self._held_out, self.run.average(self._held_out)
        y = round_to_levels(y)
        write_samples([2 * row - 1 for row in (x, y, self.run.average.inverse(y, torch.zeros_like(z)))], path)


def open_trainer(recipe: IRNRecipe, options: RunOptions, folder: Path, distributed: Distributed) -> IRNTrainer:
    """Continue the run in ``folder``, or start one; see `Family.open`."""
    resumed = (folder / CHECKPOINT).exists()
    if recipe.discriminator and options.init_from is None and not resumed and not recipe.random_pictures:
        raise EdgegrainError("IRN+ fine-tunes a trained IRN; pass --init-from with a run or its irn.safetensors")
    vgg = bool(recipe.loss.perceptual or recipe.loss.lpips)
    networks = MetricNetworks.load(options.weights, distributed.device, needed=vgg, vgg=vgg)
    if resumed:
        run = load_run(folder)
        stored = run.recipe
        crop = stored.crop if stored.discriminator else recipe.crop  # the discriminator's shape depends on it
        run.recipe = continued(recipe, network=stored.network, discriminator=stored.discriminator, crop=crop)
    else:
        run = start_run(recipe, options.init_from)
    recipe = run.recipe
    photographs: Photographs
    if options.data is not None:
        photographs = pack_photographs(list_pictures(options.data, options.exclude), packed_folder(folder))
    else:
        photographs = list(random_pictures(recipe.random_pictures, 2 * recipe.crop, recipe.seed))
    unseen = photographs
    if options.validation is not None:
        unseen = pack_photographs(list_pictures(options.validation), packed_folder(folder))
    held_out = next(crops(unseen, 8, recipe.crop, UNSEEN_SEED))
    return IRNTrainer(run, distributed, photographs, held_out, networks)


def learning_rate(recipe: IRNRecipe, progress: float, step: int) -> float:
    """Warm-up, then halved at every mark that the run has passed."""
    passed = sum(progress >= mark for mark in recipe.halve_at)
    return recipe.learning_rate * min(1.0, (step + 1) / max(recipe.warm_up, 1)) * 0.5**passed


def _psnr(picture: Tensor, target: Tensor) -> float:
    """Mean over pictures in [0, 1] that are rounded first."""
    error = (round_to_levels(picture) - target).pow(2).mean((1, 2, 3)).clamp_min(1e-10)
    return float(-10 * error.log10().mean())


IRN_FAMILY = Family(
    FAMILY, "IRN and IRN+", IRNRecipe, IRN_RECIPES, open_trainer, lambda recipe: recipe.iterations * recipe.batch
)
