"""Adversarial losses ([GRAIN] 3.5): relativistic in stage 1, WGAN or non-saturating later; discriminators.

[GRAIN] names WGAN for the later stages, with the pretrained StyleGAN discriminator. The authors' public code trains it
with the non-saturating logistic loss and R1, and so do our recipes. ``"wgan"`` uses R1 too, because clipping the
weights to a small box (Arjovsky et al. 2017) would destroy a pretrained critic.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError, ModelError
from edgegrain.metrics.lpips import PERIOD, cropped
from edgegrain.training.distributed import Distributed
from edgegrain.training.losses import MetricNetworks
from edgegrain.training.optimizers import descend, optimizers
from edgegrain.training.recipe import check
from server_decoder.grain.rrdb_decoder import NEGATIVE_SLOPE, initialize
from server_decoder.stylegan2.layers import EPSILON, EqualizedConv, EqualizedLinear, activate
from server_decoder.stylegan2.networks import StyleGAN2Config, load_state
from server_decoder.weight_file import described_network, fill

GROUP = 4  # pictures of one minibatch standard deviation, as in StyleGAN2's published networks


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Widths from fine to coarse; every step halves the resolution, down to 4 x 4.

    Attributes:
        size: side of its input, a power of two; larger pictures are averaged down to it.
        width: channels at the finest resolution; they double with every halving.
        widest: limit of the doubling.
    """

    size: int = 256
    width: int = 16
    widest: int = 192

    def __post_init__(self) -> None:
        check(
            (self.size >= 4 and self.size.bit_count() == 1, f"size must be a power of two from 4, got {self.size}"),
            (min(self.width, self.widest) >= 1, f"width and widest are at least 1, got {self.width}, {self.widest}"),
        )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels at the resolutions ``size, size / 2, ..., 4``."""
        return tuple(min(self.widest, self.width << index) for index in range(self.size.bit_length() - 2))


class ResidualDown(nn.Module):
    """Two 3x3 convolutions and average pooling, with a pooled 1x1 shortcut."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.conv1(x), NEGATIVE_SLOPE)
        y = F.avg_pool2d(F.leaky_relu(self.conv2(y), NEGATIVE_SLOPE), 2)
        return (y + self.shortcut(F.avg_pool2d(x, 2))) * math.sqrt(0.5)


