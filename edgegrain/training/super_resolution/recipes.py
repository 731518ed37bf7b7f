"""Configuration of the training of enlargers, and the recipes by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from codec_contract.bundle.find import DEFAULT_BUNDLE
from edgegrain.training.adversarial import PROJECTED, AdversarialConfig
from edgegrain.training.optimizers import WEIGHT_DECAY
from edgegrain.training.recipe import RestorationRecipe, check
from server_decoder.super_resolution import SuperResolutionConfig


@dataclass(frozen=True)
class SuperResolutionLosses:
    """Weights of the terms; pictures in [-1, 1]. A term of weight 0 is not computed.

    Attributes:
        l1: mean absolute error of the enlarged window against the original.
        lpips: LPIPS with AlexNet of the same.
        reduced: mean absolute error of the box mean, at the restored picture's size, against the original's.
        input: mean absolute error of the box mean against the restored picture: the enlarger adds detail, it does not
            change the picture.
        grid: a pattern that repeats in every picture (`edgegrain.training.losses`).
        half: weight of the first two terms at factor 2, as a step of factor 4.
    """

    l1: float = 0.1
    lpips: float = 1.0
    reduced: float = 0.5
    input: float = 1.0
    grid: float = 10.0
    half: float = 0.25


@dataclass(frozen=True, kw_only=True)
class SuperResolutionRecipe(RestorationRecipe):
    """The recipe of a run.

    Attributes:
        network: the shape of the network; it has weights for both factors.
        factor: 2 or 4; 4 trains its first step, factor 2, as well.
        size: side S of restored pictures. Originals have at least ``factor`` times as much.
        bundle: that compresses and restores the originals to the network's inputs, by name or folder.
        loss: weights of the terms.
        adversarial: on windows; None for none.
        batch: pictures per step and process. The coarse path is computed once for each.
        windows: of a picture, at which it is enlarged.
        window: side of a window, in pixels of S.
        region_part: part of the windows that lie around eyes, mouth and hair; the others lie anywhere.
        iterations: steps of a run whose length the command line leaves open.
    """

    network: SuperResolutionConfig = field(default_factory=SuperResolutionConfig)
    factor: int = 4
    size: int = 256
    bundle: str = DEFAULT_BUNDLE
    loss: SuperResolutionLosses = field(default_factory=SuperResolutionLosses)
    adversarial: AdversarialConfig | None = PROJECTED
    batch: int = 2
    windows: int = 4
    window: int = 64
    region_part: float = 0.5
    iterations: int = 20_000
    learning_rate: float = 5e-4
    muon: float = 1.0
    clip_gradient: float = 0.5
    warm_up: int = 50
    hold: float = 0.5
    ema: float = 0.998
    lpips_shift: float = 1.0
    bf16: ClassVar[bool] = True
    weight_decay: ClassVar[float] = WEIGHT_DECAY

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            (
                self.factor in self.network.factors,
                f"the network enlarges by {' or '.join(map(str, self.network.factors))}, not by {self.factor}",
            ),
            (self.size % self.network.period == 0, f"size {self.size} is no multiple of {self.network.period}"),
            (0 < self.window <= self.size, f"a window of {self.window} is not within pictures of {self.size}"),
            (self.windows >= 1, f"windows must be at least 1, got {self.windows}"),
            (
                not self.adversarial or self.adversarial.projected is not None,
                "windows need a projected discriminator, which takes pictures of any size",
            ),
        )


_SMOKE = SuperResolutionRecipe(
    network=SuperResolutionConfig(widths=(8, 12), down=(1, 1), up=(1,), fine_widths=(8,), fine_blocks=(1,)),
    loss=SuperResolutionLosses(l1=1.0, lpips=0.0, input=0.0, grid=0.0),
    adversarial=None,
    size=32,
    batch=4,
    windows=2,
    window=12,
    iterations=60,
    learning_rate=3e-3,
    clip_gradient=5.0,
    warm_up=5,
    ema=0.9,
    random_pictures=16,
)

SUPER_RESOLUTION_RECIPES: dict[str, SuperResolutionRecipe] = {
    # Larger windows, so that AlexNet sees 192x192 pixels of the original.
    "enlarge-faces-256-x2": SuperResolutionRecipe(factor=2, window=96),
    "enlarge-faces-256-x4": SuperResolutionRecipe(),
    "smoke-enlarge": _SMOKE,
}
"""Name -> recipe."""
