"""Limits on request heads and connections, over raw sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edgegrain.service.connection_count import ConnectionCount
from edgegrain.service.request_head import MAX_HEAD_BYTES, MAX_HEADER_LINES, MAX_REQUEST_LINE
from tests.service_harness import SOON, LiveService, get, live_service, raw_payloads, stub_worker, until
from tests.service_process import running, serve_with

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Type: application/vnd.edgegrain\r\n"


@contextmanager
def connected(service: LiveService | str) -> Iterator[socket.socket]:
    parts = urlsplit(service if isinstance(service, str) else service.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=SOON) as connection:
        yield connection


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


def flood(connection: socket.socket, data: bytes, most: int) -> int:
    """Send ``data`` again and again until the connection fails or ``most`` bytes are sent; returns the bytes."""
    sent = 0
    with suppress(OSError):
        while sent < most:
            connection.sendall(data)
            sent += len(data)
    return sent


def assert_refused(stream: Any, status: int, kind: str) -> Answer:
    """The last answer of a connection is this problem."""
    answer = Answer(stream)
    document = json.loads(answer.body)
    assert (answer.status, document["status"], document["type"]) == (status, status, f"urn:edgegrain:problem:{kind}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"
    assert answer.headers["connection"] == "close"
    assert stream.read() == b""
    return answer


def count(service: LiveService, kind: str) -> float:
    return service.state.metrics.registry.get_sample_value("edgegrain_errors_total", {"kind": kind}) or 0


@pytest.fixture(scope="module")
def service(tiny_bundle: Path, parser: None) -> Iterator[LiveService]:
    """A service with a short time for heads, with either parser."""
    with live_service(tiny_bundle, worker_command=stub_worker(), head_timeout=0.3, keep_alive=30,
                      deadline=SOON) as service:
        yield service


def padded(size: int, start: bytes = LIVE) -> bytes:
    """A head of ``size`` bytes with few lines."""
    head = start
    while size - len(head) - 2 > 8000:
        head += b"X: " + b"x" * 7000 + b"\r\n"
    return head + b"X: " + b"x" * (size - len(head) - 7) + b"\r\n\r\n"


@pytest.mark.parametrize(("head", "status", "kind"), [
    (LIVE + b"X: y\r\n" * MAX_HEADER_LINES + b"\r\n", 431, "head-too-large"),
    (padded(MAX_HEAD_BYTES + 1), 431, "head-too-large"),
    (b"GET /" + b"x" * MAX_REQUEST_LINE + b" HTTP/1.1\r\n\r\n", 414, "request-line-too-long"),
    (b"\x16\x03\x01\x02\x00\x01\x00\r\n", 400, "bad-request"),
    (b"GET / HTTP/x.y\r\n\r\n", 400, "bad-request"),
    (LIVE + b"no colon\r\n\r\n", 400, "bad-request"),
    (LIVE + b"X: a\x00b\r\n\r\n", 400, "bad-request"),
    (LIVE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "bad-request"),
    (b"\r\n" * 200, None, None)])
def test_heads_that_are_refused(service: LiveService, head: bytes, status: int | None, kind: str | None) -> None:
    with connected(service) as connection, connection.makefile("rb") as stream:
        before = count(service, kind or "")
        connection.sendall(head)
        if status is None:
            assert Answer(stream).status in (400, 431)
        else:
            assert kind is not None
            assert_refused(stream, status, kind)
            assert count(service, kind) == before + 1


@pytest.mark.parametrize("head", [
    padded(60 << 10), padded(MAX_HEAD_BYTES), LIVE + b"X: y\r\n" * (MAX_HEADER_LINES - 1) + b"\r\n",
    b"GET /health/live?" + b"x" * (MAX_REQUEST_LINE - 26) + b" HTTP/1.1\r\nHost: x\r\n\r\n"],
    ids=["60 KiB", "bytes", "lines", "request line"])
def test_the_largest_legal_heads(service: LiveService, head: bytes) -> None:
    with connected(service) as connection, connection.makefile("rb") as stream:
        for _ in range(3):  # the limits hold for each request of a connection
            connection.sendall(head)
            assert Answer(stream).status == 200


@pytest.mark.parametrize(("start", "more", "status"), [
    (LIVE, b"X: y\r\n" * 10_000, 431), (LIVE + b"X: ", b"x" * 65536, 431), (b"GET /", b"x" * 65536, 414)])
def test_endless_heads(service: LiveService, start: bytes, more: bytes, status: int) -> None:
    with connected(service) as connection, connection.makefile("rb") as stream:
        connection.sendall(start)
        flood(connection, more, 1 << 20)
        answer = Answer(stream)
        assert answer.status == status and answer.headers["content-type"] == "application/problem+json"
        assert flood(connection, more, 1 << 30) < 1 << 28  # the connection ends


def test_slow_head(service: LiveService) -> None:
    with connected(service) as connection, connection.makefile("rb") as stream:
        connection.sendall(LIVE + b"\r\n")
        assert Answer(stream).status == 200
        connection.sendall(LIVE)
        start = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - start < 0.25:  # bytes that arrive do not extend the time
                connection.sendall(b"X: y\r\n")
                time.sleep(0.05)
        assert_refused(stream, 408, "head-timeout")


def test_idle_connections_may_wait(service: LiveService) -> None:
    with connected(service) as connection, connection.makefile("rb") as stream:
        for _ in range(2):
            time.sleep(0.35)
            connection.sendall(LIVE[:20])
            connection.sendall(LIVE[20:] + b"\r\n")
            assert Answer(stream).status == 200


@pytest.mark.parametrize("piece", [11, 1 << 20])
def test_pipelined_requests_are_answered_in_order(service: LiveService, tiny_bundle: Path, piece: int) -> None:
    payloads = raw_payloads(tiny_bundle, 3)
    requests = [POST + b"Content-Length: %d\r\n\r\n%b" % (len(payload), payload) for payload in payloads]
    pieces = [b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(payloads[0]), payloads[0])]
    data = LIVE + b"\r\n" + b"".join(requests) + POST + b"".join(pieces) + LIVE + b"\r\n"
    with connected(service) as connection, connection.makefile("rb") as stream:
        sent = data * 3 + b"nonsense\r\n\r\n"
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(sent), piece):
            connection.sendall(sent[at:at + piece])
        for _ in range(3):
            assert Answer(stream).body == b'{"status":"alive"}'
            assert [Answer(stream).body for _ in range(4)] == [*payloads, payloads[0]]
            assert Answer(stream).body == b'{"status":"alive"}'
        assert_refused(stream, 400, "bad-request")


def test_a_long_header_line_after_a_chunked_body(service: LiveService) -> None:
    request = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    with connected(service) as connection, connection.makefile("rb") as stream:
        connection.sendall(request + LIVE + b"X: " + b"x" * 40_000 + b"\r\n\r\n")
        assert json.loads(Answer(stream).body)["type"].endswith("invalid-payload")
        assert Answer(stream).status == 200
        connection.sendall(request + LIVE)  # this head never ends
        assert json.loads(Answer(stream).body)["type"].endswith("invalid-payload")
        assert_refused(stream, 408, "head-timeout")


def test_many_pipelined_requests_are_all_answered(service: LiveService) -> None:
    request = LIVE + b"\r\n"
    with connected(service) as connection, connection.makefile("rb") as stream:
        sender = threading.Thread(target=connection.sendall, args=(request * 300,))
        sender.start()
        for _ in range(300):
            assert Answer(stream).status == 200
        sender.join()


def test_bodies_are_no_heads(service: LiveService) -> None:
    """A large body with many line ends is read within its own limit, and the connection serves the next request."""
    with connected(service) as connection, connection.makefile("rb") as stream:
        body = b"\r\n" * 50_000
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body + LIVE + b"\r\n")
        assert json.loads(Answer(stream).body)["type"].endswith("invalid-payload")
        assert Answer(stream).status == 200
        chunks = b"".join(b"%x\r\n%b\r\n" % (1000, body[:1000]) for _ in range(100)) + b"0\r\nTrailer: x\r\n\r\n"
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + LIVE + b"\r\n")
        assert json.loads(Answer(stream).body)["type"].endswith("invalid-payload")
        assert Answer(stream).status == 200


def test_expect_continue(service: LiveService, tiny_bundle: Path) -> None:
    (payload,) = raw_payloads(tiny_bundle, 1)
    with connected(service) as connection, connection.makefile("rb") as stream:
        connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(payload))
        assert Answer(stream).status == 100
        connection.sendall(payload)
        assert Answer(stream).body == payload


def test_malformed_and_endless_chunks(service: LiveService) -> None:
    for chunk, kinds in ((b"zz\r\n", ["bad-request"]),
                         (b"1;" + b"x" * (1 << 18), ["head-too-large", "bad-request"]),
                         (b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * (1 << 16), ["head-too-large", "bad-request"])):
        with connected(service) as connection, connection.makefile("rb") as stream:
            connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
            flood(connection, chunk, 1)
            answer = Answer(stream)
            assert json.loads(answer.body)["type"].rpartition(":")[2] in kinds
            assert answer.headers["connection"] == "close"


def test_upgrades_are_ignored(service: LiveService) -> None:
    with connected(service) as connection, connection.makefile("rb") as stream:
        for _ in range(2):
            connection.sendall(LIVE + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n")
            assert Answer(stream).status == 200


@pytest.mark.parametrize("pieces", [1, 7])
def test_the_body_of_a_request_with_an_upgrade_is_its_body(service: LiveService, pieces: int) -> None:
    """The parser in C would take it for the next request; Java's client sends the header by default."""
    body = LIVE + b"\r\n"
    request = (POST + b"connection: Upgrade, HTTP2-Settings\r\nUPGRADE: h2c,\r\n websocket\r\nContent-Length: "
               + str(len(body)).encode() + b"\r\n\r\n" + body)
    size = -(-len(request) // pieces)
    with connected(service) as connection, connection.makefile("rb") as stream:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(request), size):
            connection.sendall(request[at : at + size])
            time.sleep(0.01)
        answer = Answer(stream)
        assert answer.status == 422 and "payload" in json.loads(answer.body)["detail"]
        connection.sendall(LIVE + b"Connection: close\r\n\r\n")
        assert Answer(stream).status == 200
        assert stream.read() == b""


