"""Clients that do not read their answers."""

from __future__ import annotations

import dataclasses
import errno
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from edgegrain.service.unread_answers import UnreadAnswers
from edgegrain.service.write_timeout import MIN_READ, WriteTimeout
from tests.service_harness import SOON, LiveService, get, live_service, stub_worker

LARGE = 32 << 20
"""More than the buffers of both systems hold."""


class Transport:
    """A transport whose client has read all but ``unread`` bytes."""

    def __init__(self) -> None:
        self.unread = 0
        self.aborted = False

    def get_extra_info(self, name: str) -> Any:
        return SimpleNamespace(setsockopt=lambda *arguments: None)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True


class Loop:
    """An event loop with at most one timer."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._work: Callable[[], None] = lambda: None

    def call_later(self, seconds: float, work: Callable[[], None]) -> SimpleNamespace:
        assert self.seconds is None
        self.seconds, self._work = seconds, work
        return SimpleNamespace(cancel=self._cancel)

    def pass_time(self) -> None:
        """Let the timer run out."""
        self.seconds = None
        self._work()

    def _cancel(self) -> None:
        self.seconds = None


class Uvicorn:
    """The part of uvicorn's protocols that is extended."""

    def __init__(self) -> None:
        self.transport: Any = Transport()
        self.loop: Any = Loop()

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def on_response_complete(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


class Protocol(WriteTimeout, Uvicorn):  # type: ignore[misc]
    def __init__(self, answers: UnreadAnswers | None = None) -> None:
        super().__init__()
        self.service: Any = SimpleNamespace(
            settings=SimpleNamespace(write_timeout=30), unread=answers or UnreadAnswers(LARGE))


def test_a_client_that_reads_nothing() -> None:
    protocol = Protocol()
    protocol.transport.unread = 10 * MIN_READ
    protocol.on_response_complete()
    assert protocol.loop.seconds == 30 and not protocol.transport.aborted
    protocol.loop.pass_time()
    assert protocol.transport.aborted and protocol.loop.seconds is None


def test_a_client_that_reads_enough_has_as_long_as_it_takes() -> None:
    protocol = Protocol()
    protocol.transport.unread = 10 * MIN_READ
    protocol.pause_writing()
    while protocol.transport.unread:
        protocol.transport.unread -= MIN_READ
        protocol.loop.pass_time()
    assert not protocol.transport.aborted and protocol.loop.seconds is None


@pytest.mark.parametrize("read", [1, MIN_READ - 1])
def test_a_client_that_reads_too_little(read: int) -> None:
    protocol = Protocol()
    protocol.transport.unread = 10 * MIN_READ
    protocol.on_response_complete()
    protocol.transport.unread -= read
    protocol.loop.pass_time()
    assert protocol.transport.aborted


def test_the_rest_of_an_answer() -> None:
    protocol = Protocol()
    protocol.transport.unread = MIN_READ + 3
    protocol.on_response_complete()
    protocol.transport.unread = 3
    protocol.resume_writing()  # the time begins again
    assert protocol.loop.seconds == 30
    protocol.loop.pass_time()
    assert protocol.transport.aborted


def test_no_timer_without_a_rest_or_a_connection() -> None:
    protocol = Protocol()
    protocol.on_response_complete()
    assert protocol.loop.seconds is None
    protocol.transport.unread = 1
    protocol.on_response_complete()
    protocol.connection_lost(None)
    assert protocol.loop.seconds is None


def test_the_memory_of_all_unread_answers_is_limited() -> None:
    answers = UnreadAnswers(10)
    slow, done, ended, quick, last, huge = (Protocol(answers) for _ in range(6))

    def leave_unread(protocol: Protocol, count: int) -> None:
        protocol.transport.unread = count
        protocol.pause_writing()

    for protocol in (slow, done, ended):
        leave_unread(protocol, 3)
    done.transport.unread = 0
    done.resume_writing()
    ended.connection_lost(None)
    leave_unread(quick, 7)  # 10 with those of `slow`
    quick.transport.unread = 1  # has read 6
    leave_unread(last, 6)
    assert not any(protocol.transport.aborted for protocol in (slow, done, ended, quick, last))
    leave_unread(huge, 3)
    assert [protocol.transport.aborted for protocol in (slow, quick, last, huge)] == [True, False, False, False]
    huge.resume_writing()
    leave_unread(huge, 11)  # alone it may exceed the limit
    assert [protocol.transport.aborted for protocol in (done, quick, last, huge)] == [False, True, True, False]


@pytest.fixture(scope="module")
def service(tiny_bundle: Path, parser: None) -> Iterator[LiveService]:
    """A service with a large encoder file and a short time to read it, with either parser."""
    with live_service(tiny_bundle, worker_command=stub_worker(), wait=False, write_timeout=0.3,
                      drain_timeout=30) as service:
        for files in service.state.files.values():
            files["encoder.onnx"] = dataclasses.replace(files["encoder.onnx"], data=b"x" * LARGE)
        yield service


@pytest.mark.parametrize("requests", [1, 2])
def test_unread_answers_end_the_connection(service: LiveService, requests: int) -> None:
    parts = urlsplit(service.url)
    (bundle,) = service.state.files
    with socket.create_connection((parts.hostname, parts.port), timeout=SOON) as connection:
        connection.sendall(f"GET /v1/bundles/{bundle}/encoder.onnx HTTP/1.1\r\nHost: x\r\n\r\n".encode() * requests)
        ended = select.poll()
        ended.register(connection, 0)  # errors and the end only
        assert ended.poll(1000 * SOON / 4)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    assert len(get(f"{service.url}/v1/bundles/{bundle}/encoder.onnx").content) == LARGE
