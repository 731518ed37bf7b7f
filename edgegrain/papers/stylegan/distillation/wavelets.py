"""The Haar bands of pictures, in which MobileStyleGAN is compared with its teacher (arXiv:2104.04767)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def haar(picture: Tensor) -> Tensor:
    """Orthonormal Haar transform, ``[B, C, 2H, 2W]`` -> ``[B, 4C, H, W]``.

    The inverse of `server_decoder.mobile_stylegan.generator.inverse_haar` up to a factor of two: bands ll, b1 (rows),
    b2 (columns), b3 (diagonals), C channels each.
    """
    a, b = picture[..., ::2, ::2], picture[..., ::2, 1::2]
    c, d = picture[..., 1::2, ::2], picture[..., 1::2, 1::2]
    return 0.5 * torch.cat([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], 1)


def band_loss(picture: Tensor, target: Tensor) -> Tensor:
    """Mean absolute plus mean squared difference of the Haar bands of two pictures ``[B, 3, S, S]``.

    The target may be larger; it is averaged down to the picture.
    """
    if target.shape != picture.shape:
        target = F.adaptive_avg_pool2d(target, picture.shape[-1])
    difference = haar(picture.float()) - haar(target.float())
    return difference.abs().mean() + difference.pow(2).mean()
