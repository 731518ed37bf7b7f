"""`Payload`: the bytes that travel, with the picture they hold in view."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import PayloadError
from codec_contract.files import write_atomically
from codec_contract.lr_coder.coder import CoderTables
from codec_contract.payload import BytesLike, Header, decode_payload, parse_header
from sdk.known_bundles import manifest_for, require_manifest_for

CODER_FILE = "coder.json"
"""A bundle's coder tables."""


class Payload(bytes):
    """A compressed picture: plain bytes to send or store, checked, with properties that tell what they hold.

    It equals, hashes and slices as the bytes it is, and pickles as them. ``Payload(data)`` takes received bytes and
    checks length, CRC and every claim of the header.

    Raises:
        PayloadError: the bytes are no payload, truncated, corrupt, or of an unknown version.
    """

    _header: Header
    _lr: npt.NDArray[np.uint8] | None

    def __new__(cls, data: BytesLike, *, lr: npt.NDArray[np.uint8] | None = None) -> Payload:
        """Args: ``data``: the bytes. ``lr``: what they decode to where that is known, else decoded when asked for."""
        header = parse_header(data)
        payload = super().__new__(cls, data)
        payload._header = header
        payload._lr = None if lr is None else _read_only(lr)
        return payload

    @property
    def header(self) -> Header:
        """What the payload says about itself, checked: contract, coding, sizes, fit."""
        return self._header

    @property
    def original_size(self) -> tuple[int, int]:
        """(width, height) of the original picture, in pixels."""
        return self._header.original_width, self._header.original_height

    @property
    def fit(self) -> str:
        """How the original was brought to the encoder's square: ``"pad"``, ``"stretch"``, ``"crop"`` or ``"align"``."""
        return self._header.fit

    @property
    def bundle(self) -> str | None:
        """Id of the installed bundle it belongs to; None if there is none."""
        manifest = manifest_for(self._header)
        return None if manifest is None else manifest.id

    @property
    def lr(self) -> npt.NDArray[np.uint8]:
        """The LR, uint8 ``[h, w, 3]``, read-only: a small picture of what was compressed.

        Raises:
            PayloadError: the body is corrupt, or no installed bundle has the coder tables it was written with.
        """
        if self._lr is None:
            self._lr = _read_only(decode_body(self, require_manifest_for(self._header)))
        return self._lr

    def save(self, path: str | os.PathLike[str], force: bool = False) -> Path:
        """Write the bytes to ``path`` (by convention ``.grain``): the whole file or nothing. Returns the path.

        Raises:
            FileExistsError: the file exists and ``force`` is false.
        """
        return write_atomically(Path(path), bytes(self), force=force)

    def __repr__(self) -> str:
        header = self._header
        return (
            f"Payload({len(self)} bytes: LR {header.lr_width} x {header.lr_height}, "
            f"original {header.original_width} x {header.original_height}, fit {header.fit!r})"
        )

    def __reduce__(self) -> tuple[type[Payload], tuple[bytes]]:
        return Payload, (bytes(self),)

    def __copy__(self) -> Payload:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Payload:
        return self


def coder_tables(manifest: Manifest) -> CoderTables:
    """The coder tables of a bundle; `BundleError` if they are missing, altered or malformed."""
    return CoderTables.from_json(manifest.open_file(CODER_FILE))


def decode_body(
    payload: BytesLike, manifest: Manifest, tables: CoderTables | None = None
) -> npt.NDArray[np.uint8]:
    """The LR of a payload, uint8 ``[h, w, 3]``, by the tables of the bundle it belongs to.

    Raises:
        PayloadError: the payload is corrupt, of another contract, or its LR is not of the bundle's size.
    """
    header = parse_header(payload)
    if not manifest.lr_contract_id.startswith(header.contract_id):
        raise PayloadError(
            f"the payload was made under LR contract {header.contract_id.hex()}, bundle {manifest.id} has "
            f"{manifest.lr_contract_id[:4].hex()}; restore it with the bundle it was made with"
        )
    # Compared before decoding: a large LR takes long to decode, and a bundle makes one size of a picture only.
    width, height = manifest.lr_size((header.original_width, header.original_height))
    if (header.lr_width, header.lr_height) != (width, height):
        raise PayloadError(
            f"the payload holds an LR of {header.lr_width} x {header.lr_height}, bundle {manifest.id} works with "
            f"{width} x {height}; it is corrupt or forged"
        )
    tables = tables or coder_tables(manifest)
    return decode_payload(payload, contract_id=manifest.lr_contract_id, tables=tables)[0]


def _read_only(lr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    view = np.ascontiguousarray(lr).view()
    view.flags.writeable = False
    return view
