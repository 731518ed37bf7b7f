"""Reading request bodies: bounded in size while they arrive, in time, and in what all of them hold together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from edgegrain.service.problem_details import Problem, retry_later

MULTIPART = "multipart/form-data"
PART_OVERHEAD = 1 << 10
"""Bytes that the headers of a multipart part may take."""


class ByteBudget:
    """What the bodies of all requests may hold together.

    Attributes:
        used: bytes that they hold now.
        arriving: how many bodies are being received.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0
        self.arriving = 0

    @contextmanager
    def account(self) -> Iterator[Account]:
        """An account for one request; what it holds is free again when the request is over."""
        account = Account(self)
        try:
            yield account
        finally:
            self.used -= account.held

    def take(self, count: int) -> None:
        """Take bytes; `Problem` 503 if there are not as many."""
        if self.used + count > self._limit:
            raise retry_later("queue-full", "the bodies of waiting requests take all the memory set aside for them", 1)
        self.used += count


class Account:
    """What one request holds of a `ByteBudget`."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.held = 0

    def take(self, count: int) -> None:
        """Take bytes; `Problem` 503 if there are not as many."""
        self._budget.take(count)
        self.held += count

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Count the request's body among those that are being received."""
        self._budget.arriving += 1
        try:
            yield
        finally:
            self._budget.arriving -= 1


def media_type(request: Request) -> str:
    """The request's media type without parameters, in lower case; empty if it names none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, account: Account, *, limit: int, timeout: float) -> bytes:
    """The whole body.

    Raises:
        Problem: 413 if it exceeds ``limit`` bytes, as soon as that is known; 408 if it takes longer than ``timeout``
            seconds; 400 if it is empty; 503 if the memory for bodies is used up.
    """
    body = bytearray()
    with account.receiving():
        async for chunk in _bounded(request, account, limit=limit, timeout=timeout):
            body += chunk
    if not body:
        raise Problem("bad-request", "the request has no body; send the bytes of the file as they are")
    return bytes(body)


async def read_parts(
    request: Request, account: Account, *, part_limit: int, most: int, timeout: float
) -> list[bytes]:
    """The files of a multipart body, in order.

    Raises:
        Problem: as `read_body`; also 415 if it is no multipart form, 400 if it is malformed or holds no file, 413 if
            it holds more than ``most`` or one of more than ``part_limit`` bytes.
    """
    if media_type(request) != MULTIPART:
        raise Problem("unsupported-media-type", f"send {MULTIPART}, one payload a part",
                      {"Accept-Post": MULTIPART})
    limit = most * (part_limit + PART_OVERHEAD)
    stream = _bounded(request, account, limit=limit, timeout=timeout)
    try:
        parser = MultiPartParser(request.headers, stream, max_files=most, max_fields=0)
        parser.spool_max_size = limit + 1  # in memory, which is accounted for: a full disk is no trouble of ours
        with account.receiving():
            form = await parser.parse()
    except MultiPartException as error:
        if "Too many" in error.message:
            raise Problem("too-large", f"a request holds at most {most} payloads, each as a part with a file name"
                          ) from error
        raise Problem("bad-request", f"the multipart body is malformed: {error.message}") from error
    except (KeyError, ValueError) as error:  # no boundary, or one in no known encoding
        raise Problem("bad-request", "the multipart body is malformed: it needs a boundary and readable part headers"
                      ) from error
    try:
        files = [await value.read() for _, value in form.multi_items() if isinstance(value, UploadFile)]
    finally:
        await form.close()
    if not files:
        raise Problem("bad-request", "the form holds no payload; send each as a part with a file name")
    for index, data in enumerate(files):
        if len(data) > part_limit:
            raise Problem("too-large", f"part {index} has {len(data)} bytes, a payload has at most {part_limit}")
    return files


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
    # The rest is not read: the connection cannot serve another request.
    return Problem("too-large", f"the body has more than {limit} bytes, the most allowed here", {"Connection": "close"})
