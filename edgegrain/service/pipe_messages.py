"""Messages between the service and a worker process: a JSON object and byte strings, over a pipe.

    JSON length u32 | JSON, whose "blobs" lists the lengths of what follows | byte strings

Unlike `multiprocessing`'s pipes this needs no pickle, so a compromised worker cannot run code in the service.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator, Sequence
from typing import IO, Any

from codec_contract.errors import ServiceError

MAX_JSON_BYTES = 1 << 22
MAX_BLOB_BYTES = 1 << 31
MAX_BLOBS = 4096

_LENGTH = struct.Struct("<I")
Message = tuple[dict[str, Any], list[bytes]]


def pack(fields: dict[str, Any], blobs: Sequence[bytes] = ()) -> Iterator[bytes]:
    """The parts of a message, to be written in order."""
    text = json.dumps({**fields, "blobs": [len(blob) for blob in blobs]}).encode()
    yield _LENGTH.pack(len(text)) + text
    yield from blobs


def read(stream: IO[bytes]) -> Message | None:
    """The next message of a blocking stream; None at its end.

    Raises:
        ServiceError: the stream ends inside a message, or its content is not a message.
    """
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    fields, lengths = _parse(_whole(stream, _json_length(head)))
    return fields, [_whole(stream, length) for length in lengths]


async def read_async(stream: asyncio.StreamReader) -> Message:
    """The next message of an asyncio stream.

    Raises:
        asyncio.IncompleteReadError: the stream ended.
        ServiceError: its content is not a message.
    """
    head = await stream.readexactly(_LENGTH.size)
    fields, lengths = _parse(await stream.readexactly(_json_length(head)))
    return fields, [await stream.readexactly(length) for length in lengths]


def _json_length(head: bytes) -> int:
    if len(head) != _LENGTH.size:
        raise ServiceError("the pipe between service and worker ended inside a message")
    length = int(_LENGTH.unpack(head)[0])
    if length > MAX_JSON_BYTES:
        raise ServiceError(f"a message claims {length} bytes of JSON, at most {MAX_JSON_BYTES} are expected")
    return length


def _parse(text: bytes) -> tuple[dict[str, Any], list[int]]:
    try:
        fields = json.loads(text)
        lengths = fields.pop("blobs")
        valid = len(lengths) <= MAX_BLOBS and all(isinstance(length, int) and length >= 0 for length in lengths)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ServiceError(f"not a message between service and worker: {error}") from error
    if not valid or sum(lengths) > MAX_BLOB_BYTES:
        raise ServiceError("a message between service and worker claims more than the limit")
    return fields, lengths


def _whole(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise ServiceError("the pipe between service and worker ended inside a message")
    return data
