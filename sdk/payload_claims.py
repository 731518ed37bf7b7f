"""Checks of a payload's header against the bundle that restores it; no body is decoded, no network runs."""

from __future__ import annotations

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import ImageError, PayloadError
from codec_contract.fit import Size, check_size, content_size
from codec_contract.payload import CONTRACT_ID_BYTES, Header, other_contract


def check_claims(header: Header, manifest: Manifest) -> None:
    """Compare the LR contract and the LR size of a payload with those of a bundle.

    A large LR takes long to decode, and a bundle makes one LR size for an original, so this comes first.

    Raises:
        PayloadError: one of them differs.
    """
    if not header.is_of(manifest.lr_contract_id):
        raise other_contract(header, f"bundle {manifest.id} has {manifest.lr_contract_id[:CONTRACT_ID_BYTES].hex()}; "
                             "restore it with the bundle it was made with")
    width, height = manifest.lr_size(header.original_size)
    if header.lr_size != (width, height):
        raise PayloadError(
            f"the payload holds an LR of {header.lr_width} x {header.lr_height}, bundle {manifest.id} works with "
            f"{width} x {height}; it is corrupt or forged")


def restored_size(header: Header, manifest: Manifest, size: Size) -> tuple[int, int]:
    """(width, height) of the picture that a payload is restored to, at most; ``"native"`` may cut padding off it."""
    if manifest.tile_overlap is not None:
        return header.original_size
    if size == "native":
        return manifest.hr, manifest.hr
    if header.cut is not None:
        side = header.cut.side if size == "original" else size
        return side, side
    return header.original_size if size == "original" else content_size(header.original_size, size)


def enlargement(header: Header | None, manifest: Manifest, size: Size) -> int:
    """Factor by which the square of a payload, or of an LR without a header, is enlarged for a size; 1 for none.

    The smallest factor of the bundle whose square has sides of at least ``size`` pixels or, for ``"original"``, of at
    least the longest side of the original, or of the square cut out of it. An original larger than all of them takes
    the largest factor. ``"native"``, and ``"original"`` without a header, give 1.

    Raises:
        ImageError: the size is unknown, or the bundle does not restore squares that large.
    """
    size = check_size(size)
    sides = manifest.sides
    if isinstance(size, int):
        if not sides:
            raise ImageError(f"bundle {manifest.id} restores pictures at their original's size only, not at {size} "
                             "pixels; leave size out")
        if size > sides[-1]:
            raise ImageError(f"bundle {manifest.id} restores pictures at up to {sides[-1]} pixels, not at {size}; "
                             f"its sizes: {', '.join(map(str, sides))}")
        wanted = size
    elif size == "native" or header is None:
        return 1
    else:
        wanted = header.cut.side if header.cut is not None else max(header.original_size)
    return next((side for side in sides if side >= wanted), max(sides, default=manifest.hr)) // manifest.hr
