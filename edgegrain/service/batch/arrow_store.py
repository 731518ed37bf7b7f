"""`ArrowStore`: an object store through pyarrow's file systems."""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from codec_contract.errors import EdgegrainError
from codec_contract.files import printable_name
from edgegrain.service.batch.store import OnUnlisted, Store, check_length, ignore

ATOMIC = frozenset({"s3", "gcs", "abfs"})
"""File systems of pyarrow with atomic writes: an object appears when its stream is closed."""


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

    def name_of(self, other: Store) -> str | None:
        if not isinstance(other, ArrowStore) or not self._system.equals(other._system):
            return None
        if other._root == self._root:
            return ""
        prefix = f"{self._root}/" if self._root else ""
        return other._root.removeprefix(prefix).lstrip("/") if other._root.startswith(prefix) else None

    def present(self, names: Sequence[str]) -> set[str]:
        # One listing per folder instead of one request per name.
        return {name for name in names if posixpath.basename(name) in self._names_in(posixpath.dirname(name))}

    def read(self, name: str, limit: int) -> bytes:
        with _os_errors(name), self._system.open_input_stream(self._path(name)) as stream:
            return check_length(bytes(stream.read(limit + 1)), name, limit)

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


@contextmanager
def _os_errors(name: str) -> Iterator[None]:
    """Convert any error of a file system to an `OSError` about this name."""
    try:
        yield
    except (OSError, EdgegrainError):
        raise
    except Exception as error:
        raise OSError(f"{printable_name(name)}: {' '.join(str(error).split()) or type(error).__name__}") from error
