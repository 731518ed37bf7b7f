"""The payload format: round trips, refused damage, bounded claims, contracts."""

import math
import zlib
from functools import partial
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
    MAGIC,
    Header,
    encode_payload,
    parse_payload,
)
from tests.payload_bytes import decode_payload, forged, memory_below, sealed, version_1

TABLES = CoderTables.default()
CONTRACT = bytes(range(32))
CONTRACT_BYTES = {1: 4, 2: 2}
BOTH_VERSIONS = pytest.mark.parametrize("version", [1, 2])


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


def pack(lr: np.ndarray, *, version: int = 2, **changes: Any) -> bytes:
    arguments = {"contract_id": CONTRACT, "tables": TABLES, "original_size": (640, 480), **changes}
    data = encode_payload(lr, **arguments)
    return data if version == 2 else version_1(data, arguments["contract_id"])


def unpack(data: bytes, contract_id: bytes = CONTRACT) -> tuple[np.ndarray, Header]:
    return decode_payload(data, contract_id=contract_id, tables=TABLES)


def parse_header(data: bytes) -> Header:
    return parse_payload(data).header


OLD, NEW = partial(forged, 1, CONTRACT), partial(forged, 2, CONTRACT)


CONTENTS = st.sampled_from(["constant", "noise", "gradient", "extremes"])
SIDES, SIZES = st.integers(1, 40), st.tuples(st.integers(1, 65535), st.integers(1, 4096))
OPTIONS = st.fixed_dictionaries(
    {
        "coding": st.sampled_from([CODING_RAW, CODING_RANGE]),
        "original_size": st.one_of(st.just((256, 256)), SIZES),
        "fit": st.sampled_from(["pad", "stretch", "crop"]),
        "version": st.sampled_from([1, 2]),
    }
)


@settings(max_examples=60, deadline=None)
@given(CONTENTS, SIDES, SIDES, st.integers(0, 1000), OPTIONS)
def test_round_trip(kind: str, width: int, height: int, seed: int, options: dict[str, Any]) -> None:
    lr, version = content(kind, width, height, seed), options["version"]
    data = pack(lr, **options)
    decoded, header = unpack(data)
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, lr)
    raw = 3 * width * height
    body = raw if header.coding == CODING_RAW else len(encode_lr(lr, TABLES))
    assert body <= raw
    contract_id, original_size = CONTRACT[: CONTRACT_BYTES[version]], options["original_size"]
    assert header == Header(version, header.coding, contract_id, width, height, *original_size, options["fit"])
    assert parse_header(data) == header
    assert len(data) - body <= (20 if version == 1 else 15)
    assert pack(decoded, **{**options, "coding": header.coding}) == data


@BOTH_VERSIONS
@pytest.mark.parametrize("size", [(1, 1), (1, 256), (256, 1), (255, 2), (128, 128), (100, 37), (256, 256)])
def test_round_trip_of_extreme_sizes(size: tuple[int, int], version: int) -> None:
    # The range coder codes 128 x 128 in lr_coder/test_coder.py; here it would only take time.
    coding = CODING_RAW if math.prod(size) > 10_000 else CODING_RANGE
    lr = content("gradient", *size, 7)
    decoded, header = unpack(pack(lr, coding=coding, version=version))
    assert np.array_equal(decoded, lr) and header.lr_size == size


@pytest.mark.parametrize(
    ("original", "new", "old"),
    [((256, 256), 7, 16), ((128, 128), 11, 16), ((256, 255), 11, 16), ((16383, 16383), 11, 16), ((127, 1), 9, 14)],
)
@BOTH_VERSIONS
def test_bytes_around_the_body(version: int, original: tuple[int, int], new: int, old: int) -> None:
    lr, bytes_around = content("gradient", 16, 16, 1), old if version == 1 else new
    assert len(pack(lr, version=version, original_size=original)) == bytes_around + len(encode_lr(lr, TABLES))
    for side in (16, 32, 64, 128):
        data = pack(content("noise", side, side, 1), version=version, original_size=original, coding=CODING_RAW)
        assert len(data) == bytes_around + 3 * side * side


