"""Accepted inputs of `restore`, read into a `Payload`, a `Scene` or a bare LR; batches of inputs of any length."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from PIL import Image

from codec_contract.errors import EdgegrainError, ImageError, PayloadError
from codec_contract.files import content_of, why_unreadable
from codec_contract.payload import MAX_LARGE_LR_PIXELS
from codec_contract.payload_text import from_text, is_text
from codec_contract.pixels import Rgb, describe_array, is_rgb
from codec_contract.scene import is_scene
from edge_encoder.preprocessing import enough_memory
from sdk.payload import Payload, Scene

BATCH = 8
"""Pictures per run of a network; bounds the memory of a batch of any length."""

Item = TypeVar("Item")
PayloadSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""A `Payload`, its bytes or text, or its file: open, or by its path. A file may hold the text."""

RestoreSource = PayloadSource | Image.Image | Rgb
"""A payload or scene, or a bare LR (uint8 array [h, w, 3], PNG bytes or file, PIL picture)."""

MAX_FILE_BYTES = 1 << 26
"""Longest file that is read; payloads and LRs as PNG are shorter."""

_PNG = b"\x89PNG\r\n\x1a\n"


def read_restore_source(source: RestoreSource) -> Payload | Scene | Rgb:
    """Read a payload or a scene, which is parsed and checked here, or a bare LR, uint8 ``[h, w, 3]``."""
    source = _bytes_of(source)
    if isinstance(source, bytes) and not source.startswith(_PNG):
        return _checked(source)
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.shape[2:] == (4,) and source.size:
        source = Image.fromarray(source)
    if isinstance(source, (bytes, Image.Image)):
        with enough_memory("the LR"):
            return _from_picture(source)
    if isinstance(source, np.ndarray):
        if not is_rgb(source) or source.size == 0:
            raise ImageError(f"an LR is uint8 [h, w, 3] of at least one pixel, got {describe_array(source)}")
        return source
    expected = "restore takes a payload, its text, its file or path, or an LR as array or PNG"
    raise PayloadError(f"{expected}; got {type(source).__name__}")


def read_payload(source: PayloadSource) -> Payload:
    """Read and check a payload."""
    return Payload(read_payload_or_scene(source))


def read_payload_or_scene(source: PayloadSource) -> Payload | Scene:
    """Read and check a payload or a scene."""
    data = _bytes_of(source)
    if not isinstance(data, bytes):
        raise PayloadError(f"a payload is bytes, a text, or a file or its path, got {type(data).__name__}")
    return _checked(data)


def _bytes_of(source: Any) -> Any:
    """The bytes of a payload, scene or PNG, also of a file or of a text; anything else as it is."""
    if isinstance(source, str) and is_text(source):
        try:
            return _checked(from_text(source))
        except PayloadError as error:
            if not os.path.exists(source):  # which takes names of any length, unlike `Path.exists`
                error.args = (f"{error}; there is no file of this name either",)
                raise
    source = _read_file(source) if isinstance(source, (str, os.PathLike)) else content_of(source)
    if isinstance(source, (bytes, bytearray, memoryview)) and not isinstance(source, (Payload, Scene)):
        text = (source := bytes(source)).decode("latin-1")
        return from_text(text) if is_text(text) else source
    return source


def _checked(data: bytes) -> Payload | Scene:
    return Scene(data) if is_scene(data) else Payload(data)


def _read_file(path: str | os.PathLike[str]) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise PayloadError(f"cannot read the payload {str(path)[:200]}: {why_unreadable(path, error)}") from error
    if len(data) > MAX_FILE_BYTES:
        raise PayloadError(f"{path} has more than {MAX_FILE_BYTES} bytes; it is neither a payload nor an LR")
    return data


def _from_picture(source: bytes | Image.Image) -> Rgb:
    # No colour management and no rotation: the levels of an LR are data.
    try:
        image = Image.open(io.BytesIO(source), formats=["PNG"]) if isinstance(source, bytes) else source
        width, height = image.size
        if not 1 <= width * height <= MAX_LARGE_LR_PIXELS:
            raise ImageError(f"an LR has 1 to {MAX_LARGE_LR_PIXELS} pixels, this picture has {width} x {height}")
        if image.mode == "I;16":  # of 16-bit PNGs with colour or alpha, Pillow reads the high bytes
            levels, low = np.divmod(np.array(image), 257)
            if low.any():
                raise ImageError("an LR has levels of 8 bits, this picture has others of 16")
            image = Image.fromarray(levels.astype(np.uint8))
        if image.mode not in ("RGB", "L", "P", "RGBA", "LA", "PA", "1"):
            raise ImageError(f"an LR is an RGB picture of 8 bits, this one has the mode {image.mode}")
        if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise ImageError("an LR is opaque, this picture has transparent pixels")
        return np.array(image.convert("RGB"))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow raises various types for damaged pictures
        raise ImageError(f"the LR cannot be read: {error}") from error


def batches(items: Iterable[Item]) -> Iterable[tuple[int, list[Item]]]:
    """(position of the first, up to `BATCH` items), until there are no more."""
    iterator, first = iter(items), 0
    while batch := list(itertools.islice(iterator, BATCH)):
        yield first, batch
        first += BATCH


@contextmanager
def position_in_batch(kind: str, index: int) -> Iterator[None]:
    """Prefix the message of an `EdgegrainError` with the position in a batch, keeping its class."""
    try:
        yield
    except EdgegrainError as error:
        placed = type(error)(f"{kind} {index}: {error}")
        vars(placed).update(vars(error))
        raise placed from error
