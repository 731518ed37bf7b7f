"""Metrics that need no networks: gradients stand for perceptual distances, pixels for features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edgegrain.metrics.picture_metrics import Scores
from edgegrain.metrics.pixel_scores import psnr, ssim

PHOTOGRAPHS = {"photographs": 36, "bytes": 334.4, "identity": 0.4313, "identity_mobileface": 0.198}
PHOTOGRAPHS |= {"above": 1 / 36, "missed": 2, "empty": 38, "invented": 1}
"""The scores of photographs in a summary."""


class GradientMetrics:
    """Takes the place of `edgegrain.metrics.picture_metrics.PictureMetrics`; ``asked`` counts the originals."""

    asked = 0

    def __init__(self, weights: str | Path = "", *, device: str = "cpu", faces: bool = False) -> None:
        self.identity = object() if faces else None
        self.device = torch.device(device)

    def against(self, original: np.ndarray) -> GradientReference:
        GradientMetrics.asked += 1
        return GradientReference(original, faces=self.identity is not None)


class GradientReference:
    """One original."""

    def __init__(self, original: np.ndarray, *, faces: bool) -> None:
        self.original = original
        self.features = {"kid": pooled(original)}
        self._identity = 0.5 if faces else None

    def lpips_alex(self, picture: np.ndarray) -> float:
        gradients = [np.diff(rgb.astype(float), axis=0) for rgb in (picture, self.original)]
        return float(np.abs(gradients[0] - gradients[1]).mean())

    def quick_scores(self, picture: np.ndarray) -> Scores:
        pixels = psnr(picture, self.original), ssim(picture, self.original)
        return Scores(*pixels, self.lpips_alex(picture), None, self._identity, None, self._identity)

    def scores(self, picture: np.ndarray) -> tuple[Scores, dict[str, np.ndarray]]:
        quick = self.quick_scores(picture)
        return replace(quick, lpips_vgg=2 * quick.lpips_alex, dists=quick.lpips_alex / 2), {"kid": pooled(picture)}


def pooled(rgb: np.ndarray) -> np.ndarray:
    """float32 [1, D]: every eighth pixel, in [0, 1]."""
    return (rgb[::8, ::8].reshape(1, -1) / 255).astype(np.float32)
