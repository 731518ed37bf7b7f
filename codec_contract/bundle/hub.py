"""Bundles of the Hugging Face Hub: ``hf://owner/name@revision``, downloaded once into edgegrain's cache folder.

A commit's bundle appears in the cache complete or not at all. The manifest is downloaded first; then only the files
that it lists, none of another size than it says, and all are compared with their SHA-256. The folders hold plain files,
so that one can be copied to another machine. huggingface-hub (the extra ``hub``) is imported only to reach the network.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from codec_contract.bundle.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MODEL_CARD,
    Manifest,
    load_manifest,
    verify_bundle,
)
from codec_contract.errors import BundleError, needs_extra
from codec_contract.files import cache_folder, write_atomically

SCHEME = "hf:"
MAX_LICENCES, MAX_SHOWN = 8, 400
"""Most licences that are logged, and the longest text of one."""

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(f"{_PART}/{_PART}")
_REVISION = re.compile(f"{_PART}(?:/{_PART})*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FRONT_MATTER = re.compile(r"---\n(.*\n)*?---(\n|\Z)")  # a card can also begin with a horizontal rule

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
                              "hf://owner/name@revision, as a string")

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Parse ``hf://owner/name`` or ``hf://owner/name@revision``."""
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
    as a warning, when the bundle is downloaded. A branch or tag is looked up on the Hub; if that fails, its last known
    commit is taken, with a warning. A commit that is in the cache needs no network. An interrupted download keeps its
    complete files.

    With ``verify``, a bundle that is altered in the cache is downloaded again; without it, files are checked when they
    are opened. ``check`` may refuse the manifest of a downloaded bundle, next to its files, with a `BundleError`.
    """
    wanted = HubName.parse(name)
    folder = hub_cache() / wanted.repository
    # Quoted: v1 and v1/fix can exist one after the other, and a file has no files below it.
    reference = folder / "refs" / quote(wanted.revision, safe="")
    try:
        known = _complete(folder / (wanted.revision if wanted.pinned else reference.read_text()), verify)
    except (OSError, ValueError):
        known = None
    if known is not None and wanted.pinned:
        return known
    with hub_errors(str(wanted)):
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import OfflineModeIsEnabled

        try:
            metadata = get_hf_file_metadata(hf_hub_url(wanted.repository, MANIFEST, revision=wanted.revision))
            commit = metadata.commit_hash or ""
            if not _COMMIT.fullmatch(commit):
                raise OSError("the answer names no commit, so it is not from a Hub; check HF_ENDPOINT and proxies")
        except Exception as error:
            if known is None:
                raise
            if not isinstance(error, OfflineModeIsEnabled):  # which the user chose
                logger.warning("%s: the Hub gives no answer for it (%s); commit %s of the cache is used", wanted,
                               type(error).__name__, known.name)
            return known
        if known is None or known.name != commit:
            known = _complete(folder / commit, verify) or _download(wanted, folder / commit, metadata.size, check)
            if not wanted.pinned:
                write_atomically(reference, commit.encode(), force=True)
    return known


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


@contextlib.contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn the errors of huggingface-hub, which say what to do, into `BundleError`s about ``what``."""
    with needs_extra("hub", f"{what}: the Hub needs", BundleError):
        from huggingface_hub import errors
    try:
        yield
    except BundleError:
        raise
    except Exception as error:  # of huggingface-hub, its HTTP client, the file system
        local = isinstance(error, errors.LocalEntryNotFoundError)  # the Hub cannot be reached: its cause says why
        said = " ".join(str(error).split())
        match error.__cause__ if local and error.__cause__ else error:
            case errors.EntryNotFoundError():
                advice = f"the repository holds no bundle: manifest.json, or a file that it lists, is missing ({said})"
            case errors.HfHubHTTPError(response=response) if response.status_code in (401, 403):
                advice = f"{said}; log in with 'hf auth login' or set HF_TOKEN"
            case errors.HfHubHTTPError() | errors.OfflineModeIsEnabled() | ValueError():
                advice = said
            case OSError(errno=errno.ENOSPC) | OSError(filename=str()):
                advice = f"the cache cannot be written ({said}); free space, or set EDGEGRAIN_CACHE to another folder"
            case errors.HTTPError() | OSError() | RuntimeError() as cause:  # RuntimeError: of hf-xet
                advice = (f"the Hub cannot be reached or the transfer broke off ({type(cause).__name__}: {cause}); "
                          "check the network and try again")
            case _:  # a defect
                raise
        raise BundleError(f"{what}: {advice}") from error


def _complete(folder: Path, verify: bool) -> Path | None:
    """The folder of a commit's bundle; None if it is not there or, for ``verify``, altered."""
    with contextlib.suppress(BundleError):
        if _COMMIT.fullmatch(folder.name) and (folder / MANIFEST).is_file():
            if verify:
                verify_bundle(folder)
            return folder
    return None


