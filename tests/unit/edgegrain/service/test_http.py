"""The server below the application, over raw sockets: endless heads, slow clients, refusals while a client sends."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import parse_headers
from pathlib import Path
from typing import Any

import pytest

from tests.service_harness import POST, SOON, LiveService, connected, raw_payloads, stubbed

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


def answer(stream: Any) -> tuple[int, bytes]:
    """Status and body of an answer that is read from a connection."""
    status = int(stream.readline().split()[1])
    headers = parse_headers(stream)
    return status, stream.read(int(headers.get("Content-Length", 0)))


def flood(connection: socket.socket, data: bytes, most: int, pause: float = 0) -> int:
    """Send ``data`` again and again until the connection fails or ``most`` bytes are sent; returns the bytes."""
    sent = 0
    with suppress(OSError):
        while sent < most:
            connection.sendall(data)
            sent += len(data)
            time.sleep(pause)
    return sent


@pytest.fixture(scope="module")
def service(tiny_bundle: Path) -> Iterator[LiveService]:
    """A service with a short time for heads."""
    with stubbed(tiny_bundle, head_timeout=0.5, deadline=SOON) as service:
        yield service


@pytest.mark.parametrize(
    ("start", "more", "most"),
    [
        (LIVE, b"X: y\r\n" * 10_000, 1 << 24),
        (LIVE + b"X: ", b"x" * 65536, 1 << 24),
        (b"GET /", b"x" * 65536, 1 << 24),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + bytes(0x8000) + b"\r\n", 1 << 27),
    ],
)
def test_endless_heads(service: LiveService, start: bytes, more: bytes, most: int) -> None:
    """And bodies: the connection ends."""
    with connected(service.url, start) as (connection, _):
        assert flood(connection, more, 1 << 30) < most


def test_slow_heads_and_idle_connections_are_closed(service: LiveService) -> None:
    with connected(service.url, LIVE + b"\r\n") as (connection, stream):
        assert answer(stream)[0] == 200
        connection.sendall(LIVE)
        start = time.monotonic()
        assert stream.read() == b"" and 0.2 < time.monotonic() - start < SOON / 2
    with connected(service.url) as (_, stream):
        assert stream.read() == b""


def test_expect_continue(service: LiveService, tiny_bundle: Path) -> None:
    (payload,) = raw_payloads(tiny_bundle, 1)
    head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(payload)
    with connected(service.url, head) as (connection, stream):
        assert answer(stream)[0] == 100
        connection.sendall(payload)
        assert answer(stream)[1] == payload
    with connected(service.url, head.replace(b"application/vnd.edgegrain", b"image/png")) as (_, stream):
        assert answer(stream)[0] == 415  # at once, before a body is sent
        assert stream.read() == b""


@pytest.mark.parametrize(
    ("size", "pause", "reusable"), [(3 << 20, 0, True), (3 << 20, 0.03, True), (1 << 26, 0, False)]
)
def test_a_refusal_reaches_who_is_still_sending(service: LiveService, size: int, pause: float, reusable: bool) -> None:
    with connected(service.url) as (connection, stream):
        head = POST.replace(b"application/vnd.edgegrain", b"image/png")
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % size)
        assert (flood(connection, bytes(1 << 16), size, pause) == size) == reusable
        assert answer(stream)[0] == 415
        if reusable:
            connection.sendall(LIVE + b"\r\n")
            assert answer(stream)[0] == 200
