"""The payload format: round trips, refused damage, bounded claims, contracts."""

from __future__ import annotations

import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_contract.errors import PayloadError
from codec_contract.lr_coder.coder import encode_lr
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import (
    CODING_DEFLATE,
    CODING_RANGE,
    CODING_RAW,
    FIT_ALIGN,
    FIT_CROP,
    FIT_PAD,
    FIT_STRETCH,
    MAGIC,
    Header,
    decode_payload,
    encode_payload,
    parse_payload,
)

TABLES = CoderTables.default()
CONTRACT = bytes(range(32))


def content(kind: str, width: int, height: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "constant":
        return np.full((height, width, 3), rng.integers(0, 256, 3), dtype=np.uint8)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "extremes":
        return (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    ramp = (x * rng.uniform(-3, 3) + y * rng.uniform(-3, 3))[..., None] + rng.uniform(0, 255, 3)
    return np.asarray(np.clip(ramp, 0, 255), dtype=np.uint8)


def pack(lr: np.ndarray, **changes: Any) -> bytes:
    arguments = {"contract_id": CONTRACT, "tables": TABLES, "original_size": (640, 480), **changes}
    return encode_payload(lr, **arguments)


def unpack(data: bytes, contract_id: bytes = CONTRACT) -> tuple[np.ndarray, Header]:
    return decode_payload(data, contract_id=contract_id, tables=TABLES)


def parse_header(data: bytes) -> Header:
    return parse_payload(data).header


def sealed(data: bytes) -> bytes:
    """The bytes with a CRC that fits, as a forger would append it."""
    return data + zlib.crc32(data).to_bytes(4, "little")


def forged(
    flags: int = 4 << 2, sizes: bytes = b"", original: bytes = b"\x80\x01\x80\x01", body: bytes = b"",
    first: bytes = b"\x11",
) -> bytes:
    return sealed(MAGIC + first + CONTRACT[:4] + bytes([flags]) + sizes + original + body)


CONTENTS = st.sampled_from(["constant", "noise", "gradient", "extremes"])


@settings(max_examples=60, deadline=None)
@given(
    CONTENTS, st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000), st.sampled_from([CODING_RAW, CODING_RANGE]),
    st.integers(1, 65535), st.integers(1, 4096), st.sampled_from([FIT_PAD, FIT_STRETCH, FIT_CROP]))
def test_round_trip(
    kind: str, width: int, height: int, seed: int, coding: int, original_width: int, original_height: int, fit: str
) -> None:
    lr = content(kind, width, height, seed)
    data = pack(lr, coding=coding, original_size=(original_width, original_height), fit=fit)
    decoded, header = unpack(data)
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, lr)
    raw = 3 * width * height
    body = raw if header.coding == CODING_RAW else len(encode_lr(lr, TABLES))
    assert body <= raw
    assert header == Header(1, header.coding, CONTRACT[:4], width, height, original_width, original_height, fit)
    assert parse_header(data) == header
    assert len(data) - body <= 20
    assert pack(decoded, coding=header.coding, original_size=(original_width, original_height), fit=fit) == data


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 256), (256, 1), (255, 2), (128, 128), (100, 37), (256, 256)])
def test_round_trip_of_extreme_sizes(width: int, height: int) -> None:
    # The range coder codes 128 x 128 in lr_coder/test_coder.py; here it would only take time.
    coding = CODING_RAW if width * height > 10_000 else CODING_RANGE
    lr = content("gradient", width, height, 7)
    decoded, header = unpack(pack(lr, coding=coding))
    assert np.array_equal(decoded, lr)
    assert (header.lr_width, header.lr_height) == (width, height)


def test_sixteen_bytes_around_the_body_in_the_default_case() -> None:
    lr = content("gradient", 16, 16, 1)
    for original in [(128, 128), (1024, 1024), (16383, 16383)]:
        assert len(pack(lr, original_size=original)) == 16 + len(encode_lr(lr, TABLES))
        assert len(pack(lr, original_size=original, coding=CODING_RAW)) == 16 + 768


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 65535), st.integers(1, 4096)), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1),
    st.floats(0, 7))