def test_who_asks_before_sending_a_body_is_refused_at_once(service: LiveService) -> None:
    with connected(service) as connection, connection.makefile("rb") as stream:
        connection.sendall(POST.replace(b"application/vnd.edgegrain", b"text/plain")
                           + b"Content-Length: 60\r\nExpect: 100-continue\r\n\r\n")
        answer = Answer(stream)
        assert (answer.status, answer.headers["connection"]) == (415, "close")
        assert stream.read() == b""


def test_too_many_connections(tiny_bundle: Path) -> None:
    with live_service(tiny_bundle, worker_command=stub_worker(), wait=False, max_connections_per_address=3,
                      trusted_proxies="10.0.0.1", keep_alive=1) as service:
        opened = [connected(service) for _ in range(3)]
        for connection in opened:
            connection.__enter__()
        with connected(service) as refused, refused.makefile("rb") as stream:
            assert assert_refused(stream, 429, "too-many-connections").headers["retry-after"] == "1"
        until(lambda: count(service, "too-many-connections") == 1)
        with ExitStack() as waiting:  # connections that are refused count until they are closed
            for _ in range(3):
                stream = waiting.enter_context(waiting.enter_context(connected(service)).makefile("rb"))
                assert_refused(stream, 429, "too-many-connections")
            with connected(service) as cut, suppress(ConnectionResetError):
                assert cut.recv(1) == b""  # no answer
        assert count(service, "too-many-connections") == 4
        time.sleep(1.2)  # connections without a request are closed after `keep_alive`
        assert get(f"{service.url}/health/live").status_code == 200
        for connection in opened:
            connection.__exit__(None, None, None)


def test_connections_are_counted_by_network() -> None:
    counts = ConnectionCount("127.0.0.1, 10.0.0.0/8")
    assert [counts.add(host) for host in ("1.2.3.4", "1.2.3.4", "1.2.3.5", "2001:db8::1", "2001:db8::2", "2001:db9::1",
                                          "127.0.0.1", "10.1.2.3", None)] == [1, 2, 1, 1, 2, 1, 0, 0, 0]
    for host in ("1.2.3.4", "1.2.3.4", "1.2.3.5", "2001:db8::1", "2001:db8::2", "2001:db9::1", "127.0.0.1", None):
        counts.remove(host)
    assert len(counts) == 0
    assert ConnectionCount("*").add("1.2.3.4") == 0


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
                with suppress(OSError), connected(url) as connection:
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
