"""Encode and decode photographs of any size with networks of one size: overlapping tiles, blended where they overlap.

Tiles are spaced evenly between the picture's edges. A network sees an edge where the picture has none, so the outermost
quarter of every overlap is discarded; over its middle half the next tile fades in linearly. All arithmetic is in
integers, so the same tiles give the same picture on every machine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from codec_contract.bundle.find import MAX_SEED
from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import ImageError
from codec_contract.pixels import Rgb
from edge_encoder.encoder_session import EncoderSession
from server_decoder.decoder_session import DecoderSession


def encode_tiles(encoder: EncoderSession, manifest: Manifest, rgb: Rgb) -> Rgb:
    """The LR of a picture, uint8 ``[H, W, 3]`` -> ``[ceil(H / factor), ceil(W / factor), 3]``."""
    width, height = manifest.lr_size((rgb.shape[1], rgb.shape[0]))
    padded = pad_to(rgb, width * manifest.factor, height * manifest.factor)
    overlap = (manifest.tile_overlap or 0) * manifest.factor

    def run(tile: Rgb, top: int, left: int) -> Rgb:
        return encoder.encode(tile[None])[0]

    return run_tiles(padded, manifest.hr, manifest.lr, overlap, run, unit=manifest.factor)


def decode_tiles(decoder: DecoderSession, manifest: Manifest, lr: Rgb, seed: int | None = None) -> Rgb:
    """The picture of an LR, uint8 ``[h, w, 3]`` -> ``[h * factor, w * factor, 3]``; without a seed, z is 0."""
    latent = None if seed is None else latent_windows(manifest, seed, lr.shape[1])

    def run(tile: Rgb, top: int, left: int) -> Rgb:
        z = None if latent is None else latent(top, left)
        return decoder.decode(tile[None], z=z)[0]

    return run_tiles(lr, manifest.lr, manifest.hr, manifest.tile_overlap or 0, run)


def latent_windows(manifest: Manifest, seed: int, width: int) -> Callable[[int, int], npt.NDArray[np.float32]]:
    """Windows (top, left) of a normal z for a whole LR, float32 ``[1, C, lr, lr]``; equal where they overlap."""
    if not 0 <= seed <= MAX_SEED:
        raise ImageError(f"a seed is an integer from 0 to {MAX_SEED}, got {seed!r}")
    described, side = manifest.decoder["z"], manifest.lr
    shape, deviation = (max(width, side), described["channels"]), np.float32(described["std"])

    @functools.lru_cache(maxsize=1)  # windows are asked for row by row of tiles
    def band(top: int) -> npt.NDArray[np.float32]:
        rows = [np.random.default_rng((seed, row)) for row in range(top, top + side)]
        return np.stack([row.standard_normal(shape, np.float32) for row in rows])

    def window(top: int, left: int) -> npt.NDArray[np.float32]:
        z = band(top)[:, left : left + side]  # [side, side, C]
        return np.ascontiguousarray(deviation * z.transpose(2, 0, 1)[None])

    return window


_BITS = 12
_ONE = 1 << _BITS


def tile_starts(length: int, side: int, overlap: int) -> list[int]:
    """Starts of the fewest tiles of ``side`` that cover exactly ``length`` and overlap by at least ``overlap``."""
    gaps = -(-(length - side) // (side - overlap))
    return [index * (length - side) // gaps for index in range(gaps + 1)] if gaps else [0]


def pad_to(rgb: Rgb, width: int, height: int) -> Rgb:
    """Extend a picture, uint8 ``[H, W, 3]``, to a size by repeating its right and bottom edge."""
    return np.pad(rgb, ((0, height - rgb.shape[0]), (0, width - rgb.shape[1]), (0, 0)), mode="edge")


def run_tiles(
    rgb: Rgb, side: int, made: int, overlap: int, run: Callable[[Rgb, int, int], Rgb], *, unit: int = 1
) -> Rgb:
    """Apply ``run`` (tile, its top, its left), which makes squares of ``made`` pixels of those of ``side``, to a
    picture, uint8 ``[H, W, 3]`` -> ``[H * made / side, W * made / side, 3]``. Tiles overlap by at least ``overlap`` and
    begin at multiples of ``unit``, which ``side``, ``overlap``, H and W are too."""
    height, width = rgb.shape[:2]
    padded = pad_to(rgb, max(width, side), max(height, side))
    tops, lefts = (
        [unit * start for start in tile_starts(length // unit, side // unit, overlap // unit)]
        for length in padded.shape[:2]
    )
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
