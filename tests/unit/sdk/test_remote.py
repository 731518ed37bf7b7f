"""The remote clients on a service of tiny bundles, and on a scripted one for everything that goes wrong."""

from __future__ import annotations

import asyncio
import copy
import gzip
import os
import pickle
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.lr_coder.coder_tables import CoderTables
from sdk import remote_calls
from tests.pictures import encoded, noise
from tests.service_harness import LiveService, live_service
from tests.tiny_bundle import HR, LR, refresh_manifest, write_tiny_bundle

QUICK = sdk.Retries(attempts=4, first_pause=0.001, patience=5)
TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("remote"))


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose levels have a step of 7."""
    folder = write_tiny_bundle(tmp_path_factory.mktemp("stepped"), "stepped-64-lr32", lr=32)
    (folder / "coder.json").write_bytes(replace(CoderTables.default(), step=7).to_json())
    refresh_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def service(bundle: Path, stepped: Path) -> Iterator[LiveService]:
    with live_service(bundle, stepped, tokens=TOKEN, deadline=60) as service:
        yield service


@pytest.fixture
def remote(service: LiveService) -> Iterator[Any]:
    with sdk.connect(service.url, token=TOKEN) as remote:
        yield remote


def picture(width: int = 90, height: int = 70, seed: int = 0) -> np.ndarray:
    return noise(width, height, seed)


class TestVerbs:
    def test_compress(self, remote: Any, bundle: Path, tmp_path: Path) -> None:
        rgb, codec = picture(), sdk.Codec(bundle)
        path = tmp_path / "me.png"
        Image.fromarray(rgb).save(path)
        for source in (rgb, path, str(path), path.read_bytes(), Image.fromarray(rgb)):
            payload = remote.compress(source, "crop")
            assert isinstance(payload, sdk.Payload) and payload == codec.compress(rgb, "crop")
        clear = np.zeros((HR, HR, 4), np.uint8)
        assert remote.compress(clear, background=(1, 2, 3)) == codec.compress(clear, background=(1, 2, 3))

    def test_restore(self, remote: Any, bundle: Path, tmp_path: Path) -> None:
        codec = sdk.Codec(bundle)
        payload = codec.compress(picture())
        expected = np.asarray(codec.restore(payload))
        for source in (payload, bytes(payload), payload.save(tmp_path / "me.grain")):
            np.testing.assert_array_equal(np.asarray(remote.restore(source)), expected)
        assert remote.restore(payload, size="native").size == (64, 50)
        assert remote.restore(payload, bundle="tiny-64-lr16").mode == "RGB"

    def test_the_mark(self, remote: Any, bundle: Path) -> None:
        payload = sdk.Codec(bundle).compress(picture())
        wanted = sdk.read_mark(sdk.Codec(bundle).restore(payload))
        for options, mark in (({}, wanted), ({"mark": False}, None)):
            pictures = remote.restore(payload, **options), *remote.restore_batch([payload], **options)
            assert [sdk.read_mark(one) for one in pictures] == [mark, mark]

    def test_a_service_that_does_not_mark(self, bundle: Path) -> None:
        payload = sdk.Codec(bundle).compress(picture())
        with live_service(bundle, mark=False, deadline=60) as service, sdk.connect(service.url) as client:
            assert sdk.read_mark(service.restore(payload).content) is None
            assert sdk.read_mark(client.restore(payload)) == sdk.GeneratedMark()
            assert sdk.read_mark(client.restore(payload, mark=False)) is None

    def test_batches(self, remote: Any, bundle: Path) -> None:
        codec = sdk.Codec(bundle)
        pictures = [picture(20 + index, 30, seed=index) for index in range(10)]
        payloads = remote.compress_batch(pictures)
        assert payloads == codec.compress_batch(pictures)
        for one, other in zip(remote.restore_batch(iter(payloads)), codec.restore_batch(payloads), strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        with pytest.raises(sdk.PayloadError, match="^payload 3: "):
            remote.restore_batch([*payloads[:3], payloads[3][:-1], *payloads[4:]])
        assert remote.restore_batch([]) == []

    def test_bundles(self, remote: Any) -> None:
        offered = [(bundle.id, bundle.hr, bundle.lr, bundle.step) for bundle in remote.bundles()]
        assert offered == [("tiny-64-lr16", HR, LR, 1), ("stepped-64-lr32", HR, 32, 7)]

    def test_refusals_are_the_sdk_s_own_errors(self, remote: Any, bundle: Path) -> None:
        payload = sdk.Codec(bundle).compress(picture())
        with pytest.raises(sdk.ImageError, match="not a picture"):
            remote.compress(b"not a picture")
        with pytest.raises(sdk.PayloadError, match="CRC"):
            remote.restore(bytes(payload)[:-1])  # not even sent
        with pytest.raises(sdk.PayloadError, match="got ndarray"):
            remote.restore(payload.lr)
        with pytest.raises(sdk.ServiceError, match="status 404: no bundle 'cats' is served here"):
            remote.restore(payload, bundle="cats")
        with pytest.raises(sdk.ServiceError, match="status 422: unknown size 'big', expected original"):
            remote.restore(payload, size="big")
        with pytest.raises(sdk.ServiceError, match="90 x 70 pixels, more than 10"):
            remote.restore(payload, max_pixels=10)
        with pytest.raises(sdk.ImageError, match="background"):
            remote.compress(b"x", background=(1, 2))
        with pytest.raises(sdk.ImageError, match="unknown fit 'align', expected one of pad, stretch, crop"):
            remote.compress(b"x", "align")

    def test_the_token_is_needed(self, service: LiveService) -> None:
        with sdk.connect(service.url, token="another-token-of-16") as remote, pytest.raises(
                sdk.ServiceError, match="status 401"):
            remote.bundles()

    def test_the_async_twin_does_the_same(self, service: LiveService, bundle: Path) -> None:
        codec = sdk.Codec(bundle)
        pictures = [picture(seed=index) for index in range(5)]

        async def use() -> None:
            async with sdk.connect_async(service.url, token=TOKEN) as remote:
                payloads = await remote.compress_batch(pictures)
                assert payloads == codec.compress_batch(pictures)
                assert [one.size for one in await remote.restore_batch(payloads, size="native")] == [(64, 50)] * 5
                with pytest.raises(sdk.PayloadError, match="^payload 1: "):
                    await remote.restore_batch([payloads[0], b"bad"])

        asyncio.run(use())


Answer = tuple[int, dict[str, str], bytes]


class Script:
    """A server that gives prepared answers, one a request; None closes the connection instead."""

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = list(answers)
        self.moments: list[float] = []
        self.connections: set[tuple[str, int]] = set()
        self.lock = threading.Lock()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with script.lock:
                    script.moments.append(time.monotonic())
                    script.connections.add(self.client_address)
                    answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


NOTHING = (200, {}, b"[]")
BUSY = (503, {}, b'{"type": "urn:edgegrain:problem:queue-full", "detail": "too many"}')


def ask_sync(url: str, **options: Any) -> object:
    with sdk.connect(url, **options) as remote:
        return remote.bundles()


def ask_async(url: str, **options: Any) -> object:
    async def ask() -> object:
        async with sdk.connect_async(url, **options) as remote:
            return await remote.bundles()

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [ask_sync, ask_async])
class TestErrors:
    @pytest.mark.parametrize(("answers", "message", "attempts"), [
        pytest.param([BUSY, None, (502, {}, b"<html>"), NOTHING], None, 4, id="transient errors are retried"),
        pytest.param([BUSY], "status 503: too many", 4, id="attempts are bounded"),
        pytest.param([(503, {"Retry-After": "3600"}, BUSY[2])], "status 503: too many", 1, id="a long pause"),
        *(pytest.param([(status, {}, b"no JSON")], f"status {status}: .*edgegrain service", 1, id=f"status {status}")
          for status in (400, 401, 404, 413, 500)),
        pytest.param([(200, {}, b" " * (1 << 22))], "answer has more than 1048576 bytes", 1, id="a long answer"),
        pytest.param([(503, {}, b" " * (1 << 22)), NOTHING], None, 2, id="a long refusal"),
        pytest.param([(200, {"Content-Encoding": "gzip"}, gzip.compress(b"[]"))], "not a list of bundles", 1,
                     id="answers are not inflated"),
    ])
    def test_answers(self, ask: Callable[..., object], answers: list[Answer | None], message: str | None,
                     attempts: int) -> None:
        script = Script(*answers)
        with script as url:
            if message is None:
                assert ask(url, retries=QUICK) == []
            else:
                with pytest.raises(sdk.ServiceError, match=message):
                    ask(url, retries=QUICK)
        assert len(script.moments) == attempts

    def test_retry_after_is_respected(self, ask: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(remote_calls, "parse_retry_after", {"1": 0.2}.get)  # the test need not last a second
        script = Script((429, {"Retry-After": "1"}, b"{}"), NOTHING)
        with script as url:
            assert ask(url, retries=QUICK) == []
        assert script.moments[1] - script.moments[0] >= 0.2

    def test_no_service_at_the_address(self, ask: Callable[..., object]) -> None:
        with Script(NOTHING) as url:
            pass
        with pytest.raises(sdk.ServiceError, match=f"{url} cannot be reached"):
            ask(url, retries=2)

    def test_a_request_that_cannot_be_sent(self, ask: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(re, "fullmatch", lambda *_: True)  # the check of tokens
        with Script(NOTHING) as url, pytest.raises(sdk.ServiceError, match="not valid HTTP$") as caught:
            ask(url, token="secret\n", retries=QUICK)
        assert caught.value.__suppress_context__

    def test_a_slow_answer_is_given_up(self, ask: Callable[..., object]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=drip, args=(listener,), daemon=True).start()
            with pytest.raises(sdk.ServiceError, match="its answer arrives at less than 8192 bytes per second"):
                ask(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.1, retries=1)


def drip(listener: socket.socket) -> None:
    """Answer one request with an empty list of bundles, of which a byte arrives every 20 ms for a second."""
    connection, _ = listener.accept()
    with connection, suppress(OSError):
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 52\r\n\r\n[")
        for _ in range(50):
            time.sleep(0.02)
            connection.sendall(b" ")
        connection.sendall(b"]")


def test_an_error_of_the_caller_s_ends_a_batch() -> None:
    def source() -> Iterator[bytes]:
        yield from [b"x"] * 50
        raise KeyError("the source failed")

    async def use(url: str) -> None:
        async with sdk.connect_async(url, concurrency=1) as remote:
            with pytest.raises(KeyError):
                await remote.compress_batch(source())
            assert len(asyncio.all_tasks()) == 1

    script = Script((400, {}, b"{}"))
    with script as url:
        with sdk.connect(url, concurrency=1) as remote, pytest.raises(KeyError):
            remote.compress_batch(source())
        asyncio.run(use(url))
    assert len(script.moments) < 50


@pytest.mark.parametrize("bundle", ["\ud800", "x" * 70_000])
def test_names_that_cannot_be_sent(bundle: str) -> None:
    with sdk.connect("http://127.0.0.1:9") as remote, pytest.raises(sdk.ServiceError, match="is not valid HTTP"):
        remote.compress(b"x", bundle=bundle)


def test_a_silent_service_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        start = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with sdk.connect(url, timeout=0.1, retries=1) as remote, pytest.raises(sdk.ServiceError, match="timed out"):
            remote.bundles()
        assert time.monotonic() - start < 5


def test_connections_are_reused_but_not_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    script, parent = Script(NOTHING), os.getpid()
    with script as url, sdk.connect(url) as remote:
        for process, connections in ((parent, 1), (parent, 1), (parent + 1, 2), (parent + 1, 2)):
            monkeypatch.setattr(os, "getpid", lambda process=process: process)
            remote.bundles()
            assert len(script.connections) == connections
        remote.close()
        monkeypatch.setattr(os, "getpid", lambda: parent + 2)  # closed before the fork
        with pytest.raises(sdk.ServiceError, match="is closed; open another one"):
            remote.bundles()


def test_a_forked_process_has_an_asynchronous_client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(remote: sdk.AsyncRemoteCodec) -> None:
        assert await remote.bundles() == []

    script, parent = Script(NOTHING), os.getpid()
    with script as url:
        remote = sdk.connect_async(url)
        asyncio.run(ask(remote))
        monkeypatch.setattr(os, "getpid", lambda: parent + 1)
        asyncio.run(ask(remote))  # another loop: the inherited connection belongs to the first
    assert len(script.connections) == 2


def test_copies_have_the_same_arguments_and_other_connections() -> None:
    script, retries = Script(NOTHING), sdk.Retries(attempts=2)
    with script as url, sdk.connect(url, token=TOKEN, timeout=5, retries=retries, concurrency=3) as remote:
        assert remote.bundles() == []
        for other in (copy.deepcopy(remote), pickle.loads(pickle.dumps(remote))):  # noqa: S301 - our own bytes
            assert repr(other) == repr(remote) and other._remote._arguments == remote._remote._arguments
            assert other.bundles() == []
        assert len(script.connections) == 3
        twin = copy.copy(sdk.connect_async(url, retries=3))
        assert asyncio.run(twin.bundles()) == [] and twin._arguments["retries"] == 3


def test_an_answer_that_is_no_picture(bundle: Path) -> None:
    payload = sdk.Codec(bundle).compress(picture())
    for body in (b"nonsense", encoded(picture(), "JPEG"), b""):
        with Script((200, {}, body)) as url, sdk.connect(url) as remote, pytest.raises(
                sdk.ServiceError, match="is not a picture"):
            remote.restore(payload)


def test_an_error_carries_the_results_of_the_batch(bundle: Path) -> None:
    payload = sdk.Codec(bundle).compress(picture())

    def blocking(url: str) -> None:
        with sdk.connect(url, concurrency=1) as remote:
            remote.restore_batch([payload] * 3)

    async def asynchronous(url: str) -> None:
        async with sdk.connect_async(url, concurrency=1) as remote:
            await remote.restore_batch([payload] * 3)

    for use in (blocking, lambda url: asyncio.run(asynchronous(url))):
        script = Script((200, {}, encoded(picture())), (503, {"Retry-After": "3600"}, BUSY[2]))
        with script as url, pytest.raises(sdk.ServiceError, match="^payload 1: .*too many") as caught:
            use(url)
        restored, *missing = caught.value.results
        assert restored.size == (90, 70) and missing == [None, None]
