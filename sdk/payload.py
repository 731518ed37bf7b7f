"""`Payload` and `Scene`: a compressed picture, and a photograph with all its faces, as bytes with properties."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from codec_contract.bundle.manifest import Manifest, Rate
from codec_contract.errors import ImageError, PayloadError
from codec_contract.files import write_atomically
from codec_contract.fit import Size, check_size, restored_size, unfit_picture
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import (
    CODING_RAW,
    CONTRACT_ID_BYTES,
    FIT_STRETCH,
    VERSION,
    BytesLike,
    Header,
    ParsedPayload,
    decode_body,
    other_contract,
    parse_payload,
)
from codec_contract.payload_text import TextForm, from_text, to_text
from codec_contract.pixels import Rgb
from codec_contract.scene import ParsedScene, parse_scene
from sdk.installed_bundles import manifest_for, require_manifest_for

NATIVE = "size='native' (--size native)"
"""Advice of refusals, which the service words in its own terms."""


def check_claims(header: Header, manifest: Manifest) -> Rate:
    """The rate of a payload, whose LR contract and LR size must be the bundle's: a large LR takes long to decode."""
    rate = manifest.rate_of(header)
    if rate is None:
        contracts = ", ".join(each.prefix for each in manifest.rates)
        advice = "restore it with the bundle it was made with"
        raise other_contract(header, f"bundle {manifest.id} has {contracts}; {advice}")
    width, height = manifest.lr_size(header.original_size)
    if header.lr_size != (width, height):
        what = f"the payload holds an LR of {header.lr_width} x {header.lr_height}"
        raise PayloadError(f"{what}, bundle {manifest.id} works with {width} x {height}; it is corrupt or forged")
    return rate


def lr_header(lr: Rgb, manifest: Manifest) -> Header:
    """The header that a bare LR is restored with: that of a payload whose original is the decoder's square."""
    height, width = lr.shape[:2]
    if manifest.tile_overlap is None and (width, height) != (manifest.lr, manifest.lr):
        what = f"bundle {manifest.id} takes LRs of {manifest.lr} x {manifest.lr}, got {width} x {height}"
        raise ImageError(f"{what}; name the bundle it was made with")
    contract, factor = manifest.lr_contract_id[:CONTRACT_ID_BYTES], manifest.factor
    return Header(VERSION, CODING_RAW, contract, width, height, width * factor, height * factor, FIT_STRETCH)


class Restoration(NamedTuple):
    """What a payload of a bundle is restored to."""

    rate: Rate
    size: tuple[int, int]  # (width, height)
    enlargement: int  # factor of the bundle's enlarger, 1 for none


