"""Adversarial losses ([GRAIN] 3.5): relativistic in stage 1, WGAN or non-saturating later; the discriminator's step.

[GRAIN] names WGAN for the later stages, with the pretrained StyleGAN discriminator. The authors' public code trains it
with the non-saturating logistic loss and R1, and so do our recipes. ``"wgan"`` is there too; R1 holds its critic as
well, for clipping the weights to a small box (Arjovsky et al. 2017) would erase a pretrained one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgegrain.training.discriminator import DiscriminatorConfig, SmallDiscriminator
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.synthesis import StyleGAN2Config

# Karras et al. 2018 (ProGAN), A.1: a drift term keeps a Wasserstein critic's outputs near zero.
WGAN_DRIFT = 1e-3


@dataclass(frozen=True)
class AdversarialConfig:
    """The adversarial part of a stage.

    Attributes:
        loss: ``"non-saturating"``, ``"relativistic"`` or ``"wgan"``.
        weight: lambda_adv; 0.01 in [GRAIN] supplementary 1.
        begins: part of the run after which the loss joins. The discriminator learns from ``warms_up`` on, so that
            its first advice is not noise.
        warms_up: part of the run after which the discriminator learns.
        discriminator: our own small one, or StyleGAN2's.
        learning_rate: of the discriminator.
        every: steps between two updates of the discriminator.
        r1: weight gamma of the R1 penalty (Mescheder et al. 2018), gamma / 2 * |gradient|^2 on originals.
        r1_every: updates between two penalties, which then count so many times (Karras et al. 2020, 3.1).
    """

    loss: str = "non-saturating"
    weight: float = 0.01
    begins: float = 0.0
    warms_up: float = 0.0
    discriminator: DiscriminatorConfig | StyleGAN2Config = DiscriminatorConfig()
    learning_rate: float = 2e-4
    every: int = 1
    r1: float = 10.0
    r1_every: int = 16

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"unknown adversarial loss {self.loss!r}; expected one of {', '.join(LOSSES)}")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> AdversarialConfig:
        """The configuration that ``dataclasses.asdict`` wrote."""
        judge = fields["discriminator"]
        kind = DiscriminatorConfig if "widest" in judge else StyleGAN2Config
        return cls(**{**fields, "discriminator": kind(**judge)})

    def build(self) -> nn.Module:
        """The discriminator with random weights."""
        if isinstance(self.discriminator, StyleGAN2Config):
            return Discriminator(self.discriminator)
        return SmallDiscriminator(self.discriminator)


def non_saturating(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of discriminator and generator (Goodfellow et al. 2014) from logits ``[B]`` of both kinds of picture."""
    return F.softplus(-real).mean() + F.softplus(fake).mean(), F.softplus(-fake).mean()


def relativistic(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Relativistic average GAN (Jolicoeur-Martineau 2019, used by ESRGAN): each kind against the other's mean."""
    a, b = real - fake.mean(), fake - real.mean()
    discriminator = 0.5 * (F.softplus(-a).mean() + F.softplus(b).mean())
    generator = 0.5 * (F.softplus(a).mean() + F.softplus(-b).mean())
    return discriminator, generator


def wgan(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Wasserstein GAN (Arjovsky et al. 2017) with a drift term; see the module for what takes the place of clipping."""
    return fake.mean() - real.mean() + WGAN_DRIFT * real.pow(2).mean(), -fake.mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "non-saturating": non_saturating, "relativistic": relativistic, "wgan": wgan}


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Mean squared norm of the logits' gradient at originals, float32 throughout."""
    real = real.detach().float().requires_grad_(True)
    with torch.autocast(real.device.type, enabled=False):
        logits = discriminator(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.pow(2).sum((1, 2, 3)).mean()


class Opponent:
    """A discriminator with its optimizer: advises the networks and learns from what they make of it."""

    def __init__(self, config: AdversarialConfig, discriminator: nn.Module | None = None) -> None:
        """``discriminator`` was trained before; without it the configured one begins from random weights."""
        self.config = config
        self.discriminator = discriminator or config.build()
        self.optimizer: torch.optim.Optimizer | None = None
        self.updates = 0

    def loss(self, picture: Tensor, target: Tensor) -> Tensor:
        """The networks' adversarial loss; gradients reach ``picture`` only."""
        self.discriminator.requires_grad_(False)
        with torch.no_grad():
            real = self.discriminator(target)
        return LOSSES[self.config.loss](real, self.discriminator(picture))[1]

    def learn(self, picture: Tensor, target: Tensor, synchronize: Callable[[list[nn.Parameter]], None]
              ) -> dict[str, Tensor]:
        """One update on restored pictures and originals. ``synchronize`` averages gradients over processes."""
        self.discriminator.requires_grad_(True)
        parameters = list(self.discriminator.parameters())
        if self.optimizer is None:  # beta1 = 0: what it judges moves, so momentum points at the past
            self.optimizer = torch.optim.Adam(parameters, lr=self.config.learning_rate, betas=(0.0, 0.99))
        real, fake = self.discriminator(target.detach()), self.discriminator(picture.detach())
        loss = LOSSES[self.config.loss](real, fake)[0]
        terms = {"discriminator": loss.detach(), "logit_gap": (real.mean() - fake.mean()).detach()}
        if self.config.r1 and self.updates % self.config.r1_every == 0:
            penalty = r1_penalty(self.discriminator, target)
            loss = loss + 0.5 * self.config.r1 * self.config.r1_every * penalty
            terms["r1"] = penalty.detach()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        synchronize(parameters)
        self.optimizer.step()
        self.updates += 1
        return terms
