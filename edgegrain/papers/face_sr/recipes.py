"""Configuration of the training of GLEAN ([GLEAN] supplementary 1) and GCFSR ([GCFSR] 3.5, 4), and the recipes.

The recipes named like the papers' networks have the papers' constants. Those named ``...-faces-256...`` are ours: they
learn in hours on a CPU. docs/training.md lists the differences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgegrain.papers.face_sr.degradations import REDUCTIONS, BlindDegradation
from edgegrain.papers.gcfsr import network as gcfsr
from edgegrain.papers.gcfsr.network import GCFSRConfig
from edgegrain.papers.glean import network as glean
from edgegrain.papers.glean.network import GLEANConfig
from edgegrain.training.adversarial import PROJECTED, AdversarialConfig, DiscriminatorConfig, ProjectedConfig
from edgegrain.training.losses import LossWeights
from edgegrain.training.recipe import Recipe
from server_decoder.grain.grain import PriorConfig
from server_decoder.stylegan2.networks import CONFIG_F_512, CONFIG_F_1024, TINY_64

_UNUSED_TERMS = ("identity", "lr", "lr_l2", "lr_saturation", "rate", "codes")
"""Terms of `LossWeights` that this family does not compute."""


@dataclass(frozen=True)
class Factors:
    """The factors s by which pictures are reduced.

    Attributes:
        choices: the factors, ascending, all equally likely.
        continuous: True for every factor between the first and the last; all octaves are equally likely, as among the
            paper's choices.
        evaluated: the factors that a run is evaluated at, the most important one first.
    """

    choices: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0, 64.0)  # [GCFSR] 3.5
    continuous: bool = False
    evaluated: tuple[float, ...] = (16.0, 8.0, 32.0)

    def __post_init__(self) -> None:
        if not self.choices or min(self.choices) <= 1 or list(self.choices) != sorted(self.choices):
            raise ValueError(f"factors ascend and are larger than 1, got {list(self.choices)}")
        if not self.evaluated or min(self.evaluated) <= 1:
            raise ValueError(f"a run is evaluated at one or more factors larger than 1, got {list(self.evaluated)}")


@dataclass(frozen=True)
class FaceSRRecipe(Recipe):
    """The recipe of a run.

    Attributes:
        network: GLEAN or GCFSR.
        loss: weights of the terms that compare pictures. Those of GRAIN's LRs, codes and identity are 0 here.
        perceptual: weight of the difference of VGG16's features (conv4_3).
        squared: True for the squared difference, as in [GLEAN], False for the absolute one.
        adversarial: the adversarial loss, or None.
        adversarial_alone: pictures reduced by this factor or less have no loss but the adversarial one, once that has
            begun ([GCFSR] 1: enough for factors up to 8).
        reduction: ``"area"``, the exact mean that phones send, or ``"bicubic"``, the papers'.
        factors: of GCFSR; None for GLEAN, whose LR has one size, and for the blind form.
        degradation: of GCFSR's blind form.
        batch: pictures per step and process.
        iterations: steps of a run whose length the command line leaves open.
        learning_rate: of Adam.
        muon: learning rate of Muon for the weights that are matrices, in multiples of ``learning_rate``; 0: all Adam.
        weight_decay: of Adam (AdamW's, decoupled).
        warm_up: steps over which the learning rate rises.
        hold: part of the run at the full learning rate; the rest anneals to a hundredth (cosine).
        ema: decay of the averaged weights, which are evaluated and stored.
        clip_gradient: largest norm of a step's gradient; 0: any.
        lpips_shift: part of the steps, 0...1, in which LPIPS compares the pictures at a random offset
            (`edgegrain.training.losses.random_offset`).
        bf16: bfloat16 where autocast allows it and the device computes in it.
        generated: name patterns of generated pictures among the training pictures, which are left out: the
            discriminator would take their faults for real.
        random_pictures: number of random pictures when no data is given (trial runs).
    """

    network: GLEANConfig | GCFSRConfig
    loss: LossWeights
    perceptual: float = 0.0
    squared: bool = False
    adversarial: AdversarialConfig | None = None
    adversarial_alone: float = 0.0
    reduction: str = "bicubic"
    factors: Factors | None = None
    degradation: BlindDegradation | None = None
    batch: int = 8
    iterations: int = 300_000
    learning_rate: float = 1e-4
    muon: float = 0.0
    weight_decay: float = 0.0
    warm_up: int = 1
    hold: float = 0.0
    ema: float = 0.999
    clip_gradient: float = 0.0
    lpips_shift: float = 0.0
    bf16: bool = False
    seed: int = 1
    generated: tuple[str, ...] = ("generated_*",)
    random_pictures: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if unused := [name for name in _UNUSED_TERMS if getattr(self.loss, name)]:
            raise ValueError(f"GLEAN and GCFSR have no loss of {', '.join(unused)}; set loss.{unused[0]} to 0")
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"unknown reduction {self.reduction!r}; expected one of {', '.join(REDUCTIONS)}")
        blind = isinstance(self.network, GCFSRConfig) and self.network.blind
        if blind != (self.degradation is not None):
            raise ValueError("the blind form of GCFSR, and nothing else, is trained with a degradation")
        if (isinstance(self.network, GCFSRConfig) and not blind) != (self.factors is not None):
            raise ValueError("GCFSR, except for its blind form, needs factors; GLEAN's is that of its sizes")
        if self.factors is not None and (largest := max(*self.factors.choices, *self.factors.evaluated)) > self.size:
            raise ValueError(f"pictures of {self.size}x{self.size} cannot be reduced by {largest:g}")
        if self.adversarial_alone and (self.adversarial is None or self.factors is None):
            raise ValueError("adversarial_alone needs an adversarial loss and a network that takes several factors")
        if self.adversarial_alone and self.adversarial is not None and self.adversarial.ratio:
            raise ValueError("adversarial.ratio relates the loss to others, and with adversarial_alone some pictures "
                             "have no others; set adversarial.ratio to 0")

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
        projected = self.adversarial is not None and isinstance(self.adversarial.discriminator, ProjectedConfig)
        return bool(self.loss.lpips or self.loss.regions or self.perceptual or projected)

    @property
    def kind(self) -> str:
        """``"glean"`` or ``"gcfsr"``."""
        return glean.KIND if isinstance(self.network, GLEANConfig) else gcfsr.KIND

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return {**super().as_dict(), "network": self.network.as_dict()}


def _weights(l1: float = 0.0, l2: float = 0.0, lpips: float = 0.0, regions: float = 0.0, grid: float = 0.0
             ) -> LossWeights:
    return LossWeights(l1=l1, l2=l2, lpips=lpips, regions=regions, grid=grid, identity=0.0, lr=0.0)


# [GLEAN] supplementary 1: MSE, 1e-2 perceptual (squared, VGG16), 1e-2 adversarial with StyleGAN's discriminator; cosine
# annealing from 1e-4 in 300,000 iterations of 8 faces. It names no R1. conv4_3 is the authors' public code's choice.
def _glean(factor: int) -> FaceSRRecipe:
    return FaceSRRecipe(
        glean.PRESETS[f"glean-1024-x{factor}"], _weights(l2=1.0), perceptual=0.01, squared=True,
        adversarial=AdversarialConfig(weight=0.01, discriminator=CONFIG_F_1024, learning_rate=1e-4, r1=0.0))


# [GCFSR] 3.5 (equation 7): L1 1, perceptual 0.01, adversarial 0.01 (non-saturating); 4: Adam at 2e-3 for both networks,
# 300,000 iterations of 24 pictures. R1 of 10 every 16 steps and conv4_3 are the authors' public code's choice.
_GCFSR = FaceSRRecipe(
    gcfsr.PRESETS["gcfsr-1024"], _weights(l1=1.0), perceptual=0.01,
    adversarial=AdversarialConfig(weight=0.01, discriminator=CONFIG_F_1024, learning_rate=2e-3),
    factors=Factors(), batch=24, learning_rate=2e-3, hold=1.0)
_ADVERSARIAL_512 = AdversarialConfig(weight=0.01, discriminator=CONFIG_F_512, learning_rate=2e-3)

# Ours, for a CPU: the default bundle's losses, and exact area means as LRs, as phones send them. LPIPS at every phase,
# a loss of its own and a discriminator on frozen features, which joins in the second half, keep a grid off the skin.
# Weights have equalized learning rates, entries around 1: steps must be larger than elsewhere. After 280 pictures LPIPS
# on 8 unseen faces was .408 with these rates, .450 with 0.4 times as much; the enlarged LRs have .630.
_GCFSR_256 = FaceSRRecipe(
    gcfsr.PRESETS["gcfsr-256-light"], _weights(l1=1.0, lpips=1.0, regions=0.3, grid=2.0),
    adversarial=replace(PROJECTED, warms_up=0.5, begins=0.55), reduction="area", factors=Factors(continuous=True),
    batch=4, iterations=6000, learning_rate=5e-3, muon=10.0, weight_decay=1e-4, warm_up=50, hold=0.5, ema=0.995,
    clip_gradient=1.0, lpips_shift=1.0, bf16=True)
# Begins with a trained GRAIN decoder, so with its learning rate.
_GLEAN_256 = replace(
    _GCFSR_256, network=glean.PRESETS["glean-256-x16-light"], factors=None,
    loss=_weights(l1=1.0, lpips=1.2, regions=0.3, grid=4.0), adversarial=replace(PROJECTED, begins=0.0, ratio=0.12),
    learning_rate=2e-4, muon=0.0, weight_decay=0.0, ema=0.998)

_SMOKE_GLEAN = FaceSRRecipe(
    GLEANConfig(PriorConfig("stylegan2", TINY_64), 16, rrdb=1, width=16, growth=8, head=8, widest=16, code_channels=8,
                join_kernel=1, around_mean=True), _weights(l1=1.0), reduction="area", batch=4, iterations=40,
    learning_rate=1e-2, weight_decay=1e-4, muon=1.0, warm_up=10, hold=0.5, ema=0.9, clip_gradient=1.0,
    random_pictures=24)
_TINY_GCFSR = GCFSRConfig(64, 8, channel_base=512, channel_max=24, code_width=24, code_channels=12)
_SMOKE_GCFSR = replace(
    _SMOKE_GLEAN, network=_TINY_GCFSR,
    factors=Factors((4.0, 16.0), True, (4.0, 8.0)), learning_rate=4e-3, muon=5.0)

FACE_SR_RECIPES: dict[str, FaceSRRecipe] = {
    **{f"glean-1024-x{factor}": _glean(factor) for factor in (8, 16, 32, 64)},
    "gcfsr-1024": _GCFSR,
    # [GCFSR] 4, Table 4: nothing but the adversarial loss, factors of 4 to 32.
    "gcfsr-512-adversarial": replace(
        _GCFSR, network=GCFSRConfig(512), adversarial=_ADVERSARIAL_512, adversarial_alone=32.0,
        factors=Factors((4.0, 8.0, 16.0, 32.0), evaluated=(8.0, 4.0, 16.0))),
    "gcfsr-512-blind": replace(_GCFSR, network=gcfsr.PRESETS["gcfsr-512-blind"], adversarial=_ADVERSARIAL_512,
                               factors=None, degradation=BlindDegradation()),
    "glean-faces-256-lr16": _GLEAN_256,
    "gcfsr-faces-256": _GCFSR_256,
    # [GCFSR] 1: up to 8x no other loss is needed. The network's learning rate is the paper's.
    "gcfsr-faces-256-adversarial": replace(
        _GCFSR_256, loss=_weights(), adversarial=replace(PROJECTED, weight=1.0, ratio=0.0, begins=0.0),
        adversarial_alone=8.0, factors=Factors((4.0, 8.0), True, (8.0, 4.0)), learning_rate=2e-3, muon=0.0),
    "smoke-glean": _SMOKE_GLEAN,
    "smoke-gcfsr": _SMOKE_GCFSR,
    "smoke-gcfsr-blind": replace(
        _SMOKE_GCFSR, network=replace(_TINY_GCFSR, blind=True), factors=None,
        degradation=BlindDegradation(kernel=7, sigma=(0.1, 1.0), factor=(1.0, 4.0)),
        adversarial=AdversarialConfig(discriminator=DiscriminatorConfig(64, 8, 16), warms_up=0.2, begins=0.5)),
}
"""Name -> recipe."""
