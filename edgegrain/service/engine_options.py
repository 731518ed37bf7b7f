"""The engine's options for each item of a batch, its outcomes, and the bundles it takes; without the engine itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import BundleError, EdgegrainError
from codec_contract.fit import Fit, Size

QUALITY = 90
"""Default quality of WebP and JPEG."""

Outcome = bytes | EdgegrainError
"""Result of one item: the bytes of a picture file, payload, scene or JSON document, or the item's error."""

FacesChoice = Literal["largest", "all", "scene"]
"""Faces of a picture to compress: the largest to a payload, all to a payload each, or all to one scene."""


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
        fit, align, require_face: as for `sdk.compress`, with ``faces="largest"``.
        background: colour behind transparent pixels, three levels.
        faces: the faces to compress.
        max_bytes: largest payload or scene; not with ``faces="all"``.
        fallbacks: ids of the bundles to try next, in order, if the result exceeds ``max_bytes``.
    """

    fit: Fit | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    align: bool = True
    require_face: bool = False
    faces: FacesChoice = "largest"
    max_bytes: int | None = None
    fallbacks: Sequence[str] = ()


def require_servable(manifest: Manifest) -> None:
    """Raise `BundleError` for a bundle of photographs in tiles: the engine's batches hold squares of one size.

    Called before a worker starts, which would fail on every attempt.
    """
    if manifest.tile_overlap is not None:
        raise BundleError(
            f"bundle {manifest.id} takes photographs of any size, in tiles; the service and edgegrain batch work with "
            "bundles of one square. Use edgegrain compress and restore, or sdk.Codec, for this one")
