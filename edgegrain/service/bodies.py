"""Read request bodies within limits on size, time, and the memory of all bodies together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from edgegrain.service.problems import Problem, retry_later
from sdk.remote_calls import BYTES_TYPE

MULTIPART = "multipart/form-data"
TEXT_TYPE = "text/plain"
PART_OVERHEAD = 1 << 10
"""Most bytes of the headers of a multipart part."""


class ByteBudget:
    """Memory limit of the bodies of all requests together: bytes in use, and bodies that are being received."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self.arriving = limit, 0, 0

    @contextmanager
    def account(self) -> Iterator[Account]:
        """An account for one request; its bytes are released when the block ends."""
        account = Account(self)
        try:
            yield account
        finally:
            self.used -= account.held


class Account:
    """The bytes that one request has reserved of a `ByteBudget`."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.held = 0

    def take(self, count: int) -> None:
        """Reserve bytes; `Problem` 503 if fewer are left."""
        if self._budget.used + count > self._budget.limit:
            raise retry_later("queue-full", "the bodies of waiting requests fill the memory reserved for them", 1)
        self._budget.used += count
        self.held += count

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Count the request's body as being received."""
        self._budget.arriving += 1
        try:
            yield
        finally:
            self._budget.arriving -= 1


def media_type(request: Request) -> str:
    """The request's media type without parameters, in lower case; empty without one."""
    return _media_type(request.headers.get("content-type", ""))


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


async def read_body(request: Request, account: Account, *, limit: int, timeout: float) -> bytes:
    """The whole body."""
    body = bytearray()
    with account.receiving():
        async for chunk in _bounded(request, account, limit=limit, timeout=timeout):
            body += chunk
    if not body:
        raise Problem("bad-request", "the request has no body; send the bytes of the file unchanged")
    return bytes(body)


class _PartParser(MultiPartParser):
    """A parser to which every part is a file, also without a file name."""

    ended = False
    """The boundary after the last part has come; Starlette drops a part without it."""

    def on_end(self) -> None:
        self.ended = True

    def on_headers_finished(self) -> None:
        part = self._current_part
        if part.content_disposition and b"filename" not in parse_options_header(part.content_disposition)[1]:
            part.content_disposition += b'; filename=""'
        super().on_headers_finished()


async def read_parts(
    request: Request, account: Account, *, part_limit: int, most: int, timeout: float
) -> list[tuple[str, bytes]]:
    """Media type and bytes of the parts of a multipart body, in order."""
    if media_type(request) != MULTIPART:
        raise Problem("unsupported-media-type", f"send {MULTIPART}, one payload per part",
                      {"Accept-Post": MULTIPART})
    limit = most * (part_limit + PART_OVERHEAD)
    stream = _bounded(request, account, limit=limit, timeout=timeout)
    try:
        parser = _PartParser(request.headers, stream, max_files=most)
        parser.spool_max_size = limit + 1  # in memory, which is accounted for, never on disk
        with account.receiving():
            form = await parser.parse()
    except MultiPartException as error:
        if "Too many" in error.message:
            raise Problem("too-large", f"a request holds at most {most} payloads, each in a part") from error
        raise Problem("bad-request", f"the multipart body is malformed: {error.message}") from error
    except (KeyError, ValueError) as error:  # no boundary, or an unknown encoding
        raise Problem("bad-request", "the multipart body is malformed: it needs a boundary and readable part headers"
                      ) from error
    try:
        parts = [(_media_type(value.content_type or (BYTES_TYPE if value.filename else TEXT_TYPE)), await value.read())
                 for _, value in form.multi_items() if isinstance(value, UploadFile)]
    finally:
        await form.close()
    if not parser.ended:
        raise Problem("bad-request", "the multipart body is malformed: it ends without its last boundary")
    if not parts:
        raise Problem("bad-request", "the form holds no payload; send each in a part")
    for index, (_, data) in enumerate(parts):
        if len(data) > part_limit:
            raise Problem("too-large", f"part {index} has {len(data)} bytes, a payload has at most {part_limit}")
    return parts


async def _bounded(request: Request, account: Account, *, limit: int, timeout: float) -> AsyncGenerator[bytes, None]:
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed[:20]) > limit:
        raise _too_large(limit)
    received = 0
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(until):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Problem("body-timeout", f"the body did not arrive within {timeout:g} s", {"Connection": "close"}
                          ) from None
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        account.take(len(chunk))
        if chunk:
            yield chunk


def _too_large(limit: int) -> Problem:
    # The rest is not read, so the connection cannot serve another request.
    return Problem("too-large", f"the body has more than {limit} bytes, the most allowed here", {"Connection": "close"})