@settings(max_examples=60, deadline=None)
@given(SIZES, *[st.floats(0, 1)] * 3, st.floats(0, 7), st.sampled_from([1, 2]))
def test_a_square_comes_back(size: tuple[int, int], x: int, y: int, length: int, angle: float, version: int) -> None:
    length = 2 + length * (4 * max(size) - 4)
    across = round(4 * length * np.cos(angle)), round(4 * length * np.sin(angle))
    square = OrientedSquare(round(4 * x * size[0]), round(4 * y * size[1]), *across)
    lr = content("noise", 1, 1, 0)
    data = pack(lr, original_size=size, fit="align", square=square, version=version)
    decoded, header = unpack(data)
    assert np.array_equal(decoded, lr)
    assert header.square == header.cut == square and header.fit == "align"
    assert len(data) - len(pack(lr, original_size=size, version=version)) <= 12
    assert data[{1: 7, 2: 3}[version]] & 3 == 3


def test_what_a_payload_shows_of_the_original() -> None:
    lr = content("noise", 2, 2, 0)
    pad, stretch, crop = (parse_header(pack(lr, original_size=(75, 61), fit=fit)) for fit in ("pad", "stretch", "crop"))
    assert pad.cut is stretch.cut is crop.square is None
    # As fit_picture cuts: 61 pixels wide, from (7, 0) on.
    assert crop.cut == OrientedSquare(4 * 7 + 2 * 61, 2 * 61, 4 * 61, 0)


def test_the_byte_table() -> None:
    lr = content("noise", 2, 2, 0)
    data = pack(lr, coding=CODING_RAW, original_size=(640, 100), fit="crop")
    assert data[:9] == b"\xac\x00\x01\x12\x02\x02\x80\x05\x64"
    assert data[9:21] == lr.tobytes()
    assert data[21:] == zlib.crc32(data[:21]).to_bytes(4, "little")[:3]
    usual = pack(content("noise", 1, 1, 0), original_size=(256, 256), fit="stretch")
    assert usual[:6] == b"\xac\x00\x01\x01\x01\x01"
    for code, side in enumerate((16, 32, 64, 128)):
        assert pack(np.zeros((side, side, 3), np.uint8), original_size=(256, 256))[:4] == bytes((0xA8 + code, 0, 1, 4))
    assert pack(np.zeros((256, 256, 3), np.uint8), coding=CODING_DEFLATE)[:8] == b"\xac\x00\x01\x18\x80\x02\x80\x02"


def test_the_byte_table_of_version_1() -> None:
    lr = content("noise", 2, 2, 0)
    data = pack(lr, coding=CODING_RAW, original_size=(640, 100), fit="crop", version=1)
    assert data[:11] == b"\xed\x6e\x10\x00\x01\x02\x03\x06\x80\x05\x64"
    assert data[11:23] == lr.tobytes()
    assert data[23:] == zlib.crc32(data[:23]).to_bytes(4, "little")
    wide = pack(content("noise", 5, 2, 0), coding=CODING_RAW, version=1)
    assert wide[7:10] == b"\x3c\x04\x01"


@BOTH_VERSIONS
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_type_is_read(kind: Any, version: int) -> None:
    lr = content("gradient", 8, 8, 0)
    for coding in (CODING_RAW, CODING_RANGE, CODING_DEFLATE):
        found, header = unpack(kind(pack(lr, coding=coding, version=version)))
        assert np.array_equal(found, lr) and header.coding == coding
        found[0, 0] = 1  # it can be written to


@BOTH_VERSIONS
@pytest.mark.parametrize(("width", "height"), [(257, 1), (1, 300), (400, 260)])
@pytest.mark.parametrize("coding", [CODING_RAW, CODING_RANGE, CODING_DEFLATE])
def test_large_lrs_are_deflated_or_stored(width: int, height: int, coding: int, version: int) -> None:
    lr = content("gradient", width, height, 0)
    data = pack(lr, coding=coding, original_size=(4 * width, 4 * height), version=version)
    decoded, header = unpack(data)
    assert np.array_equal(decoded, lr) and header.lr_size == (width, height)
    assert header.coding == (CODING_RAW if coding == CODING_RAW else CODING_DEFLATE)
    assert parse_header(pack(content("noise", width, height, 0), coding=coding)).coding == CODING_RAW


