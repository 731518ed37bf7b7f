"""Request bodies within limits on size, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import nullcontext

import pytest
from starlette.requests import Request
from starlette.types import Message

from edgegrain.service.bodies import ByteBudget, read_body, read_parts
from edgegrain.service.problems import Problem


class Sender:
    """A client that sends chunks, and how many of them were read; after the last it says nothing more."""

    def __init__(self, chunks: Iterable[bytes], *, ends: bool = True, **headers: str) -> None:
        self.chunks = list(chunks)
        self.ends = ends
        self.read = 0
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.request = Request({"type": "http", "method": "POST", "headers": pairs}, self.receive)

    async def receive(self) -> Message:
        if self.read == len(self.chunks):
            await asyncio.sleep(3600)
        chunk = self.chunks[self.read]
        self.read += 1
        more = self.read < len(self.chunks) or not self.ends
        return {"type": "http.request", "body": chunk, "more_body": more}


def body(sender: Sender, *, limit: int = 100, timeout: float = 30, budget: ByteBudget | None = None) -> bytes:
    async def read() -> bytes:
        with (budget or ByteBudget(1000)).account() as account:
            return await read_body(sender.request, account, limit=limit, timeout=timeout)

    return asyncio.run(read())


def parts(sender: Sender, *, most: int = 3, part_limit: int = 50) -> list[bytes]:
    async def read() -> list[bytes]:
        with ByteBudget(100_000).account() as account:
            return await read_parts(sender.request, account, part_limit=part_limit, most=most, timeout=30)

    return asyncio.run(read())


def form(*files: bytes) -> bytes:
    pieces = [b'--x\r\nContent-Disposition: form-data; name="payload"; filename="a"\r\n\r\n' + data + b"\r\n"
              for data in files]
    return b"".join(pieces) + b"--x--\r\n"


MULTIPART = {"content_type": "multipart/form-data; boundary=x"}


def test_whole_body() -> None:
    assert body(Sender([b"abc", b"", b"def"])) == b"abcdef"
    assert body(Sender([b"x" * 100])) == b"x" * 100


def test_the_cap_holds_while_reading() -> None:
    sender = Sender([b"x" * 60] * 1000)
    with pytest.raises(Problem) as caught:
        body(sender)
    assert caught.value.status == 413 and sender.read == 2


def test_a_claimed_length_is_refused_unread() -> None:
    sender = Sender([b"x"], content_length="101")
    with pytest.raises(Problem) as caught:
        body(sender)
    assert caught.value.status == 413 and sender.read == 0


def test_all_bodies_share_a_budget() -> None:
    budget = ByteBudget(150)

    async def read() -> None:
        with budget.account() as first, budget.account() as second:
            await read_body(Sender([b"x" * 100]).request, first, limit=100, timeout=30)
            with pytest.raises(Problem) as caught:
                await read_body(Sender([b"x" * 30, b"x" * 30]).request, second, limit=100, timeout=30)
            assert caught.value.status == 503 and caught.value.headers["Retry-After"] == "1"
            assert budget.used == 130
        assert budget.used == 0

    asyncio.run(read())


def test_bodies_that_are_being_received_are_counted() -> None:
    budget, counts = ByteBudget(1000), list[int]()

    class Watched(Sender):
        async def receive(self) -> Message:
            counts.append(budget.arriving)
            return await super().receive()

    assert body(Watched([b"abc", b"def"]), budget=budget) == b"abcdef"
    with pytest.raises(Problem):
        body(Watched([b"x"], ends=False), timeout=0.05, budget=budget)
    assert set(counts) == {1} and budget.arriving == 0


def test_files_of_a_form() -> None:
    data = form(b"one", b"", b"three\r\n--")
    assert parts(Sender([data[:70], data[70:]], **MULTIPART)) == [b"one", b"", b"three\r\n--"]


@pytest.mark.parametrize(("kind", "taken"), [
    (b"application/octet-stream", True), (b"application/vnd.edgegrain", True), (b"text/plain", False)])
def test_a_part_without_a_file_name(kind: bytes, taken: bool) -> None:
    data = (b'--x\r\nContent-Disposition: form-data; name="payload"\r\nContent-Type: ' + kind
            + b"\r\n\r\n\xed\x6e\xff\r\n--x--\r\n")
    with nullcontext() if taken else pytest.raises(Problem, match="a field that is no file"):
        assert parts(Sender([data[:90], data[90:]], **MULTIPART)) == [b"\xed\x6e\xff"]


@pytest.mark.parametrize(("sender", "status"), [
    (Sender([form(b"a")], content_type="application/json"), 415),
    (Sender([form(b"a")]), 415),
    (Sender([form(b"a")], content_type="multipart/form-data"), 400),
    (Sender([b"nonsense"], **MULTIPART), 400),
    (Sender([form()], **MULTIPART), 400),
    (Sender([b""], **MULTIPART), 400),
    (Sender([form(b"a")[:-30]], **MULTIPART), 400),
    (Sender([b'--x\r\nContent-Disposition: form-data; name="payload"\r\n\r\nfield\r\n--x--\r\n'], **MULTIPART), 400),
    (Sender([form(*[b"a"] * 4)], **MULTIPART), 413),
    (Sender([form(b"a" * 51)], **MULTIPART), 413),
    (Sender([form(b"a" * 5000)], **MULTIPART), 413)])
def test_forms_that_are_refused(sender: Sender, status: int) -> None:
    with pytest.raises(Problem) as caught:
        parts(sender)
    assert caught.value.status == status
