"""Writing that takes minutes: arrays in files, one writer a folder, progress."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from codec_contract.errors import EdgegrainError
from codec_contract.files import written_whole

Progress = Callable[[float, str], None]  # receives the finished part, 0...1, and a line of text about it


def write_array(target: Path, shape: tuple[int, ...], rows: Iterable[np.ndarray]) -> None:
    """Write uint8 rows as the ``.npy`` ``target``, if there is none; of several processes one writes, others wait."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.exists():
            return
        with written_whole(target) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for row in rows:
                file.write(row.tobytes())


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Lock a folder, by the file ``.lock`` in it, and create it if it is missing; created ones that stay empty go."""
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        advice = "wait until it has finished, or choose another folder"
        raise EdgegrainError(f"another process writes to {folder}; {advice}") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps it while it is open
            os.unlink(lock.lock_file)
        lock.release()
        for path in created:
            with contextlib.suppress(OSError):  # it is not empty
                path.rmdir()
