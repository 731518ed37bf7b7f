"""Configuration of the training of IRN and IRN+ ([IRN] appendix 2), and the recipes by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from edgegrain.papers.irn.network import PRESETS, IRNConfig
from edgegrain.training.recipe import Recipe


@dataclass(frozen=True)
class IRNLosses:
    """Weights of the terms; the first three are sums over a picture, averaged over the batch.

    The defaults are those of pre-training ([IRN] appendix 2: lambda_1 = 1, lambda_2 = 16, lambda_3 = 1 in eq. 10).

    Attributes:
        reconstruction: lambda_1, the absolute error of the picture restored from the rounded y and a random z.
        guide: lambda_2, the squared error of y against the bicubic reduction.
        distribution: lambda_3; minus the log-likelihood of z in pre-training (L_distr'), the Jensen-Shannon divergence
            of restored and real pictures in IRN+ (L_distr, appendix eq. 1).
        perceptual: lambda_4, the mean absolute difference of VGG16's last features; IRN+ only.
        lpips: ours, LPIPS with VGG16, whose features are of five layers; IRN+ only.
    """

    reconstruction: float = 1.0
    guide: float = 16.0
    distribution: float = 1.0
    perceptual: float = 0.0
    lpips: float = 0.0

    @property
    def needs_vgg(self) -> bool:
        """True if a loss needs the weights of VGG16."""
        return bool(self.perceptual or self.lpips)


# [IRN] appendix 2: lambda_1 = 0.01, lambda_2 = 16, lambda_3 = 1, lambda_4 = 0.01 in eq. 11.
IRN_PLUS = IRNLosses(reconstruction=0.01, guide=16.0, distribution=1.0, perceptual=0.01)


@dataclass(frozen=True)
class IRNRecipe(Recipe):
    """The recipe of a run; the defaults are the published pre-training ([IRN] appendix 2).

    Attributes:
        network: the shape of the network.
        loss: weights of the terms.
        discriminator: channels of its pairs of convolutions; () for pre-training, which has none.
        discriminator_alone: part of the run in which only the discriminator is trained.
        batch: crops per step and process.
        crop: side of the crops, in pixels.
        iterations: steps of a run whose length the command line leaves open.
        learning_rate: of Adam.
        halve_at: parts of the run after which the learning rate is halved.
        betas, weight_decay: Adam's.
        clip_gradient: largest norm of the gradient; 0: any.
        muon: learning rate of Muon for the weights that are matrices, in multiples of ``learning_rate``; 0: all Adam.
        warm_up: steps over which the learning rate rises at the beginning of every session.
        ema: decay of the averaged weights; 0 for none.
        bf16: bfloat16 in the convolutions; the couplings stay float32.
        random_pictures: number of random pictures when no data is given (trial runs).
    """

    network: IRNConfig = PRESETS["irn-x4"]
    loss: IRNLosses = field(default_factory=IRNLosses)
    discriminator: tuple[int, ...] = ()
    discriminator_alone: float = 0.0
    batch: int = 16
    crop: int = 144
    iterations: int = 50_000
    learning_rate: float = 2e-4
    halve_at: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)  # after 10k, 20k, 30k, 40k of 50k
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-5
    clip_gradient: float = 10.0
    muon: float = 0.0
    warm_up: int = 1
    ema: float = 0.0
    bf16: bool = False
    seed: int = 1
    random_pictures: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop % self.network.factor:
            raise ValueError(f"crops of {self.crop} are no multiple of the factor {self.network.factor}")
        if self.crop % (period := 2 ** len(self.discriminator)):
            raise ValueError(f"the discriminator halves crops {len(self.discriminator)} times, so their side must be a "
                             f"multiple of {period}, got {self.crop}")
        if self.loss.needs_vgg and not self.discriminator:
            raise ValueError("perceptual losses are part of IRN+, which has a discriminator")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return {**super().as_dict(), "network": self.network.as_dict()}


def _plus(network: IRNConfig) -> IRNRecipe:
    # 5,000 iterations of the discriminator alone, then 20,000 of both, halved after 5,000 and 10,000 of those.
    return IRNRecipe(network, IRN_PLUS, discriminator=(64, 128, 256, 512), discriminator_alone=0.2, iterations=25_000,
                       learning_rate=1e-4, halve_at=(0.4, 0.6))


_SMOKE = IRNConfig(blocks=(1, 1), growth=8, z_std=0.05)

# The bundle photos-x4: hours of one CPU core. Muon and averaged weights reach a good result sooner. With lambda_2 = 16
# of the paper, LRs are 2.9 instead of 2.3 levels from the bicubic ones of Set5 (experiments/2026-11.md).
_PHOTOS = IRNRecipe(
    PRESETS["irn-x4-light"], IRNLosses(guide=64.0, distribution=1e-6), batch=4, crop=64, learning_rate=2e-3,
    halve_at=(0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95), muon=1.0, warm_up=50, ema=0.99, bf16=True)

IRN_RECIPES: dict[str, IRNRecipe] = {
    "irn-x4": IRNRecipe(),
    "irn-x2": IRNRecipe(PRESETS["irn-x2"]),
    "irn-x3": IRNRecipe(PRESETS["irn-x3"]),
    "irn-x8": IRNRecipe(PRESETS["irn-x8"]),
    "irn-plus-x4": _plus(PRESETS["irn-x4"]),
    "photos-x2": replace(_PHOTOS, network=PRESETS["irn-x2-light"]),
    "photos-x4": _PHOTOS,
    # --init-from zoo/photos-x4. At 2e-3 its loss was higher than the smaller network's (experiments/2026-11.md).
    "photos-x4-wide": replace(_PHOTOS, network=PRESETS["irn-x4-wide"], learning_rate=7e-4),
    # IRN+ from zoo/photos-x4, with a discriminator of a quarter of the paper's channels. Where the LR's error outweighs
    # the picture's, the LR soon keeps nothing but its likeness (experiments/2026-11.md).
    "photos-x4-plus": replace(
        _plus(PRESETS["irn-x4-light"]), loss=IRNLosses(reconstruction=0.05, guide=4.0, lpips=100.0),
        discriminator=(16, 32, 64, 128), discriminator_alone=0.03, batch=4, crop=64, learning_rate=1e-3, warm_up=50,
        ema=0.99),
    "photos-x4-tri": replace(_PHOTOS, network=PRESETS["irn-x4-light-tri"]),
    "smoke-irn": IRNRecipe(
        _SMOKE, IRNLosses(distribution=0.1), batch=4, crop=32, iterations=120, learning_rate=4e-3, warm_up=5, ema=0.8,
        random_pictures=24),
    "smoke-irn-plus": IRNRecipe(
        _SMOKE, IRNLosses(reconstruction=0.01, guide=16.0), discriminator=(4, 8), discriminator_alone=0.2, batch=4,
        crop=32, iterations=60, learning_rate=1e-3, halve_at=(0.4, 0.6), warm_up=5, random_pictures=24),
}
"""Name -> recipe."""
