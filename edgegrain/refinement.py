"""`RefiningCodec`: a codec that searches for the LR that restores best, beginning with the encoder's.

    codec = RefiningCodec("faces", steps=40)
    payload = codec.compress("me.jpg")            # 15 seconds on two cores; any decoder of the bundle restores it

The encoder computes an LR in one pass, the same on every device. Gradient descent on the levels of a single picture's
LR, through the decoder, finds an LR that restores better and takes no more bytes. It closes a part of the encoder's
"amortization gap" (Yang, Bamler, Mandt, "Improving inference for neural image compression", 2020); Campos et al.,
"Content adaptive optimization for neural image compression", 2019, did it first. The payload is an ordinary one.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codec_contract.bundle.find import too_few_bytes
from codec_contract.bundle.manifest import Rate, load_manifest
from codec_contract.errors import BundleError
from codec_contract.exact_square import cut_square
from codec_contract.fit import MAX_PHOTO_PIXELS, Fit, fit_picture
from codec_contract.lr_coder.coder_tables import (
    ACTIVATION_MAX,
    ChannelNetwork,
    CoderTables,
    Layer,
    to_indices,
    to_levels,
)
from codec_contract.lr_coder.context import MEAN_BITS
from codec_contract.pixels import Rgb, dequantize
from edge_encoder.preprocessing import WHITE, Colour, PictureSource, load_picture
from edgegrain.training.data import picture_levels
from edgegrain.training.distributed import Distributed, mixed_precision
from edgegrain.training.grain.rate import FIRST_OCTAVE, MEAN_UNIT, STEPS_PER_OCTAVE, RateModel
from edgegrain.training.losses import LossWeights, MetricNetworks, picture_loss, random_offset
from export.bundle.enlarger import find_enlarger
from export.decoder.export import bundle_decoder
from sdk import Codec, Payload
from sdk.faces import Fitted
from sdk.inputs import position_in_batch
from server_decoder.generative_prior import Window
from server_decoder.providers import Device
from server_decoder.super_resolution import SuperResolution

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
"""Losses of the picture for faces: those that the published decoders were trained with, but more absolute error."""
PICTURES = LossWeights(l1=2.5, lpips=1.0, identity=0.0, lr=0.0)
"""For other domains."""
LPIPS_DECODED = 0.4
"""Weight of the decoded picture's LPIPS in a search at a larger size."""
ENLARGED = LossWeights(l1=0.0, lpips=0.7, identity=0.0, lr=0.0)
"""Losses of each picture that the enlarger makes there."""
WINDOWS = 4
"""Windows, each a sixteenth of the picture, in which a step looks at the picture of four times the side."""
BIT_PRICE, BIT_PRICE_LIMIT, BIT_PRICE_ABOVE = 0.004, 0.001, 0.25
"""Price of a bit per sample of the LR while the payload is expected to fit: into the encoder's bytes, or into a limit
of the caller's, who has a use for them; and while it does not fit."""
LAST = 1 / 3
"""The part of the steps, at the end, whose LRs may be the result: the last of them that is small enough."""
REVISION = 4
"""Version of the search; increased when the same picture would get another LR."""
_KEPT = 1024  # LRs that are not searched again: reports draw the pictures that they measured


@dataclass(frozen=True, kw_only=True)
class FittedLarge(Fitted):
    """The encoder's square together with a larger one, uint8 ``[size, size, 3]``, that the search compares with."""

    large: Rgb


