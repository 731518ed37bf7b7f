"""Atomic writing of files and folders: written under another name, then renamed; replaced only on request. Names that
are not valid UTF-8, as text."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codec_contract.errors import EdgegrainError, ExistsError, reason


def printable_name(name: str) -> str:
    """A name as text that can be printed and written as JSON, also if it is not valid UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def content_of(source: Any) -> Any:
    """All bytes of an open binary file, also of Starlette's `UploadFile`; anything else as it is."""
    file = getattr(source, "file", source)
    if not hasattr(file, "read") or isinstance(file, io.TextIOBase):
        return source
    try:
        if file.seekable():
            file.seek(0)
        return file.read()
    except (OSError, ValueError) as error:  # it is closed, or open for writing
        raise EdgegrainError(f"the open file cannot be read: {error}") from error


def why_unreadable(name: str | os.PathLike[str], error: Exception) -> str:
    """The reason that a file cannot be read, which a message can name."""
    if str(name).lower().startswith(("http://", "https://")):
        return "it is an address, not a file; download it first, with httpx.get(url).content"
    return reason(error)


def write_atomically(path: str | Path, data: bytes, *, force: bool = False) -> Path:
    """Write ``data`` to ``path`` atomically: the file is the old one or the complete new one."""
    path = Path(path)
    if path.exists() and not force:
        raise ExistsError(path)
    with written_whole(path) as temporary, temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return path


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary file next to ``path`` for the block to write, which takes its place if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.partial")  # short: the name may have the longest legal length
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a full disk has none; the other the caller has never seen
            raise OSError(error.errno, error.strerror, str(path)) from error  # of the same type
        raise
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Put a complete folder in the place of another, which may exist; if that fails, the other is there as before."""
    folder = folder.resolve()  # "." has no name, and a link would be replaced itself
    if not folder.exists():
        os.replace(new, folder)
        return
    aside = folder.with_name(f".{secrets.token_hex(8)}.old")
    os.replace(folder, aside)
    try:
        os.replace(new, folder)
    except BaseException:
        os.replace(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def cache_folder() -> Path:
    """The folder ``$EDGEGRAIN_CACHE`` if set, else ``edgegrain`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("EDGEGRAIN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgegrain"
