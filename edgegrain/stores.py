"""Stores: the files that ``edgegrain batch`` reads and writes, in a folder or an object store, through fsspec."""

from __future__ import annotations

import os
import posixpath
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from codec_contract.errors import ServiceError, needs_extra
from codec_contract.files import write_atomically
from codec_contract.payload import PAYLOAD_SUFFIX
from edge_encoder.preprocessing import PICTURE_SUFFIXES

Verb = Literal["compress", "restore"]

STAGING = ".edgegrain-batch"
"""Folder inside a target folder for files that are being written."""


class Store:
    """A folder of a file system, or in an object store, where ``folder`` is None; files have names relative to it."""

    def __init__(self, place: str) -> None:
        """Open a path or a URI: ``/data/faces``, ``file:///data``, ``s3://bucket/faces``."""
        with needs_extra("ray", f"opening {place} needs", ServiceError):
            from fsspec import url_to_fs
            from fsspec.implementations.local import LocalFileSystem

        self.system: Any
        try:
            self.system, self.root = url_to_fs(place)
        except (ValueError, ImportError) as error:  # an unknown scheme, or its library is missing
            expected = "a folder or a URI such as s3://bucket/folder, whose library is installed (s3fs, gcsfs, adlfs)"
            raise ServiceError(f"cannot open {place}: {error}; expected {expected}") from error
        self.place, self.folder = place, None
        if isinstance(self.system, LocalFileSystem):
            self.place = self.root = os.path.realpath(self.root)
            self.folder = Path(self.root)
        self._listed: tuple[str, frozenset[str]] | None = None  # the folder that `has` has listed last

    def names(self, report: Callable[[str, Exception], None]) -> Iterator[str]:
        """List the files at any depth, folder by folder, except names that begin with a dot; folders below the root
        that cannot be listed are reported."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                entries = self._entries(folder)
            except Exception as error:  # of any library
                if not folder:
                    raise OSError(f"cannot list {self.root}: {error}") from error
                report(folder, error)
                continue
            for name, is_folder in entries:
                if is_folder:
                    folders.append(posixpath.join(folder, name))
                else:
                    yield posixpath.join(folder, name)

    def name_of(self, other: Store) -> str | None:
        """The name of another store's root in this store, "" if the roots are the same; None if it is elsewhere."""
        inner = posixpath.relpath(other.root, self.root)
        if type(self.system) is not type(other.system) or inner.split("/")[0] == "..":
            return None
        return "" if inner == "." else inner

    def has(self, name: str) -> bool:
        """True if a file of this name exists; each folder is listed once, as names come folder by folder."""
        folder = posixpath.dirname(name)
        if self._listed is None or self._listed[0] != folder:
            try:
                entries = self._entries(folder)
            except FileNotFoundError:
                entries = []
            self._listed = folder, frozenset(name for name, is_folder in entries if not is_folder)
        return posixpath.basename(name) in self._listed[1]

    def read(self, name: str, count: int) -> bytes:
        """Up to ``count`` bytes of a file."""
        return bytes(self.system.cat_file(posixpath.join(self.root, name), end=count))

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically, as object stores do, replacing an existing one."""
        if self.folder is None:
            self.system.pipe_file(posixpath.join(self.root, name), data)
            return
        staged = write_atomically(self.folder / STAGING / uuid.uuid4().hex, data)
        try:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged, self.folder / name)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock a folder on this machine for this run; unfinished files, also of a killed run, are removed."""
        if self.folder is None:
            yield
            return
        with needs_extra("ray", "locking the folder needs", ServiceError):  # its filelock; the command line lacks it
            from edgegrain.pictures.writing import only_writer

        with only_writer(self.folder):
            try:
                shutil.rmtree(self.folder / STAGING, ignore_errors=True)
                yield
            finally:
                shutil.rmtree(self.folder / STAGING, ignore_errors=True)

    def _entries(self, folder: str) -> list[tuple[str, bool]]:
        """(name, True for a folder) of each entry of a folder."""
        path = posixpath.join(self.root, folder)
        entries = [each for each in self.system.ls(path, detail=True) if each["name"].strip("/") != path.strip("/")]
        found = [(posixpath.basename(each["name"].rstrip("/")), each["type"] == "directory") for each in entries]
        return [(name, is_folder) for name, is_folder in found if not name.startswith(".")]


def candidates(names: Iterator[str], verb: Verb | None, inner: str | None = None) -> Iterator[str]:
    """Filter names by suffix: pictures (compress), payloads (restore), or both (None); not those below ``inner``."""
    payloads = frozenset([PAYLOAD_SUFFIX])
    wanted = {"compress": PICTURE_SUFFIXES, "restore": payloads, None: PICTURE_SUFFIXES | payloads}[verb]
    for name in names:
        if PurePosixPath(name).suffix.lower() in wanted and not (inner and name.startswith(f"{inner}/")):
            yield name
