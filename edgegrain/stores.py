"""Stores: the files that ``edgegrain batch`` reads and writes, in a folder or an object store."""

from __future__ import annotations

import itertools
import os
import posixpath
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from codec_contract.errors import ServiceError, needs_extra
from codec_contract.files import printable_name, write_atomically
from codec_contract.payload import PAYLOAD_SUFFIX
from edge_encoder.preprocessing import PICTURE_SUFFIXES

Verb = Literal["compress", "restore"]

SAMPLE = 100
"""Names that are read to distinguish payloads from pictures."""
STAGING = ".edgegrain-batch"
"""Folder inside a target folder for files that are being written."""
ATOMIC = frozenset({"s3", "gcs", "abfs"})
"""File systems of pyarrow with atomic writes: an object appears when its stream is closed."""

OnUnlisted = Callable[[str, OSError], None]
"""Function that gets the name of a folder that cannot be listed, and the error."""


class FolderStore:
    """A folder on this machine, or on a file system that all machines share; files have names relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, report: OnUnlisted) -> Iterator[str]:
        """List the files at any depth, folder by folder, except names that begin with a dot.

        Folders below the root that cannot be listed are reported and left out; for the root, `OSError` is raised.
        """
        def failed(error: OSError) -> None:
            name = os.path.relpath(error.filename, self.root)
            if name == os.curdir:
                raise error
            report(Path(name).as_posix(), error)

        for folder, folders, files in os.walk(self.root, onerror=failed):
            folders[:] = (name for name in folders if not name.startswith("."))
            inner = os.path.relpath(folder, self.root)
            for name in files:
                if not name.startswith("."):
                    yield name if inner == os.curdir else Path(inner, name).as_posix()

    def name_of(self, other: Store) -> str | None:
        """The name of another store's root in this store, "" if the roots are the same; None if it is elsewhere."""
        if not isinstance(other, FolderStore):
            return None
        root = other.root.resolve()
        for folder in (root, *root.parents):  # not as text: links, and case where file systems ignore it
            if os.path.exists(folder) and os.path.samefile(folder, self.root):
                return "/".join(root.relative_to(folder).parts)
        return None

    def present(self, names: Sequence[str]) -> set[str]:
        """The subset of these names that exist."""
        return {name for name in names if os.path.isfile(self.root / name)}  # Path.is_file refuses long names

    def read(self, name: str, count: int) -> bytes:
        """Up to ``count`` bytes of a file."""
        with (self.root / name).open("rb") as file:
            return file.read(count)

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically, replacing an existing one."""
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
        """Lock the folder for this run; unfinished files, also of a killed run, are removed."""
        with needs_extra("ray", "locking the folder needs", ServiceError):  # its filelock; the command line lacks it
            from edgegrain.pictures.writing import only_writer

        with only_writer(self.root):
            try:
                shutil.rmtree(self.root / STAGING, ignore_errors=True)
                yield
            finally:
                shutil.rmtree(self.root / STAGING, ignore_errors=True)


class ArrowStore:
    """A folder on one of pyarrow's file systems, which include fsspec's; methods as of `FolderStore`."""

    def __init__(self, system: Any, root: str) -> None:
        self._system = system
        self._root = root.rstrip("/")
        self._folder: tuple[str, frozenset[str]] | None = None  # listed last by `present`

    def names(self, report: OnUnlisted) -> Iterator[str]:
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                entries = self._list(folder)
            except OSError as error:
                if not folder:
                    raise
                report(folder, error)
                continue
            yield from (posixpath.join(folder, name) for name, is_file in entries if is_file)
            folders += reversed([posixpath.join(folder, name) for name, is_file in entries if not is_file])

    def name_of(self, other: Store) -> str | None:
        if not isinstance(other, ArrowStore) or not self._system.equals(other._system):
            return None
        if other._root == self._root:
            return ""
        prefix = f"{self._root}/" if self._root else ""
        return other._root.removeprefix(prefix).lstrip("/") if other._root.startswith(prefix) else None

    def present(self, names: Sequence[str]) -> set[str]:
        return {name for name in names if posixpath.basename(name) in self._names_in(posixpath.dirname(name))}

    def read(self, name: str, count: int) -> bytes:
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

    def _names_in(self, folder: str) -> frozenset[str]:  # one listing per folder instead of one request per name
        if self._folder is None or self._folder[0] != folder:
            self._folder = folder, frozenset(name for name, is_file in self._list(folder) if is_file)
        return self._folder[1]

    def _list(self, folder: str) -> list[tuple[str, bool]]:
        """(name, True for a file) of each entry of a folder, sorted; nothing if the folder does not exist."""
        from pyarrow.fs import FileSelector, FileType

        with _os_errors(folder):
            found = self._system.get_file_info(FileSelector(self._path(folder), allow_not_found=True))
        return sorted((info.base_name, info.type == FileType.File) for info in found
                      if info.type in (FileType.File, FileType.Directory) and not info.base_name.startswith("."))

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name) if name else self._root


Store = FolderStore | ArrowStore


@contextmanager
def _os_errors(name: str) -> Iterator[None]:
    """Convert any error of a file system to an `OSError` about this name."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{printable_name(name)}: {' '.join(str(error).split()) or type(error).__name__}") from error


def open_store(place: str) -> Store:
    """The store at a path or a URI: ``/data/faces``, ``file:///data``, ``s3://bucket/faces``, ``fsspec+SCHEME://``."""
    if "://" not in place:
        return FolderStore(Path(place))
    if place.startswith("file://"):
        return FolderStore(Path(unquote(urlsplit(place).path)))
    with needs_extra("ray", f"opening {place} needs", ServiceError):
        from pyarrow.fs import FileSystem

    try:
        return ArrowStore(*FileSystem.from_uri(place))
    except Exception as error:  # from pyarrow, fsspec, or a library that fsspec imports
        raise ServiceError(f"cannot open {place}: {' '.join(str(error).split())}; expected a folder or a URI such as "
                           "s3://bucket/folder or gs://bucket/folder, with the prefix fsspec+ for fsspec") from error


def candidates(names: Iterator[str], verb: Verb | None, inner: str | None = None) -> Iterator[str]:
    """Filter names by suffix: pictures (compress), payloads (restore), or both (None); not those below ``inner``."""
    for name in names:
        suffix = PurePosixPath(name).suffix.lower()
        if ((verb != "restore" and suffix in PICTURE_SUFFIXES) or (verb != "compress" and suffix == PAYLOAD_SUFFIX)
                ) and not (inner and name.startswith(f"{inner}/")):
            yield name


def find_verb(store: Store, inner: str | None = None) -> Verb | None:
    """The verb for the first files, by their suffix: payloads are restored, pictures compressed; None for both kinds.

    Results of an interrupted run are no input: the files below ``inner``, the name of the target in the store, and
    payloads next to pictures if the target is the store itself.
    """
    def names(verb: Verb | None) -> Iterator[str]:
        return candidates(store.names(lambda *_: None), verb, inner)

    if inner == "" and next(names("compress"), None) is not None:
        return "compress"
    found: set[Verb] = {"restore" if name.lower().endswith(PAYLOAD_SUFFIX) else "compress"
                        for name in itertools.islice(names(None), SAMPLE)}
    return found.pop() if len(found) == 1 else None
