"""Stores that ``edgegrain batch`` reads and writes: a folder, or an object store through pyarrow's file systems.

Names are relative to the store's root, with slashes, and are listed lazily: memory holds at most one folder of an
object store, and one name of a disk.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from codec_contract.errors import EdgegrainError, ServiceError
from codec_contract.files import write_atomically

STAGING = ".edgegrain-batch"
"""Folder inside a target folder for files that are being written."""
LOCK_SECONDS, END_SECONDS = 30.0, 5.0
"""Longest wait in seconds for workers to release the lock: those of a killed run at the start, ours at the end."""
ATOMIC = frozenset({"s3", "gcs", "abfs"})
"""File systems of pyarrow with atomic writes: an object appears when its stream is closed."""


OnUnlisted = Callable[[str, OSError], None]
"""Function that gets the name of a folder that cannot be listed, and the error."""


def ignore(name: str, error: OSError) -> None:
    """The `OnUnlisted` that does nothing."""


class Store(Protocol):
    """Files under names.

    Attributes:
        threads: useful number of simultaneous reads or writes.
    """

    threads: int

    def names(self, report: OnUnlisted = ignore) -> Iterator[str]:
        """List the files at any depth, folder by folder, except names that begin with a dot.

        Folders below the root that cannot be listed are reported and left out; for the root, `OSError` is raised.
        """

    def present(self, names: Sequence[str]) -> set[str]:
        """The subset of these names that exist."""

    def read(self, name: str, limit: int) -> bytes:
        """Read a file; `OSError` if it cannot be read or has more than ``limit`` bytes."""

    def head(self, name: str, count: int) -> bytes:
        """Read the first bytes of a file; `OSError` if it cannot be read."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically, replacing an existing one; `OSError` if it cannot be written."""


def open_store(place: str) -> FolderStore | ArrowStore:
    """The store at a path or a URI: ``/data/faces``, ``file:///data``, ``s3://bucket/faces``, ``fsspec+SCHEME://...``.

    Raises:
        ServiceError: pyarrow and fsspec do not know the URI, or it cannot be reached.
    """
    if "://" not in place:
        return FolderStore(Path(place))
    if place.startswith("file://"):
        return FolderStore(Path(unquote(urlsplit(place).path)))
    from pyarrow.fs import FileSystem

    try:
        return ArrowStore(*FileSystem.from_uri(place))
    except Exception as error:  # from pyarrow, fsspec, or a library that fsspec imports
        raise ServiceError(f"cannot open {place}: {' '.join(str(error).split())}; expected a folder or a URI such as "
                           "s3://bucket/folder or gs://bucket/folder, with the prefix fsspec+ for fsspec") from error


class FolderStore:
    """A folder on this machine, or on a file system that all machines share."""

    threads = 1  # `write_atomically` is not thread-safe

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, report: OnUnlisted = ignore) -> Iterator[str]:
        yield from _walk(os.fspath(self.root), "", report)

    def present(self, names: Sequence[str]) -> set[str]:
        # Not Path.is_file, which raises an error for a name that is too long.
        return {name for name in names if os.path.isfile(self.root / name)}

    def read(self, name: str, limit: int) -> bytes:
        with (self.root / name).open("rb") as file:
            return _at_most(file.read(limit + 1), name, limit)

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
        locks = _lock_alone(handle, LOCK_SECONDS)
        if locks is Locks.TAKEN:
            os.close(handle)
            raise ServiceError(f"another run writes to {self.root}; wait for it, or stop it")
        try:
            shutil.rmtree(self.root / STAGING, ignore_errors=True)
            if locks is Locks.HELD:
                _lock(handle, shared=True)  # shared with the workers of this run
            yield
        finally:
            _lock_alone(handle, END_SECONDS)  # waits for the workers
            shutil.rmtree(self.root / STAGING, ignore_errors=True)
            os.close(handle)

    def share(self) -> int | None:
        """A worker's share of the lock: a descriptor to keep open; None on file systems without locks."""
        handle = os.open(self.root, os.O_RDONLY)
        try:
            _lock(handle, shared=True)
        except (OSError, ImportError):
            os.close(handle)
            return None
        return handle