ALIGNED = {"fit": "align", "square": OrientedSquare(9, 999, 7, -80)}
DAMAGED = [
    pack(lr, version=version, **changes)
    for version in (1, 2)
    for lr, changes in [
        (content("gradient", 16, 16, 3), {}),
        (content("noise", 4, 4, 3), {"coding": CODING_RAW}),
        (content("gradient", 16, 16, 4), {"original_size": (256, 256)}),
        (content("gradient", 9, 4, 3), {"original_size": (4000, 3000), "fit": "crop"}),
        (content("constant", 1, 1, 3), {"original_size": (1, 1)}),
        (content("gradient", 9, 4, 3), {"original_size": (400, 300), **ALIGNED}),
    ]
]


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


@pytest.mark.parametrize(("version", "least", "whole", "inside"), [(1, 14, 64, 18), (2, 7, 61, 14)])
def test_a_payload_that_goes_on_is_told_from_a_damaged_one(version: int, least: int, whole: int, inside: int) -> None:
    def error(data: bytes) -> PayloadError:
        with pytest.raises(PayloadError) as caught:
            parse_header(data)
        return caught.value

    raw = pack(content("noise", 4, 4, 3), coding=CODING_RAW, version=version)
    for length in range(1, least):
        assert str(error(raw[:length])) == f"a payload has at least {least} bytes, got {length}; it was truncated"
        assert error(raw[:length]).truncated
    for length in range(least, 14):  # of version 2, within the header
        assert error(raw[:length]).truncated
    for length in range(14, len(raw)):
        assert str(error(raw[:length])) == f"the payload is truncated: {length} of {whole} bytes; ask for the rest"
        assert error(raw[:length]).truncated
    square = DAMAGED[6 * version - 1]
    assert "it ends inside the square's slope" in str(error(square[:inside])) and error(square[:inside]).truncated
    flipped, overwritten = raw[:30] + bytes([raw[30] ^ 1]) + raw[31:], square[: inside - 10] + b"\xff" * 20
    for damaged in (b"", b"no", raw + b"1", flipped, square[:-1], overwritten):
        assert not error(damaged).truncated


@BOTH_VERSIONS
def test_translated_line_ends_are_told(version: int) -> None:
    data = pack(np.full((4, 4, 3), 10, np.uint8), coding=CODING_RAW, version=version)
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
@given(st.binary(max_size=50), st.integers(0, 3), st.sampled_from([1, 2]))
def test_any_body_is_refused_or_belongs_to_exactly_one_lr(body: bytes, side: int, version: int) -> None:
    data = OLD(body, flags=side << 2) if version == 1 else NEW(head=b"\xac", size=bytes([1 << side] * 2), body=body)
    try:
        lr, header = unpack(data)
    except PayloadError:
        return
    assert pack(lr, original_size=(128, 128), coding=header.coding, version=version) == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 4), st.integers(0, 31))
def test_any_sealed_bytes_are_refused_or_canonical(data: bytes, first: int, flags: int) -> None:
    refused(sealed(b"\0" + data))
    refused(sealed(MAGIC + b"\x15" + data))
    data = sealed(bytes((0xA8 + first, *CONTRACT[:2], flags)) + data)
    try:
        lr, header = unpack(data)
    except PayloadError as error:
        assert len(str(error)) > 20
        return
    claims = {"original_size": header.original_size, "fit": header.fit, "square": header.square}
    assert pack(lr, coding=header.coding, **claims) == data


