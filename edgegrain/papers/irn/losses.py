"""The losses of IRN and IRN+ ([IRN], section 3.3 and appendix 1), and the discriminator T of IRN+ (appendix 2).

Losses are scalars; pictures are ``[B, 3, H, W]`` in [0, 1]. Sums over a picture, as in the authors' public code: with
y a factor^2 smaller than x, lambda_2 = 16 weighs an error per pixel of y at 4x as much as one per pixel of x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.pixels import dequantize
from edgegrain.metrics.lpips import LPIPS, PERIOD


def reconstruction_loss(restored: Tensor, picture: Tensor) -> Tensor:
    """L_recon: the absolute error, summed over a picture."""
    return (restored - picture).abs().sum((1, 2, 3)).mean()


def guide_loss(y: Tensor, picture: Tensor) -> Tensor:
    """L_guide: the squared error of y against the bicubic reduction of the picture, summed over y."""
    return (y - bicubic_reduction(picture, y.shape[-1])).pow(2).sum((1, 2, 3)).mean()


def bicubic_reduction(picture: Tensor, side: int) -> Tensor:
    """Antialiased bicubic reduction of a square ``[B, 3, S, S]`` to ``side``, in [0, 1]."""
    small = F.interpolate(picture, (side, side), mode="bicubic", antialias=True, align_corners=False)
    return small.clamp(0, 1)


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


def perceptual_loss(features: LPIPS, restored: Tensor, picture: Tensor) -> Tensor:
    """Mean absolute difference of VGG16's last activations; the public code takes VGG19's."""
    with torch.no_grad():
        wanted = features.activations(dequantize(255 * picture))[-1]
    return (features.activations(dequantize(255 * restored))[-1] - wanted).abs().mean()


def lpips_loss(features: LPIPS, restored: Tensor, picture: Tensor) -> Tensor:
    """LPIPS with VGG16, averaged over the batch, without the first rows and columns: 0 to 7 of each, drawn at random.

    Without this crop, the loss would be lowest for a texture that repeats with the network's grid.
    """
    rows, columns = torch.randint(PERIOD, (2,)).tolist()
    return features(*(dequantize(255 * one[..., rows:, columns:]) for one in (restored, picture))).mean()


NEGATIVE_SLOPE = 0.2


class IRNDiscriminator(nn.Module):
    """Crops ``[B, 3, S, S]`` in [0, 1] -> logits ``[B]``, high for real ones.

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
