"""Qualities: bundles of one domain at several rates, from which a picture's bundle is chosen by name or by bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, SupportsIndex, get_args

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import BundleError, ImageError

Quality = Literal["tiny", "small", "medium", "large"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)
"""Names of the rates, ascending: about 170, 350, 800 and 2,200 bytes for a face (docs/qualities.md)."""


def bundles_by_quality(domain: str, manifests: Iterable[Manifest]) -> dict[str, Manifest]:
    """Quality -> bundle of this domain, ascending; the first of several with the same quality."""
    found: dict[str, Manifest] = {}
    for manifest in manifests:
        if manifest.domain == domain and manifest.quality is not None:
            found.setdefault(manifest.quality, manifest)
    return {quality: found[quality] for quality in QUALITIES if quality in found}


def bundles_to_try(base: Manifest, manifests: Iterable[Manifest], quality: str | None, max_bytes: int | None
                   ) -> list[Manifest]:
    """The bundles for a picture, best first; the first whose payload has at most ``max_bytes`` is taken.

    Args:
        base: the bundle to use if neither a quality nor a limit is given; the other bundles are of its domain.
        manifests: the available bundles.
        quality: the best quality to use; without ``max_bytes`` the only one. None without ``max_bytes`` gives ``base``;
            with it every quality, or ``base`` alone if ``base`` has no quality.
        max_bytes: largest payload in bytes, or None for no limit.
    """
    if max_bytes is not None:
        check_max_bytes(max_bytes)
    if quality is not None and not (isinstance(quality, str) and quality in QUALITIES):
        raise BundleError(f"there is no quality {str(quality)[:80]!r}, only: {', '.join(QUALITIES)}")
    if quality is None and (max_bytes is None or base.quality is None):
        return [base]
    known = bundles_by_quality(base.domain, [base, *manifests])
    if max_bytes is None:
        if quality not in known:
            raise _missing(base, quality, known)
        return [known[str(quality)]]
    allowed = QUALITIES if quality is None else QUALITIES[:QUALITIES.index(quality) + 1]
    found = [known[name] for name in reversed(allowed) if name in known]
    if not found:
        raise _missing(base, quality, known)
    return found


def check_max_bytes(max_bytes: int) -> int:
    """The limit as a plain integer; `ImageError` unless it is a whole number of at least 1."""
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, SupportsIndex) or max_bytes.__index__() < 1:
        raise ImageError(f"max_bytes must be a number of at least 1, got {max_bytes!r}")
    return max_bytes.__index__()


def too_few_bytes(max_bytes: int, smallest: int, what: str = "payload of this picture") -> ImageError:
    """The error for a picture whose smallest payload exceeds the limit."""
    return ImageError(f"no quality fits into {max_bytes} bytes: the smallest {what} has {smallest}")


def _missing(base: Manifest, quality: str | None, known: Iterable[str]) -> BundleError:
    return BundleError(f"there is no bundle for {base.domain} of quality {quality}, only: "
                       f"{', '.join(known) or 'none'}; see 'edgegrain bundles'")
