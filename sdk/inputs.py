"""What may come in on the restoring side, brought to one shape: payload bytes, or a bare LR."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_contract.errors import ImageError, PayloadError

Received = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | npt.NDArray[np.uint8]
"""A payload (bytes or the path of a file), or a bare LR (uint8 array [h, w, 3], PNG bytes or path, PIL picture)."""

MAX_FILE_BYTES = 1 << 26
"""Longest file that is read: no payload and no LR as PNG is longer."""

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_LR_PIXELS = 256 * 256


def read_received(source: Received) -> bytes | npt.NDArray[np.uint8]:
    """Payload bytes, still unchecked, or a bare LR as uint8 ``[h, w, 3]``.

    Raises:
        PayloadError: ``source`` is of no such kind, or the file is missing or far too large.
        ImageError: it is an LR, but damaged or of another type or rank.
    """
    if isinstance(source, (str, os.PathLike)):
        source = _read_file(Path(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return _from_png(data) if data.startswith(_PNG) else data
    if isinstance(source, Image.Image):
        return _from_picture(source)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise ImageError(f"an LR is uint8 [h, w, 3], got {source.dtype} {list(source.shape)}")
        return source
    raise PayloadError(f"restore takes a payload, its path, or an LR as array or PNG; got {type(source).__name__}")


def read_payload_bytes(source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> bytes:
    """Payload bytes, still unchecked, from bytes or the path of a file; errors as `read_received`."""
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    raise PayloadError(f"a payload is bytes or the path of a file, got {type(source).__name__}")


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PayloadError(f"cannot read the payload {path}: {error.strerror or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise PayloadError(f"{path} has more than {MAX_FILE_BYTES} bytes; it is neither a payload nor an LR")
    return data


def _from_png(data: bytes) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return _from_picture(image)
    except ImageError:
        raise
    except Exception as error:  # a damaged PNG makes Pillow raise various things
        raise ImageError(f"the LR's PNG cannot be read: {error}") from error


def _from_picture(image: Image.Image) -> npt.NDArray[np.uint8]:
    # No colour management and no turning here: an LR's levels are data.
    if image.width * image.height > _MAX_LR_PIXELS:
        raise ImageError(f"an LR has at most 256 x 256 pixels, this picture has {image.width} x {image.height}")
    if image.mode not in ("RGB", "L", "P"):
        raise ImageError(f"an LR is an RGB picture, this one has the mode {image.mode}")
    return np.array(image.convert("RGB"))
