"""Advisory locks on a folder: one run holds it, and its workers share it."""

from __future__ import annotations

import time
from enum import Enum


class Locks(Enum):
    """Result of locking a folder exclusively; some network file systems and Windows have no locks."""

    HELD = "held"
    TAKEN = "taken"
    NONE = "none"


def lock_alone(handle: int, timeout: float) -> Locks:
    """Lock an open folder exclusively, waiting up to ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while True:
        try:
            lock(handle, shared=False)
            return Locks.HELD
        except BlockingIOError:
            if time.monotonic() >= end:
                return Locks.TAKEN
            time.sleep(0.05)
        except (OSError, ImportError):
            return Locks.NONE


def lock(handle: int, *, shared: bool) -> None:
    """Lock an open folder, or change its lock; `BlockingIOError` if another process holds it.

    Raises:
        OSError: as above, or the file system has no locks.
        ImportError: the system has none.
    """
    import fcntl

    fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
