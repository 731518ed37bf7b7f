"""Where ``edgegrain batch`` reads and writes: a folder, or an object store through pyarrow's file systems.

Names are relative to the store's root, with slashes, and are listed one after the other: however many there are, memory
holds a folder of an object store at most, and of a disk one name.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from codec_contract.errors import EdgegrainError, ServiceError
from codec_contract.files import write_atomically

STAGING = ".edgegrain-batch"
"""Folder inside a target folder: files lie there until they are whole."""
LOCK_SECONDS, END_SECONDS = 30.0, 5.0
"""Patience with the workers of a run that was killed, and of one that ends."""
ATOMIC = frozenset({"s3", "gcs", "abfs"})
"""File systems of pyarrow where an object appears whole, when its stream is closed."""


class Store(Protocol):
    """Files under names.

    Attributes:
        threads: reads or writes that are worth doing at once.
    """

    threads: int

    def names(self) -> Iterator[str]:
        """Every file at any depth, a folder after the other; nothing that begins with a dot."""

    def present(self, names: Sequence[str]) -> set[str]:
        """Which of these there are."""

    def read(self, name: str, limit: int) -> bytes:
        """A file's bytes; `OSError` if it cannot be read or has more than ``limit``."""

    def head(self, name: str, count: int) -> bytes:
        """The first bytes of a file; `OSError` if it cannot be read."""

    def write(self, name: str, data: bytes) -> None:
        """Put a whole file in place, instead of one that is there; `OSError` if that cannot be."""


def open_store(place: str) -> FolderStore | ArrowStore:
    """The store at a path or an URI: ``/data/faces``, ``file:///data``, ``s3://bucket/faces``, ``fsspec+SCHEME://...``.

    Raises:
        ServiceError: the URI is none that pyarrow or fsspec knows, or cannot be reached.
    """
    if "://" not in place:
        return FolderStore(Path(place))
    if place.startswith("file://"):
        return FolderStore(Path(unquote(urlsplit(place).path)))
    from pyarrow.fs import FileSystem

    try:
        return ArrowStore(*FileSystem.from_uri(place))
    except Exception as error:  # of pyarrow, fsspec, or a library that fsspec looks for
        raise ServiceError(f"cannot open {place}: {' '.join(str(error).split())}; it is a folder or an URI such as "
                           "s3://bucket/folder or gs://bucket/folder; fsspec+ before it asks fsspec") from error


class FolderStore:
    """A folder of this machine, or of a file system that all machines share."""

    threads = 1  # `write_atomically` is for one thread at a time

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> Iterator[str]:
        yield from _walk(os.fspath(self.root), "")

    def present(self, names: Sequence[str]) -> set[str]:
        return {name for name in names if (self.root / name).is_file()}

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
        """The folder to write to, made if need be, for this run alone; what a killed run left half done is removed.

        Raises:
            ServiceError: another run writes to it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root, os.O_RDONLY)
        locks = _lock_alone(handle, LOCK_SECONDS)
        if locks is Locks.TAKEN:
            os.close(handle)
            raise ServiceError(f"another run writes to {self.root}; wait until it ends, or end it")
        try:
            shutil.rmtree(self.root / STAGING, ignore_errors=True)
            if locks is Locks.HELD:
                _lock(handle, shared=True)  # the workers of this run hold it likewise
            yield
        finally:
            _lock_alone(handle, END_SECONDS)  # when the workers are gone
            shutil.rmtree(self.root / STAGING, ignore_errors=True)
            os.close(handle)

    def share(self) -> int | None:
        """A worker's part of the hold on the folder; a descriptor to keep open, None where there are no locks."""
        handle = os.open(self.root, os.O_RDONLY)
        try:
            _lock(handle, shared=True)
        except (OSError, ImportError):
            os.close(handle)
            return None
        return handle


class ArrowStore:
    """A folder of one of pyarrow's file systems; fsspec's are among them."""

    threads = 16  # a request takes long and costs this process nothing

    def __init__(self, system: Any, root: str) -> None:
        self._system = system
        self._root = root.rstrip("/")
        self._folder: tuple[str, frozenset[str]] | None = None  # the one that `present` listed last

    def names(self) -> Iterator[str]:
        folders = [""]
        while folders:
            folder = folders.pop()
            inner = []
            for name, is_file in self._list(folder):
                if is_file:
                    yield posixpath.join(folder, name)
                else:
                    inner.append(posixpath.join(folder, name))
            folders += reversed(inner)

    def present(self, names: Sequence[str]) -> set[str]:
        # One listing a folder: asking for each name would cost a request each.
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
        stream.close()  # not after an error: closing is what makes an object appear

    def _names_in(self, folder: str) -> frozenset[str]:
        if self._folder is None or self._folder[0] != folder:
            self._folder = folder, frozenset(name for name, is_file in self._list(folder) if is_file)
        return self._folder[1]

    def _list(self, folder: str) -> Iterator[tuple[str, bool]]:
        """(name, whether it is a file) of what lies in a folder, sorted; nothing if there is no such folder."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path(folder), allow_not_found=True)
        with _os_errors(folder):
            found = self._system.get_file_info(selector)
        for info in sorted(found, key=lambda info: str(info.base_name)):
            if info.type in (FileType.File, FileType.Directory) and not info.base_name.startswith("."):
                yield info.base_name, info.type == FileType.File

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name) if name else self._root


def printable(name: str) -> str:
    """A name as text that can be printed and written as JSON, whatever bytes it has."""
    return name.encode("utf-8", "backslashreplace").decode()


def suffix_of(name: str) -> str:
    """A name's suffix in lower case, for instance ``.jpg``."""
    return PurePosixPath(name).suffix.lower()


def _walk(root: str, folder: str) -> Iterator[str]:
    # Not Path.rglob: that holds all entries of a folder at once.
    with os.scandir(os.path.join(root, folder)) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, name)
            elif entry.is_file():
                yield name


def _at_most(data: bytes, name: str, limit: int) -> bytes:
    if len(data) > limit:
        raise OSError(f"{printable(name)} has more than {limit} bytes")
    return bytes(data)


@contextmanager
def _os_errors(name: str) -> Iterator[None]:
    """Whatever a file system raises, as an `OSError` about this name."""
    try:
        yield
    except (OSError, EdgegrainError):
        raise
    except Exception as error:
        raise OSError(f"{printable(name)}: {' '.join(str(error).split()) or type(error).__name__}") from error


class Locks(Enum):
    """What became of the wish to lock a folder alone; some network file systems and Windows have no locks."""

    HELD = "held"
    TAKEN = "taken"
    NONE = "none"


def _lock_alone(handle: int, patience: float) -> Locks:
    end = time.monotonic() + patience
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
