"""The interface of generative priors: codes in, a picture and its features out ([GRAIN] 3.3)."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError


class Window(NamedTuple):
    """A square of a picture, in its pixels."""

    top: int
    left: int
    size: int


class Area(NamedTuple):
    """A rectangle of feature maps, in their pixels; ``bottom`` and ``right`` are the first ones outside."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of(cls, window: Window) -> Area:
        """The area of a window in maps of the picture's resolution."""
        return cls(window.top, window.left, window.top + window.size, window.left + window.size)

    def grown(self, margin: int, side: int) -> Area:
        """With a margin, as far as maps of ``side`` x ``side`` reach."""
        top, left, bottom, right = self
        return Area(max(0, top - margin), max(0, left - margin), min(side, bottom + margin), min(side, right + margin))

    def halved(self) -> Area:
        """The smallest area that covers this one in maps of half the side."""
        return Area(self.top // 2, self.left // 2, -(-self.bottom // 2), -(-self.right // 2))

    def doubled(self) -> Area:
        return Area(*(2 * edge for edge in self))

    def of_maps(self, maps: Tensor, covers: Area | None = None) -> Tensor:
        """This part of maps ``[..., h, w]``, which begin at (0, 0) or are the part ``covers``."""
        top, left = (0, 0) if covers is None else covers[:2]
        return maps[..., self.top - top : self.bottom - top, self.left - left : self.right - left]


class Synthesis(NamedTuple):
    """The output of a generator: its picture, about [-1, 1], not clipped, and f_gen by resolution, coarse to fine."""

    picture: Tensor  # [B, 3, S, S]
    features: dict[int, Tensor]  # {4: [B, C, 4, 4], 8: [B, C, 8, 8], ...}


Offset = Tensor | Callable[[Tensor], Tensor]
"""A change of features between two resolutions: a summand, or a function that replaces them."""
Offsets = Mapping[int, Offset]
Noise = Sequence[Tensor | None]
"""The noise of every layer; None for the constant one."""


class GenerativePrior(nn.Module, ABC):
    """A generator with codes per layer (W+). Its parameters stay frozen inside GRAIN ([GRAIN] 3.5).

    Subclasses set these attributes in their constructor and implement `synthesize`.
    """

    size: int  # side of its picture
    code_resolutions: tuple[int, ...]  # of the layer that every code steers, coarse to fine; their number is L
    feature_channels: dict[int, int]  # of f_gen by resolution
    mapping: nn.Module  # from latents to codes in W
    mean_code: Tensor  # [code_width], of W; the centre of truncation and the origin of predicted codes
    code_width: int = 512

    @property
    def code_count(self) -> int:
        """Number of codes, L."""
        return len(self.code_resolutions)

    @property
    def measured(self) -> frozenset[str]:
        """Names in the state dict of tensors that are computed from the other weights, such as the mean code."""
        return frozenset({"mean_code"})

    def map(self, z: Tensor) -> Tensor:
        """Latents ``[B, code_width]`` from N(0, 1) -> codes in W, ``[B, code_width]``."""
        return self.mapping(z)

    @abstractmethod
    def synthesize(self, codes: Tensor, noise: Noise, offsets: Offsets, window: Window | None = None) -> Synthesis:
        """`forward` for arguments of the right shapes."""

    def forward(
        self,
        codes: Tensor,
        noise: list[Tensor] | None = None,
        offsets: Offsets | None = None,
        window: Window | None = None,
    ) -> Synthesis:
        """Codes in W+, ``[B, L, code_width]`` -> picture and features.

        ``noise`` is that of every layer from N(0, 1), ``[1 or B, 1, r, r]``; None for the stored constant noise.
        ``offsets`` are, by resolution, ``[B, C, r, r]`` to add to the features inside the generator, or a function that
        replaces them by others of that shape; the returned features include the change. ``window`` is the part of the
        picture to compute; the returned fine features then cover only the area that this part depends on.
        """
        if codes.ndim != 3 or codes.shape[1:] != (self.code_count, self.code_width):
            raise ModelError(
                f"codes must have the shape [batch, {self.code_count}, {self.code_width}] for this prior, "
                f"got {list(codes.shape)}; broadcast() repeats one code in W for all layers"
            )
        given: Noise = [None] * self.code_count if noise is None else noise  # there are no more layers than codes
        return self.synthesize(codes, given, offsets or {}, window)

    def broadcast(self, w: Tensor) -> Tensor:
        """One code per picture, ``[B, code_width]`` -> the same code for every layer, ``[B, L, code_width]``."""
        return w[:, None].expand(-1, self.code_count, -1)

    def truncate(self, codes: Tensor, psi: float) -> Tensor:
        """Pull codes towards the mean: ``mean + psi * (codes - mean)``. Any shape that ends in ``code_width``."""
        return torch.lerp(self.mean_code.expand_as(codes), codes, psi)


def with_offset(features: Tensor, offset: Offset | None) -> Tensor:
    """Features ``[B, C, r, r]`` with the offset of their resolution, if there is one."""
    if offset is None:
        return features
    return features + offset.to(features.dtype) if isinstance(offset, Tensor) else offset(features)


def prior_digest(prior: GenerativePrior) -> str:
    """SHA-256 over a generator's weights, hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in sorted(prior.state_dict().items()):
        if name not in prior.measured:  # computed in floats on every machine: their last bits depend on the CPU
            total.update(name.encode())
            total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
