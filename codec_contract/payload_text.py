"""Payloads as text, for places that take no bytes: base64url (RFC 4648), or base45 for QR codes (RFC 9285)."""

from __future__ import annotations

import base64
import re
from typing import Literal, get_args

from codec_contract.errors import PayloadError

TextForm = Literal["base64url", "base45"]

# The beginning of scenes and of payloads of version 1, or of version 2, in each form. Names of files have a dot or a
# lower case letter.
_BASE64 = re.compile(r"7W|(q|r[A-P])[^.]*\Z")
_BASE45 = re.compile(r"W0U|[0-9A-Z $%*+./:-][A-Z $%*]L[^a-z]*\Z")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"


def to_text(data: bytes, form: TextForm = "base64url") -> str:
    """The bytes of a payload or scene as text: base64url without padding, or base45."""
    if form == "base64url":
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    if form != "base45":
        raise PayloadError(f"a payload's text is {' or '.join(get_args(TextForm))}, not {form!r}")
    pairs = [256 * first + second for first, second in zip(data[::2], data[1::2], strict=False)]
    text = "".join(_DIGITS[pair % 45] + _DIGITS[pair // 45 % 45] + _DIGITS[pair // 2025] for pair in pairs)
    return text + _DIGITS[data[-1] % 45] + _DIGITS[data[-1] // 45] if len(data) % 2 else text


def is_text(text: str) -> bool:
    """True for a str that begins as the text of a payload or scene does, or as a data URI."""
    found = _bare(text)
    return found.startswith("data:") or any(form.match(found) for form in (_BASE64, _BASE45))


def from_text(text: str) -> bytes:
    """The bytes of a payload's or scene's text; also of padded or standard base64, and of a data URI.

    Only its form is checked: `parse_payload` or `parse_scene` check the bytes. `PayloadError` for any other text.
    """
    if not isinstance(text, str):
        raise PayloadError(f"a payload's text is a str, got {type(text).__name__}")
    found = _bare(text)
    if found.startswith("data:"):
        found = found.partition(",")[2]
    form: TextForm = "base45" if _BASE45.match(found) else "base64url"
    try:
        if form == "base45":
            return _from_base45("".join(found.splitlines()))
        if _BASE64.match(found):
            found = "".join(found.split()).rstrip("=").replace("-", "+").replace("_", "/")
            return base64.b64decode(found + "=" * (-len(found) % 4), validate=True)
    except (ValueError, OverflowError) as error:
        raise PayloadError(f"the payload's text is not whole {form}: it was altered or cut off") from error
    if cause := misread(found[:4].encode("utf-8", "replace")):
        raise PayloadError(f"not a payload's text: {cause}")
    expected = "base64url of a payload with q, r or 7W, base45 has L as its third character or begins with W0U"
    raise PayloadError(f"not a payload's text: it begins with {found[:4]!r}, {expected}")


def _bare(text: str) -> str:
    """The text without white space around it and a byte order mark of UTF-8 before it, also one read as latin-1.

    A space may be the first digit of base45, so it is kept where the text has that form with it.
    """
    text = text.rstrip().lstrip("\t\r\n").removeprefix("\ufeff").removeprefix("\u00ef\u00bb\u00bf").lstrip("\t\r\n")
    return text if _BASE45.match(text) else text.lstrip()


def misread(data: bytes) -> str | None:
    """Why bytes do not begin as a payload: they are a picture, or went through text; None if they do not show it."""
    advice = "; send bytes, or Payload.text()"
    if data.startswith((b"\xc3\xadn", *(bytes((0xC2, first)) for first in range(0xA8, 0xAD)))):
        return f"it was read as latin-1 and written as UTF-8{advice}"
    if data.startswith(b"\xef\xbf\xbd"):
        return f"it was read as UTF-8, which replaced its bytes{advice}"
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")) or data[4:8] == b"ftyp":
        return "it is a picture; compress makes a payload of it"
    return "it is a payload's text; Payload.from_text reads it" if is_text(data[:8].decode("latin-1")) else None


def _from_base45(text: str) -> bytes:
    values = [_DIGITS.index(digit) for digit in text]
    pairs = zip(values[::3], values[1::3], values[2::3], strict=False)
    data = b"".join((first + 45 * second + 2025 * third).to_bytes(2) for first, second, third in pairs)
    rest = values[len(values) // 3 * 3 :]
    if len(rest) == 1:
        raise ValueError("a byte has two digits, a pair three")
    return data + (rest[0] + 45 * rest[1]).to_bytes() if rest else data
