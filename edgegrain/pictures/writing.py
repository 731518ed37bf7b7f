"""Writing that takes minutes: arrays in files, one writer a file or folder, progress, and SIGTERM as an exception."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from codec_contract.errors import EdgegrainError
from codec_contract.files import written_whole

Progress = Callable[[float, str], None]
"""Receives the finished part, 0...1, and a line of text about it."""

_ZEROS = 1 << 24  # written at once


@contextlib.contextmanager
def first_to_write(target: Path, report: Progress | None = None) -> Iterator[bool]:
    """True in one of the processes that want a file, which writes it in the block; False in the others, which wait.

    Once the file exists, no process waits. If the block raises, the next process gets True.
    """
    if target.exists():
        yield False
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if report is not None:
            report(0.0, "waiting for another process, which prepares the pictures")
        lock.acquire()
    try:
        yield not target.exists()
    finally:
        with contextlib.suppress(OSError):  # Windows keeps it while other processes wait
            os.unlink(lock.lock_file)
        lock.release()


@contextlib.contextmanager
def written_array(target: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """A memory-mapped uint8 array to fill, which is the file ``target``, an ``.npy``, if the block succeeds."""
    with exit_on_sigterm(), written_whole(target) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        try:
            # Its place on the disk: writing to a mapped file that finds none kills the process (SIGBUS).
            with temporary.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.seek(array.offset)
                    for position in range(array.offset, size, _ZEROS):
                        file.write(bytes(min(_ZEROS, size - position)))
        except OSError as error:
            raise EdgegrainError(f"{target.parent} cannot take a file of {array.nbytes:,} bytes "
                                 f"({error.strerror}); make space, or choose a folder on another disk") from error
        yield array
        array.flush()


class InUseError(EdgegrainError):
    """Another process writes to a folder."""


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Lock a folder, by the file ``.lock`` in it, and create it if it is missing; created ones that stay empty go."""
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


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in the block, in the main thread of a program that does not handle it already."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