class SmallDiscriminator(nn.Module):
    """A residual discriminator that is trained from random weights; 2.9 M parameters for 256 x 256.

    Pictures ``[B, 3, S, S]`` in [-1, 1] -> logits ``[B]``: larger means more like an original.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.stem = nn.Conv2d(3, channels[0], 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualDown(a, b) for a, b in zip(channels, channels[1:], strict=False)))
        self.conv = nn.Conv2d(channels[-1] + 1, channels[-1], 3, padding=1)
        self.dense = nn.Linear(channels[-1] * 16, channels[-1])
        self.logit = nn.Linear(channels[-1], 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                initialize(module)

    def forward(self, picture: Tensor) -> Tensor:
        if (times := picture.shape[-1] // self.config.size) > 1:
            picture = F.avg_pool2d(picture, times)
        x = self.blocks(F.leaky_relu(self.stem(picture), NEGATIVE_SLOPE))  # [B, C, 4, 4]
        x = F.leaky_relu(self.conv(minibatch_stddev(x)), NEGATIVE_SLOPE).flatten(1)
        return self.logit(F.leaky_relu(self.dense(x), NEGATIVE_SLOPE)).float()[:, 0]


LAYERS = (64, 192, 384, 256)  # channels of the first four layers of AlexNet


@dataclass(frozen=True)
class ProjectedConfig:
    """Channels of each head."""

    head_width: int = 96


class ProjectedDiscriminator(nn.Module):
    """A discriminator on frozen features, as in projected GANs (Sauer et al., NeurIPS 2021).

    Pictures ``[B, 3, S, S]`` in [-1, 1] -> logits ``[B, 1, h, w]`` of every head: large means like an original. Small
    heads look at four layers of the AlexNet of LPIPS, which `AdversarialLoss.use` sets. They learn in hundreds of steps
    where a discriminator on pixels needs hundreds of thousands. The layers are computed at a random offset within their
    period: at one offset only, a decoder learns a texture of that period, as it does with LPIPS.
    """

    features: Callable[[Tensor], list[Tensor]] | None

    def __init__(self, config: ProjectedConfig) -> None:
        super().__init__()
        self.config, self.features = config, None
        width, slope = config.head_width, nn.LeakyReLU(NEGATIVE_SLOPE)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(n, width, 1), slope, nn.Conv2d(width, width, 3, padding=1), slope, nn.Conv2d(width, 1, 1)
            )
            for n in LAYERS
        )

    def forward(self, picture: Tensor) -> list[Tensor]:
        if self.features is None:
            raise ModelError("a projected discriminator needs the AlexNet of LPIPS; pass --weights with its weights")
        layers = self.features(cropped(picture, torch.randint(PERIOD, (2,)).tolist()))
        # Vectors of length 1 have components of about 1 / sqrt(channels); convolutions learn faster from larger ones.
        scaled = [0.5 * math.sqrt(channels) * layer for channels, layer in zip(LAYERS, layers, strict=False)]
        return [head(layer).float() for head, layer in zip(self.heads, scaled, strict=True)]


R1_EVERY = 16  # updates between two R1 penalties, which then count so many times (Karras et al. 2020, 3.1)


@dataclass(frozen=True)
class AdversarialConfig:
    """The adversarial part of a stage.

    Attributes:
        loss: ``"non-saturating"``, ``"relativistic"``, ``"wgan"`` or ``"hinge"``.
        weight: lambda_adv; 0.01 in [GRAIN] supplementary 1.
        ratio: if above 0, the loss is weighted in every step so that its gradient at the picture has this many times
            the norm of the other losses' gradient, and ``weight`` is not used.
        begins: part of the run after which the networks get the loss. The discriminator is trained from ``warms_up``
            on, so that its first gradients are not noise.
        warms_up: part of the run after which the discriminator is trained.
        discriminator: the small one of this file, StyleGAN2's, or heads on the frozen AlexNet of LPIPS
            (`ProjectedDiscriminator`), which has no R1 penalty.
        learning_rate: of the discriminator.
        every: steps between two updates of the discriminator.
        r1: weight gamma of the R1 penalty (Mescheder et al. 2018), gamma / 2 * |gradient|^2 on originals.
    """

    loss: str = "non-saturating"
    weight: float = 0.01
    ratio: float = 0.0
    begins: float = 0.0
    warms_up: float = 0.0
    discriminator: DiscriminatorConfig | StyleGAN2Config | ProjectedConfig = DiscriminatorConfig()
    learning_rate: float = 2e-4
    every: int = 1
    r1: float = 10.0

    def __post_init__(self) -> None:
        check(
            (self.loss in LOSSES, f"unknown adversarial loss {self.loss!r}; expected one of {', '.join(LOSSES)}"),
            (self.every >= 1, f"every is at least 1, got {self.every}"),
            (not (self.r1 and self.projected), "a projected discriminator has no R1 penalty; set r1 to 0"),
        )

    @property
    def projected(self) -> ProjectedConfig | None:
        """The heads on frozen features, if the discriminator consists of them."""
        return self.discriminator if isinstance(self.discriminator, ProjectedConfig) else None

    def build(self) -> nn.Module:
        """The discriminator with random weights."""
        if isinstance(self.discriminator, DiscriminatorConfig):
            return SmallDiscriminator(self.discriminator)
        if isinstance(self.discriminator, ProjectedConfig):
            return ProjectedDiscriminator(self.discriminator)
        return Discriminator(self.discriminator)


def non_saturating(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of discriminator and generator, two scalars, from logits ``[B, ...]`` of real and fake pictures
    (Goodfellow et al. 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean(), F.softplus(-fake).mean()


def relativistic(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Relativistic average GAN (Jolicoeur-Martineau 2019, used by ESRGAN): each against the mean of the other;
    shapes as of `non_saturating`."""
    a, b = real - fake.mean(), fake - real.mean()
    of_discriminator, of_generator = non_saturating(a, b)
    return 0.5 * of_discriminator, 0.5 * (F.softplus(a).mean() + of_generator)


