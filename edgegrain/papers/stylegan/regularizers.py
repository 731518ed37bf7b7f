"""Regularization of StyleGAN2's training: path lengths, and optimizers for lazy regularization.

R1 is `edgegrain.training.adversarial.r1_penalty`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgegrain.training.losses import running_mean

# Rate of the running mean of the path length ([StyleGAN2] Appendix B: beta_pl = 0.99).
PATH_RATE = 0.01


def path_lengths(picture: Tensor, codes: Tensor, noise: Tensor | None = None) -> Tensor:
    """Path lengths, the change of a picture by a step in W+: ``|J^T y|`` for random pictures y ([StyleGAN2] 3.2).

    The length is divided by the square root of the number of pixels and codes, so that it grows with neither, and the
    paper's weight ``ln 2 / (r^2 (ln r - ln 2))`` is 2 whatever the resolution r: a generator at r has
    ``2 (ln r - ln 2) / ln 2`` codes.

    Args:
        picture: ``[B, 3, r, r]``, made of ``codes`` with gradients enabled.
        codes: ``[B, L, code_width]``.
        noise: y, shaped like the picture; None draws it from N(0, 1).

    Returns:
        ``[B]``, differentiable.
    """
    noise = torch.randn_like(picture) if noise is None else noise
    (gradient,) = torch.autograd.grad((picture * noise).sum(), codes, create_graph=True)
    pixels, layers = picture.shape[2] * picture.shape[3], codes.shape[1]
    return (gradient.float().pow(2).sum((1, 2)) / (pixels * layers)).sqrt()


class PathLength:
    """The penalty on path lengths that differ from their own running mean ([StyleGAN2] Eq. 4).

    Attributes:
        mean: a, the running mean; 0 at first, or the value of a resumed run.
    """

    def __init__(self, mean: float = 0.0) -> None:
        self.mean = torch.tensor(mean)

    def penalty(self, lengths: Tensor) -> Tensor:
        """Mean squared deviation of lengths ``[B]`` from the running mean, after updating the mean with them."""
        self.mean = running_mean(self.mean.to(lengths.device), lengths.detach().mean(), 1 - PATH_RATE)
        return (lengths - self.mean).pow(2).mean()


def lazy_adam(parameters: Iterable[nn.Parameter], learning_rate: float, every: int,
              betas: tuple[float, float] = (0.0, 0.99)) -> torch.optim.Adam:
    """Adam for a network whose regularizer has its own step every ``every`` steps; 0 for no regularizer.

    k = ``every`` steps of the loss and one of the regularizer move the weights as k steps of their sum would: with
    ``c = k / (k + 1)`` the learning rate is multiplied by c, and the decay rates are raised to the power of c
    ([StyleGAN2] Appendix B).
    """
    c = every / (every + 1) if every else 1.0
    return torch.optim.Adam(parameters, lr=learning_rate * c, betas=(betas[0] ** c, betas[1] ** c), eps=1e-8)
