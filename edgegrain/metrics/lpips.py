"""LPIPS, the learned perceptual distance (Zhang et al., CVPR 2018), version 0.1, with AlexNet or VGG16 features.

A test in `tests/parity` compares it with the distances that its authors publish for their example pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from codec_contract.errors import ModelError
from edgegrain.metrics.weights import LPIPS_FILES, readable

# Input normalization of the published LPIPS weights (their ScalingLayer), for pictures in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
# (stride, padding) of AlexNet's convolutions; a 3x3 max pool of stride 2 precedes the second and the third.
ALEX = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
# VGG16: the convolutions whose output is compared; a 2x2 max pool follows each of the first four.
VGG_TAPS = (1, 3, 6, 9, 12)

PERIOD = 8
"""Period of AlexNet's first layers in pixels: a stride of 4, then one of 2."""

Pool = Callable[[Tensor], Tensor]


def max_pool(x: Tensor) -> Tensor:
    """VGG16's pooling: the maximum of 2x2 positions."""
    return F.max_pool2d(x, 2, 2)


class LPIPS(nn.Module):
    """Perceptual distance between batches of pictures: 0 for equal ones, about 1 for unrelated ones.

    Args:
        weights: folder with the weight files, or one file.
        net: ``"alex"`` or ``"vgg"``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, weights: str | Path, net: str = "alex") -> None:
        super().__init__()
        path = Path(weights)
        path = path / LPIPS_FILES[net] if path.is_dir() else path
        if not path.is_file():
            raise ModelError(
                f"no LPIPS weights at {path}; pass --weights with the folder that holds {LPIPS_FILES[net]}")
        self.net = net
        with readable(path):
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
        """The same layers ``[B, C, h, w]`` without normalization, after the ReLU.

        Args:
            picture: ``[B, 3, H, W]`` in [-1, 1].
            pool: halves the sides between VGG16's stages; AlexNet keeps its own.
        """
        x = ((picture - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        return self._alex(x) if self.net == "alex" else self._vgg(x, pool)

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        """Distances ``[B]`` between pictures in [-1, 1], float32."""
        return self.distance(self.features(picture), self.features(target))

    def off_grid(self, picture: Tensor, target: Tensor) -> Tensor:
        """Mean of the distances ``[B]`` of pictures in [-1, 1] shifted by 1, 2 ... 7 pixels down and right.

        Close to `forward` unless errors repeat every eight pixels. A decoder trained with LPIPS at one phase of the
        grid overfits to that phase, and is worse at all others.
        """
        return torch.stack([self(cropped(picture, (first, first)), cropped(target, (first, first)))
                            for first in range(1, PERIOD)]).mean(0)

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

    def _alex(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, (stride, padding) in enumerate(ALEX):
            if index in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = self._conv(x, index, stride, padding)
            maps.append(x)
        return maps

    def _vgg(self, x: Tensor, pool: Pool) -> list[Tensor]:
        maps = []
        for index in range(13):
            x = self._conv(x, index, 1, 1)
            if index in VGG_TAPS:
                maps.append(x)
                if index < VGG_TAPS[-1]:
                    x = pool(x)
        return maps


def cropped(picture: Tensor, offset: Sequence[int]) -> Tensor:
    """Pictures ``[B, C, H, W]`` with `PERIOD` rows and columns fewer, so that LPIPS sees them at another phase.

    Args:
        picture: larger than a period.
        offset: first row and first column that are kept, 0...`PERIOD`.
    """
    rows, columns = (slice(first, first + size - PERIOD) for first, size in zip(offset, picture.shape[2:], strict=True))
    return picture[..., rows, columns]


def normalize(activations: list[Tensor]) -> list[Tensor]:
    """Layers ``[B, C, h, w]`` in float32, with feature vectors of length 1 at every position."""
    return [m.float() / (m.float().pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for m in activations]
