"""Atomic writing of files: temporary file, flush, rename; existing files are replaced only on request."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from codec_contract.errors import ExistsError


def write_atomically(path: str | Path, data: bytes, *, force: bool = False) -> Path:
    """Write ``data`` to ``path`` atomically: the file is the old one or the complete new one.

    Raises:
        ExistsError: the file exists and ``force`` is false.
    """
    path = Path(path)
    if path.exists() and not force:
        raise ExistsError(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
