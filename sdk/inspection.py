"""`inspect`: check and describe a payload without restoring the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codec_contract.bundle.find import Control, controls_of
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import CODING_DEFLATE, CODING_RANGE, CODING_RAW
from sdk.inputs import PayloadSource, read_payload
from sdk.installed_bundles import manifest_for
from sdk.payload import decode_payload_lr

_CODINGS = {CODING_RAW: "raw", CODING_RANGE: "range", CODING_DEFLATE: "deflate"}


@dataclass(frozen=True)
class PayloadInfo:
    """Result of `inspect`; every value was checked.

    Attributes:
        bytes: length of the payload.
        version: version of the payload format.
        coding: ``"range"``, ``"deflate"`` or ``"raw"``.
        contract_id: eight hex digits, the beginning of the LR contract id it was made under.
        bundle: id of the installed bundle it belongs to; None if no installed one has that contract.
        lr_size: (width, height) of the LR it holds.
        original_size: (width, height) of the original picture.
        fit: ``"pad"``, ``"stretch"``, ``"crop"`` or ``"align"``.
        body_checked: True if the coded body was checked too, which needs a raw body or the bundle's tables.
        square: the part of the original that an aligned payload shows; None for the other fits.
        controls: options of restoring it, by name; empty if its bundle is not installed.
        sides: sides of the squares that its bundle restores, in pixels (`BundleInfo.sides`); empty if it is not
            installed.
    """

    bytes: int
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
    sides: tuple[int, ...] = ()


def inspect(payload: PayloadSource) -> PayloadInfo:
    """Check a payload completely, from its bytes or the path of its file; no neural network runs.

    Length, CRC and every claim of the header are checked. If the bundle it belongs to is installed, the size of the LR
    is checked too, and that the body is exactly what the coder writes for this LR (except for deflated bodies).

    Raises:
        PayloadError: the payload is damaged.
        BundleError: the bundle it belongs to is damaged.
    """
    checked = read_payload(payload)
    header = checked.header
    manifest = manifest_for(header)
    if manifest is not None:
        decode_payload_lr(checked.parsed, manifest)
    raw = header.coding == CODING_RAW
    return PayloadInfo(
        bytes=len(checked),
        version=header.version,
        coding=_CODINGS[header.coding],
        contract_id=header.contract_id.hex(),
        bundle=None if manifest is None else manifest.id,
        lr_size=header.lr_size,
        original_size=header.original_size,
        fit=header.fit,
        square=header.square,
        body_checked=raw or manifest is not None,
        controls={} if manifest is None else controls_of(manifest),
        sides=() if manifest is None else manifest.sides,
    )
