"""Payloads read at once; bytes of payloads that the product does not write: of version 1, and with a CRC after other
bytes."""

import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from codec_contract.errors import PayloadError
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import FIT_ALIGN, FITS, MAGIC, Header, decode_body, parse_payload, write_leb128
from codec_contract.pixels import Rgb


def decode_payload(data: bytes, *, contract_id: bytes, tables: CoderTables) -> tuple[Rgb, Header]:
    """The LR and the header of a payload of an LR contract."""
    payload = parse_payload(data)
    if not payload.header.is_of(contract_id):
        raise PayloadError("another contract")
    return decode_body(payload, tables), payload.header


def version_1(payload: bytes, contract_id: bytes) -> bytes:
    """A payload of version 2 as releases with version 1 wrote it; ``contract_id``: at least its first four bytes."""
    parsed = parse_payload(payload)
    header, (width, height) = parsed.header, parsed.header.lr_size
    numbers, code, sides = [*header.original_size], 15, bytes([(width - 1) & 255, (height - 1) & 255])
    if max(width, height) > 256:
        numbers, code, sides = [width, height, *numbers], 14, b""
    elif width == height and width.bit_count() == 1:
        code, sides = width.bit_length() - 1, b""
    if square := header.square:
        numbers += [square.x, square.y, *(2 * abs(step) - (step < 0) for step in (square.across_x, square.across_y))]
    flags = (*FITS, FIT_ALIGN).index(header.fit) | code << 2
    data = MAGIC + bytes([0x10 | header.coding]) + contract_id[:4] + bytes([flags]) + sides
    data += b"".join(map(write_leb128, numbers)) + parsed.body
    return sealed(data)


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """The block allocates fewer bytes at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def sealed(data: bytes) -> bytes:
    """The bytes with a CRC that fits the version they begin with, as a forger would append it."""
    return data + zlib.crc32(data).to_bytes(4, "little")[: 3 if 0xA8 <= data[0] <= 0xAC else 4]


def forged(
    version: int,
    contract_id: bytes,
    body: bytes = b"",
    *,
    head: bytes | None = None,
    coding: int = 1,
    flags: int = 16,
    size: bytes = b"",
    original: bytes = b"\x80\x01\x80\x01",
    crc: slice | None = None,
) -> bytes:
    """A payload of a 16 x 16 LR with any claims and a CRC that fits its version; ``head`` is what comes before the
    contract id."""
    if version == 1:
        data = (head or MAGIC + bytes([0x10 | coding])) + contract_id[:4] + bytes([flags])
    else:
        data = (head or b"\xa8") + contract_id[:2] + bytes([flags | coding << 2])
    data += size + original + body
    return data + zlib.crc32(data).to_bytes(4, "little")[crc or slice(4 if version == 1 else 3)]