def _download(name: HubName, target: Path, manifest_size: int | None, check: Check | None) -> Path:
    """Download a commit's bundle into the folder ``target``, which is named for the commit."""
    from filelock import FileLock
    from huggingface_hub import HfApi

    api, commit, staging = HfApi(library_name="edgegrain"), target.name, target.with_name(f"{target.name}.part")
    fetch = partial(api.hf_hub_download, name.repository, revision=commit, local_dir=staging)
    if manifest_size is None or manifest_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{name}: {MANIFEST} has {manifest_size} bytes, at most {MAX_MANIFEST_BYTES} are allowed")
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if (folder := _complete(target, verify=True)) is not None:  # by another process
            return folder
        if target.exists():
            logger.warning("%s: %s is altered and is replaced", name, target)
        try:
            fetch(MANIFEST)
            manifest = load_manifest(staging)
            logger.warning("%s: downloading bundle %s, version %s, commit %s, %.1f MB. %s", name, manifest.id,
                           printable_text(manifest.version), commit,
                           sum(entry.size for entry in manifest.files.values()) / 1e6, licence_text(manifest.licence))
            sizes = {file.path: getattr(file, "size", None)
                     for file in api.list_repo_tree(name.repository, recursive=True, revision=commit)}
            for file, entry in manifest.files.items():
                if sizes.get(file, entry.size) != entry.size:
                    raise BundleError(f"{file} has {sizes[file]} bytes on the Hub, expected {entry.size}")
                fetch(file)
                manifest.verify_file(file)
            if check is not None:
                check(manifest)
        except BundleError as error:
            shutil.rmtree(staging)
            raise BundleError(f"{name}, commit {commit}, is refused: {error}; if that happens again, tell the owner of "
                              "the repository") from error
        shutil.rmtree(staging / ".cache", ignore_errors=True)  # huggingface-hub's
        shutil.rmtree(target, ignore_errors=True)
        os.replace(staging, target)
    return target


@dataclass(frozen=True)
class Upload:
    """A planned upload; ``message`` is that of the commit, ``private`` creates a private repository."""

    target: HubName
    manifest: Manifest
    files: Mapping[str, Path | bytes]
    """Path in the repository -> its file, or its content where that differs from the bundle's."""
    front_matter: str
    """The lines at the head of the model card that the Hub reads, with their fences."""
    message: str
    private: bool

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every file."""
        return {name: len(file) if isinstance(file, bytes) else file.stat().st_size
                for name, file in self.files.items()}


def plan_upload(folder: Path, target: HubName, check: Check | None = None, *, licence: str = "", private: bool = False,
                message: str = "") -> Upload:
    """Verify a bundle and plan its upload; the network is not used.

    A model card without front matter gets one, with the licence ``other`` and a link to the card; ``licence``, an
    identifier of the Hub, replaces either. The manifest that is uploaded has the new card's size and hash.
    """
    manifest = verify_bundle(folder)
    if check is not None:
        check(manifest)
    if target.pinned:
        raise BundleError(f"{target} is a commit, which never changes; name a branch")
    text = manifest.open_file(MODEL_CARD).decode() if MODEL_CARD in manifest.files else f"# {manifest.id}\n"
    head, body = _front_matter(text, manifest, target, licence)
    files: dict[str, Path | bytes] = {MANIFEST: manifest.folder / MANIFEST}
    files |= {name: manifest.path(name) for name in manifest.files}
    if (card := head + body) != text:
        data = card.encode()
        record = json.loads((manifest.folder / MANIFEST).read_bytes())
        record["files"][MODEL_CARD] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        files |= {MODEL_CARD: data, MANIFEST: (json.dumps(record, indent=2) + "\n").encode()}
    return Upload(target, manifest, files, head, message or f"Bundle {manifest.id} {manifest.version}", private)


def upload(plan: Upload) -> HubName:
    """Create the repository and the branch if they are missing, commit the files, and return the commit's name."""
    repository, branch = plan.target.repository, plan.target.revision
    with hub_errors(str(plan.target)):
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi(library_name="edgegrain")
        api.create_repo(repository, private=plan.private or None, exist_ok=True)
        if plan.private and not api.model_info(repository).private:
            raise BundleError(f"{plan.target} is public and stays so; make it private on the Hub, or leave --private "
                              "out. Nothing was uploaded")
        if branch != "main":
            api.create_branch(repository, branch=branch, exist_ok=True)
        commit = api.create_commit(
            repository, [CommitOperationAdd(name, file) for name, file in plan.files.items()],
            commit_message=plan.message, revision=branch)
    return HubName(repository, commit.oid)


def _front_matter(card: str, manifest: Manifest, target: HubName, licence: str) -> tuple[str, str]:
    """The front matter of a card to upload, and the text below it. Licences in manifests are sentences, which the Hub
    calls ``other``."""
    with hub_errors(str(target)):
        from huggingface_hub import ModelCard, ModelCardData
        from yaml import YAMLError

    if not _FRONT_MATTER.match(card):
        card = f"---\n{{}}\n---\n\n{card}"
    try:
        changed = ModelCard(card)
    except (ValueError, YAMLError) as error:
        raise BundleError(f"the front matter of {MODEL_CARD} cannot be read ({' '.join(str(error).split())}); correct "
                          "it in the bundle") from error
    if not changed.data.to_dict():
        page = f"https://huggingface.co/{target.repository}/blob/main/{MODEL_CARD}"
        changed.data = ModelCardData(
            license=licence or "other",
            license_name=None if licence else "see-model-card",
            license_link=None if licence else page,
            library_name="edgegrain", pipeline_tag="image-to-image",
            tags=["edgegrain", "image-compression", "image-rescaling", "onnx", manifest.codec, manifest.domain])
    elif licence:
        for field in ("license_name", "license_link"):
            changed.data.pop(field)
        changed.data["license"] = licence
    else:
        return card.removesuffix(changed.text), changed.text
    return str(changed).removesuffix(changed.text), changed.text
