"""Messages between service and worker: round trips and refused streams."""

from __future__ import annotations

import asyncio
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec_contract.errors import ServiceError
from edgegrain.service import pipe_messages


def packed(fields: dict[str, object], blobs: list[bytes]) -> bytes:
    return b"".join(pipe_messages.pack(fields, blobs))


async def read_async(data: bytes) -> pipe_messages.Message:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await pipe_messages.read_async(reader)


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.lists(st.binary(max_size=300), max_size=5))
def test_what_is_packed_is_read(fields: dict[str, object], blobs: list[bytes]) -> None:
    fields.pop("blobs", None)
    assert pipe_messages.read(io.BytesIO(packed(fields, blobs))) == (fields, blobs)


def test_asyncio_reads_the_same() -> None:
    assert asyncio.run(read_async(packed({"a": "ä"}, [b"", b"xyz"]))) == ({"a": "ä"}, [b"", b"xyz"])


def test_several_messages_and_the_end() -> None:
    stream = io.BytesIO(packed({"a": 1}, [b"x"]) + packed({"b": 2}, []))
    assert [pipe_messages.read(stream) for _ in range(3)] == [({"a": 1}, [b"x"]), ({"b": 2}, []), None]


def test_truncated() -> None:
    data = packed({"a": 1}, [b"xyz"])
    for length in range(1, len(data)):
        with pytest.raises(ServiceError):
            pipe_messages.read(io.BytesIO(data[:length]))
    for length in (0, 2, 10, len(data) - 1):
        with pytest.raises(asyncio.IncompleteReadError):
            asyncio.run(read_async(data[:length]))


@pytest.mark.parametrize("text", [
    b"", b"[]", b"{}", b"nonsense", b'{"blobs": 3}', b'{"blobs": [-1]}', b'{"blobs": ["1"]}', b"\xff\xff",
    b'{"blobs": [2147483649]}', b'{"blobs": [' + b"0," * 5000 + b"0]}", b"[" * 100_000])
def test_other_bytes_are_refused_before_blobs_are_read(text: bytes) -> None:
    with pytest.raises(ServiceError):
        pipe_messages.read(io.BytesIO(struct.pack("<I", len(text)) + text))


def test_a_long_claim_is_refused() -> None:
    with pytest.raises(ServiceError, match="claims 4294967295 bytes"):
        pipe_messages.read(io.BytesIO(b"\xff" * 4))
