"""The server below the application, over raw sockets: malformed and endless heads, slow clients, pipelining."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgegrain.service.app import MAX_HEAD_BYTES
from tests.service_harness import POST, SOON, LiveService, connected, get, live_service, raw_payloads, stub_worker
from tests.service_process import running, serve_with

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


class Answer:
    """An answer that was read from a connection."""

    def __init__(self, stream: Any) -> None:
        line = stream.readline()
        assert line, "the connection was closed without an answer"
        self.status = int(line.split()[1])
        self.headers = {}
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        self.body = stream.read(int(self.headers.get("content-length", 0)))


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
    with live_service(tiny_bundle, worker_command=stub_worker(), head_timeout=0.5, deadline=SOON) as service:
        yield service


@pytest.mark.parametrize(("head", "status"), [
    (LIVE + b"X: y\r\n" * 200 + b"\r\n", 431), (LIVE + b"X: " + b"x" * 2 * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
    (b"\x16\x03\x01\x02\x00\x01\x00\r\n", 400), (b"GET / HTTP/x.y\r\n\r\n", 400), (LIVE + b"no colon\r\n\r\n", 400),
    (LIVE + b"X: a\x00b\r\n\r\n", 400), (LIVE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (POST + b"Content-Length: x\r\n\r\n", 400)])
def test_heads_that_are_refused(service: LiveService, head: bytes, status: int) -> None:
    with connected(service.url, head) as (connection, stream):
        assert Answer(stream).status == status
        assert stream.read() == b""


@pytest.mark.parametrize(("start", "more", "most"), [
    (LIVE, b"X: y\r\n" * 10_000, 1 << 24), (LIVE + b"X: ", b"x" * 65536, 1 << 24), (b"GET /", b"x" * 65536, 1 << 24),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + bytes(0x8000) + b"\r\n", 1 << 27)])
def test_endless_heads(service: LiveService, start: bytes, more: bytes, most: int) -> None:
    """And bodies: the connection ends."""
    with connected(service.url, start) as (connection, _):
        assert flood(connection, more, 1 << 30) < most


def test_slow_heads_and_idle_connections_are_closed(service: LiveService) -> None:
    with connected(service.url, LIVE + b"\r\n") as (connection, stream):
        assert Answer(stream).status == 200
        connection.sendall(LIVE)
        start = time.monotonic()
        assert stream.read() == b"" and 0.2 < time.monotonic() - start < SOON / 2
    with connected(service.url) as (_, stream):
        assert stream.read() == b""


@pytest.mark.parametrize("piece", [11, 1 << 20])
def test_pipelined_requests_are_answered_in_order(service: LiveService, tiny_bundle: Path, piece: int) -> None:
    payloads = raw_payloads(tiny_bundle, 3)
    requests = [POST + b"Content-Length: %d\r\n\r\n%b" % (len(payload), payload) for payload in payloads]
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(payloads[0]), payloads[0])
    sent = (LIVE + b"\r\n" + b"".join(requests) + chunked + LIVE + b"\r\n") * 3 + b"nonsense\r\n\r\n"
    with connected(service.url) as (connection, stream):
        for at in range(0, len(sent), piece):
            connection.sendall(sent[at : at + piece])
        for _ in range(3):
            assert Answer(stream).body == b'{"status":"alive"}'
            assert [Answer(stream).body for _ in range(4)] == [*payloads, payloads[0]]
            assert Answer(stream).body == b'{"status":"alive"}'
        assert Answer(stream).status == 400


def test_bodies_are_no_heads(service: LiveService) -> None:
    """A large body with many line ends is read within its own limit, and the connection serves the next request."""
    body = b"\r\n" * 50_000
    chunks = b"".join(b"%x\r\n%b\r\n" % (1000, body[:1000]) for _ in range(100)) + b"0\r\nTrailer: x\r\n\r\n"
    with connected(service.url) as (connection, stream):
        for request in (POST + b"Content-Length: %d\r\n\r\n" % len(body) + body,
                        POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks):
            connection.sendall(request + LIVE + b"\r\n")
            assert json.loads(Answer(stream).body)["type"].endswith("invalid-payload")
            assert Answer(stream).status == 200


def test_length_and_chunks_together_are_no_second_request(service: LiveService) -> None:
    head = POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(service.url, head + b"0\r\n\r\n" + LIVE + b"\r\n") as (_, stream):
        assert Answer(stream).status == 400


def test_expect_continue(service: LiveService, tiny_bundle: Path) -> None:
    (payload,) = raw_payloads(tiny_bundle, 1)
    head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(payload)
    with connected(service.url, head) as (connection, stream):
        assert Answer(stream).status == 100
        connection.sendall(payload)
        assert Answer(stream).body == payload
    with connected(service.url, head.replace(b"application/vnd.edgegrain", b"image/png")) as (_, stream):
        assert Answer(stream).status == 415  # at once, before a body is sent
        assert stream.read() == b""


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"1;" + b"x" * (1 << 18), b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * (1 << 16)])
def test_malformed_and_endless_chunks(service: LiveService, chunk: bytes) -> None:
    with connected(service.url, POST + b"Transfer-Encoding: chunked\r\n\r\n") as (connection, stream):
        flood(connection, chunk, 1)
        with suppress(ConnectionResetError):
            assert Answer(stream).status == 400
            assert stream.read() == b""


def test_the_body_of_a_request_with_an_upgrade_is_its_body(service: LiveService) -> None:
    """Java's client sends the header by default."""
    body = LIVE + b"\r\n"
    with connected(service.url) as (connection, stream):
        connection.sendall(POST + b"connection: Upgrade, HTTP2-Settings\r\nUPGRADE: h2c\r\nContent-Length: %d\r\n\r\n%b"
                           % (len(body), body))
        answer = Answer(stream)
        assert answer.status == 422 and "payload" in json.loads(answer.body)["detail"]
        connection.sendall(LIVE + b"Connection: close\r\n\r\n")
        assert Answer(stream).status == 200
        assert stream.read() == b""


@pytest.mark.parametrize(
    ("size", "pause", "reusable"), [(3 << 20, 0, True), (3 << 20, 0.03, True), (1 << 26, 0, False)])
def test_a_refusal_reaches_a_client_that_is_still_sending(
    service: LiveService, size: int, pause: float, reusable: bool
) -> None:
    with connected(service.url) as (connection, stream):
        head = POST.replace(b"application/vnd.edgegrain", b"image/png")
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % size)
        assert (flood(connection, bytes(1 << 16), size, pause) == size) == reusable
        assert Answer(stream).status == 415
        if reusable:
            connection.sendall(LIVE + b"\r\n")
            assert Answer(stream).status == 200


def test_memory_and_other_clients(tiny_bundle: Path) -> None:
    """Clients that never end their heads, or read no answers, cost neither memory nor the time of others."""
    def resident() -> int:
        status = Path(f"/proc/{process.popen.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) >> 10

    with running(serve_with(stub_worker()), bundles=tiny_bundle) as process:
        before, slowest = resident(), 0.0
        url = process.url

        def attack(more: bytes) -> None:
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                with suppress(OSError), connected(url) as (connection, _):
                    connection.settimeout(1)  # the service stops reading
                    connection.sendall(LIVE)
                    flood(connection, more, 64 << 20)

        threads = [threading.Thread(target=attack, args=(more,))
                   for more in (b"X: y\r\n" * 10_000, b"x" * 65536, (b"\r\n" + LIVE) * 1000)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            start = time.monotonic()
            assert get(f"{url}/health/live").status_code == 200
            slowest = max(slowest, time.monotonic() - start)
        assert resident() - before < 32
        assert slowest < 2
