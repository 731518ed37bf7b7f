"""Which bundles a worker process works with: found out before one is started, which would fail again and again."""

from __future__ import annotations

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import BundleError


def require_servable(manifest: Manifest) -> None:
    """Raise `BundleError` for a bundle of photographs in tiles: batches and their bounds are made for one square."""
    if manifest.tile_overlap is not None:
        raise BundleError(
            f"bundle {manifest.id} takes photographs of any size, in tiles; the service and edgegrain batch work with "
            "bundles of one square. Use edgegrain compress and restore, or sdk.Codec, for this one")