def test_a_square_comes_back(size: tuple[int, int], x: int, y: int, length: int, angle: float) -> None:
    length = 2 + length * (4 * max(size) - 4)
    across = round(4 * length * np.cos(angle)), round(4 * length * np.sin(angle))
    square = OrientedSquare(round(4 * x * size[0]), round(4 * y * size[1]), *across)
    lr = content("noise", 1, 1, 0)
    data = pack(lr, original_size=size, fit=FIT_ALIGN, square=square)
    decoded, header = unpack(data)
    assert np.array_equal(decoded, lr)
    assert header.square == header.cut == square and header.fit == FIT_ALIGN
    assert len(data) - len(pack(lr, original_size=size)) <= 12
    assert data[7] & 3 == 3


def test_what_a_payload_shows_of_the_original() -> None:
    def header(fit: str) -> Header:
        return parse_header(pack(content("noise", 2, 2, 0), original_size=(75, 61), fit=fit))

    assert header(FIT_PAD).cut is header(FIT_STRETCH).cut is header(FIT_CROP).square is None
    # As fit_picture cuts: 61 pixels wide, from (7, 0) on.
    assert header(FIT_CROP).cut == OrientedSquare(4 * 7 + 2 * 61, 2 * 61, 4 * 61, 0)


def test_the_byte_table() -> None:
    lr = content("noise", 2, 2, 0)
    data = pack(lr, coding=CODING_RAW, original_size=(640, 100), fit=FIT_CROP)
    assert data[:8] == b"\xed\x6e\x10\x00\x01\x02\x03\x06"
    assert data[8:11] == b"\x80\x05\x64"
    assert data[11:23] == lr.tobytes()
    assert data[23:] == zlib.crc32(data[:23]).to_bytes(4, "little")
    wide = pack(content("noise", 5, 2, 0), coding=CODING_RAW)
    assert wide[7:10] == b"\x3c\x04\x01"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_type_is_read(kind: Any) -> None:
    lr = content("gradient", 8, 8, 0)
    for coding in (CODING_RAW, CODING_RANGE, CODING_DEFLATE):
        found, header = unpack(kind(pack(lr, coding=coding)))
        assert np.array_equal(found, lr) and header.coding == coding
        found[0, 0] = 1  # it can be written to


@pytest.mark.parametrize(("width", "height"), [(257, 1), (1, 300), (400, 260)])
@pytest.mark.parametrize("coding", [CODING_RAW, CODING_RANGE, CODING_DEFLATE])
def test_large_lrs_are_deflated_or_stored(width: int, height: int, coding: int) -> None:
    lr = content("gradient", width, height, 0)
    data = pack(lr, coding=coding, original_size=(4 * width, 4 * height))
    decoded, header = unpack(data)
    assert np.array_equal(decoded, lr)
    assert (header.lr_width, header.lr_height) == (width, height)
    assert header.coding == (CODING_RAW if coding == CODING_RAW else CODING_DEFLATE)
    assert pack(content("noise", width, height, 0), coding=coding)[2] & 15 == CODING_RAW


# -- damage ---------------------------------------------------------------------------------------------

DAMAGED = [
    pack(content("gradient", 16, 16, 3)), pack(content("noise", 4, 4, 3), coding=CODING_RAW),
    pack(content("gradient", 9, 4, 3), original_size=(4000, 3000), fit=FIT_CROP),
    pack(content("constant", 1, 1, 3), original_size=(1, 1)),
    pack(content("gradient", 9, 4, 3), original_size=(400, 300), fit=FIT_ALIGN, square=OrientedSquare(9, 999, 7, -80))]


def refused(data: bytes) -> None:
    with pytest.raises(PayloadError) as caught:
        unpack(data)
    with pytest.raises(PayloadError):
        parse_header(data)
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize("data", DAMAGED)
def test_every_truncation_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        refused(data[:length])


