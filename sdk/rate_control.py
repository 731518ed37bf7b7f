"""Compression of one picture with several bundles: the best quality whose payload is small enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codec_contract.bundle.find import bundles_to_try, find_bundle, too_few_bytes
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.fit import MAX_PHOTO_PIXELS, Fit
from edge_encoder.contract_check import check_contract_id
from edge_encoder.preprocessing import WHITE, Colour, PictureSource
from sdk.codec import Codec
from sdk.faces import Fitted
from sdk.installed_bundles import installed_manifests
from sdk.payload import Payload


def bundles_for(bundle: str | Path, quality: str | None = None, max_bytes: int | None = None) -> list[Manifest]:
    """The installed bundles to try for a picture, best quality first.

    Args:
        bundle: id, alias, folder or ``hf://`` name; its domain is that of the others.
        quality, max_bytes: as for `sdk.compress`.
    """
    base = load_manifest(find_bundle(bundle, check=check_contract_id))
    if quality is None and max_bytes is None:
        return [base]  # the others are not read
    return bundles_to_try(base, list(installed_manifests()), quality, max_bytes)


def compress_within(
    codecs: Sequence[Codec],
    picture: PictureSource,
    fit: Fit | None = None,
    *,
    max_bytes: int | None,
    background: Colour = WHITE,
    max_pixels: int = MAX_PHOTO_PIXELS,
    align: bool = True,
    require_face: bool = False,
) -> Payload:
    """Compress a picture with the first of several codecs whose payload is small enough.

    Args:
        codecs: opened for the bundles of `bundles_for`, best quality first.
        picture, fit, background, max_pixels, align, require_face: as for `sdk.compress`.
        max_bytes: largest payload in bytes; None takes the first codec.
    """
    inputs: dict[tuple[int, bool], Fitted] = {}  # the picture is decoded and aligned once for each kind of input
    sizes = []
    for codec in codecs:
        kind = codec.bundle.hr, bool(codec.bundle.sides)
        if kind not in inputs:
            inputs[kind] = codec.fit(picture, fit, background, max_pixels, align, require_face)
        payload = codec.compress_fitted(inputs[kind])
        if max_bytes is None or len(payload) <= max_bytes:
            return payload
        sizes.append(len(payload))
    raise too_few_bytes(max_bytes or 0, min(sizes))
