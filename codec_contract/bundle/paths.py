"""Find bundles: in a folder given by the user, in the installed package, in a checkout, or on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from codec_contract.bundle.file_names import ENCODER_WEIGHTS, MANIFEST
from codec_contract.bundle.hub import SCHEME, Check, find_hub_bundle
from codec_contract.bundle.manifest import BUNDLE_ID
from codec_contract.errors import BundleError, reason

DEFAULT_BUNDLE = "faces-256-lr16-small"
ALIASES = {"faces": DEFAULT_BUNDLE}

# A bundle that is being built has its encoder before its manifest.
_MARKERS = (MANIFEST, ENCODER_WEIGHTS)


def bundle_roots() -> tuple[Path, ...]:
    """Folders of installed bundles: the one in the wheel, then the one of a checkout."""
    root = Path(__file__).resolve().parents[2]
    return root / "edgegrain" / "bundles", root / "bundles"


def find_bundle(name_or_path: str | Path = DEFAULT_BUNDLE, *, check: Check | None = None) -> Path:
    """The folder of a bundle, given by its path, name or alias, or as ``hf://owner/name@revision``.

    ``check`` is that of `find_hub_bundle`.
    """
    if str(name_or_path).startswith(SCHEME):
        return find_hub_bundle(str(name_or_path), check=check)
    try:
        path = Path(name_or_path)
        if any((path / marker).is_file() for marker in _MARKERS):
            return path
    except (OSError, TypeError) as error:  # a name that is too long, a folder without permission; no name at all
        raise BundleError(f"{str(name_or_path)[:80]!r} is no bundle: {reason(error)}") from error
    name = ALIASES.get(str(name_or_path), str(name_or_path))
    if BUNDLE_ID.fullmatch(name):  # a name cannot climb out of the bundles' folder
        for root in bundle_roots():
            if (root / name).is_dir():
                return root / name
    known = ", ".join(installed_bundles()) or "none"
    what = f"the folder {path} holds no {MANIFEST}" if path.is_dir() else f"there is no bundle {str(name_or_path)!r}"
    raise BundleError(f"{what}; give a bundle's folder or one of the installed bundles: {known}")


def installed_bundles() -> dict[str, Path]:
    """Name -> folder of every bundle of the package or the checkout, sorted by name.

    Folders with other names than a bundle's id are left out: a killed process may have left a copy of a bundle.
    """
    found: dict[str, Path] = {}
    for root in reversed(bundle_roots()):  # so that the wheel's own wins
        if root.is_dir():
            found |= {path.name: path for path in root.iterdir()
                      if BUNDLE_ID.fullmatch(path.name) and (path / MANIFEST).is_file()}
    return dict(sorted(found.items()))
