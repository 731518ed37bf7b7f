"""The scene format: several faces of one photograph and a background, in one file. ``docs/payload.md`` is its table.

    magic 2 | version 2, coding of the background 1 | faces 1 | original w, h | [length, payload] ... | background |
    CRC-32 4

The faces are payloads as `codec_contract.payload` writes them. `parse_scene` checks every claim once, before anything
is decoded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from codec_contract.errors import PayloadError, cut_off
from codec_contract.payload import (
    MAGIC,
    MAX_PAYLOAD_BYTES,
    SCENE_VERSION,
    BytesLike,
    Numbers,
    check_crc,
    check_original,
    parse_payload,
    write_leb128,
)

MAX_FACES = 64
MAX_SCENE_BYTES = 1 << 20
MAX_BACKGROUND_SIDE = 1024  # longest side of a background, in pixels

_FIXED = struct.Struct("<2sBB")  # magic, version and coding, number of faces
_NONE, _VP8 = 0, 1
# A key frame begins with three bytes of sizes, the lowest bit of which is 0, a start code, and the sides, of 14 bits
# (RFC 6386, 9.1).
_FRAME = struct.Struct("<3s3sHH")
_START_CODE = b"\x9d\x01\x2a"
_RIFF = struct.Struct("<4sI4s4sI")


@dataclass(frozen=True)
class ParsedScene:
    """A scene whose claims were checked."""

    original_size: tuple[int, int]  # (width, height) of the photograph
    faces: tuple[bytes, ...]  # payloads; all have a square of this photograph and the same LR contract
    background: bytes  # a key frame of VP8, or b""

    @property
    def background_webp(self) -> bytes:
        """The background as a WebP file; b"" if there is none."""
        if not self.background:
            return b""
        data = self.background + b"\0" * (len(self.background) & 1)
        return _RIFF.pack(b"RIFF", 12 + len(data), b"WEBP", b"VP8 ", len(self.background)) + data


def is_scene(data: BytesLike) -> bool:
    """True for bytes that begin as a scene does."""
    start = bytes(memoryview(data)[:3])
    return len(start) == 3 and start[:2] == MAGIC and start[2] >> 4 == SCENE_VERSION


def scene_overhead(original_size: tuple[int, int], payload_bytes: Sequence[int]) -> int:
    """Bytes of a scene without its payloads and its background."""
    width, height = original_size
    return _FIXED.size + 4 + sum(len(write_leb128(value)) for value in (width, height, *payload_bytes))


def encode_scene(faces: Sequence[bytes], original_size: tuple[int, int], background_webp: bytes = b"") -> bytes:
    """Pack payloads of faces, and a lossy WebP file without extensions as the background; checked by `parse_scene`."""
    background = background_webp[_RIFF.size :]
    if background_webp:
        if len(background_webp) < _RIFF.size or background_webp[12:16] != b"VP8 ":
            raise PayloadError("the background of a scene is a lossy WebP file without alpha or metadata")
        background = background[: _RIFF.unpack_from(background_webp)[4]]
    head = _FIXED.pack(MAGIC, SCENE_VERSION << 4 | (_VP8 if background else _NONE), min(len(faces), 255))
    parts = [head, *map(write_leb128, original_size)]
    for face in faces:
        parts += [write_leb128(len(face)), face]
    data = b"".join([*parts, background])
    data += struct.pack("<I", zlib.crc32(data))
    parse_scene(data)
    return data


def parse_scene(data: BytesLike) -> ParsedScene:
    """Check a scene, without decoding anything; `PayloadError` if it is none, or one of its claims is out of range."""
    length = memoryview(data).nbytes
    if length > MAX_SCENE_BYTES:
        raise PayloadError(f"a scene has at most {MAX_SCENE_BYTES} bytes, got {length}")
    data = bytes(data)
    if not is_scene(data):
        raise PayloadError(f"not a scene: it begins with {data[:3].hex()}, a scene with {MAGIC.hex()}2")
    try:
        end = check_crc(data)
    except PayloadError:
        _refuse_truncated(data)
        raise
    _, version_and_coding, count = _FIXED.unpack_from(data)
    coding = version_and_coding & 15
    if coding not in (_NONE, _VP8):
        raise PayloadError(f"the background's coding {coding} is unknown, expected 0 (none) or 1 (VP8)")
    if not 1 <= count <= MAX_FACES:
        raise PayloadError(f"a scene has 1 to {MAX_FACES} faces, got {count}")
    numbers = Numbers(data, _FIXED.size, end)
    width, height = numbers.size("original")
    check_original(width, height)
    faces: list[bytes] = []
    contract_id = None
    for index in range(count):
        size, left = numbers.next(f"length of face {index}"), end - numbers.position
        if size > min(left, MAX_PAYLOAD_BYTES):
            raise PayloadError(f"face {index} of the scene claims {size} bytes, {left} are left")
        faces.append(numbers.take(size))
        header = parse_payload(faces[-1]).header
        if header.square is None or header.original_size != (width, height):
            raise PayloadError(f"face {index} of the scene is no aligned face of a picture of {width} x {height}")
        if header.contract_id != (contract_id or header.contract_id):
            raise PayloadError(f"face {index} of the scene has another LR contract than the first")
        contract_id = header.contract_id
    background = numbers.take(end - numbers.position)
    if bool(background) != (coding == _VP8):
        raise PayloadError(f"a background of {len(background)} bytes does not have the coding {coding}")
    if background:
        _check_background(background)
    return ParsedScene((width, height), tuple(faces), background)


def _refuse_truncated(data: bytes) -> None:
    """Raise the error of a scene whose end is missing, as far as the lengths of its faces say so."""
    count, numbers = data[3] if len(data) > 3 else MAX_FACES, Numbers(data, _FIXED.size, len(data))
    try:
        numbers.size("original")
        for index in range(count):
            face = numbers.take(numbers.next(f"length of face {index}"))
            if numbers.position <= len(data):
                check_crc(face)
    except PayloadError as error:
        if error.truncated:
            raise
        return
    if len(data) < (least := numbers.position + 4):
        raise cut_off(f"the scene is truncated: {len(data)} of at least {least} bytes; ask for the rest")


def _check_background(frame: bytes) -> None:
    """Raise `PayloadError` unless the bytes begin as a key frame of VP8 of a bounded size."""
    if len(frame) < _FRAME.size:
        raise PayloadError(f"the background of {len(frame)} bytes is too short")
    tag, start_code, width, height = _FRAME.unpack_from(frame)
    if tag[0] & 1 or start_code != _START_CODE:
        raise PayloadError("the background is no key frame of VP8")
    if not (1 <= width <= MAX_BACKGROUND_SIDE and 1 <= height <= MAX_BACKGROUND_SIDE):
        size = f"{width & 16383} x {height & 16383}"
        raise PayloadError(f"a background has sides of 1 to {MAX_BACKGROUND_SIDE}, got {size}, or a scale")
