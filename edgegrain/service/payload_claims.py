"""What a payload may claim before anything is allocated for it; no network and no body is touched."""

from __future__ import annotations

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import ImageError, PayloadError
from codec_contract.payload import Header

MAX_SIDES = {"png": 65535, "webp": 16383, "jpeg": 65500}
"""Picture format -> longest side that its files can have."""


def check_claims(header: Header, manifest: Manifest, size: str, file_format: str, max_pixels: int) -> int:
    """Compare a header with the bundle it is restored with and with what the service makes.

    Args:
        size: ``"original"`` or ``"native"``: what the client asks for.
        file_format: a key of `MAX_SIDES`.
        max_pixels: largest picture that is made.

    Returns:
        Pixels of the picture that the payload becomes, never less than the decoder's square.

    Raises:
        PayloadError: the payload is of another contract, or its LR has another size than the bundle's.
        ImageError: the picture would exceed ``max_pixels``, or what a file of the format can hold.
    """
    if not manifest.lr_contract_id.startswith(header.contract_id):
        raise PayloadError(
            f"the payload was made under LR contract {header.contract_id.hex()}, bundle {manifest.id} has "
            f"{manifest.lr_contract_id[:4].hex()}; restore it with the bundle it was made with")
    if (header.lr_width, header.lr_height) != (manifest.lr, manifest.lr):
        raise PayloadError(
            f"the payload holds an LR of {header.lr_width} x {header.lr_height}, bundle {manifest.id} works with "
            f"{manifest.lr} x {manifest.lr}; it is corrupt or forged")
    width, height = _result_size(header, manifest, size)
    if width * height > max_pixels:
        raise ImageError(
            f"the picture would have {width} x {height} pixels, more than the {max_pixels} that are made here; ask for "
            "size=native")
    if max(width, height) > MAX_SIDES[file_format]:
        raise ImageError(
            f"the picture would have {width} x {height} pixels, the sides of a {file_format.upper()} file have at "
            f"most {MAX_SIDES[file_format]}; ask for image/png or size=native")
    return max(width * height, manifest.hr * manifest.hr)


def _result_size(header: Header, manifest: Manifest, size: str) -> tuple[int, int]:
    if size == "native":
        return manifest.hr, manifest.hr
    if header.cut is not None:
        return header.cut.side, header.cut.side
    return header.original_width, header.original_height