def check_restoration(header: Header, manifest: Manifest, size: Size, max_pixels: int) -> Restoration:
    """Check a payload's claims for a size of `check_side`. Its square is enlarged to the smallest side that covers the
    size, or the original or the square cut out of it; else to the largest."""
    rate, tiled = check_claims(header, manifest), manifest.tile_overlap is not None
    width, height = header.original_size if tiled else restored_size(header, manifest.hr, size)
    if isinstance(size, int):
        check_pixels(width, height, max_pixels)
    elif (size == "original" or tiled) and width * height > max_pixels:
        what, native = "an original" if header.cut is None else "a part", "" if tiled else f"ask for {NATIVE} or "
        claimed = f"{what} of {width} x {height} pixels, more than {max_pixels}"
        raise ImageError(f"the payload claims {claimed}; {native}raise max_pixels (--max-megapixels)")
    if size == "native" or not manifest.sides:
        return Restoration(rate, (width, height), 1)
    wanted = max(header.original_size) if header.cut is None else header.cut.side
    if isinstance(size, int):
        wanted = size
    side = next((side for side in manifest.sides if side >= wanted), manifest.sides[-1])
    return Restoration(rate, (width, height), side // manifest.hr)


def check_pixels(width: int, height: int, most: int, name: str = "picture") -> None:
    """Raise `ImageError` for a picture to restore of more than ``most`` pixels."""
    if width * height > most:
        advice = "ask for a smaller size or raise max_pixels (--max-megapixels)"
        raise ImageError(f"the {name} would have {width} x {height} pixels, more than {most}; {advice}")


def check_side(manifest: Manifest, size: Size) -> Size:
    """The size; `ImageError` if a bundle does not restore it."""
    size, restores = check_size(size), f"bundle {manifest.id} restores pictures at"
    if isinstance(size, int) and not manifest.sides:
        raise ImageError(f"{restores} their original's size only, not at {size} pixels; leave size out")
    if isinstance(size, int) and size > manifest.sides[-1]:
        sizes = ", ".join(map(str, manifest.sides))
        raise ImageError(f"{restores} up to {manifest.sides[-1]} pixels, not at {size}; its sizes: {sizes}")
    return size


class _Sent(bytes):
    """Checked bytes to send or store."""

    def text(self, form: TextForm = "base64url") -> str:
        """The bytes as text (docs/sending.md): base64url without padding, or ``"base45"``, for QR codes."""
        return to_text(self, form)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a text of either form, standard base64 or a data URI.

        Raises:
            PayloadError: it is no such text, or its bytes are refused.
        """
        return cls(from_text(text))

    def save(self, path: str | os.PathLike[str], force: bool = False) -> Path:
        """Write the bytes to ``path`` (by convention ``.grain``) atomically; returns the path.

        Raises:
            ExistsError: the file exists and ``force`` is false.
        """
        return write_atomically(Path(path), bytes(self), force=force)

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return type(self), (bytes(self),)


class Payload(_Sent):
    """A compressed picture: checked bytes to send or store, with properties that describe them.

    It equals, hashes, slices and pickles as its bytes. ``Payload(data)`` parses bytes that were received: it checks
    length, CRC and every claim of the header. A `Payload` is not parsed again.

    Raises:
        PayloadError: the bytes are no payload, truncated, corrupt, or of an unknown version.
    """

    _parsed: ParsedPayload
    _lr: Rgb | None

    def __new__(cls, data: BytesLike, *, lr: Rgb | None = None) -> Payload:
        """Check ``data``; ``lr`` is the LR that it decodes to, if known, else it is decoded on demand."""
        if isinstance(data, Payload) and lr is None:
            return data
        parsed = parse_payload(data)
        payload = super().__new__(cls, data)
        payload._parsed = parsed
        payload._lr = None if lr is None else _read_only(lr)
        return payload

    @property
    def parsed(self) -> ParsedPayload:
        """Header and coded body."""
        return self._parsed

    @property
    def header(self) -> Header:
        """The checked header: contract, coding, sizes, fit."""
        return self._parsed.header

    @property
    def original_size(self) -> tuple[int, int]:
        """(width, height) of the original picture, in pixels."""
        return self.header.original_size

    @property
    def fit(self) -> str:
        """The fit of the original to the encoder's square: ``"pad"``, ``"stretch"``, ``"crop"`` or ``"align"``."""
        return self.header.fit

    @property
    def bundle(self) -> str | None:
        """Id of the installed bundle it belongs to; None if there is none."""
        manifest = manifest_for(self.header)
        return None if manifest is None else manifest.id

    @property
    def lr(self) -> Rgb:
        """The LR, uint8 ``[h, w, 3]``, read-only: a small version of the picture.

        Raises:
            PayloadError: the body is corrupt, or no installed bundle has the coder tables it was written with.
        """
        if self._lr is None:
            self._lr = _read_only(decode_payload_lr(self._parsed, require_manifest_for(self.header)))
        return self._lr

    def preview(self) -> Rgb:
        """The LR in the original's aspect, uint8 ``[h, w, 3]``, to show until the picture is restored.

        Raises:
            PayloadError: as `lr`.
        """
        width, height = self.header.lr_size
        if width != height:
            return self.lr
        return unfit_picture(self.lr, self.header, restored_size(self.header, width, "native"))

    def __repr__(self) -> str:
        (width, height), (wide, high) = self.header.lr_size, self.original_size
        return f"Payload({len(self)} bytes: LR {width} x {height}, original {wide} x {high}, fit {self.fit!r})"


class Scene(_Sent):
    """All faces of a photograph and its background (docs/payload.md, "Scenes"), with the methods of `Payload`.

    ``Scene(data)`` parses bytes that were received.

    Raises:
        PayloadError: the bytes are no scene, truncated, corrupt, or one of their claims is out of range.
    """

    parsed: ParsedScene
    faces: tuple[Payload, ...]
    """The payloads of the faces, the largest first as edgegrain writes them; `restore` and `paste` take each."""

    def __new__(cls, data: BytesLike) -> Scene:
        """Check ``data``."""
        if isinstance(data, Scene):
            return data
        parsed = parse_scene(data)
        scene = super().__new__(cls, data)
        scene.parsed, scene.faces = parsed, tuple(map(Payload, parsed.faces))
        return scene

    @property
    def original_size(self) -> tuple[int, int]:
        """(width, height) of the photograph, in pixels."""
        return self.parsed.original_size

    def __repr__(self) -> str:
        width, height = self.original_size
        return f"Scene({len(self)} bytes: {len(self.faces)} faces, original {width} x {height})"


def coder_tables(manifest: Manifest, rate: Rate | None = None) -> CoderTables:
    """The coder tables of a bundle's rate, by default of its own."""
    return CoderTables.from_json(manifest.open_file((rate or manifest.own_rate).coder))


def decode_payload_lr(payload: ParsedPayload, manifest: Manifest) -> Rgb:
    """The LR of a payload, uint8 ``[h, w, 3]``; its claims are checked before its body is decoded."""
    return decode_body(payload, coder_tables(manifest, check_claims(payload.header, manifest)))


def _read_only(lr: Rgb) -> Rgb:
    view = np.ascontiguousarray(lr).view()
    view.flags.writeable = False
    return view
