"""Which bundles there are, and which of them a payload belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codec_contract.bundle.controls import Control, controls_of
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.bundle.paths import ALIASES, DEFAULT_BUNDLE, installed_bundles
from codec_contract.errors import PayloadError
from codec_contract.payload import Header


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle's manifest says about it.

    Attributes:
        id: its name, for instance ``"faces-256-lr16"``.
        version: of the bundle; a new one may have a better decoder, never another encoder.
        aliases: shorter names for it.
        codec: the method: ``"grain"``, ``"irn"``, ``"irn_plus"``, ``"glean"`` or ``"gcfsr"``.
        domain: what it was trained for, for instance ``"faces"``.
        hr: side of the square picture it encodes and decodes, in pixels.
        lr: side of the square LR that travels, in pixels.
        lr_contract_id: 64 hex digits; a payload names the first eight.
        size: bytes of all its files.
        folder: where it lies.
        licence: of its weights and data.
        controls: what may be chosen when restoring, ``"seed"`` or ``"strength"``, with range and default.
    """

    id: str
    version: str
    aliases: tuple[str, ...]
    codec: str
    domain: str
    hr: int
    lr: int
    lr_contract_id: str
    size: int
    folder: Path
    licence: Mapping[str, Any]
    controls: Mapping[str, Control] = field(default_factory=dict)


def bundles() -> list[BundleInfo]:
    """The installed bundles, the default one first; their manifests are checked, their files not opened.

    Raises:
        BundleError: an installed bundle's manifest is missing or wrong.
    """
    return [bundle_info(manifest) for manifest in known_manifests()]


def bundle_info(manifest: Manifest) -> BundleInfo:
    """The public face of a manifest."""
    return BundleInfo(
        id=manifest.id,
        version=manifest.version,
        aliases=tuple(alias for alias, name in ALIASES.items() if name == manifest.id),
        codec=manifest.codec,
        domain=manifest.domain,
        hr=manifest.hr,
        lr=manifest.lr,
        lr_contract_id=manifest.lr_contract_id.hex(),
        size=sum(entry.size for entry in manifest.files.values()),
        folder=manifest.folder,
        licence=manifest.licence,
        controls=controls_of(manifest),
    )


def known_manifests() -> list[Manifest]:
    """Manifests of the installed bundles, the default one first."""
    folders = installed_bundles()
    names = sorted(folders, key=lambda name: (name != DEFAULT_BUNDLE, name))
    return [load_manifest(folders[name]) for name in names]


def manifest_for(header: Header) -> Manifest | None:
    """The installed bundle whose LR contract a payload names, the default one if several share it; None if none."""
    for manifest in known_manifests():
        if manifest.lr_contract_id.startswith(header.contract_id):
            return manifest
    return None


def require_manifest_for(header: Header) -> Manifest:
    """Like `manifest_for`; raises `PayloadError`, naming what is installed, where that returns None."""
    manifest = manifest_for(header)
    if manifest is None:
        known = ", ".join(f"{item.id} ({item.lr_contract_id[:4].hex()})" for item in known_manifests())
        raise PayloadError(
            f"the payload was made under LR contract {header.contract_id.hex()}, which no installed bundle has "
            f"(installed: {known or 'none'}); pass bundle= with the folder of the one it was made with"
        )
    return manifest