def test_a_payload_that_goes_on_is_told_from_a_damaged_one() -> None:
    def error(data: bytes) -> PayloadError:
        with pytest.raises(PayloadError) as caught:
            parse_header(data)
        return caught.value

    raw = pack(content("noise", 4, 4, 3), coding=CODING_RAW)
    for length in range(2, 14):
        assert error(raw[:length]).truncated
    for length in range(14, len(raw)):
        assert str(error(raw[:length])) == f"the payload is truncated: {length} of 64 bytes; ask for the rest"
        assert error(raw[:length]).truncated
    square = DAMAGED[-1]
    assert "it ends inside the square's slope" in str(error(square[:18])) and error(square[:18]).truncated
    for damaged in (b"", b"no", raw + b"1", raw[:30] + bytes([raw[30] ^ 1]) + raw[31:], square[:-1],
                    square[:7] + b"\xff" * 20):
        assert not error(damaged).truncated


def test_translated_line_ends_are_told() -> None:
    data = pack(np.full((4, 4, 3), 10, np.uint8), coding=CODING_RAW)
    with pytest.raises(PayloadError, match="written as text, which put a CR before each LF; write it in binary mode"):
        parse_header(data.replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("data", DAMAGED)
def test_every_single_bit_flip_is_refused(data: bytes) -> None:
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        refused(bytes(damaged))


@pytest.mark.parametrize("data", DAMAGED)
def test_trailing_and_leading_garbage_is_refused(data: bytes) -> None:
    for garbage in (b"\0", b"\xff" * 3, data):
        refused(data + garbage)
        refused(garbage + data)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=50), st.integers(0, 3))
def test_any_body_is_refused_or_belongs_to_exactly_one_lr(body: bytes, side: int) -> None:
    data = forged(flags=side << 2, body=body)
    try:
        lr, header = unpack(data)
    except PayloadError:
        return
    assert pack(lr, original_size=(128, 128), coding=header.coding) == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_sealed_bytes_are_refused_with_a_typed_error(data: bytes) -> None:
    refused(sealed(data))
    refused(sealed(MAGIC + b"\x15" + data))


@pytest.mark.parametrize(("data", "message"), [
    ("text", "bytes, got str"), (None, "bytes, got NoneType"), (b"", "is empty"),
    (b"\xed", "at least 14 bytes, got 1"), (b"no payload", "it begins with 6e6f"), (bytes(20), "begins with 0000"),
    (b"\x89PNG\r\n\x1a\n" * 4, "not a payload"), (forged(first=b"\x21"), "this is a scene of several faces"),
    (forged(first=b"\x31"), "version 3 is unknown"), (forged(first=b"\x13"), "coding 3 is unknown"),
    (forged(flags=0x40 | 16), "reserved"), (forged(flags=0x80 | 16), "reserved"),
    (forged(flags=3 | 16), "ends inside the square's x"),
    (forged(flags=3 | 16, sizes=b"", original=b"\x0a\x0a\x14\x14\x28\x80"), "ends inside the square's slope"),
    (forged(flags=3 | 16, original=b"\x0a\x0a\x29\x14\x28\0"), "centre .10.25, 5.0. lies outside"),
    (forged(flags=3 | 16, original=b"\x0a\x0a\x14\x29\x28\0"), "centre .5.0, 10.25. lies outside"),
    (forged(flags=3 | 16, original=b"\x0a\x0a\x14\x14\0\x06"), "edge .0.0, 0.75. must be 1 to 40 pixels"),
    (forged(flags=3 | 16, original=b"\x0a\x0a\x14\x14\xc1\x02\0"), "edge .-40.25, 0.0. must be 1 to 40 pixels"),
    (forged(flags=3 | 16, original=b"\x0a\x0a\x14\x14\xa8\0\0"), "edge is written with more bytes"),
    (forged(flags=9 << 2), "size code 9"), (forged(flags=13 << 2), "size code 13"),
    (forged(flags=14 << 2, sizes=b"\x80\x02\x80\x02"), "short code"),
    (forged(flags=14 << 2, sizes=b"\x81\x02\x01"), "too large for coding 1"),
    (forged(flags=14 << 2, sizes=b"\xff\xff\x03\xff\x03"), "65535 x 511 exceeds"),
    (forged(flags=14 << 2, sizes=b"\x80\x80\x04\x01"), "sides of 1 to 65535"),
    (forged(flags=14 << 2, sizes=b"\0\x80\x02"), "sides of 1 to 65535"),
    (forged(first=b"\x10", flags=14 << 2, sizes=b"\x81\x02\x01", body=bytes(100)), "771 bytes, this one 100"),
    (forged(flags=15 << 2, sizes=b"\x0f\x0f"), "short code"), (forged(original=b"\0\x01"), "width must be 1"),
    (forged(original=b"\x01\0"), "height must be 1"), (forged(original=b"\x80\0\x01"), "more bytes than it needs"),
    (forged(original=b"\x01\x85\x80\0"), "more bytes than it needs"),
    (forged(original=b"\xff\xff\xff\x01\x01"), "more than three bytes"),
    (forged(original=b"\x80\x80\x04\x01"), "is 65536"),
    (forged(original=b"\xff\xff\x03\xff\xff\x03"), "65535 x 65535 exceeds"),
    (forged(original=b"\x80\x80"), "ends inside the original width"),
    (forged(original=b"\x01\x80"), "ends inside the original height"),
    (forged(first=b"\x10", flags=8 << 2, body=bytes(100)), "196608 bytes, this one 100"),
    (forged(flags=1 << 2, body=bytes(12)), "shorter than the 12 bytes")])
