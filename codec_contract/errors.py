"""The errors that edgegrain raises, one class per kind of error.

Every message says what is wrong, what was expected and, if there is a remedy, what to do.
"""

from __future__ import annotations

import os


class EdgegrainError(Exception):
    """Base class of all errors that edgegrain raises on purpose."""


class PayloadError(EdgegrainError):
    """A payload is truncated, corrupt, of an unknown version, or names another LR contract."""


class ImageError(EdgegrainError):
    """A picture cannot be read, or has a shape, type or size that is not supported."""


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
    """A file exists, and is replaced only with ``force``.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        super().__init__(self.path)

    def __str__(self) -> str:
        return f"{self.path} exists; choose another name, or pass force=True to replace it"


class QuantizationError(EdgegrainError, ValueError):
    """An array cannot be quantized: it holds NaN, or is not of a floating type."""


class ModelError(EdgegrainError, ValueError):
    """Inputs do not fit a network: weights of another size or layout, codes of another shape."""


def reason(error: BaseException) -> str:
    """The reason that a message can name: the system's words for an `OSError`, which leave out the path."""
    return getattr(error, "strerror", None) or str(error)
