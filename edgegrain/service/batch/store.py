"""`Store`: files that ``edgegrain batch`` reads and writes, in a folder or an object store.

Names are relative to the store's root, with slashes, and are listed lazily: memory holds at most one folder of an
object store, and one name of a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Protocol

from codec_contract.files import printable_name

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

    def name_of(self, other: Store) -> str | None:
        """The name of another store's root in this store, "" if the roots are the same; None if it is elsewhere."""

    def present(self, names: Sequence[str]) -> set[str]:
        """The subset of these names that exist."""

    def read(self, name: str, limit: int) -> bytes:
        """Read a file; `OSError` if it cannot be read or has more than ``limit`` bytes."""

    def head(self, name: str, count: int) -> bytes:
        """Read the first bytes of a file; `OSError` if it cannot be read."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically, replacing an existing one; `OSError` if it cannot be written."""


def suffix_of(name: str) -> str:
    """The suffix of a name in lower case, for instance ``.jpg``."""
    return PurePosixPath(name).suffix.lower()


def check_length(data: bytes, name: str, limit: int) -> bytes:
    """The data that was read of a file; `OSError` if it has more than ``limit`` bytes."""
    if len(data) > limit:
        raise OSError(f"{printable_name(name)} has more than {limit} bytes")
    return data
