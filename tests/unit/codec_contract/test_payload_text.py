"""Payloads as text: published vectors, both forms there and back, and texts that are no payload's."""

import base64
import io
import random
from pathlib import Path

import pytest
from PIL import Image

from codec_contract.errors import PayloadError
from codec_contract.payload import MAGIC, parse_payload
from codec_contract.payload_text import TextForm, from_text, is_text, to_text

GOLDEN = Path(__file__).parents[2] / "golden" / "contract"


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"AB", "BB8"), (b"Hello!!", "%69 VD92EX0"), (b"base-45", "UJCLQE7W581"), (b"ietf!", "QED8WEX0"), (b"", "")],
)
def test_base45_of_rfc_9285(data: bytes, text: str) -> None:
    assert to_text(data, "base45") == text


@pytest.mark.parametrize("form", ["base64url", "base45"])
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.grain")), ids=lambda path: path.stem)
def test_there_and_back(path: Path, form: TextForm) -> None:
    data = path.read_bytes()
    text = to_text(data, form)
    assert from_text(text) == from_text(f" {text}\r\n") == from_text(f"\ufeff{text}") == data
    assert is_text(text) and not is_text(str(path))


@pytest.mark.parametrize("contract", [0x03, 0x42, 0x70, 0x71, 0x95, 0xCE, 0xFF])
def test_every_beginning_of_version_2(contract: int) -> None:
    """0x03 and 0x71 have a space as the first or second digit of base45 with one of the sizes, 0x95 has both."""
    for first in range(0xA8, 0xAD):
        for length in range(5, 8):
            data = bytes([first, contract]) + bytes(range(length))
            for form in ("base64url", "base45"):
                text = to_text(data, form)
                assert is_text(text) and from_text(text) == from_text(f"\ufeff{text}\r\n") == data
                assert text[0] in "qr" if form == "base64url" else text[2] == "L"
    assert not any(is_text(to_text(bytes([first, contract, 1]))) for first in (0xA7, 0xAD))


@pytest.mark.parametrize("path", ["quiet.png", "q/me.grain", "rA.grain", "MYLIFE.grain", "HELP.d/me.png", "rose"])
def test_names_of_files_are_no_texts(path: str) -> None:
    assert not is_text(path)


def test_any_length_and_version_comes_back() -> None:
    choose = random.Random(0)
    for length in range(40):
        for version in range(1, 4):
            data = MAGIC + bytes([version << 4]) + choose.randbytes(length)
            for form in ("base64url", "base45"):
                assert is_text(to_text(data, form)) and from_text(to_text(data, form)) == data


def test_other_base64_is_read() -> None:
    data = MAGIC + b"\x10\xfb\xff\xfe"
    padded = base64.b64encode(data).decode()
    assert padded == "7W4Q+//+" and from_text(padded) == from_text("7W4Q-__-") == data
    assert from_text(base64.encodebytes(data * 30).decode()) == data * 30  # in lines
    assert from_text(f"data:application/vnd.edgegrain;base64,{padded}") == data
    assert from_text(base64.b64encode(data + b"1").decode()) == data + b"1"  # with padding


@pytest.mark.parametrize("text", "7W4Q! 7W4QA W0U1 W0U:::: W0Uab W0U::: W0U:: 7W4Qé qEb! qEbXA rA=é ABL1 ABL::".split())
def test_damaged_texts(text: str) -> None:
    with pytest.raises(PayloadError, match=r"is not whole base(64url|45): it was altered or cut off"):
        from_text(text)


def test_other_things_are_no_texts() -> None:
    with pytest.raises(PayloadError, match="it begins with 'me.g', base64url of a payload with q, r or 7W"):
        from_text("me.grain")
    with pytest.raises(PayloadError, match="is a str, got bytes"):
        from_text(b"7W4Q")  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match="is base64url or base45, not 'hex'"):
        to_text(b"", "hex")  # type: ignore[arg-type]


def test_strings_that_hold_bytes_are_told() -> None:
    for data in map(bytes.fromhex, ("ed6e1100", "a846d704", "acffffff")):
        with pytest.raises(PayloadError, match="read as latin-1"):
            from_text(data.decode("latin-1"))
        with pytest.raises(PayloadError, match="read as UTF-8"):
            from_text(data.decode("utf-8", "replace"))


@pytest.mark.parametrize("name", ["coded-16x16-smooth", "v2-16x16-smooth", "v2-9x5-textured"])
def test_a_payload_that_went_through_text_is_told(name: str) -> None:
    data = (GOLDEN / f"{name}.grain").read_bytes()
    for text, message in (
        (data.decode("latin-1"), "read as latin-1 and written as UTF-8; send bytes, or Payload"),
        (data.decode("utf-8", "replace"), "read as UTF-8, which replaced its bytes; send bytes, or"),
        *((start + to_text(data), "it is a payload's text; Payload.from_text reads it") for start in ("", "\ufeff")),
        (to_text(data, "base45"), "it is a payload's text; Payload.from_text reads it"),
    ):
        with pytest.raises(PayloadError, match=message):
            parse_payload(text.encode())


def test_a_qr_code() -> None:
    segno, zxingcpp = pytest.importorskip("segno"), pytest.importorskip("zxingcpp")
    data = (GOLDEN / "v2-16x16-textured.grain").read_bytes()
    code = segno.make(to_text(data, "base45"), error="l")
    assert code.mode == "alphanumeric"
    file = io.BytesIO()
    code.save(file, kind="png", scale=4)
    (read,) = zxingcpp.read_barcodes(Image.open(file))
    assert from_text(read.text) == data
    assert segno.make(to_text(data), error="l").version > code.version  # base64 takes a larger one
