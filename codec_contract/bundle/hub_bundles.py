"""Bundles of the Hugging Face Hub: ``hf://owner/name@revision``, downloaded once into edgegrain's cache folder.

A commit's bundle appears in the cache complete or not at all. The manifest is downloaded first; then only the files
that it lists, none larger than it says, and all are compared with their SHA-256. The folders hold plain files, so that
one can be copied to another machine. huggingface-hub (the extra ``hub``) is imported only to reach the network.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from codec_contract.bundle.file_names import MANIFEST
from codec_contract.bundle.hub_transfer import download, hub_errors, is_outage
from codec_contract.bundle.manifest import MAX_MANIFEST_BYTES, Manifest, load_manifest, verify_bundle
from codec_contract.cache_folder import cache_folder
from codec_contract.errors import BundleError
from codec_contract.files import write_atomically

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

SCHEME = "hf:"
MAX_LICENCES, MAX_SHOWN = 8, 400
"""Most licences that are logged, and the longest text of one."""

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(f"{_PART}/{_PART}")
_REVISION = re.compile(f"{_PART}(?:/{_PART})*")
_COMMIT = re.compile(r"[0-9a-f]{40}")

logger = logging.getLogger(__name__)

Check = Callable[[Manifest], object]


@dataclass(frozen=True)
class HubName:
    """A bundle on the Hub: repository, ``owner/name``, and revision, a branch, tag or commit."""

    repository: str
    revision: str = "main"

    def __post_init__(self) -> None:
        """Raise `BundleError` for names that the Hub does not allow, or that would leave the cache folder."""
        if (_REPOSITORY.fullmatch(self.repository) is None or _REVISION.fullmatch(self.revision) is None
                or ".." in str(self) or "--" in self.repository):
            raise BundleError(f"{str(self)[:200]!r} names no bundle of the Hub; expected hf://owner/name or "
                              "hf://owner/name@revision")

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Parse ``hf://owner/name`` or ``hf://owner/name@revision``; `BundleError` for any other form."""
        if not text.startswith("hf://"):
            raise BundleError(f"{text[:200]!r} names no bundle of the Hub; expected a string hf://owner/name or "
                              "hf://owner/name@revision")
        repository, at, revision = text.removeprefix("hf://").partition("@")
        return cls(repository, revision if at else "main")

    @property
    def pinned(self) -> bool:
        """True if the revision is a commit, which never changes."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return f"hf://{self.repository}@{self.revision}"


def find_hub_bundle(name: str, *, verify: bool = False, check: Check | None = None) -> Path:
    """The folder of a bundle of the Hub in the cache, downloaded if it is not there yet.

    The Hub is https://huggingface.co or ``$HF_ENDPOINT``, the cache ``hub`` in `cache_folder`. The licence is logged,
    as a warning, when the bundle is downloaded. A branch or tag is looked up on the Hub; if the Hub cannot be reached,
    its last known commit is taken, with a warning. A commit that is in the cache needs no network. An interrupted
    download continues where it stopped.

    Args:
        name: ``hf://owner/name`` (branch ``main``) or ``hf://owner/name@revision``.
        verify: check every file that is in the cache already; an altered bundle is downloaded again. Without it, files
            are checked when they are opened.
        check: called with the manifest of a downloaded bundle, next to its files, before the bundle appears in the
            cache; raises `BundleError` to refuse it.

    Raises:
        BundleError: the name has another form; huggingface-hub is not installed; there is no such repository or
            revision, or it does not hold the bundle that its manifest describes; the Hub cannot be reached.
    """
    wanted = HubName.parse(name)
    return _Repository(wanted, hub_cache() / wanted.repository, check).find(verify)


def hub_cache() -> Path:
    """The folder of downloaded bundles: ``owner/name/commit`` in it."""
    return cache_folder() / "hub"


def cached_hub_bundles() -> dict[str, Path]:
    """``hf://owner/name@commit`` -> folder of every bundle in the cache; folders with other names are left out."""
    found = {}
    for path in sorted(hub_cache().glob(f"*/*/*/{MANIFEST}")):
        owner, repository, commit = path.parts[-4:-1]
        if _COMMIT.fullmatch(commit):
            with contextlib.suppress(BundleError):
                found[str(HubName(f"{owner}/{repository}", commit))] = path.parent
    return found


def licence_text(licence: Mapping[str, Any]) -> str:
    """Licences of weights and data as sentences of bounded length, without control characters."""
    shown = list({"weights": "not stated", "data": "not stated", **licence}.items())[:MAX_LICENCES]
    return " ".join(f"Licence of {printable_text(what)}: {printable_text(text).rstrip('.')}." for what, text in shown)


