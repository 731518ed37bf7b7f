"""`RefiningCodec`: a codec that searches for the LR that restores best, beginning with the encoder's.

The encoder computes an LR in one pass, the same on every device. Gradient descent on the levels of a single picture's
LR, through the decoder, finds an LR that restores better and takes no more bytes. It closes a part of the encoder's
"amortization gap" (Yang, Bamler, Mandt, "Improving inference for neural image compression", 2020); Campos et al.,
"Content adaptive optimization for neural image compression", 2019, did it first. The payload is an ordinary one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import BundleError
from codec_contract.fit import Fit
from codec_contract.lr_coder.level_step import to_indices, to_levels
from codec_contract.quantization import dequantize
from codec_contract.rgb import Rgb
from edge_encoder.preprocessing import PictureSource
from edgegrain.metrics.metric_weights import find_metric_weights
from edgegrain.refinement.payload_bits import PayloadBits
from edgegrain.training.distributed import mixed_precision
from edgegrain.training.levels import picture_levels
from edgegrain.training.losses import LossWeights, picture_loss, random_offset
from edgegrain.training.metric_networks import MetricNetworks
from export.decoder.sources import bundle_decoder
from sdk import Codec, Payload
from sdk.align_or_fit import Fitted
from sdk.batches import position_in_batch
from server_decoder.decoder_session import Device

STEPS = 40
"""Default number of steps of the search."""
LEARNING_RATE = 0.2
"""Root mean square of the first steps, in the bundle's steps of levels, divided by the square root of that step."""
MOMENTUM, POWER = 0.9, 0.95
"""Decay of the running means of the gradient and of its mean square, as Adam's."""
DITHER = 0.9
"""The search begins with the encoder's levels plus uniform noise of this width, less than one level: so the levels that
the loss pulls at most pass the next threshold of the rounding first, not all at once."""
FACES = LossWeights(l1=2.5, region_gain=3.0, lpips=1.0, regions=0.3, identity=0.1, lr=0.0)
"""Losses of the picture for faces: those that the published decoders were trained with, but more absolute error, which
raises PSNR by 0.4 dB and LPIPS by 2 %."""
PICTURES = LossWeights(l1=2.5, lpips=1.0, identity=0.0, lr=0.0)
"""For other domains."""
BIT_PRICE, BIT_PRICE_ABOVE = 0.004, 0.25
"""Price of a bit per sample of the LR while the payload is expected to fit, and while it is not."""
LAST = 1 / 3
"""The part of the steps, at the end, whose LRs may be the result."""
REVISION = 1
"""Version of the search; increased when the same picture would get another LR."""
_KEPT = 1024  # LRs that are not searched again: reports draw the pictures that they measured


