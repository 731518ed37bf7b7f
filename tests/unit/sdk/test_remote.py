"""The remote clients on a service of tiny bundles, and on a scripted one for everything that goes wrong."""

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.lr_coder.coder_tables import CoderTables
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


def picture(seed: int = 0) -> np.ndarray:
    return noise(90, 70, seed)


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
        pictures = [noise(20 + index, 30, index) for index in range(10)]
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
        with pytest.raises(sdk.ServiceError, match="status 404: no bundle 'cats' is served here"):
            remote.restore(payload, bundle="cats")
        with pytest.raises(sdk.ServiceError, match="status 422: unknown size 'big', expected original"):
            remote.restore(payload, size="big")
        with pytest.raises(sdk.ServiceError, match="90 x 70 pixels, more than 10"):
            remote.restore(payload, max_pixels=10)
        with pytest.raises(sdk.ImageError, match="background"):
            remote.compress(b"x", background=(1, 2))
        with pytest.raises(sdk.ServiceError, match="status 422: "):
            remote.compress(b"x", "align")
        with pytest.raises(sdk.ImageError, match="download it first"):
            remote.compress("https://example.org/me.jpg")

    def test_the_token_is_needed(self, service: LiveService) -> None:
        with pytest.raises(sdk.ServiceError, match="status 401"):
            sdk.connect(service.url, token="another-token-of-16").bundles()

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


class Script(ThreadingHTTPServer):
    """A server that gives prepared answers, one a request; None closes the connection instead."""

    daemon_threads = True

    def __init__(self, *answers: Answer | None) -> None:
        super().__init__(("127.0.0.1", 0), Scripted)
        self.answers, self.lock = list(answers), threading.Lock()
        self.moments: list[float] = []
        self.connections: set[tuple[str, int]] = set()

    def __enter__(self) -> str:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{self.server_port}"

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


class Scripted(BaseHTTPRequestHandler):
    """Answers as the server's script says."""

    protocol_version = "HTTP/1.1"
    server: Script

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.moments.append(time.monotonic())
            self.server.connections.add(self.client_address)
            answers = self.server.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            self.close_connection = True
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


NOTHING = (200, {}, b"[]")
BUSY = (503, {}, b'{"type": "urn:edgegrain:problem:queue-full", "detail": "too many"}')


