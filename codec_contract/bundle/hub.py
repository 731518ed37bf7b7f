"""Bundles of the Hugging Face Hub: ``hf://owner/name@revision``, downloaded into edgegrain's cache folder.

huggingface-hub (the extra ``hub``) downloads, resumes, retries, and finds what is cached without a network. Only the
files of the manifest are downloaded; like those of any bundle, they are verified when they are opened.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from codec_contract.bundle.manifest import MANIFEST, Manifest, load_manifest, verify_bundle
from codec_contract.errors import BundleError, needs_extra
from codec_contract.files import cache_folder

SCHEME = "hf:"
_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")

logger = logging.getLogger(__name__)

Check = Callable[[Manifest], object]


def parse_hub_name(name: str) -> tuple[str, str]:
    """Repository, ``owner/name``, and revision, a branch, tag or commit, of ``hf://owner/name@revision``."""
    found = _NAME.fullmatch(name)
    if found is None or ".." in name:
        expected = "hf://owner/name or hf://owner/name@revision, as a string"
        raise BundleError(f"{name[:200]!r} names no bundle of the Hub; expected {expected}")
    return found[1], found[2] or "main"


def find_hub_bundle(name: str, *, verify: bool = False, check: Check | None = None) -> Path:
    """The folder of a bundle of the Hub in the cache, downloaded if it is not there yet.

    The Hub is https://huggingface.co or ``$HF_ENDPOINT``. The licence of a new bundle is logged as a warning. A branch
    or tag is looked up on the Hub; if that fails, its last known commit is taken. A commit that is in the cache needs
    neither the network nor huggingface-hub.

    With ``verify``, every file is verified, and a bundle that is altered in the cache is downloaded again. ``check``
    may refuse the bundle's manifest with a `BundleError`.
    """
    repository, revision = parse_hub_name(name)
    folder = cached_hub_bundles().get(name)
    if folder is None or verify or not _complete(load_manifest(folder)):
        with hub_errors(name):
            folder = _download(name, repository, revision, verify)
    if check is not None:
        check(load_manifest(folder))
    return folder


def _download(name: str, repository: str, revision: str, verify: bool) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download

    folder = Path(hf_hub_download(repository, MANIFEST, revision=revision, cache_dir=hub_cache())).parent
    manifest, commit = load_manifest(folder), folder.name
    files = [MANIFEST, *manifest.files]
    fetch = partial(snapshot_download, repository, revision=commit, cache_dir=hub_cache(), allow_patterns=files)
    if not _complete(manifest):
        what = f"bundle {manifest.id}, version {manifest.version}, commit {commit}"
        logger.warning("%s: downloading %s. %s", name, what, licence_text(manifest.licence))
        fetch()
    if verify:
        try:
            verify_bundle(folder)
        except BundleError as error:
            logger.warning("%s: %s", name, error)
            fetch(force_download=True)
            verify_bundle(folder)
    return folder


def _complete(manifest: Manifest) -> bool:
    return all((manifest.folder / file).exists() for file in manifest.files)


def hub_cache() -> Path:
    """The folder of downloaded bundles, in huggingface-hub's layout."""
    return cache_folder() / "hub"


def cached_hub_bundles() -> dict[str, Path]:
    """``hf://owner/name@commit`` -> folder of every bundle in the cache."""
    return {
        f"hf://{path.parts[-4].removeprefix('models--').replace('--', '/')}@{path.parts[-2]}": path.parent
        for path in sorted(hub_cache().glob(f"models--*/snapshots/*/{MANIFEST}"))
    }


def licence_text(licence: Mapping[str, Any]) -> str:
    """Licences of weights and data as sentences."""
    stated = {"weights": "not stated", "data": "not stated", **licence}
    return " ".join(f"Licence of {what}: {str(text).rstrip('.')}." for what, text in stated.items())


@contextlib.contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn the errors of huggingface-hub, which say what to do, into `BundleError`s about ``what``."""
    with needs_extra("hub", f"{what}: the Hub needs", BundleError):
        from huggingface_hub.errors import HTTPError
    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:  # RuntimeError: of hf-xet
        raise BundleError(f"{what}: {' '.join(str(error).split())}") from error
