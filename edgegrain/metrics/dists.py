"""DISTS, the similarity of structure and texture (Ding et al., IEEE TPAMI 44(5), 2022, arXiv:2004.07728).

Feature maps of VGG16 are compared by their means (texture) and by their covariances (structure). No training loss of
this project uses it. The weights of the terms, alpha and beta, are those that its authors learned from human judgements
and publish as `dists-pytorch`; the library itself needs torchvision for its VGG16, so this file takes the VGG16 of
LPIPS. A test compares it with torchmetrics' copy of the library.
"""

from __future__ import annotations

import hashlib
import io
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError
from edgegrain.metrics.lpips import LPIPS

PACKAGE = "dists-pytorch"
WEIGHTS = "DISTS_pytorch/weights.pt"
"""The package's file with alpha and beta."""
WEIGHTS_SHA256 = "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218"
CHANNELS = (3, 64, 128, 256, 512, 512)
"""Channels of the compared maps: the picture itself, then VGG16's relu1_2 to relu5_3."""
C1, C2 = 1e-6, 1e-6  # the stabilizing constants of equations 3 and 4


class DISTS(nn.Module):
    """Distance between pictures: 0 for equal ones, at most about 1.

    Args:
        vgg: LPIPS with VGG16, whose convolutions are used; not copied.
    """

    alpha: Tensor
    beta: Tensor

    def __init__(self, vgg: LPIPS) -> None:
        super().__init__()
        self.vgg = vgg
        alpha, beta = learned_weights()
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha / total)
        self.register_buffer("beta", beta / total)

    def features(self, picture: Tensor) -> list[Tensor]:
        """The compared maps ``[B, C, h, w]`` of ``[B, 3, H, W]`` pictures in [-1, 1]."""
        return [(picture + 1) / 2, *self.vgg.activations(picture, l2_pool)]

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        """Distances ``[B]`` between pictures in [-1, 1]."""
        return self.distance(self.features(picture), self.features(target))

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distances ``[B]`` between two results of `features`: equation 6, with l and s of equations 3 and 4."""
        texture, structure = [], []
        for x, y in zip(a, b, strict=True):
            mean_x, mean_y = x.mean((2, 3)), y.mean((2, 3))
            texture.append((2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1))
            covariance = (x * y).mean((2, 3)) - mean_x * mean_y
            variances = x.var((2, 3), correction=0) + y.var((2, 3), correction=0)
            structure.append((2 * covariance + C2) / (variances + C2))
        similarity: Tensor = torch.cat(texture, 1) @ self.alpha + torch.cat(structure, 1) @ self.beta
        return 1 - similarity


def l2_pool(x: Tensor) -> Tensor:
    """Root of the blurred squares at every second position: equation 1, with a 3x3 Hann window."""
    taps = torch.from_numpy(np.hanning(5)[1:-1]).to(x)
    window = torch.outer(taps, taps) / taps.sum() ** 2
    squares = F.conv2d(x**2, window.expand(x.shape[1], 1, 3, 3), stride=2, padding=1, groups=x.shape[1])
    return (squares + 1e-12).sqrt()


def learned_weights() -> tuple[Tensor, Tensor]:
    """Alpha and beta, each ``[1475]``, one value per channel of all maps."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(WEIGHTS)))
        content = path.read_bytes()
    except (PackageNotFoundError, FileNotFoundError) as error:
        raise EdgegrainError(f"DISTS needs the weights of {PACKAGE}; install: pip install 'edgegrain[eval]'") from error
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        raise EdgegrainError(f"{path} does not hold the weights of {PACKAGE} 0.1 (expected SHA-256 {WEIGHTS_SHA256}); "
                             f"install: pip install '{PACKAGE}==0.1'")
    weights = torch.load(io.BytesIO(content), weights_only=True)
    return weights["alpha"].flatten(), weights["beta"].flatten()
