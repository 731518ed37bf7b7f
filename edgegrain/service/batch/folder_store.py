"""`FolderStore`: a folder, written by one run at a time."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from codec_contract.errors import ServiceError
from codec_contract.files import write_atomically
from edgegrain.service.batch.folder_lock import Locks, lock, lock_alone
from edgegrain.service.batch.store import OnUnlisted, Store, check_length, ignore

STAGING = ".edgegrain-batch"
"""Folder inside a target folder for files that are being written."""
LOCK_SECONDS, END_SECONDS = 30.0, 5.0
"""Longest wait in seconds for workers to release the lock: those of a killed run at the start, ours at the end."""


class FolderStore:
    """A folder on this machine, or on a file system that all machines share."""

    threads = 1  # `write_atomically` is not thread-safe

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, report: OnUnlisted = ignore) -> Iterator[str]:
        yield from _walk(os.fspath(self.root), "", report)

    def name_of(self, other: Store) -> str | None:
        if not isinstance(other, FolderStore):
            return None
        root = other.root.resolve()
        for folder in (root, *root.parents):  # not as text: links, and case where file systems ignore it
            if os.path.exists(folder) and os.path.samefile(folder, self.root):
                return "/".join(root.relative_to(folder).parts)
        return None

    def present(self, names: Sequence[str]) -> set[str]:
        # Not Path.is_file, which raises an error for a name that is too long.
        return {name for name in names if os.path.isfile(self.root / name)}

    def read(self, name: str, limit: int) -> bytes:
        with (self.root / name).open("rb") as file:
            return check_length(file.read(limit + 1), name, limit)

    def head(self, name: str, count: int) -> bytes:
        with (self.root / name).open("rb") as file:
            return file.read(count)

    def write(self, name: str, data: bytes) -> None:
        staged = write_atomically(self.root / STAGING / uuid.uuid4().hex, data)
        target = self.root / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged, target)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise

    @contextmanager
    def held(self) -> Iterator[None]:
        """Create and lock the folder for this run; unfinished files of a killed run are removed.

        Raises:
            ServiceError: another run holds the lock.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root, os.O_RDONLY)
        locks = lock_alone(handle, LOCK_SECONDS)
        if locks is Locks.TAKEN:
            os.close(handle)
            raise ServiceError(f"another run writes to {self.root}; wait for it, or stop it")
        try:
            shutil.rmtree(self.root / STAGING, ignore_errors=True)
            if locks is Locks.HELD:
                lock(handle, shared=True)  # shared with the workers of this run
            yield
        finally:
            # Waits for the workers. Every failed attempt gives up our shared lock (flock(2)), so another run may have
            # begun: it holds the lock then, and the files are its own.
            if lock_alone(handle, END_SECONDS) is not Locks.TAKEN:
                shutil.rmtree(self.root / STAGING, ignore_errors=True)
            os.close(handle)

    def share(self) -> int | None:
        """A worker's share of the lock: a descriptor to keep open; None on file systems without locks."""
        handle = os.open(self.root, os.O_RDONLY)
        try:
            lock(handle, shared=True)
        except (OSError, ImportError):
            os.close(handle)
            return None
        return handle


def _walk(root: str, folder: str, report: OnUnlisted) -> Iterator[str]:
    # Not Path.rglob, which holds all entries of a folder in memory.
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    is_folder = entry.is_dir(follow_symlinks=False)
                except OSError as error:
                    report(name, error)
                    continue
                if is_folder:
                    yield from _walk(root, name, report)
                elif _is_file(entry):
                    yield name
    except OSError as error:
        if not folder:
            raise
        report(folder, error)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """True for files and for links that lead to nothing, so that these are reported when they are read."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # for instance of a link that leads to itself
        return True
