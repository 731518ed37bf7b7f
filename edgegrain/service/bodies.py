"""Read request bodies within limits on size, time, and the memory of all bodies together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from edgegrain.service.problems import Problem, retry_later

T = TypeVar("T")
Chunks = AsyncGenerator[bytes, None]
MULTIPART = "multipart/form-data"
TEXT_TYPE = "text/plain"
PART_OVERHEAD = 1 << 10  # most bytes of the headers of a multipart part


class Bodies:
    """The bodies of all requests, and the bytes that they have together."""

    def __init__(self, limit: int, timeout: float) -> None:
        """All bodies together have at most ``limit`` bytes, each arrives within ``timeout`` seconds."""
        self.limit, self.timeout, self.used = limit, timeout, 0

    @asynccontextmanager
    async def read(self, request: Request, limit: int, parse: Callable[[Chunks], Awaitable[T]]) -> AsyncIterator[T]:
        """What ``parse`` makes of a body of at most ``limit`` bytes; its memory is in use until the block ends."""
        held = 0

        async def chunks() -> Chunks:
            nonlocal held
            claimed = request.headers.get("content-length", "")
            if claimed.isdecimal() and int(claimed[:20]) > limit:
                raise too_large
            stream, until = request.stream(), asyncio.get_running_loop().time() + self.timeout
            while True:
                try:
                    async with asyncio.timeout_at(until):
                        chunk = await anext(stream)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    late = f"the body did not arrive within {self.timeout:g} s"
                    raise Problem("body-timeout", late, closing) from None
                if held + len(chunk) > limit:
                    raise too_large
                if self.used + len(chunk) > self.limit:
                    raise retry_later("queue-full", "the bodies of waiting requests fill the memory reserved for them")
                self.used += len(chunk)
                held += len(chunk)
                if chunk:
                    yield chunk

        closing = {"Connection": "close"}  # the rest is not read, so it cannot serve another request
        too_large = Problem("too-large", f"the body has more than {limit} bytes, the most allowed here", closing)
        try:
            yield await parse(chunks())
        finally:
            self.used -= held


def media_type(request: Request) -> str:
    """The request's media type without parameters, in lower case; empty without one."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def whole(chunks: Chunks) -> bytes:
    """The whole body."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
    if not body:
        raise Problem("bad-request", "the request has no body; send the bytes of the file unchanged")
    return bytes(body)


class _PartParser(MultiPartParser):
    """A parser that notes the end of the form."""

    ended = False  # the boundary after the last part has come; Starlette drops a part without it

    def on_end(self) -> None:
        self.ended = True


async def parts(chunks: Chunks, request: Request, part_limit: int, most: int) -> list[bytes]:
    """The parts of a multipart body, in order."""
    try:
        parser = _PartParser(request.headers, chunks, max_files=most, max_fields=most)
        parser.spool_max_size = most * (part_limit + PART_OVERHEAD) + 1  # in memory, which is limited, never on disk
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many" in error.message:
            raise Problem("too-large", f"a request holds at most {most} payloads, each in a part") from error
        raise Problem("bad-request", f"the multipart body is malformed: {error.message}") from error
    except (KeyError, ValueError) as error:  # no boundary, or an unknown encoding
        wanted = "it needs a boundary and readable part headers"
        raise Problem("bad-request", f"the multipart body is malformed: {wanted}") from error
    try:
        values = [value for _, value in form.multi_items()]
        found = [await value.read() if isinstance(value, UploadFile) else _field_bytes(value) for value in values]
    finally:
        await form.close()
    if not parser.ended:
        raise Problem("bad-request", "the multipart body is malformed: it ends without its last boundary")
    if not found:
        raise Problem("bad-request", "the form holds no payload; send each in a part")
    for index, data in enumerate(found):
        if len(data) > part_limit:
            raise Problem("too-large", f"part {index} has {len(data)} bytes, a payload has at most {part_limit}")
    return found


def _field_bytes(value: str) -> bytes:
    """The bytes of a part without a file name; Starlette reads them as UTF-8, or those of a payload as latin-1."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()