def printable_text(value: object) -> str:
    """Text of a manifest on one line, without control characters, of bounded length."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


@dataclass(frozen=True)
class _Repository:
    """A repository at a revision, its folder in the cache, and the check of its downloads."""

    name: HubName
    folder: Path
    check: Check | None

    def find(self, verify: bool) -> Path:
        known = self._known(verify)
        if known is not None and self.name.pinned:
            return known
        with hub_errors(str(self.name)):
            from huggingface_hub.errors import OfflineModeIsEnabled

            try:
                metadata = self._metadata()
            except Exception as error:
                if known is None or not is_outage(error):
                    raise
                if not isinstance(error, OfflineModeIsEnabled):  # which the user chose
                    logger.warning("%s: the Hub cannot be reached (%s); commit %s of the cache is used", self.name,
                                   type(error).__name__, known.name)
                return known
            commit = metadata.commit_hash or ""
            if known is None or known.name != commit:
                known = self._download(commit, metadata.size, verify)
                if not self.name.pinned:
                    write_atomically(self._reference, commit.encode(), force=True)
            return known

    @property
    def _reference(self) -> Path:
        """The file that names the last known commit of a branch or tag."""
        # Quoted: v1 and v1/fix can exist one after the other, and a file has no files below it.
        return self.folder / "refs" / quote(self.name.revision, safe="")

    def _known(self, verify: bool) -> Path | None:
        """The last known bundle of the revision."""
        if self.name.pinned:
            return self._commit_folder(self.name.revision, verify)
        try:
            return self._commit_folder(self._reference.read_text(), verify)
        except (OSError, ValueError):
            return None

    def _commit_folder(self, commit: str, verify: bool) -> Path | None:
        """The folder of a commit's bundle; None if it is not there or, for ``verify``, altered."""
        folder = self.folder / commit
        if not _COMMIT.fullmatch(commit) or not (folder / MANIFEST).is_file():
            return None
        if verify:
            try:
                verify_bundle(folder)
            except BundleError:
                return None
        return folder

    def _url(self, file: str, revision: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.name.repository, file, revision=revision)

    def _metadata(self) -> HfFileMetadata:
        """Commit and size of the manifest on the Hub."""
        from huggingface_hub import get_hf_file_metadata

        metadata = get_hf_file_metadata(self._url(MANIFEST, self.name.revision))
        if not _COMMIT.fullmatch(metadata.commit_hash or ""):
            raise OSError("the answer names no commit, so it is not from a Hub; check HF_ENDPOINT and proxies")
        return metadata

    def _download(self, commit: str, manifest_size: int | None, verify: bool) -> Path:
        from filelock import FileLock

        if (folder := self._commit_folder(commit, verify)) is not None:  # known under another revision
            return folder
        if manifest_size is None or manifest_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{self.name}: {MANIFEST} has {manifest_size} bytes, at most {MAX_MANIFEST_BYTES} are "
                              "allowed")
        target, staging = self.folder / commit, self.folder / f"{commit}.part"
        staging.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{commit}.lock"):  # two processes would write to the same parts
            if (folder := self._commit_folder(commit, verify)) is not None:  # by the other process
                return folder
            if target.exists():
                logger.warning("%s: %s is altered and is replaced", self.name, target)
            download(self._url(MANIFEST, commit), staging / MANIFEST, manifest_size)
            try:
                manifest = load_manifest(staging)
            except BundleError as error:
                shutil.rmtree(staging)
                raise BundleError(f"{self.name} holds no valid bundle: {error}") from error
            self._download_files(manifest, commit)
            if self.check is not None:
                try:
                    self.check(manifest)
                except BundleError as error:
                    shutil.rmtree(staging)
                    raise BundleError(f"{self.name}, commit {commit}, is refused: {error}; tell its owner") from error
            shutil.rmtree(target, ignore_errors=True)
            os.replace(staging, target)
        return target

    def _download_files(self, manifest: Manifest, commit: str) -> None:
        """Download the files that a manifest lists next to it, and check them."""
        from huggingface_hub.utils import tqdm

        total = sum(entry.size for entry in manifest.files.values())
        logger.warning("%s: downloading bundle %s, version %s, commit %s, %.1f MB. %s", self.name, manifest.id,
                       printable_text(manifest.version), commit, total / 1e6, licence_text(manifest.licence))
        paths = [manifest.path(name) for name in manifest.files]
        have = sum(path.stat().st_size for path in paths if path.is_file())
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=manifest.id, disable=None)
        with bar:  # on a terminal only
            for name, entry in manifest.files.items():
                path = manifest.path(name)
                try:
                    download(self._url(name, commit), path, entry.size, bar.update)
                    manifest.verify_file(name)
                except BundleError as error:
                    path.unlink(missing_ok=True)
                    raise BundleError(f"{self.name}, commit {commit}: {error}. If that happens again, the repository "
                                      "is damaged; tell its owner") from error
