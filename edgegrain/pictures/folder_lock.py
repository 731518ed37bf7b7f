"""`only_writer`: one process at a time writes to a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from codec_contract.errors import EdgegrainError


class InUseError(EdgegrainError):
    """Another process writes to a folder."""


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Lock a folder for the block, and create it if it is missing; created folders that stay empty are removed.

    The lock is the file ``.lock`` in the folder. It is released when the process ends, however it ends.

    Raises:
        InUseError: another process, or another block, has locked the folder.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InUseError(f"another process writes to {folder}; wait until it has finished, or choose another folder"
                         ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps it while it is open
            os.unlink(lock.lock_file)
        lock.release()
        for path in created:
            with contextlib.suppress(OSError):  # it is not empty
                path.rmdir()
