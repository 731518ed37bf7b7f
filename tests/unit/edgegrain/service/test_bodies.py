"""Request bodies within limits on size and memory: forms over HTTP, the budget that all bodies share."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from edgegrain.service.bodies import ByteBudget, read_body
from edgegrain.service.problems import Problem
from tests.service_harness import LiveService, post

MULTIPART = "multipart/form-data; boundary=x"


def form(*files: bytes) -> bytes:
    pieces = [b'--x\r\nContent-Disposition: form-data; name="payload"; filename="a"\r\n\r\n' + data + b"\r\n"
              for data in files]
    return b"".join(pieces) + b"--x--\r\n"


@pytest.mark.parametrize(("body", "kind", "status"), [
    (form(b"a"), "application/json", 415), (form(b"a"), "", 415), (form(b"a"), "multipart/form-data", 400),
    (b"nonsense", MULTIPART, 400), (form(), MULTIPART, 400), (b"", MULTIPART, 400),
    (form(b"a")[:-30], MULTIPART, 400), (form(b"a", b"b")[:-9], MULTIPART, 400), (form(*[b"a"] * 5), MULTIPART, 413),
    (form(b"a" * 200_000), MULTIPART, 413), (form(b"a" * (1 << 20)), MULTIPART, 413)])
def test_forms_that_are_refused(tiny_service: LiveService, body: bytes, kind: str, status: int) -> None:
    answer = post(f"{tiny_service.url}/v1/restore/batch", body, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == status == answer.json()["status"], answer.text


class Sender:
    """A client that sends chunks; after the last, unless it ``ends``, it says nothing more."""

    def __init__(self, *chunks: bytes, ends: bool = True, budget: ByteBudget | None = None) -> None:
        self.chunks, self.ends, self.budget = list(chunks), ends, budget
        self.arriving: set[int] = set()
        self.request = Request({"type": "http", "method": "POST", "headers": []}, self.receive)

    async def receive(self) -> Message:
        if self.budget is not None:
            self.arriving.add(self.budget.arriving)
        if not self.chunks:
            await asyncio.sleep(3600)
        chunk = self.chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(self.chunks) or not self.ends}


async def test_all_bodies_share_a_budget() -> None:
    budget = ByteBudget(150)
    with budget.account() as first, budget.account() as second:
        await read_body(Sender(b"x" * 100).request, first, limit=100, timeout=30)
        with pytest.raises(Problem) as caught:
            await read_body(Sender(b"x" * 30, b"x" * 30).request, second, limit=100, timeout=30)
        assert caught.value.status == 503 and caught.value.headers["Retry-After"] == "1"
        assert budget.used == 130
    assert budget.used == 0


async def test_bodies_that_are_being_received_are_counted() -> None:
    budget = ByteBudget(1000)

    async def read(sender: Sender, timeout: float) -> bytes:
        with budget.account() as account:
            return await read_body(sender.request, account, limit=100, timeout=timeout)

    whole, endless = Sender(b"abc", b"", b"def", budget=budget), Sender(b"x", ends=False, budget=budget)
    assert await read(whole, 30) == b"abcdef"
    with pytest.raises(Problem):
        await read(endless, 0.05)
    assert whole.arriving == endless.arriving == {1} and budget.arriving == 0
