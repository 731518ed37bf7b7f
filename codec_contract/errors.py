"""The errors that edgegrain raises, one class per kind of trouble.

Every message says what was wrong, what was expected and, where there is something to do, what to do.
"""

from __future__ import annotations


class EdgegrainError(Exception):
    """Base class: catching it catches everything edgegrain raises on purpose."""


class PayloadError(EdgegrainError):
    """A payload is truncated, corrupt, of an unknown version, or names another LR contract."""


class ImageError(EdgegrainError):
    """A picture cannot be read, or has a shape, type or size that is not supported."""


class BundleError(EdgegrainError):
    """A bundle is incomplete, does not match its manifest, or is of an unknown schema."""


class ExportError(EdgegrainError):
    """An export failed, or an exported file does not do what the network it came from does."""


class DeviceError(EdgegrainError):
    """The device or execution provider that was asked for is not available."""


class DeviceMemoryError(DeviceError):
    """A device has too little memory left for what was asked of it; a smaller batch may fit."""


class ServiceError(EdgegrainError):
    """The decoding service could not be reached, or refused the request."""


class QuantizationError(EdgegrainError, ValueError):
    """An array cannot be quantized: it holds NaN, or has a type that carries no levels."""


class ModelError(EdgegrainError, ValueError):
    """A network was given what does not fit it: weights of another size or layout, codes of another shape."""
