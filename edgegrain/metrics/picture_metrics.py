"""All full-reference scores of uint8 pictures, computed by one set of metric networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.errors import DeviceError
from codec_contract.quantization import dequantize, quantize
from codec_contract.rgb import Rgb
from edgegrain.metrics.dists import DISTS
from edgegrain.metrics.identity import FaceIdentity
from edgegrain.metrics.kid import Features
from edgegrain.metrics.lpips import LPIPS, normalize
from edgegrain.metrics.mobileface import MobileFace
from edgegrain.metrics.psnr_ssim import psnr, ssim

FEATURE_SIZE = 256
"""Side of the square that KID's feature network sees."""


@dataclass(frozen=True)
class Scores:
    """Distances of a picture from its original; None for a score that was not measured.

    Attributes:
        psnr: dB, higher is better; inf for equal pictures.
        ssim: at most 1, higher is better.
        lpips_alex: perceptual distance, 0 to about 1, lower is better.
        lpips_vgg: the same with VGG16's features.
        identity: distance of dlib's face descriptors, lower is better; below 0.6 is the same person to dlib. Only
            meaningful for square frames aligned like FFHQ's.
        dists: similarity of structure and texture, 0 to about 1, lower is better.
        identity_mobileface: one minus the cosine of MobileFace's descriptors, lower is better; only meaningful for the
            same frames.
    """

    psnr: float
    ssim: float
    lpips_alex: float
    lpips_vgg: float | None = None
    identity: float | None = None
    dists: float | None = None
    identity_mobileface: float | None = None


class Metrics:
    """The metric networks, opened once.

    Args:
        weights: folder with the weight files of LPIPS and the identity networks.
        device: ``"cpu"`` or ``"cuda"``.
        faces: true for aligned faces, whose identity distance is measured too.

    Raises:
        EdgegrainError: a weight file or the package of DISTS is missing.
        DeviceError: torch finds no such device.
    """

    def __init__(self, weights: str | Path, *, device: str = "cpu", faces: bool = True) -> None:
        if device != "cpu" and not torch.cuda.is_available():
            raise DeviceError(f"the metrics cannot run on {device}: torch finds no GPU; use --device cpu")
        self.device = torch.device(device)
        self.alex = LPIPS(weights, "alex").to(self.device)
        self.vgg = LPIPS(weights, "vgg").to(self.device)
        self.dists = DISTS(self.vgg).to(self.device)
        self.identity = FaceIdentity(weights).to(self.device) if faces else None
        self.mobileface = MobileFace(weights) if faces else None

    def against(self, original: Rgb) -> Reference:
        """The reference that pictures are scored against, from uint8 ``[H, W, 3]``."""
        return Reference(self, original)


class Reference:
    """One original with its features, which are computed once.

    Attributes:
        original: uint8 ``[H, W, 3]``.
        features: float32 ``[512]``, the original's features for KID.
    """

    @torch.inference_mode()
    def __init__(self, metrics: Metrics, original: Rgb) -> None:
        self.original = original
        self._metrics = metrics
        batch = self._batch(original)
        self._alex = metrics.alex.features(batch)
        activations = metrics.vgg.activations(batch)
        self._vgg = normalize(activations)
        self._dists = metrics.dists.features(batch)
        self._descriptors = self._face_descriptors(batch)
        self.features = self._kid_features(batch, activations)

    @torch.inference_mode()
    def lpips_alex(self, picture: Rgb) -> float:
        """LPIPS-Alex of a uint8 ``[H, W, 3]``."""
        return self._metrics.alex.distance(self._metrics.alex.features(self._batch(picture)), self._alex).item()

    @torch.inference_mode()
    def lpips_alex_off_grid(self, picture: Rgb) -> float:
        """`LPIPS.off_grid` of a uint8 ``[H, W, 3]``, with AlexNet."""
        return self._metrics.alex.off_grid(self._batch(picture), self._batch(self.original)).item()

    @torch.inference_mode()
    def quick_scores(self, picture: Rgb) -> Scores:
        """All scores of a uint8 ``[H, W, 3]`` except those of VGG16, which takes ten times as long as the others.

        Raises:
            ImageError: the picture is not uint8 RGB of the original's size.
        """
        scores = Scores(psnr(picture, self.original), ssim(picture, self.original), self.lpips_alex(picture))
        found = self._face_descriptors(self._batch(picture))
        if found is None or self._descriptors is None:
            return scores
        (dlib, mobileface), (dlib_of_original, mobileface_of_original) = found, self._descriptors
        return replace(scores, identity=(dlib - dlib_of_original).pow(2).sum().sqrt().item(),
                       identity_mobileface=1 - (mobileface * mobileface_of_original).sum().item())

    @torch.inference_mode()
    def scores(self, picture: Rgb) -> tuple[Scores, Features]:
        """All scores of a uint8 ``[H, W, 3]``, and its features for KID, float32 ``[512]``.

        Raises:
            ImageError: the picture is not uint8 RGB of the original's size.
        """
        scores = self.quick_scores(picture)
        batch = self._batch(picture)
        activations = self._metrics.vgg.activations(batch)
        distance = self._metrics.vgg.distance(normalize(activations), self._vgg).item()
        dists = max(0.0, self._metrics.dists.distance(self._metrics.dists.features(batch), self._dists).item())
        return replace(scores, lpips_vgg=distance, dists=dists), self._kid_features(batch, activations)

    def _batch(self, picture: Rgb) -> Tensor:
        return unit_batch(picture).to(self._metrics.device)

    def _face_descriptors(self, batch: Tensor) -> tuple[Tensor, Tensor] | None:
        """Of dlib's network and of MobileFace; None off faces."""
        if self._metrics.identity is None or self._metrics.mobileface is None:
            return None
        return self._metrics.identity(batch), self._metrics.mobileface(batch)

    def _kid_features(self, batch: Tensor, activations: list[Tensor]) -> Features:
        """Spatial mean of VGG16's last activations; those for LPIPS are reused if the picture has the right size."""
        if batch.shape[-2:] != (FEATURE_SIZE, FEATURE_SIZE):
            square = F.interpolate(batch, (FEATURE_SIZE, FEATURE_SIZE), mode="bicubic", antialias=True,
                                   align_corners=False)
            activations = self._metrics.vgg.activations(square.clamp(-1, 1))
        features: Features = activations[-1].mean((2, 3))[0].cpu().numpy()
        return features


def unit_batch(picture: Rgb) -> Tensor:
    """uint8 ``[H, W, 3]`` -> float32 ``[1, 3, H, W]`` in [-1, 1]."""
    values: Tensor = dequantize(torch.tensor(picture).permute(2, 0, 1)[None].float())
    return values


def first_picture(batch: Tensor) -> Rgb:
    """float ``[B, 3, H, W]`` in [-1, 1] -> uint8 ``[H, W, 3]``, the first of the batch."""
    return quantize(batch[0].permute(1, 2, 0).numpy())
