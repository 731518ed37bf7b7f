"""All scores of a picture against its original, from uint8 pictures: what reports are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgegrain.contract.quantization import dequantize
from edgegrain.evaluation.identity import FaceIdentity
from edgegrain.evaluation.lpips import LPIPS
from edgegrain.evaluation.metrics import Picture, psnr, ssim


@dataclass(frozen=True)
class Scores:
    """How far a picture is from its original.

    Attributes:
        psnr: dB, higher is better.
        ssim: at most 1, higher is better.
        lpips_alex, lpips_vgg: perceptual distance, lower is better.
        identity: distance of dlib's face descriptors, lower is better; below 0.6 is the same person to dlib. Means
            something for square frames aligned like FFHQ's only.
    """

    psnr: float
    ssim: float
    lpips_alex: float
    lpips_vgg: float
    identity: float


class Judge:
    """Scores pictures against one original after the other; opens the networks once.

    Args:
        weights: folder with the weight files of LPIPS and the identity network.

    Raises:
        EdgegrainError: a weight file is absent.
    """

    def __init__(self, weights: str | Path) -> None:
        self._alex = LPIPS(weights, "alex")
        self._vgg = LPIPS(weights, "vgg")
        self._identity = FaceIdentity(weights)

    @torch.inference_mode()
    def lpips_alex(self, picture: Picture, original: Picture) -> float:
        """LPIPS-Alex of two uint8 ``[H, W, 3]``."""
        return self._alex(unit_batch(picture), unit_batch(original)).item()

    @torch.inference_mode()
    def scores(self, picture: Picture, original: Picture) -> Scores:
        """All scores of two uint8 ``[H, W, 3]``.

        Raises:
            ImageError: the pictures are not uint8 RGB of one size.
        """
        x, target = unit_batch(picture), unit_batch(original)
        return Scores(psnr(picture, original), ssim(picture, original), self._alex(x, target).item(),
                      self._vgg(x, target).item(), self._identity.distance(x, target).item())


def unit_batch(picture: Picture) -> Tensor:
    """uint8 ``[H, W, 3]`` -> float32 ``[1, 3, H, W]`` in [-1, 1]."""
    values: Tensor = dequantize(torch.tensor(picture).permute(2, 0, 1)[None].float())
    return values
