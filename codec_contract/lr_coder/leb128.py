"""LEB128: integers in as few bytes as possible, seven bits per byte, in their shortest form only."""

from __future__ import annotations

from codec_contract.errors import PayloadError

_MAX_BYTES = 3
MAX_VALUE = (1 << 7 * _MAX_BYTES) - 1
"""Largest number that is read."""


def write_leb128(value: int) -> bytes:
    """Encode a non-negative number: low bits first, the high bit of a byte is set if more bytes follow."""
    output = bytearray()
    while value > 127:
        output.append(value & 127 | 128)
        value >>= 7
    output.append(value)
    return bytes(output)


def read_leb128(data: bytes, position: int, end: int, name: str) -> tuple[int, int]:
    """Decode one number of at most three bytes; returns it and the position after it."""
    value = 0
    for count in range(_MAX_BYTES):
        if position >= end:
            raise PayloadError(f"the payload ends inside the {name}; it was truncated before its CRC was made")
        byte = data[position]
        position += 1
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            if byte == 0 and count:
                raise PayloadError(f"the {name} is written with more bytes than it needs")
            return value, position
    raise PayloadError(f"the {name} takes more than three bytes, so it exceeds {MAX_VALUE}")
