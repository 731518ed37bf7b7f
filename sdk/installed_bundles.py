"""The installed bundles, and the one that a payload belongs to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codec_contract.bundle.find import ALIASES, DEFAULT_BUNDLE, Control, controls_of, installed_bundles
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError
from codec_contract.payload import Header, other_contract

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BundleInfo:
    """Description of a bundle, from its manifest.

    Attributes:
        id: the name, for instance ``"faces-256-lr16-small"``.
        version: version of the bundle. Bundles with the same ``lr_contract_id`` read each other's payloads.
        aliases: shorter names.
        codec: the method: ``"grain"``, ``"irn"``, ``"irn_plus"``, ``"glean"`` or ``"gcfsr"``.
        domain: the kind of pictures it was trained on, for instance ``"faces"``.
        hr: side of the square picture it encodes and decodes, in pixels.
        lr: side of the square LR, in pixels.
        lr_contract_id: 64 hex digits; a payload names the first four.
        bytes: total length of the files.
        folder: the bundle's folder.
        licence: licences of the weights and the data.
        controls: options of restoring, ``"seed"`` or ``"strength"``, with range and default.
        sides: sides of the squares it restores, in pixels: ``hr`` first, then those of its enlarger; empty for bundles
            of tiles, which restore at the original's size only.
        quality: ``"tiny"``, ``"small"``, ``"medium"`` or ``"large"``: its rate among the bundles of its domain; None if
            it is not one of them.
        qualities: of all its rates, from most to fewest bytes; None for a rate without a name.
        lr_contract_ids: of all its rates.
    """

    id: str
    version: str
    aliases: tuple[str, ...]
    codec: str
    domain: str
    hr: int
    lr: int
    lr_contract_id: str
    bytes: int
    folder: Path
    licence: Mapping[str, Any]
    controls: Mapping[str, Control] = field(default_factory=dict)
    sides: tuple[int, ...] = ()
    quality: str | None = None
    qualities: tuple[str | None, ...] = ()
    lr_contract_ids: tuple[str, ...] = ()


def bundles() -> list[BundleInfo]:
    """List the installed bundles, the default one first; manifests are checked, no other file is opened.

    Bundles whose manifests cannot be read are left out, with a warning.
    """
    return [bundle_info(manifest) for manifest in installed_manifests()]


def bundle_info(manifest: Manifest) -> BundleInfo:
    """The `BundleInfo` of a manifest."""
    same = ("id", "version", "codec", "domain", "hr", "lr", "folder", "licence", "sides", "quality")
    return BundleInfo(
        **{name: getattr(manifest, name) for name in same},
        aliases=tuple(alias for alias, name in ALIASES.items() if name == manifest.id),
        lr_contract_id=manifest.lr_contract_id.hex(),
        bytes=sum(entry.size for entry in manifest.files.values()),
        controls=controls_of(manifest),
        qualities=tuple(rate.quality for rate in manifest.rates),
        lr_contract_ids=tuple(rate.lr_contract_id.hex() for rate in manifest.rates),
    )


def installed_manifests() -> Iterator[Manifest]:
    """Manifests of the installed bundles that can be read, the default one first."""
    folders = installed_bundles()
    names = sorted(folders, key=lambda name: (name != DEFAULT_BUNDLE, name))
    return readable_manifests(folders[name] for name in names)


def readable_manifests(folders: Iterable[Path]) -> Iterator[Manifest]:
    """Manifests of the bundles in ``folders``; those that cannot be read are left out, with a warning."""
    for folder in folders:
        try:
            manifest = load_manifest(folder)
            controls_of(manifest)
        except BundleError as error:
            logger.warning("the bundle in %s is left out: %s", folder, error)
        else:
            yield manifest


def manifest_for(header: Header) -> Manifest | None:
    """The installed bundle whose LR contract a payload names, the default one if several share it; None if none."""
    return next((manifest for manifest in installed_manifests() if manifest.rate_of(header)), None)


def require_manifest_for(header: Header) -> Manifest:
    """As `manifest_for`, but raises `PayloadError`, which lists the installed bundles, instead of returning None."""
    manifest = manifest_for(header)
    if manifest is None:
        contracts = {item.id: ", ".join(rate.prefix for rate in item.rates) for item in installed_manifests()}
        installed = ", ".join(f"{name} ({prefixes})" for name, prefixes in contracts.items()) or "none"
        advice = "name the one it was made with by its folder or as hf:// (bundle=, --bundle)"
        raise other_contract(header, f"which no installed bundle has (installed: {installed}); {advice}")
    return manifest