SQUARES = [
    (b"\x14\x14\x28\x80", "ends inside the square's slope"),
    (b"\x29\x14\x28\0", "centre .10.25, 5.0. lies out"),
    (b"\x14\x29\x28\0", "centre .5.0, 10.25. lies out"),
    (b"\x14\x14\0\x06", "edge .0.0, 0.75. must be 1 to 40"),
    (b"\x14\x14\xc1\x02\0", "edge .-40.25, 0.0. must be 1 to 40"),
    (b"\x14\x14\xa8\0\0", "edge is written with more bytes"),
]
ORIGINALS = [
    (b"\0\x01", "width must be 1"),
    (b"\x01\0", "height must be 1"),
    (b"\x80\0\x01", "more bytes than it needs"),
    (b"\x01\x85\x80\0", "more bytes than it needs"),
    (b"\xff\xff\xff\x01\x01", "more than three bytes"),
    (b"\x80\x80\x04\x01", "is 65536"),
    (b"\xff\xff\x03\xff\xff\x03", "65535 x 65535 exceeds"),
    (b"\x80\x80", "ends inside the original width"),
    (b"\x01\x80", "ends inside the original height"),
]
IN_BOTH_VERSIONS: list[tuple[dict[str, Any], str]] = [
    *(({"flags": flag | 16}, "reserved") for flag in (0x40, 0x80)),
    ({"flags": 3 | 16}, "ends inside the square's x"),
    *(({"flags": 3 | 16, "original": b"\x0a\x0a" + square}, message) for square, message in SQUARES),
    *(({"original": original}, message) for original, message in ORIGINALS),
]
LR_SIZES = [
    (b"\x81\x02\x01", "too large for coding 1"),
    (b"\xff\xff\x03\xff\x03", "65535 x 511 exceeds"),
    (b"\x80\x80\x04\x01", "sides of 1 to 65535"),
    (b"\0\x05", "sides of 1 to 65535"),
]
CODED_SIDES = (b"\x10", b"\x20", b"\x40", b"\x80\x01")
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"\0\0\0\x1cftyp")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("text", "bytes, got str"),
        (None, "bytes, got NoneType"),
        (b"", "is empty"),
        (b"\xed", "at least 14 bytes, got 1"),
        (b"\xa8", "at least 7 bytes, got 1"),
        (b"no payload", "it begins with 6e6f"),
        (bytes(20), "begins with 0000"),
        (b"\xa7" * 20, "it begins with a7a7, a payload with a8 to ac or ed6e"),
        (b"\xad" * 20, "it begins with adad"),
        *((start + bytes(20), "it is a picture; compress makes a payload of it") for start in PICTURES),
        *((forge(**changes), message) for forge in (OLD, NEW) for changes, message in IN_BOTH_VERSIONS),
        *((OLD(flags=14 << 2, size=size), message) for size, message in LR_SIZES),
        *((NEW(head=b"\xac", size=size), message) for size, message in LR_SIZES),
        (OLD(head=MAGIC + b"\x21"), "this is a scene of several faces"),
        (OLD(head=MAGIC + b"\x31"), "version 3 is unknown"),
        (OLD(coding=3), "coding 3 is unknown"),
        (OLD(flags=9 << 2), "size code 9"),
        (OLD(flags=13 << 2), "size code 13"),
        (OLD(flags=15 << 2, size=b"\x0f\x0f"), "short code"),
        (OLD(flags=14 << 2, size=b"\x80\x02\x80\x02"), "short code"),
        (OLD(coding=CODING_RAW, flags=14 << 2, size=b"\x81\x02\x01", body=bytes(100)), "771 bytes, this one 100"),
        (OLD(coding=CODING_RAW, flags=8 << 2, body=bytes(100)), "196608 bytes, this one 100"),
        (OLD(flags=1 << 2, body=bytes(12)), "shorter than the 12 bytes"),
        (NEW(coding=3), "coding 3 is unknown"),
        (NEW(flags=16 | 32), "reserved flag bits are set .00110100."),
        (NEW(flags=3, original=b"\x81\x08\x0a\x14\0"), "centre .256.25, 2.5. lies outside of the picture of 256 x 256"),
        *((NEW(head=b"\xac", size=2 * side), "short code that was not used") for side in CODED_SIDES),
        (NEW(head=b"\xac", size=b"\x90\0\x11"), "LR width is written with more bytes"),
        (NEW(head=b"\xac", size=b"\x11\x90\0"), "LR height is written with more bytes"),
        (NEW(head=b"\xac", size=b"\x11", original=b""), "ends inside the LR height"),
        (NEW(head=b"\xac", coding=0, size=b"\x81\x02\x01", body=bytes(100)), "771 bytes, this one 100"),
        (NEW(original=b"\x80\x02\x80\x02"), "256 x 256 is written, though it is the one that is left out"),
        (NEW(head=b"\xab", coding=0, flags=0, original=b"", body=bytes(100)), "49152 bytes, this one 100"),
        (NEW(flags=0, original=b"", body=bytes(768)), "shorter than the 768 bytes"),
    ],
)
def test_every_claim_is_checked(data: bytes, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        parse_header(data)
    with pytest.raises(PayloadError, match=message):
        unpack(data)


ABSURD = [
    OLD(original=b"\xff\xff\x03\xff\xff\x03"),
    OLD(coding=CODING_RAW, flags=8 << 2),
    OLD(coding=CODING_RAW, flags=15 << 2, size=b"\xff\xfe"),
    OLD(coding=CODING_RAW, flags=14 << 2, size=b"\x80\x20\x80\x20"),
    bytes(60_000_000),
    NEW(original=b"\xff\xff\x03\xff\xff\x03"),
    NEW(head=b"\xab", coding=0),
    NEW(head=b"\xac", coding=0, size=b"\x80\x20\x80\x20"),
    b"\xa8" + bytes(60_000_000),
]


@pytest.mark.parametrize("index", range(len(ABSURD)))
def test_absurd_claims_are_refused_before_anything_is_allocated(index: int) -> None:
    with memory_below(64_000):
        refused(ABSURD[index])


@BOTH_VERSIONS
def test_another_contract_is_told(version: int) -> None:
    other = b"\xde\xad\xbe\xef" + bytes(28)
    header = parse_header(pack(content("gradient", 8, 8, 0), contract_id=other, version=version))
    assert header.is_of(other) and not header.is_of(CONTRACT)
    assert header.is_of(b"\xde\xad\xbe\xee" + bytes(28)) == (version == 2)


def test_the_beginning_of_a_contract_id_is_as_good_as_all() -> None:
    lr = content("gradient", 8, 8, 0)
    assert pack(lr, contract_id=CONTRACT[:2]) == pack(lr)
    for version, count in CONTRACT_BYTES.items():
        assert np.array_equal(unpack(pack(lr, version=version), CONTRACT[:count])[0], lr)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contract_id": b"abc"}, "32 bytes, or 2"),
        ({"fit": "shrink"}, "'shrink', expected one of pad, stretch, crop"),
        ({"fit": "align"}, "needs a square"),
        ({"square": OrientedSquare(4, 4, 4, 4)}, "no other fit has one"),
        ({"fit": "align", "square": OrientedSquare(-1, 4, 4, 4)}, "lies outside of the picture of 640 x 480"),
        ({"fit": "align", "square": OrientedSquare(4, 4, 8000, 8000)}, "1 to 2560 pixels long"),
        ({"coding": 3}, "coding 3"),
        ({"original_size": (0, 5)}, "width must be 1 to 65535"),
        ({"original_size": (5, 65536)}, "height must be 1 to 65535"),
        ({"original_size": (20000, 20000)}, "exceeds"),
    ],
)
def test_arguments_outside_the_format_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        pack(content("gradient", 8, 8, 0), **changes)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 4), (0, 16, 3), (4097, 4097, 3)])
def test_what_is_not_an_lr_is_refused(shape: tuple[int, ...]) -> None:
    for lr in (np.broadcast_to(np.uint8(0), shape), np.zeros((16, 16, 3), np.float32), [[0, 0, 0]]):
        with pytest.raises(PayloadError, match="LR"):
            pack(lr)
