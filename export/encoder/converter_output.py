"""Captures the output of converters, which is shown only if they fail."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Redirect file descriptor 2 to a temporary file: native code does not write to sys.stderr.

    Yields a function that returns the output so far, for error messages.
    """
    with tempfile.TemporaryFile() as log:
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(log.fileno(), 2)

        def said() -> str:
            sys.stderr.flush()
            size = os.fstat(log.fileno()).st_size
            return os.pread(log.fileno(), size, 0).decode(errors="replace")

        try:
            yield said
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
