"""How one item of a batch is worked on: what travels from a route to the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QUALITY = 90
"""Of WebP and JPEG where the client names none."""


@dataclass(frozen=True)
class RestoreOptions:
    """How one payload is restored.

    Attributes:
        size: ``"original"``, or ``"native"`` for the decoder's own resolution.
        format: of the picture file, a key of `negotiation.MEDIA_TYPES`.
        quality: 1 to 100, of WebP and JPEG.
        seed: of the noise, where the decoder takes some; equal in a batch.
        strength: where the decoder takes one; None for the bundle's own. Each picture of a batch has its own.
    """

    size: Literal["original", "native"] = "original"
    format: str = "png"
    quality: int = QUALITY
    seed: int = 0
    strength: float | None = None


@dataclass(frozen=True)
class CompressOptions:
    """How one picture is compressed.

    Attributes:
        fit: ``"pad"``, ``"stretch"`` or ``"crop"``.
        background: what shows through transparent pixels, three levels.
    """

    fit: Literal["pad", "stretch", "crop"] = "pad"
    background: tuple[int, int, int] = (255, 255, 255)
