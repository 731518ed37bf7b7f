"""What native libraries write past ``sys.stderr``, and which files ONNX Runtime may read."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

_REDIRECTING = threading.RLock()  # the descriptor belongs to the whole process


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Redirect file descriptor 2 to a temporary file; yields a function that returns the output so far, for messages.
    """
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


@contextlib.contextmanager
def without_lines(pattern: str) -> Iterator[None]:
    """Drop the lines of native libraries in which ``pattern`` is found; the others appear when the block ends."""
    if sys.stderr is None:  # closed at the start (`2>&-`), or a Windows process without a console
        yield
        return
    text = ""
    try:
        with captured_stderr() as said:
            try:
                yield
            finally:
                text = said()
    finally:
        sys.stderr.write("".join(line for line in text.splitlines(keepends=True) if not re.search(pattern, line)))


def refuse_external_weights(options: Any) -> None:
    """Make sessions with these ``onnxruntime.SessionOptions`` fail for models whose weights lie in other files.

    ONNX Runtime resolves a file name in a tensor of a model from memory in the current directory, so that a model from
    elsewhere could put the bytes of a user's file into LRs or pictures.
    """
    # The folder in which the names are resolved, since ONNX Runtime 1.21; nothing lies below this one.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
