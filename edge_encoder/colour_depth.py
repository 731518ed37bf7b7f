"""Pictures of more than 8 bits per channel that Pillow misreads without an error: they are refused.

Its reader of JPEG 2000 lets white overflow to black in colour and transparent pictures, but not in grey ones. Its own
reader of uncompressed TIFFs takes each plane of samples for 8 bits.
"""

from __future__ import annotations

from typing import IO

from PIL import Image, ImageFile

from codec_contract.errors import ImageError

_BITS_PER_SAMPLE, _COMPRESSION, _PLANAR_CONFIGURATION = 258, 259, 284
"""Tags of TIFF."""
_UNCOMPRESSED, _SEPARATE_PLANES = 1, 2
_CODESTREAM = b"\xff\x4f\xff\x51"
"""Start of a codestream of JPEG 2000: the marker SOC, then the segment SIZ."""
_COMPONENTS, _FIRST_DEPTH = 40, 42
"""Positions in a codestream: the number of components, and the depth of the first; a component has three bytes."""


def refuse_misread_depth(image: Image.Image, name: str) -> None:
    """Raise `ImageError` for a picture whose levels Pillow would misread; call it before ``load()``."""
    if not isinstance(image, ImageFile.ImageFile) or image.mode.startswith(("I", "F")):  # grey
        return
    if (image.format == "JPEG2000" and image.tile and image.fp is not None
            and (bits := _jpeg2000_bits(image.fp)) > 8):
        raise ImageError(f"{name} is a JPEG 2000 picture of mode {image.mode} with {bits} bits per channel, which "
                         "cannot be read; convert it to 8 bits")
    tags = getattr(image, "tag_v2", {})
    if (tags.get(_PLANAR_CONFIGURATION) == _SEPARATE_PLANES and tags.get(_COMPRESSION, 1) == _UNCOMPRESSED
            and (bits := max(tags.get(_BITS_PER_SAMPLE, (1,)))) > 8):
        raise ImageError(f"{name} is an uncompressed TIFF with planes of {bits} bits per channel, which cannot be "
                         "read; convert it to 8 bits")


def _jpeg2000_bits(file: IO[bytes]) -> int:
    """The most bits of a component, 0 if the file is damaged; the file's position stays."""
    position = file.tell()
    file.seek(0)
    _, _, header = file.read().partition(_CODESTREAM)
    file.seek(position)
    header = _CODESTREAM + header
    components = int.from_bytes(header[_COMPONENTS : _COMPONENTS + 2], "big")
    return max(((depth & 0x7F) + 1 for depth in header[_FIRST_DEPTH::3][:components]), default=0)
