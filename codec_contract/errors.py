"""The errors that edgegrain raises, one class per kind of error.

Every message says what is wrong, what was expected and, if there is a remedy, what to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


class EdgegrainError(Exception):
    """Base class of all errors that edgegrain raises on purpose."""


class PayloadError(EdgegrainError):
    """A payload is truncated, corrupt, of an unknown version, or names another LR contract.

    Attributes:
        truncated: True if the bytes begin as a payload does and say that more of them follow.
    """

    truncated = False


class ImageError(EdgegrainError):
    """A picture or LR cannot be read or is refused, or an option of compressing or restoring is out of range."""


class BundleError(EdgegrainError):
    """A bundle is incomplete, does not match its manifest, or is of an unknown schema."""


class ExportError(EdgegrainError):
    """An export failed, or an exported file computes something else than its network."""


class DeviceError(EdgegrainError):
    """The requested device or execution provider is not available."""


class DeviceMemoryError(DeviceError):
    """A device has too little memory for the request; a smaller batch may fit."""


class ServiceError(EdgegrainError):
    """The decoding service could not be reached, or refused the request."""


class ExistsError(EdgegrainError, FileExistsError):
    """A file or folder exists, and is replaced only with ``force``.

    Attributes:
        path: of the file or folder.
        advice: what to do instead.
    """

    def __init__(
        self, path: str | os.PathLike[str], advice: str = "choose another name, or pass force=True to replace it"
    ) -> None:
        self.path, self.advice = os.fspath(path), advice
        super().__init__(f"{self.path} exists; {advice}")

    def __reduce__(self) -> tuple[type[ExistsError], tuple[str, str]]:
        return type(self), (self.path, self.advice)


class ModelError(EdgegrainError, ValueError):
    """A model cannot be used: its file or library is missing or damaged, or weights or inputs have another shape."""


def cut_off(message: str) -> PayloadError:
    """The error of a payload that is ``truncated``."""
    error = PayloadError(message)
    error.truncated = True
    return error


def reason(error: BaseException) -> str:
    """The reason that a message can name: the system's words for an `OSError`, which leave out the path."""
    return getattr(error, "strerror", None) or str(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, which libraries often follow with stacks; its class if it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def needs_extra(extra: str, purpose: str, error: type[EdgegrainError] = EdgegrainError) -> Iterator[None]:
    """Turn a failed import into an ``error`` that says what to install; ``purpose`` is such as "training needs"."""
    try:
        yield
    except ModuleNotFoundError as missing:
        what_to_do = f"install: pip install 'edgegrain[{extra}]'"
        raise error(f"{purpose} {missing.name}, which is not installed; {what_to_do}") from missing
