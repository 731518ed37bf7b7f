"""Configuration of a distillation of a StyleGAN2 into a MobileStyleGAN (arXiv:2104.04767), and the recipes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgegrain.training.adversarial import AdversarialConfig, DiscriminatorConfig
from edgegrain.training.recipe import Recipe
from server_decoder.mobile_stylegan.generator import MOBILE_STYLEGAN_256, MOBILE_STYLEGAN_1024, MobileStyleGANConfig


@dataclass(frozen=True)
class DistillationRecipe(Recipe):
    """The recipe of a run.

    Attributes:
        student: sizes; its codes and mapping network are the teacher's.
        bands: weight of the absolute and squared error of the Haar bands, at every resolution.
        lpips: weight of LPIPS, on pictures of at most 256 x 256; 0 needs no weights.
        adversarial: the GAN loss with the teacher's pictures as the real ones, or None. Its discriminator is the
            teacher's own where the teacher's file has one of the student's size.
        mixing: share of pictures whose layers from a random one on take the codes of another latent.
        truncation: psi of the codes, from and to.
        batch: pictures per step and process.
        learning_rate: of Adam; annealed to a hundredth (cosine).
        warm_up: steps over which it rises at the beginning of every session.
        ema: decay of the averaged student.
        bf16: bfloat16 where the device computes in it (`mixed_precision`).
        random_teacher: a trial run: use a teacher with random weights if none is given.
    """

    student: MobileStyleGANConfig = MOBILE_STYLEGAN_1024
    bands: float = 1.0
    lpips: float = 1.0
    adversarial: AdversarialConfig | None = None
    mixing: float = 0.5
    truncation: tuple[float, float] = (0.5, 1.0)
    batch: int = 16
    learning_rate: float = 5e-4
    warm_up: int = 200
    ema: float = 0.999
    bf16: bool = True
    seed: int = 1
    random_teacher: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adversarial is not None and self.adversarial.ratio:
            raise ValueError("distillation weighs its adversarial loss by adversarial.weight; leave adversarial.ratio "
                             "at 0")


def _adversarial(size: int) -> AdversarialConfig:
    # Half the weight of the others, as in the paper's public code; it joins when the pictures are nearly right.
    return AdversarialConfig(weight=0.5, begins=0.3, warms_up=0.2, discriminator=DiscriminatorConfig(size))


DISTILLATION_RECIPES: dict[str, DistillationRecipe] = {
    # For GRAIN at 256 x 256: the last block makes the picture, as in the default prior once it is cut there.
    "mobile-256": DistillationRecipe(student=MOBILE_STYLEGAN_256, adversarial=_adversarial(256)),
    # The paper's generator.
    "mobile-1024": DistillationRecipe(adversarial=_adversarial(1024), batch=4),
    "smoke-mobile": DistillationRecipe(
        student=MobileStyleGANConfig(64, "wavelet", 512, 32, code_width=32, mapping_layers=2), lpips=0.0,
        adversarial=replace(_adversarial(64), discriminator=DiscriminatorConfig(64, 8, 16)),
        batch=8, learning_rate=1e-2, warm_up=5, ema=0.9, bf16=False, random_teacher=True),
}
"""Name -> recipe."""
