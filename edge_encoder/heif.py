"""HEIF, what iPhones make (HEIC): read by pillow-heif, the extra ``heic``, which is imported with the first picture."""

from __future__ import annotations

from PIL import Image

INSTALL = "pip install 'edgegrain[heic]'"

_BRANDS = (b"hei", b"hev", b"mif1", b"msf1")


def register_heif() -> None:
    """Let Pillow read HEIF if pillow-heif is installed and no other plug-in reads it."""
    if "HEIF" in Image.OPEN:
        return
    try:
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    except ImportError:  # also if its library does not load
        return


def is_heif(header: bytes) -> bool:
    """True for the first bytes, at least 12, of a HEIF file."""
    return header[4:8] == b"ftyp" and header[8:12].startswith(_BRANDS)