class RefiningCodec(Codec):
    """A `sdk.Codec` whose payloads hold the LRs of a search; everything else is the same.

    The same picture gets the same payload on one machine. The search compares pictures at ``size``, one of
    `BundleInfo.sides`, by default the decoder's; larger ones take about three times as long. It uses up
    ``max_bytes``, by default the encoder's bytes. ``rate`` is one of the bundle's, by default its own.
    """

    def __init__(
        self,
        bundle: str | Path = "faces",
        *,
        rate: Rate | None = None,
        steps: int = STEPS,
        size: int | None = None,
        max_bytes: int | None = None,
        weights: Path | None = None,
        device: Device = "cpu",
        threads: int | None = None,
    ) -> None:
        super().__init__(bundle, device, threads)
        options: Any = {"rate": rate, "steps": steps, "size": size, "max_bytes": max_bytes, "weights": weights}
        self._open_again = functools.partial(RefiningCodec, bundle, **options, device=device, threads=threads)
        self.report: Callable[[float], None] | None = None
        """Called with the finished part of a search, 0 to 1."""
        if self._tiled:
            raise BundleError(f"bundle {self.bundle.id} encodes photographs in tiles, which cannot be refined")
        self._size = size or self.bundle.hr
        if self._size not in self.bundle.sides:
            sides = ", ".join(map(str, self.bundle.sides))
            raise BundleError(f"bundle {self.bundle.id} restores squares of {sides} pixels, none of {size}")
        manifest = load_manifest(self.bundle.folder)  # its default decoder, not the form for CUDA
        faces = self.bundle.domain == "faces"
        self._steps, self._max_bytes = steps, max_bytes
        self._torch_device = torch.device(device)
        self._losses = FACES if faces else PICTURES
        self._enlarger = None
        if self._size > self.bundle.hr:
            self._losses = replace(self._losses, lpips=LPIPS_DECODED)
            self._enlarger = find_enlarger(self.bundle.folder).network().requires_grad_(False)
        self._torch_decoder = bundle_decoder(manifest).requires_grad_(False)
        networks = [network for network in (self._torch_decoder, self._enlarger) if network is not None]
        Distributed(self._torch_device).move(networks, convolutional=True)
        self._networks = MetricNetworks.load(weights, self._torch_device, needed=True, faces=faces)
        self._rate = rate or manifest.own_rate
        tables = self._open.tables_of(self._rate)
        self._level_step, self._told_step = tables.step, float(manifest.told_step(tables.step))
        self._bits_per_sample = rate_model(tables, manifest.lr).to(self._torch_device)
        self._found: dict[bytes, Rgb] = {}

    def fit(
        self,
        picture: PictureSource,
        fit: Fit | None = None,
        background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
        align: bool = True,
        require_face: bool = False,
    ) -> Fitted:
        """As `sdk.Codec.fit`, with the larger square that a search at a larger size needs."""
        rgb = load_picture(picture, background=background, max_pixels=max_pixels)
        fitted = super().fit(rgb, fit, background, max_pixels, align, require_face)
        if self._enlarger is None:
            return fitted
        if fitted.square is None:
            return FittedLarge(**vars(fitted), large=fit_picture(rgb, self._size, fitted.fit))
        return FittedLarge(**vars(fitted), large=cut_square(rgb, fitted.square, self._size))

    def compress_fitted(self, fitted: Fitted, quality: str | None = None, max_bytes: int | None = None) -> Payload:
        """The payload of the LR that the search ends with; of the encoder's, if that is better and small enough."""
        if self._enlarger is not None and not isinstance(fitted, FittedLarge):
            raise TypeError("a search at a larger size needs the pictures that `fit` of this codec prepares")
        seen = fitted.large if isinstance(fitted, FittedLarge) else fitted.rgb
        key = hashlib.sha256(seen.tobytes()).digest()
        if key not in self._found:
            if len(self._found) == _KEPT:
                self._found.clear()
            self._found[key] = self._search(fitted, self._pack(self._lr(fitted), fitted, self._rate))
        return self._pack(self._found[key], fitted, self._rate)

    def compress_batch(self, pictures: Iterable[PictureSource], *arguments: Any, **options: Any) -> list[Payload]:
        """Compress pictures one after the other; arguments and errors as `sdk.Codec.compress_batch`."""
        payloads = []
        for index, picture in enumerate(pictures):
            with position_in_batch("picture", index):
                payloads.append(self.compress(picture, *arguments, **options))
        return payloads

    def _search(self, fitted: Fitted, start: Payload) -> Rgb:
        """The LR found, beginning with that of the encoder's payload ``start``."""
        seen, side = [fitted.rgb], 2 * self.bundle.hr
        if isinstance(fitted, FittedLarge):
            seen += (fit_picture(fitted.large, size, "stretch") for size in range(side, self._size + 1, side))
        targets = [dequantize(picture_levels(picture, self._torch_device)) for picture in seen]
        first = picture_levels(to_indices(start.lr, self._level_step), self._torch_device)
        limit, within = (len(start), BIT_PRICE) if self._max_bytes is None else (self._max_bytes, BIT_PRICE_LIMIT)
        with torch.no_grad():
            frame = 8 * len(start) - first.numel() * self._bits_per_sample(first).item()  # bits around the body
        found, smallest = None, len(start)
        direction, power = torch.zeros_like(first), 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of the noise, and of the offsets of LPIPS
            indices = first + DITHER * (torch.rand(first.shape) - 0.5).to(first)
            for step in range(self._steps + 1):
                indices.requires_grad_()
                if step >= self._steps * (1 - LAST):
                    levels = self._rounded(indices)[0].permute(1, 2, 0).byte().cpu().numpy()
                    payload = self._pack(np.ascontiguousarray(to_levels(levels, self._level_step)), fitted, self._rate)
                    smallest = min(smallest, len(payload))
                    if len(payload) <= limit:
                        found = payload.lr
                if step == self._steps:
                    break
                loss, bits = self._restored(indices, targets)
                price = BIT_PRICE_ABOVE if bits.item() * indices.numel() + frame > 8 * limit else within
                (gradient,) = torch.autograd.grad(loss + price * bits, indices)
                direction = MOMENTUM * direction + (1 - MOMENTUM) * gradient
                power = POWER * power + (1 - POWER) * gradient.pow(2).mean().item()
                # One power for all levels: Adam's, one for each, would move those that hardly matter as far.
                unit = math.sqrt(power / (1 - POWER ** (step + 1))) * (1 - MOMENTUM ** (step + 1))
                rate = LEARNING_RATE / math.sqrt(self._level_step) * (1 + math.cos(math.pi * step / self._steps)) / 2
                indices = indices.detach() - rate / max(unit, 1e-12) * direction
                if self.report is not None:
                    self.report((step + 1) / self._steps)
            if found is None and len(start) > limit:
                raise too_few_bytes(limit, smallest)
            if found is None or len(start) <= limit and self._loss(start.lr, targets) <= self._loss(found, targets):
                return start.lr
        return found

    @torch.no_grad()
    def _loss(self, lr: Rgb, targets: Sequence[Tensor]) -> float:
        """The loss of an LR at one offset and in one set of windows, the same for every LR."""
        torch.manual_seed(0)
        indices = picture_levels(to_indices(lr, self._level_step), self._torch_device)
        return self._restored(indices, targets)[0].item()

    def _restored(self, indices: Tensor, targets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Loss of the picture that the rounded LR restores against originals of one, two and four times the decoder's
        side, and bits per sample of the LR; gradients pass the rounding."""
        rounded = indices + (self._rounded(indices) - indices).detach()
        lr, step = dequantize((rounded * self._level_step).clamp(0, 255)), rounded.new_tensor([self._told_step])
        lpips, identity = self._networks.lpips, self._networks.identity
        with mixed_precision(self._torch_device):
            picture, offset = self._torch_decoder(lr, step=step), random_offset(1.0)
            loss, _ = picture_loss(self._losses, picture.float(), targets[0], lpips, identity, offset=offset)
            if self._enlarger is not None:
                loss = loss + self._enlarged_loss(self._enlarger, picture, targets[1:])
        return loss, self._bits_per_sample(rounded)

    def _enlarged_loss(self, enlarger: SuperResolution, picture: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """LPIPS of the enlarged picture against the originals of twice and, in windows, four times the side."""
        lpips = self._networks.lpips
        if len(targets) == 1:
            twice = enlarger(picture, 2).float()
            return picture_loss(ENLARGED, twice, targets[0], lpips, None, offset=random_offset(1.0))[0]
        side = picture.shape[-1] // 4
        corners = torch.randint(picture.shape[-1] - side + 1, (WINDOWS, 2)).tolist()
        twice, seen = enlarger.forward_whole_and_windows(picture, [[Window(top, left, side) for top, left in corners]])
        wanted = torch.cat(
            [targets[1][..., 4 * top : 4 * (top + side), 4 * left : 4 * (left + side)] for top, left in corners]
        )
        loss, _ = picture_loss(ENLARGED, twice.float(), targets[0], lpips, None, offset=random_offset(1.0))
        return loss + picture_loss(ENLARGED, seen.float(), wanted, lpips, None)[0]

    def _rounded(self, indices: Tensor) -> Tensor:
        return indices.detach().round().clamp(0, (255 + self._level_step // 2) // self._level_step)


def rate_model(tables: CoderTables, side: int) -> RateModel:
    """Code length of square LRs under a bundle's coder tables: their integer arithmetic without its rounding."""
    model = RateModel(side, side)
    model.networks = nn.ModuleList(map(_Channel, tables.channels))
    return model


class _Channel(nn.Module):
    """A channel's network: contexts ``[N, n]`` in levels to the prediction ``[N, 2]`` that `code_length` takes."""

    def __init__(self, network: ChannelNetwork) -> None:
        super().__init__()
        self._hidden = nn.ModuleList(map(_linear, network.hidden))
        self._output = _linear(network.output)

    def forward(self, context: Tensor) -> Tensor:
        values = context
        for layer in self._hidden:
            values = layer(values).clamp(0, ACTIVATION_MAX)
        mean, scale = self._output(torch.cat([context, values], 1)).unbind(1)
        return torch.stack([mean / (MEAN_UNIT * (1 << MEAN_BITS)), FIRST_OCTAVE + scale / STEPS_PER_OCTAVE], 1)


def _linear(layer: Layer) -> nn.Linear:
    outputs, inputs = layer.weight.shape
    linear = nn.Linear(inputs, outputs)
    unit = torch.exp2(-torch.from_numpy(layer.shift).float())
    linear.weight = nn.Parameter(torch.from_numpy(layer.weight).float() * unit[:, None], requires_grad=False)
    linear.bias = nn.Parameter(torch.from_numpy(layer.bias).float() * unit, requires_grad=False)
    return linear
