"""The engine's options for each item of a batch, its outcomes, and the bundles it takes; without the engine itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import BundleError, EdgegrainError
from codec_contract.fit import Size

QUALITY = 90
"""Default quality of WebP and JPEG."""

Outcome = bytes | EdgegrainError
"""Result of one item: the bytes of a picture file or payload, or the item's error."""


@dataclass(frozen=True)
class RestoreOptions:
    """Options for restoring one payload.

    Attributes:
        size: ``"original"``, ``"native"`` for the decoder's own resolution, or the longest side in pixels.
        format: format of the picture file, a key of `content_negotiation.MEDIA_TYPES`.
        quality: quality of WebP and JPEG, 1 to 100.
        seed: seed of the noise, for decoders that take noise; the same for all items of a batch.
        strength: for decoders with this control; None for the bundle's default. May differ between items of a batch.
        mark: write into the file that the picture is generated.
    """

    size: Size = "original"
    format: str = "png"
    quality: int = QUALITY
    seed: int = 0
    strength: float | None = None
    mark: bool = True


@dataclass(frozen=True)
class CompressOptions:
    """Options for compressing one picture.

    Attributes:
        fit: ``"pad"``, ``"stretch"`` or ``"crop"``.
        background: colour behind transparent pixels, three levels.
    """

    fit: Literal["pad", "stretch", "crop"] = "pad"
    background: tuple[int, int, int] = (255, 255, 255)


def require_servable(manifest: Manifest) -> None:
    """Raise `BundleError` for a bundle of photographs in tiles: the engine's batches hold squares of one size.

    Called before a worker starts, which would fail on every attempt.
    """
    if manifest.tile_overlap is not None:
        raise BundleError(
            f"bundle {manifest.id} takes photographs of any size, in tiles; the service and edgegrain batch work with "
            "bundles of one square. Use edgegrain compress and restore, or sdk.Codec, for this one")
