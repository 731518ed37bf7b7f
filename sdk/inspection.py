"""Look at a payload without restoring the picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from codec_contract.bundle.controls import Control, controls_of
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import CODING_DEFLATE, CODING_RANGE, CODING_RAW, parse_header
from sdk.inputs import read_payload_bytes
from sdk.known_bundles import manifest_for
from sdk.payload import decode_body

_CODINGS = {CODING_RAW: "raw", CODING_RANGE: "range", CODING_DEFLATE: "deflate"}


@dataclass(frozen=True)
class PayloadInfo:
    """What `inspect` found; everything in it was checked.

    Attributes:
        size: bytes of the payload.
        version: of the payload format.
        coding: ``"range"``, ``"deflate"`` or ``"raw"``.
        contract_id: eight hex digits, the beginning of the LR contract id it was made under.
        bundle: id of the installed bundle it belongs to; None if no installed one has that contract.
        lr_size: (width, height) of the LR it holds.
        original_size: (width, height) of the original picture.
        fit: ``"pad"``, ``"stretch"``, ``"crop"`` or ``"align"``.
        body_checked: whether the coded body was checked too, which needs a raw body or the bundle's tables.
        square: what an aligned payload shows of the original; None for the other fits.
        controls: what may be chosen when it is restored, by name; empty if its bundle is not installed.
    """

    size: int
    version: int
    coding: str
    contract_id: str
    bundle: str | None
    lr_size: tuple[int, int]
    original_size: tuple[int, int]
    fit: str
    body_checked: bool
    square: OrientedSquare | None = None
    controls: Mapping[str, Control] = field(default_factory=dict)


def inspect(payload: str | os.PathLike[str] | bytes | bytearray | memoryview) -> PayloadInfo:
    """Check a payload, bytes or the path of a file, completely; no neural network runs.

    Length, CRC and every claim of the header are checked, and, where the bundle it belongs to is installed, that the
    LR has the bundle's size and the body is exactly what the coder writes for it (a deflated one need not be).

    Raises:
        PayloadError: anything about it is wrong.
        BundleError: the bundle it belongs to is damaged.
    """
    data = read_payload_bytes(payload)
    header = parse_header(data)
    manifest = manifest_for(header)
    if manifest is not None:
        decode_body(data, manifest)
    raw = header.coding == CODING_RAW
    return PayloadInfo(
        size=len(data),
        version=header.version,
        coding=_CODINGS[header.coding],
        contract_id=header.contract_id.hex(),
        bundle=None if manifest is None else manifest.id,
        lr_size=(header.lr_width, header.lr_height),
        original_size=(header.original_width, header.original_height),
        fit=header.fit,
        square=header.square,
        body_checked=raw or manifest is not None,
        controls={} if manifest is None else controls_of(manifest),
    )
