"""Textures: sharpness and grain of an enlarged picture, cell by cell, as its payload's texture map says.

An enlarger gives every picture the sharpness and the noise that pictures have on average. Whether hair is in focus,
whether a background is blurred and whether a camera's noise lies on the skin is lost in an LR, but fits into a few
bytes: codecs signal filters of the decoded picture (AV1's loop restoration) and film grain (Norkin and Birkbeck, "Film
grain synthesis for AV1 video codec", DCC 2018) for the same reason.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from codec_contract.rgb import Rgb
from codec_contract.texture_map import TextureMap

Plane = npt.NDArray[np.float32]
BLUR_ORDER = 8
"""The blur is the binomial filter of this order in each direction: a standard deviation of 1.4 pixels."""
SOFT_ORDER = 4
"""Soft grain is white grain under the binomial filter of this order, of 1 pixel."""


@dataclass(frozen=True)
class Texture:
    """Treatment of a cell.

    Attributes:
        detail: multiple of the picture's difference from its blur that is added; -1 leaves the blur.
        grain: standard deviation of white noise, the same in the three channels, in levels.
        soft_grain: that of the noise whose neighbouring pixels are alike.
    """

    detail: float = 0.0
    grain: float = 0.0
    soft_grain: float = 0.0


TEXTURES = (
    Texture(), Texture(-1.0), Texture(-0.4), Texture(-0.4, grain=1.5), Texture(0.5, grain=1.5), Texture(1.0),
    Texture(1.0, grain=1.5), Texture(1.0, soft_grain=3.0),
)
"""The textures by their numbers in a payload."""


def textured(square: Rgb, texture_map: TextureMap) -> Rgb:
    """The square, uint8 ``[S, S, 3]``, with the textures of a map; between the centres of cells they blend linearly."""
    values = np.array([astuple(TEXTURES[number]) for number in texture_map.textures], np.float32)
    cells = values.T.reshape(-1, texture_map.side, texture_map.side)
    detail, grain, soft_grain = (_pixels(each, len(square))[..., None] for each in cells)
    levels = square.astype(np.float32)
    if detail.any():
        levels += detail * (levels - blurred(levels, BLUR_ORDER))
    for amount, soft in ((grain, False), (soft_grain, True)):
        if amount.any():
            levels += amount * _noise(len(square), soft)
    return levels.round().clip(0, 255).astype(np.uint8)


def blurred(picture: Plane, order: int) -> Plane:
    """A picture ``[H, W, C]`` under the binomial filter of an even order, mirrored at its edges."""
    reach = order // 2
    for axis in (0, 1):
        picture = np.pad(picture, [(reach, reach) if axis == each else (0, 0) for each in range(3)], mode="reflect")
        for _ in range(order):
            first, second = ((picture[:-1], picture[1:]) if axis == 0 else (picture[:, :-1], picture[:, 1:]))
            picture = first + second
        picture = picture * np.float32(0.5**order)
    return picture


def _pixels(cells: Plane, side: int) -> Plane:
    """Values of cells ``[n, n]`` for the pixels ``[side, side]``, linear between the cells' centres."""
    count = len(cells)
    centres = (np.arange(count) + 0.5) * (side / count) - 0.5
    weights = np.array([np.interp(np.arange(side), centres, row) for row in np.eye(count)], np.float32)
    return (weights.T @ cells @ weights).astype(np.float32, copy=False)


@lru_cache(maxsize=4)
def _noise(side: int, soft: bool) -> Plane:
    """Gaussian noise ``[side, side, 1]`` of standard deviation 1, always the same."""
    noise = np.random.default_rng(0).standard_normal((side, side, 1), np.float32)
    if soft:
        noise = blurred(noise, SOFT_ORDER)
        noise /= noise.std()
    noise.flags.writeable = False
    return noise