class ArrowStore:
    """A folder on one of pyarrow's file systems, which include fsspec's."""

    threads = 16  # requests are slow and need no processor time

    def __init__(self, system: Any, root: str) -> None:
        self._system = system
        self._root = root.rstrip("/")
        self._folder: tuple[str, frozenset[str]] | None = None  # listed last by `present`

    def names(self, report: OnUnlisted = ignore) -> Iterator[str]:
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                entries = list(self._list(folder))
            except OSError as error:
                if not folder:
                    raise
                report(folder, error)
                continue
            inner = []
            for name, is_file in entries:
                if is_file:
                    yield posixpath.join(folder, name)
                else:
                    inner.append(posixpath.join(folder, name))
            folders += reversed(inner)

    def present(self, names: Sequence[str]) -> set[str]:
        # One listing per folder instead of one request per name.
        return {name for name in names if posixpath.basename(name) in self._names_in(posixpath.dirname(name))}

    def read(self, name: str, limit: int) -> bytes:
        with _os_errors(name), self._system.open_input_stream(self._path(name)) as stream:
            return _at_most(stream.read(limit + 1), name, limit)

    def head(self, name: str, count: int) -> bytes:
        with _os_errors(name), self._system.open_input_stream(self._path(name)) as stream:
            return bytes(stream.read(count))

    def write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        with _os_errors(name):
            if self._system.type_name in ATOMIC:
                self._put(path, data)
                return
            folder = posixpath.dirname(path)
            staged = posixpath.join(folder, f".{uuid.uuid4().hex}")
            self._system.create_dir(folder, recursive=True)
            try:
                self._put(staged, data)
                self._system.move(staged, path)
            except BaseException:
                with suppress(Exception):
                    self._system.delete_file(staged)
                raise

    def _put(self, path: str, data: bytes) -> None:
        stream = self._system.open_output_stream(path)
        stream.write(data)
        stream.close()  # not after an error: closing publishes the object

    def _names_in(self, folder: str) -> frozenset[str]:
        if self._folder is None or self._folder[0] != folder:
            self._folder = folder, frozenset(name for name, is_file in self._list(folder) if is_file)
        return self._folder[1]

    def _list(self, folder: str) -> Iterator[tuple[str, bool]]:
        """(name, True for a file) of each entry of a folder, sorted; nothing if the folder does not exist."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path(folder), allow_not_found=True)
        with _os_errors(folder):
            found = self._system.get_file_info(selector)
        for info in sorted(found, key=lambda info: str(info.base_name)):
            if info.type in (FileType.File, FileType.Directory) and not info.base_name.startswith("."):
                yield info.base_name, info.type == FileType.File

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name) if name else self._root


def printable_name(name: str) -> str:
    """A name as text that can be printed and written as JSON, also if it is not valid UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def suffix_of(name: str) -> str:
    """The suffix of a name in lower case, for instance ``.jpg``."""
    return PurePosixPath(name).suffix.lower()


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


def _at_most(data: bytes, name: str, limit: int) -> bytes:
    if len(data) > limit:
        raise OSError(f"{printable_name(name)} has more than {limit} bytes")
    return bytes(data)


@contextmanager
def _os_errors(name: str) -> Iterator[None]:
    """Convert any error of a file system to an `OSError` about this name."""
    try:
        yield
    except (OSError, EdgegrainError):
        raise
    except Exception as error:
        raise OSError(f"{printable_name(name)}: {' '.join(str(error).split()) or type(error).__name__}") from error


class Locks(Enum):
    """Result of locking a folder exclusively; some network file systems and Windows have no locks."""

    HELD = "held"
    TAKEN = "taken"
    NONE = "none"


def _lock_alone(handle: int, timeout: float) -> Locks:
    end = time.monotonic() + timeout
    while True:
        try:
            _lock(handle, shared=False)
            return Locks.HELD
        except BlockingIOError:
            if time.monotonic() >= end:
                return Locks.TAKEN
            time.sleep(0.05)
        except (OSError, ImportError):
            return Locks.NONE


def _lock(handle: int, *, shared: bool) -> None:
    import fcntl

    fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
