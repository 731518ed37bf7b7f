"""Request bodies within limits on size and memory: forms over HTTP, the memory that all bodies share."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from edgegrain.service.bodies import Bodies, whole
from edgegrain.service.problems import Problem
from tests.service_harness import LiveService, post

MULTIPART = "multipart/form-data; boundary=x"


def form(*files: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="payload"; filename="a"\r\n\r\n'
    return b"".join(head + data + b"\r\n" for data in files) + b"--x--\r\n"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (form(b"a"), "application/json", 415),
        (form(b"a"), "", 415),
        (form(b"a"), "multipart/form-data", 400),
        (b"nonsense", MULTIPART, 400),
        (form(), MULTIPART, 400),
        (b"", MULTIPART, 400),
        (form(b"a")[:-30], MULTIPART, 400),
        (form(b"a", b"b")[:-9], MULTIPART, 400),
        (form(*[b"a"] * 5), MULTIPART, 413),
        (form(b"a" * 200_000), MULTIPART, 413),
        (form(b"a" * (1 << 20)), MULTIPART, 413),
    ],
)
def test_forms_that_are_refused(tiny_service: LiveService, body: bytes, kind: str, status: int) -> None:
    answer = post(f"{tiny_service.url}/v1/restore/batch", body, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == status == answer.json()["status"], answer.text


async def read(bodies: Bodies, *chunks: bytes, ends: bool = True) -> bytes:
    """Read the chunks of a client which, unless it ``ends``, says nothing more after the last."""
    left = list(chunks)

    async def receive() -> Message:
        if not left:
            await asyncio.sleep(3600)
        chunk = left.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(left) or not ends}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    async with bodies.read(request, 100, whole) as body:
        assert bodies.used >= len(body)
        return body


async def test_bodies_are_counted_while_they_are_received() -> None:
    bodies = Bodies(1000, timeout=0.05)
    assert await read(bodies, b"abc", b"", b"def") == b"abcdef"
    for chunks, ends, status in ((b"x",), False, 408), ((b"x" * 60, b"x" * 60), True, 413), ((b"",), True, 400):
        with pytest.raises(Problem) as caught:
            await read(bodies, *chunks, ends=ends)
        assert caught.value.status == status and bodies.used == 0


async def test_all_bodies_share_their_memory() -> None:
    bodies = Bodies(150, timeout=30)
    bodies.used = 100
    assert await read(bodies, b"x" * 50) == b"x" * 50
    with pytest.raises(Problem) as caught:
        await read(bodies, b"x" * 30, b"x" * 30)
    assert caught.value.status == 503 and caught.value.headers["Retry-After"] == "1" and bodies.used == 100