def wgan(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Wasserstein GAN (Arjovsky et al. 2017); a drift term keeps outputs near zero (Karras et al. 2018, ProGAN, A.1)
    instead of clipping (see the module); shapes as of `non_saturating`."""
    return fake.mean() - real.mean() + 1e-3 * real.pow(2).mean(), -fake.mean()


def hinge(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Hinge loss (Lim & Ye 2017), that of projected GANs; shapes as of `non_saturating`."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean(), -fake.mean()


LOSSES = {"non-saturating": non_saturating, "relativistic": relativistic, "wgan": wgan, "hinge": hinge}
PROJECTED = AdversarialConfig(
    "hinge", ratio=0.25, begins=0.05, discriminator=ProjectedConfig(), learning_rate=5e-4, r1=0.0
)
"""The adversarial loss of our recipes. With a ratio of 0.5 LPIPS of GRAIN's decoder stopped falling, and went on
falling with 0.25 (experiments/2026-11.md)."""


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Mean squared norm of the logits' gradient at originals ``[B, 3, H, W]``, float32 throughout; a scalar."""
    real = real.detach().float().requires_grad_(True)
    with torch.autocast(real.device.type, enabled=False):
        logits = discriminator(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.pow(2).sum((1, 2, 3)).mean()


class AdversarialLoss:
    """A discriminator and its optimizer: gives the networks their loss and learns from their pictures."""

    def __init__(self, config: AdversarialConfig, discriminator: nn.Module | None = None) -> None:
        self.config = config
        self.discriminator = discriminator or config.build()
        self.optimizers: list[torch.optim.Optimizer] = []
        self.updates = 0

    def use(self, networks: MetricNetworks) -> None:
        """Give a projected discriminator its frozen features; any other needs none."""
        if isinstance(self.discriminator, ProjectedDiscriminator):
            self.discriminator.features = None if networks.lpips is None else networks.lpips.features

    def generator_loss(self, picture: Tensor, target: Tensor) -> Tensor:
        """The adversarial loss of the networks; gradients reach ``picture`` only."""
        self.discriminator.requires_grad_(False)
        real = fake = self._heads(picture)
        if self.config.loss == "relativistic":  # the only one that compares with originals
            with torch.no_grad():
                real = self._heads(target)
        return self._losses(real, fake)[1]

    def update_discriminator(self, picture: Tensor, target: Tensor, distributed: Distributed) -> dict[str, Tensor]:
        """A step of the discriminator on restored pictures and originals ``[B, 3, S, S]``; returns values to log."""
        self.discriminator.requires_grad_(True)
        parameters = list(self.discriminator.parameters())
        if not self.optimizers:  # beta1 = 0: the pictures change from step to step, so momentum points at the past
            self.optimizers = optimizers(parameters, self.config.learning_rate, 0, 0, betas=(0.0, 0.99))
        real, fake = self._heads(target.detach()), self._heads(picture.detach())
        loss = self._losses(real, fake)[0]
        gap = torch.stack([one.mean() for one in real]).mean() - torch.stack([one.mean() for one in fake]).mean()
        terms = {"discriminator": loss.detach(), "logit_gap": gap.detach()}
        if self.config.r1 and self.updates % R1_EVERY == 0:
            penalty = r1_penalty(self.discriminator, target)
            loss = loss + 0.5 * self.config.r1 * R1_EVERY * penalty
            terms["r1"] = penalty.detach()
        with torch.autocast(target.device.type, enabled=False):  # the penalty's second derivatives, in float32 too
            self.updates += descend(loss, parameters, self.optimizers, self.config.learning_rate, distributed)
        return terms

    def _heads(self, picture: Tensor) -> list[Tensor]:
        """The logits of every head; only a projected discriminator has several."""
        logits = self.discriminator(picture)
        return [logits] if isinstance(logits, Tensor) else logits

    def _losses(self, real: list[Tensor], fake: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Losses of discriminator and generator, averaged over the heads."""
        losses = [LOSSES[self.config.loss](*pair) for pair in zip(real, fake, strict=True)]
        of_discriminator, of_generator = (torch.stack(each).mean() for each in zip(*losses, strict=True))
        return of_discriminator, of_generator


def joint_loss(
    picture: Tensor,
    compare: Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]],
    adversarial: AdversarialLoss | None,
    progress: float,
    originals: Tensor,
    shown: slice = slice(None),
) -> tuple[Tensor, dict[str, Tensor]]:
    """The losses of pictures ``[B, 3, S, S]``, with their adversarial loss once that has begun, and the terms.

    ``compare`` gives the other losses, a scalar and its terms; the discriminator sees the pictures of ``shown`` next to
    ``originals``. With a ratio the result has the value of the other losses and, at ``picture``, their gradient plus
    the adversarial one scaled to ``ratio`` times its norm, so that no fixed weight has to fit both throughout a run;
    Esser et al. 2021 (VQGAN, equation 7) do the same with the gradients at the decoder's last layer.
    """
    if adversarial is None or progress < adversarial.config.begins:
        return compare(picture)
    config = adversarial.config
    seen = picture.detach().requires_grad_(True) if config.ratio else picture
    loss, terms = compare(seen)
    part = adversarial.generator_loss(seen[shown], originals)
    terms = terms | {"adversarial": part.detach()}
    if config.ratio:
        if not loss.requires_grad:
            raise EdgegrainError(
                "adversarial.ratio relates the adversarial loss to the other losses, and none of them is active in "
                "this step; set adversarial.ratio=0, or give one a weight above 0"
            )
        (base,), (other,) = torch.autograd.grad(loss, seen), torch.autograd.grad(part, seen)
        product = (picture * (base + config.ratio * base.norm() / (other.norm() + 1e-8) * other)).sum()
        return loss.detach() + product - product.detach(), terms
    return loss + config.weight * part, terms


class Discriminator(nn.Module):
    """StyleGAN2's discriminator ([StyleGAN2] Section 4.1), residual and as wide as the generator: pictures -> one score
    each, high for real ones. `server_decoder.stylegan2.networks` writes its weights."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        channels = [config.channels(resolution) for resolution in reversed(config.resolutions)]  # fine to coarse
        self.from_rgb = EqualizedConv(3, channels[0], 1)
        self.blocks = nn.Sequential(*(DiscriminatorBlock(a, b) for a, b in zip(channels, channels[1:], strict=False)))
        self.conv = EqualizedConv(channels[-1] + 1, channels[-1], 3)
        self.linear = EqualizedLinear(channels[-1] * 4 * 4, channels[-1])
        self.score = EqualizedLinear(channels[-1], 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Pictures ``[B, 3, size, size]`` in [-1, 1] -> scores ``[B]``, unbounded."""
        x = self.blocks(activate(self.from_rgb(picture)))  # [B, C, 4, 4]
        x = activate(self.conv(minibatch_stddev(x)))
        return self.score(activate(self.linear(x.flatten(1)))).float()[:, 0]


class DiscriminatorBlock(nn.Module):
    """Half the resolution: two convolutions and a skip connection, the sum divided by sqrt(2) for its variance."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv(channels, channels, 3)
        self.conv2 = EqualizedConv(channels, out_channels, 3, down=True)
        self.skip = EqualizedConv(channels, out_channels, 1, down=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.conv2(activate(self.conv1(x))))
        return (y + self.skip(x)) * math.sqrt(0.5)


def minibatch_stddev(x: Tensor) -> Tensor:
    """Append one channel with the deviation between the pictures of a group: ``[B, C, H, W]`` -> ``[B, C + 1, H, W]``.

    The standard deviation over the group, averaged over channels and pixels (Karras et al., arXiv:1710.10196, Section
    3). `GROUP` shrinks to the next divisor of B. With n groups, pictures j, j + n, j + 2n, ... are one group.
    """
    batch, channels, height, width = x.shape
    group = next(count for count in range(min(GROUP, batch), 0, -1) if batch % count == 0)
    wide = torch.promote_types(x.dtype, torch.float32)
    groups = x.to(wide).reshape(group, batch // group, channels, height, width)
    spread = (groups.var(0, correction=0) + EPSILON).sqrt().mean((1, 2, 3))  # [n]
    spread = spread.to(x.dtype).repeat(group).reshape(batch, 1, 1, 1)
    return torch.cat([x, spread.expand(-1, -1, height, width)], dim=1)


def load_discriminator(path: Path, config: StyleGAN2Config | None = None) -> Discriminator:
    """A discriminator from a weight file; ``config`` has the expected size and channels."""
    stored, state = load_state(path, "discriminator")
    sizes = operator.attrgetter("size", "channel_base", "channel_max")
    if config is not None and sizes(config) != sizes(stored):
        raise ModelError(f"{path} holds a discriminator of {stored}, expected {config}")
    discriminator = described_network(path, lambda: Discriminator(stored))
    fill(discriminator, state, path)
    return discriminator