class TestErrors:
    @pytest.mark.parametrize(
        ("answers", "message", "attempts"),
        [
            pytest.param([BUSY, None, (502, {}, b"<html>"), NOTHING], None, 4, id="transient errors are retried"),
            pytest.param([BUSY], "status 503: too many", 4, id="attempts are bounded"),
            pytest.param([(503, {"Retry-After": "3600"}, BUSY[2])], "status 503: too many", 1, id="a long pause"),
            *(
                pytest.param([(status, {}, body)], f"status {status}: .*edgegrain service", 1, id=f"status {status}")
                for status, body in ((400, b"no JSON"), (401, b"[]"), (404, b'{"type": 3}'), (413, b""), (500, b"{}"))
            ),
            *(
                pytest.param([(200, {}, body)], "not a list of bundles; is this an edgegrain", 1, id=f"{body!r}")
                for body in (b"nonsense", b"[3]", b'[{"id": "x"}]')
            ),
        ],
    )
    def test_answers(self, answers: list[Answer | None], message: str | None, attempts: int) -> None:
        script = Script(*answers)
        with script as url, sdk.connect(url, retries=QUICK) as remote:
            if message is None:
                assert remote.bundles() == []
            else:
                with pytest.raises(sdk.ServiceError, match=message):
                    remote.bundles()
        assert len(script.moments) == attempts

    def test_retry_after_is_respected(self) -> None:
        script = Script((429, {"Retry-After": "1"}, b"{}"), (503, {"Retry-After": "soon"}, b"{}"), NOTHING)
        with script as url, sdk.connect(url, retries=QUICK) as remote:
            assert remote.bundles() == []
        assert script.moments[1] - script.moments[0] >= 1 > script.moments[2] - script.moments[1]

    def test_no_service_at_the_address(self) -> None:
        with Script(NOTHING) as url:
            pass
        with sdk.connect(url, retries=2) as remote, pytest.raises(sdk.ServiceError, match=f"{url} cannot be reached"):
            remote.bundles()

    def test_a_silent_service_is_given_up(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            start = time.monotonic()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with sdk.connect(url, timeout=0.1, retries=1) as remote, pytest.raises(sdk.ServiceError, match="timed out"):
                remote.bundles()
            assert time.monotonic() - start < 5

    def test_answers_of_another_service(self) -> None:
        with Script((200, {}, b"<!doctype html>")) as url, sdk.connect(url) as remote:
            asks = {"a payload": remote.compress, "a scene": remote.compress_scene, "a list of": remote.compress_faces}
            for answer, ask in asks.items():
                with pytest.raises(sdk.ServiceError, match=f"is not {answer}.*is this an edgegrain service"):
                    ask(b"a picture")

    @pytest.mark.parametrize("body", [b"nonsense", encoded(picture(), "JPEG"), encoded(picture())[:-400], b""])
    def test_an_answer_that_is_no_picture(self, bundle: Path, body: bytes) -> None:
        payload = sdk.Codec(bundle).compress(picture())
        with Script((200, {}, body)) as url, pytest.raises(sdk.ServiceError, match="is not a picture"):
            sdk.connect(url).restore(payload)

    def test_an_error_ends_a_batch(self, bundle: Path) -> None:
        payload = sdk.Codec(bundle).compress(picture())
        script = Script((200, {}, encoded(picture())), (400, {}, b"{}"))
        with script as url, pytest.raises(sdk.ServiceError, match="^payload 1: "):
            sdk.connect(url, concurrency=1).restore_batch([payload] * 50)
        assert len(script.moments) < 50


def test_connections_are_reused_but_not_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    script, parent = Script(NOTHING), os.getpid()
    with script as url, sdk.connect(url) as remote:
        for process, connections in ((parent, 1), (parent, 1), (parent + 1, 2), (parent + 1, 2)):
            monkeypatch.setattr(os, "getpid", lambda process=process: process)
            remote.bundles()
            assert len(script.connections) == connections


def test_pauses_grow_up_to_a_limit() -> None:
    retries = sdk.Retries(attempts=10, first_pause=1, longest_pause=4, patience=1000)
    for attempt, most in ((1, 1), (2, 2), (3, 4), (4, 4), (9, 4)):
        pauses = [retries.pause(attempt, 0, None) for _ in range(50)]
        assert all(pause is not None and most / 2 <= pause <= most for pause in pauses)
        assert len(set(pauses)) > 1  # clients do not come back together
    assert retries.pause(10, 0, None) is None


def test_pauses_are_as_long_as_asked_for_within_the_patience() -> None:
    """Patience is for all pauses together."""
    retries = sdk.Retries(first_pause=0.5)
    assert all(7 <= (retries.pause(1, 0, 7) or 0) <= 7.5 for _ in range(50))
    retries = sdk.Retries(patience=10)
    assert retries.pause(1, 0, 9) is not None
    assert retries.pause(2, 9, 2) is retries.pause(1, 0, 3600) is None


ADDRESSES = (
    "host:8000 ftp://host http:// http://host?x=1 http://[::1 http://host:abc http://host#x http://user:s3cret@host "
    "http://s3cret@host:8000/x"
).split()


@pytest.mark.parametrize("url", [*ADDRESSES, "", "http://ho\nst"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(sdk.ServiceError, match="is not the address of a service, expected|no way to") as caught:
        sdk.connect(url)
    assert "s3cret" not in str(caught.value)


def test_addresses_lose_their_last_slash() -> None:
    assert sdk.connect("https://[::1]:8443/edgegrain/").url == "https://[::1]:8443/edgegrain"


@pytest.mark.parametrize("token", ["", "swordfish\n", "é-swordfish", "my swordfish"])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(sdk.ServiceError, match="expected printable ASCII without spaces") as caught:
        sdk.connect_async("http://host", token=token)
    assert "swordfish" not in str(caught.value)


def test_without_httpx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(sdk.ServiceError, match=r"pip install 'edgegrain\[remote\]'"):
        sdk.connect("http://host")


def test_unusable_proxies_and_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed
    for variable, value, found in (
        ("ALL_PROXY", "socks5://localhost:1080", "SOCKS proxy"),
        ("ALL_PROXY", "gopher://localhost:70", "Unknown scheme"),
        ("SSL_CERT_FILE", "/nowhere/certificates.pem", "No such file"),
    ):
        with monkeypatch.context() as environment:
            environment.setenv(variable, value)
            with pytest.raises(sdk.ServiceError, match=f"proxies and certificates of the environment: .*{found}"):
                sdk.connect("http://localhost:1")
