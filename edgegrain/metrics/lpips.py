"""The perceptual distances on features of ImageNet networks: LPIPS and DISTS.

LPIPS is the learned perceptual distance (Zhang et al., CVPR 2018), version 0.1, with AlexNet or VGG16 features. A test
in `tests/parity` compares it with the distances that its authors publish for their example pictures.

DISTS is the similarity of structure and texture (Ding et al., IEEE TPAMI 44(5), 2022, arXiv:2004.07728): feature maps
of VGG16 are compared by their means (texture) and by their covariances (structure). No training loss of this project
uses it. The weights of the terms, alpha and beta, are those that its authors learned from human judgements and publish
as `dists-pytorch`; the library itself needs torchvision for its VGG16, so `DISTS` takes the VGG16 of LPIPS. A test
compares it with torchmetrics' copy of the library.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError
from edgegrain.metrics.weights import LPIPS_FILES, weight_file

# Input normalization of the published LPIPS weights (their ScalingLayer), for pictures in [-1, 1].
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# (stride, padding) of AlexNet's convolutions; a 3x3 max pool of stride 2 precedes the second and the third.
ALEX = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
# VGG16: the convolutions whose output is compared; a 2x2 max pool follows each of the first four.
VGG_TAPS = (1, 3, 6, 9, 12)

PERIOD = 8  # period of AlexNet's first layers in pixels: a stride of 4, then one of 2

Pool = Callable[[Tensor], Tensor]
max_pool: Pool = functools.partial(F.max_pool2d, kernel_size=2, stride=2)  # VGG16's pooling


class LPIPS(nn.Module):
    """Perceptual distance between batches of pictures: 0 for equal ones, about 1 for unrelated ones.

    ``weights`` is the folder with the weight files, ``net`` is ``"alex"`` or ``"vgg"``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, weights: str | Path, net: str = "alex") -> None:
        super().__init__()
        self.net = net
        with weight_file(weights, LPIPS_FILES[net]) as path:
            tensors = load_file(path)
        for name, tensor in tensors.items():
            if name.endswith(".scale"):
                continue
            if name + ".scale" in tensors:  # int8 storage, one scale per output channel
                tensor = tensor.float() * tensors[name + ".scale"]
            if tensor.dim() == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            self.register_buffer(name.replace(".", "_"), tensor)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    def features(self, picture: Tensor) -> list[Tensor]:
        """Unit-normalized features of five layers of ``[B, 3, H, W]`` pictures in [-1, 1]."""
        return normalize(self.activations(picture))

    def activations(self, picture: Tensor, pool: Pool = max_pool) -> list[Tensor]:
        """The same layers ``[B, C, h, w]`` without normalization, after the ReLU; ``pool`` halves VGG16's sides."""
        x, maps = ((picture - self.shift) / self.scale).contiguous(memory_format=torch.channels_last), []
        if self.net == "alex":
            for index, (stride, padding) in enumerate(ALEX):
                x = self._conv(F.max_pool2d(x, 3, 2) if index in (1, 2) else x, index, stride, padding)
                maps.append(x)
            return maps
        for index in range(VGG_TAPS[-1] + 1):
            x = self._conv(pool(x) if index - 1 in VGG_TAPS else x, index, 1, 1)
            if index in VGG_TAPS:
                maps.append(x)
        return maps

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        """Distances ``[B]`` between pictures in [-1, 1], float32."""
        return self.distance(self.features(picture), self.features(target))

    def off_grid(self, picture: Tensor, target: Tensor) -> Tensor:
        """Mean of the distances ``[B]`` of pictures in [-1, 1] shifted by 1, 2 ... 7 pixels down and right.

        Close to `forward` unless errors repeat every eight pixels. A decoder trained with LPIPS at one phase of the
        grid overfits to that phase, and is worse at all others.
        """
        return torch.stack(
            [self(cropped(picture, (first, first)), cropped(target, (first, first))) for first in range(1, PERIOD)]
        ).mean(0)

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distances ``[B]`` between two results of `features`."""
        total = torch.zeros(a[0].shape[0], device=a[0].device)
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            head = getattr(self, f"lin{index}_weight").view(1, -1, 1, 1)
            total = total + ((x - y).pow(2) * head).sum(1).mean((1, 2))
        return total

    def _conv(self, x: Tensor, index: int, stride: int, padding: int) -> Tensor:
        weight, bias = getattr(self, f"conv{index}_weight"), getattr(self, f"conv{index}_bias")
        return F.relu(F.conv2d(x, weight, bias, stride=stride, padding=padding))


def cropped(picture: Tensor, offset: Sequence[int] | None) -> Tensor:
    """Pictures ``[B, C, H, W]`` without `PERIOD` rows and columns, from ``offset`` on; None keeps the whole picture."""
    if offset is None:
        return picture
    rows, columns = (slice(first, first + size - PERIOD) for first, size in zip(offset, picture.shape[2:], strict=True))
    return picture[..., rows, columns]


def normalize(activations: list[Tensor]) -> list[Tensor]:
    """Layers ``[B, C, h, w]`` in float32, with feature vectors of length 1 at every position."""
    return [m.float() / (m.float().pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for m in activations]


C1, C2 = 1e-6, 1e-6  # the stabilizing constants of equations 3 and 4


class DISTS(nn.Module):
    """Distance between pictures: 0 for equal ones, at most about 1; on the convolutions of an LPIPS with VGG16."""

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
        """The compared maps ``[B, C, h, w]`` of ``[B, 3, H, W]`` pictures in [-1, 1]: the picture itself, then VGG16's
        relu1_2 to relu5_3."""
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
        return 1 - (torch.cat(texture, 1) @ self.alpha + torch.cat(structure, 1) @ self.beta)


def l2_pool(x: Tensor) -> Tensor:
    """Root of the blurred squares at every second position: equation 1, with a 3x3 Hann window."""
    taps = torch.from_numpy(np.hanning(5)[1:-1]).to(x)
    window = torch.outer(taps, taps) / taps.sum() ** 2
    squares = F.conv2d(x**2, window.expand(x.shape[1], 1, 3, 3), stride=2, padding=1, groups=x.shape[1])
    return (squares + 1e-12).sqrt()


def learned_weights() -> tuple[Tensor, Tensor]:
    """Alpha and beta, each ``[1475]``, one value per channel of all maps."""
    try:
        path = distribution("dists-pytorch").locate_file("DISTS_pytorch/weights.pt")
        weights = torch.load(str(path), weights_only=True)
    except (PackageNotFoundError, FileNotFoundError) as error:
        raise EdgegrainError("DISTS needs the weights of dists-pytorch; run: pip install 'edgegrain[eval]'") from error
    return weights["alpha"].flatten(), weights["beta"].flatten()
