"""Encode and decode photographs of any size, for bundles whose networks work on tiles (`codec_contract.tiling`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from codec_contract.bundle.find import MAX_SEED, SEED, controls_of
from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import BundleError, ImageError
from codec_contract.pixels import Rgb
from codec_contract.tiling import pad_to, run_tiles
from edge_encoder.encoder_session import EncoderSession
from server_decoder.decoder_session import DecoderSession

PAD = "edge"
"""Padding of sides to multiples of the factor, in the terms of a manifest."""
_MAX_Z_CHANNELS = 1 << 12


def encode_tiles(encoder: EncoderSession, manifest: Manifest, rgb: Rgb) -> Rgb:
    """The LR of a picture, uint8 ``[H, W, 3]`` -> ``[ceil(H / factor), ceil(W / factor), 3]``."""
    width, height = manifest.lr_size((rgb.shape[1], rgb.shape[0]))
    padded = pad_to(rgb, width * manifest.factor, height * manifest.factor)
    overlap = (manifest.tile_overlap or 0) * manifest.factor
    return run_tiles(padded, manifest.hr, manifest.lr, overlap, lambda tile, top, left: encoder.encode(tile[None])[0],
                     unit=manifest.factor)


def decode_tiles(decoder: DecoderSession, manifest: Manifest, lr: Rgb, seed: int | None = None) -> Rgb:
    """The picture of an LR, uint8 ``[h, w, 3]`` -> ``[h * factor, w * factor, 3]``.

    Args:
        decoder: the bundle's decoder.
        manifest: the bundle's manifest.
        lr: an LR of any size.
        seed: seed of z, which does not depend on the tiles; None for z = 0.
    """
    latent = None if seed is None else _Latent(manifest, seed, lr.shape[1])

    def run(tile: Rgb, top: int, left: int) -> Rgb:
        z = None if latent is None else latent.window(top, left, manifest.lr)
        return decoder.decode(tile[None], z=z)[0]

    return run_tiles(lr, manifest.lr, manifest.hr, manifest.tile_overlap or 0, run)


class _Latent:
    """A normal z for a whole LR, drawn row by row, so that overlapping tiles see the same values."""

    def __init__(self, manifest: Manifest, seed: int, width: int) -> None:
        if SEED not in controls_of(manifest):
            raise ImageError(f"bundle {manifest.id} has no control 'seed'; restore without a seed")
        if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed <= MAX_SEED:
            raise ImageError(f"a seed is an integer from 0 to {MAX_SEED}, got {seed!r}")
        found = manifest.decoder.get("z")
        described: dict[str, Any] = found if isinstance(found, dict) else {}
        channels, deviation = described.get("channels"), described.get("std")
        if not isinstance(channels, int) or not 1 <= channels <= _MAX_Z_CHANNELS \
                or not isinstance(deviation, (int, float)):
            raise BundleError(f"the manifest of bundle {manifest.id} does not describe the decoder's z")
        self._seed, self._channels, self._deviation = seed, channels, np.float32(deviation)
        self._width = max(width, manifest.lr)
        self._top, self._band = -1, np.empty((0, 0, 0), np.float32)

    def window(self, top: int, left: int, side: int) -> npt.NDArray[np.float32]:
        """float32 ``[1, C, side, side]``; windows are asked for row by row of tiles."""
        if self._top != top:
            self._top, self._band = top, np.stack([
                np.random.default_rng((self._seed, row)).standard_normal((self._width, self._channels), np.float32)
                for row in range(top, top + side)])
        z = self._band[:, left : left + side]  # [side, side, C]
        return np.ascontiguousarray(self._deviation * z.transpose(2, 0, 1)[None])
