"""Run networks of one size on pictures of any size: overlapping tiles, blended where they overlap.

Tiles are spaced evenly between the picture's edges. A network sees an edge where the picture has none, so the outermost
quarter of every overlap is discarded; over its middle half the next tile fades in linearly. All arithmetic is in
integers, so the same tiles give the same picture on every machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from codec_contract.errors import ImageError
from codec_contract.pixels import Rgb

TileNetwork = Callable[[Rgb, int, int], Rgb]
"""Network on a tile: (tile uint8 ``[side, side, 3]``, its top, its left) -> uint8 ``[side', side', 3]``."""

_BITS = 12
_ONE = 1 << _BITS


def tile_starts(length: int, side: int, overlap: int) -> list[int]:
    """Start positions of the fewest tiles of ``side`` that cover ``length`` and overlap by at least ``overlap``.

    The first tile begins at 0, the last ends at ``length``.
    """
    if not 0 <= 2 * overlap <= side <= length:
        raise ImageError(f"tiles of {side} that overlap by {overlap} cannot cover {length} pixels")
    gaps = -(-(length - side) // (side - overlap))
    return [index * (length - side) // gaps for index in range(gaps + 1)] if gaps else [0]


def pad_to(rgb: Rgb, width: int, height: int) -> Rgb:
    """Extend a picture, uint8 ``[H, W, 3]``, to a size by repeating its right and bottom edge."""
    return np.pad(rgb, ((0, height - rgb.shape[0]), (0, width - rgb.shape[1]), (0, 0)), mode="edge")


def run_tiles(rgb: Rgb, side: int, made: int, overlap: int, run: TileNetwork, *, unit: int = 1) -> Rgb:
    """Apply ``run`` to a picture tile by tile.

    Args:
        rgb: uint8 ``[H, W, 3]``; sides shorter than a tile are padded, and the result is cut accordingly.
        side: side of the tiles that ``run`` takes.
        made: side of its results.
        overlap: least overlap of neighbouring tiles, in pixels of ``rgb``.
        run: the network; tiles come row by row.
        unit: every tile begins at a multiple of it, which ``side``, ``overlap`` and the picture's sides are too.

    Returns:
        uint8 ``[H * made / side, W * made / side, 3]``.
    """
    height, width = rgb.shape[:2]
    if any(length % unit or length * made % side for length in (height, width, side)):
        raise ImageError(f"a picture of {width} x {height} cannot be cut into units of {unit} for tiles of {side}")
    padded = pad_to(rgb, max(width, side), max(height, side))
    tops, lefts = (
        [unit * start for start in tile_starts(length // unit, side // unit, overlap // unit)]
        for length in padded.shape[:2])
    result = np.empty((padded.shape[0] * made // side, padded.shape[1] * made // side, 3), np.uint8)
    bottom = 0
    for top in tops:
        band, right = np.empty((made, result.shape[1], 3), np.uint8), 0
        for left in lefts:
            tile = run(padded[top : top + side, left : left + side], top, left)
            right = _lay(band, tile, left * made // side, right, axis=1)
        bottom = _lay(result, band, top * made // side, bottom, axis=0)
    return result[: height * made // side, : width * made // side]


def fade(length: int) -> npt.NDArray[np.int32]:
    """Weight of the next tile over an overlap, int32 0...4096: 0 in the first quarter, 4096 in the last."""
    centres = (2 * np.arange(length, dtype=np.int64) + 1) * _ONE // max(length, 1)  # 0...2, its middle 1
    return np.clip(centres - _ONE // 2, 0, _ONE).astype(np.int32)


def _lay(target: Rgb, piece: Rgb, start: int, end: int, axis: int) -> int:
    """Blend ``piece`` in at ``start`` over content that reaches to ``end``; returns the new end of the content."""
    target, piece = np.moveaxis(target, axis, 0), np.moveaxis(piece, axis, 0)  # views
    shared = max(end - start, 0)
    ramp = fade(shared).reshape(-1, 1, 1)
    old, new = target[start : start + shared].astype(np.int32), piece[:shared].astype(np.int32)
    target[start : start + shared] = (old * (_ONE - ramp) + new * ramp + _ONE // 2) >> _BITS
    target[start + shared : start + len(piece)] = piece[shared:]
    return start + len(piece)