class RefiningCodec(Codec):
    """A `sdk.Codec` whose payloads hold the LRs of a search; everything else is the same.

    The same picture gets the same payload on one machine; on another one floating point may lead to another LR.

    Args:
        bundle, device, threads: as for `sdk.Codec`; the device is PyTorch's too.
        steps: of the search, 1 or more. A step takes as long as a step of training with one picture.
        weights: folder with the weights of LPIPS and, for faces, of the identity network; None for those of
            ``edgegrain metrics fetch``.
        report: called after each step with the finished part of a search, 0...1.

    Raises:
        BundleError, DeviceError: as `sdk.Codec`; or the bundle's decoder is none of GRAIN.
        ModelError: the weights are missing.
        ValueError: ``steps`` is below 1.
    """

    def __init__(self, bundle: str | Path = "faces", *, steps: int = STEPS, weights: Path | None = None,
                 device: Device = "cpu", threads: int | None = None, report: Callable[[float], None] | None = None
                 ) -> None:
        super().__init__(bundle, device, threads)
        if steps < 1:
            raise ValueError(f"a search has at least 1 step, got {steps}")
        if self._tiled:
            raise BundleError(f"bundle {self.bundle.id} encodes photographs in tiles, which cannot be refined")
        manifest = load_manifest(self.bundle.folder)  # its default decoder, not the form for CUDA
        faces = self.bundle.domain == "faces"
        self._steps, self._report = steps, report
        self._torch_device = torch.device(device)
        self._losses = FACES if faces else PICTURES
        self._torch_decoder = bundle_decoder(manifest).requires_grad_(False).to(self._torch_device)
        self._networks = MetricNetworks.load(find_metric_weights(weights, faces=faces), self._torch_device, faces=faces)
        self._level_step = self._open.tables.step
        self._bits = PayloadBits(self._open.tables, manifest.lr, manifest.lr).to(self._torch_device)
        self._found: dict[bytes, Rgb] = {}

    def compress_fitted(self, fitted: Fitted) -> Payload:
        """The payload of the best LR found; of the encoder's LR, if none is better at no more bytes."""
        key = hashlib.sha256(fitted.rgb.tobytes()).digest()
        if key not in self._found:
            if len(self._found) == _KEPT:
                self._found.clear()
            self._found[key] = self._search(fitted)
        return self.pack(self._found[key], fitted)

    def compress_batch(self, pictures: Iterable[PictureSource], fit: Fit = "pad", **options: Any) -> list[Payload]:
        """Compress pictures one after the other; arguments and errors as `sdk.Codec.compress_batch`."""
        payloads = []
        for index, picture in enumerate(pictures):
            with position_in_batch("picture", index):
                payloads.append(self.compress(picture, fit, **options))
        return payloads

    def _search(self, fitted: Fitted) -> Rgb:
        start = super().compress_fitted(fitted)
        target = dequantize(picture_levels(fitted.rgb, self._torch_device))
        first = picture_levels(to_indices(start.lr, self._level_step), self._torch_device)
        with torch.no_grad():
            frame = 8 * len(start) - self._bits(first).item()  # bits around the body
        best, lowest = start.lr, math.inf
        direction, power = torch.zeros_like(first), 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of the noise, and of the offsets of LPIPS
            indices = first + DITHER * (torch.rand(first.shape) - 0.5).to(first)
            for step in range(self._steps + 1):
                indices.requires_grad_()
                loss, bits = self._restored(indices, target)
                if step == 0 or step >= self._steps * (1 - LAST):
                    payload = self._packed(indices, fitted)
                    if len(payload) <= len(start) and loss.item() < lowest:
                        best, lowest = payload.lr, loss.item()
                if step == self._steps:
                    break
                price = BIT_PRICE_ABOVE if bits.item() + frame > 8 * len(start) else BIT_PRICE
                (gradient,) = torch.autograd.grad(loss + price * bits / indices.numel(), indices)
                direction = MOMENTUM * direction + (1 - MOMENTUM) * gradient
                power = POWER * power + (1 - POWER) * gradient.pow(2).mean().item()
                # One power for all levels: Adam's, one for each, would move those that hardly matter as far.
                unit = math.sqrt(power / (1 - POWER ** (step + 1))) * (1 - MOMENTUM ** (step + 1))
                indices = indices.detach() - self._learning_rate(step) / max(unit, 1e-12) * direction
                if self._report is not None:
                    self._report((step + 1) / self._steps)
        return best

    def _learning_rate(self, step: int) -> float:
        """Annealed to zero along a cosine."""
        return LEARNING_RATE / math.sqrt(self._level_step) * (1 + math.cos(math.pi * step / self._steps)) / 2

    def _restored(self, indices: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of the picture that the rounded LR restores, and bits of the LR; gradients pass the rounding."""
        rounded = indices + (self._rounded(indices) - indices).detach()
        with mixed_precision(self._torch_device):
            picture = self._torch_decoder(dequantize((rounded * self._level_step).clamp(0, 255)))
            loss, _ = picture_loss(self._losses, picture.float(), target, self._networks.lpips,
                                   self._networks.identity, offset=random_offset(1.0))
        return loss, self._bits(rounded).sum()

    def _rounded(self, indices: Tensor) -> Tensor:
        return indices.detach().round().clamp(0, (255 + self._level_step // 2) // self._level_step)

    def _packed(self, indices: Tensor, fitted: Fitted) -> Payload:
        whole = self._rounded(indices)[0].permute(1, 2, 0).byte().cpu().numpy()
        return self.pack(np.ascontiguousarray(to_levels(whole, self._level_step)), fitted)