def test_every_claim_is_checked(data: bytes, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        parse_header(data)
    with pytest.raises(PayloadError, match=message):
        unpack(data)


ABSURD = [
    forged(original=b"\xff\xff\x03\xff\xff\x03"), forged(first=b"\x10", flags=8 << 2),
    forged(first=b"\x10", flags=15 << 2, sizes=b"\xff\xfe"),
    forged(first=b"\x10", flags=14 << 2, sizes=b"\x80\x20\x80\x20"), bytes(60_000_000)]


@pytest.mark.parametrize("index", range(len(ABSURD)))
def test_absurd_claims_are_refused_before_anything_is_allocated(index: int) -> None:
    tracemalloc.start()
    try:
        refused(ABSURD[index])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64_000, f"{peak} bytes were allocated for a payload that is refused"


# -- contracts and arguments ------------------------------------------------------------------------------


def test_another_contract_is_named() -> None:
    data = pack(content("gradient", 8, 8, 0), contract_id=b"\xde\xad\xbe\xef" + bytes(28))
    with pytest.raises(PayloadError, match=r"contract deadbeef, not 00010203"):
        unpack(data)
    header = parse_header(data)
    assert header.is_of(b"\xde\xad\xbe\xef" + bytes(28)) and not header.is_of(CONTRACT)


def test_four_bytes_of_a_contract_id_are_as_good_as_all() -> None:
    lr = content("gradient", 8, 8, 0)
    assert pack(lr, contract_id=CONTRACT[:4]) == pack(lr)
    assert np.array_equal(unpack(pack(lr), CONTRACT[:4])[0], lr)


@pytest.mark.parametrize(("changes", "message"), [
    ({"contract_id": b"abc"}, "32 bytes, or 4"),
    ({"fit": "shrink"}, "'shrink', expected one of pad, stretch, crop"), ({"fit": FIT_ALIGN}, "needs a square"),
    ({"square": OrientedSquare(4, 4, 4, 4)}, "no other fit has one"),
    ({"fit": FIT_ALIGN, "square": OrientedSquare(-1, 4, 4, 4)}, "lies outside of the picture of 640 x 480"),
    ({"fit": FIT_ALIGN, "square": OrientedSquare(4, 4, 8000, 8000)}, "1 to 2560 pixels long"),
    ({"coding": 3}, "coding 3"), ({"original_size": (0, 5)}, "width must be 1 to 65535"),
    ({"original_size": (5, 65536)}, "height must be 1 to 65535"), ({"original_size": (20000, 20000)}, "exceeds")])
def test_arguments_outside_the_format_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        pack(content("gradient", 8, 8, 0), **changes)


@pytest.mark.parametrize("lr", [
    np.zeros((16, 16), np.uint8), np.zeros((16, 16, 4), np.uint8), np.zeros((16, 16, 3), np.float32),
    np.zeros((0, 16, 3), np.uint8), np.broadcast_to(np.uint8(0), (4097, 4097, 3)), [[0, 0, 0]]])
def test_what_is_not_an_lr_is_refused(lr: np.ndarray) -> None:
    with pytest.raises(PayloadError, match="LR"):
        pack(lr)
