"""Output of native libraries past ``sys.stderr``, and the files and cores that ONNX Runtime may use."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of a container's quota and of its period, of cgroups in version 2."""
_REDIRECTING = threading.RLock()  # the descriptor belongs to the whole process


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Redirect file descriptor 2 to a temporary file; yields a function that returns the output so far."""
    if sys.stderr is None:  # descriptor 2 was closed at the start (`2>&-`) and may be another file's by now
        yield lambda: ""
        return
    with _REDIRECTING, tempfile.TemporaryFile() as log:
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(log.fileno(), 2)

        def said() -> str:
            sys.stderr.flush()
            log.seek(0)  # descriptor 2 shares the position: reading to the end moves it to where output goes on
            return log.read().decode(errors="replace")

        try:
            yield said
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def refuse_external_weights(options: Any) -> None:
    """Make sessions with these ``onnxruntime.SessionOptions`` fail for models whose weights lie in other files.

    Else a model from elsewhere could put the bytes of a file in the user's current directory into LRs or pictures.
    """
    # The folder in which the names are resolved, since ONNX Runtime 1.21; nothing lies below this one.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)


def set_threads(options: Any, threads: int | None) -> None:
    """Set the threads of a session's ``onnxruntime.SessionOptions``; None for all cores that this process may use.

    ONNX Runtime itself counts the cores of the machine, so in a container with a quota its threads stop each other.
    """
    if threads is None and (cores := available_cores()) < (os.cpu_count() or 1):
        threads = cores
    if threads is not None:
        options.intra_op_num_threads = threads


def available_cores() -> int:
    """The number of cores that this process may use, by its affinity and its container's quota, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # not Linux, or no container; "max" is no number
        quota, period = map(int, QUOTA.read_text().split())
        cores = min(cores, quota // period)
    return max(1, cores)
