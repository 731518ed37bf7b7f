"""The HTTP interface on a tiny bundle, through a real socket."""

import io
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

import sdk
from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import BundleError, DeviceError
from edgegrain.service.app import create_app
from edgegrain.service.observability import configure_logs
from edgegrain.service.settings import Settings
from sdk.generated_mark import mark_of
from tests import service_harness as harness
from tests.pictures import chunk, encoded
from tests.service_harness import PAYLOAD, POST, SOON, assert_problem, connected, get, post, raw_payloads, stubbed
from tests.tiny_bundle import LR, refresh_manifest, write_tiny_bundle

BUNDLE = "tiny-64-lr16"
TOKENS = ["a-token-of-the-tests", "another-token-of-them"]
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def payload(tiny_bundle: Path) -> bytes:
    return raw_payloads(tiny_bundle, 1, size=(90, 70))[0]


class TestRestore:
    @pytest.mark.parametrize(
        ("accept", "kind"),
        [("*/*", "PNG"), ("image/png", "PNG"), ("text/html, image/webp;q=0.5, */*", "WEBP"), ("IMAGE/jpeg", "JPEG")],
    )
    def test_formats(self, client: httpx.Client, tiny_bundle: Path, payload: bytes, accept: str, kind: str) -> None:
        answer = client.post("/v1/restore", content=payload, headers={**PAYLOAD, "Accept": accept})
        assert answer.status_code == 200 and answer.headers["content-type"] == f"image/{kind.lower()}"
        assert answer.headers["x-edgegrain-bundle"] == BUNDLE and answer.headers["cache-control"] == "no-store"
        assert "decode;dur=" in answer.headers["server-timing"]
        with Image.open(io.BytesIO(answer.content)) as image:
            assert (image.format, image.size) == (kind, (90, 70))
        assert sdk.read_mark(answer.content) == mark_of(load_manifest(tiny_bundle))

    def test_damaged(self, client: httpx.Client, payload: bytes) -> None:
        for data in (payload[:-1], b"x" * 40, bytes(20)):
            assert_problem(client.post("/v1/restore", content=data, headers=PAYLOAD), 422, "invalid-payload")

    def test_bombs(self, client: httpx.Client, tiny_bundle: Path) -> None:
        (bomb,) = raw_payloads(tiny_bundle, 1, size=(16384, 16384))
        problem = assert_problem(client.post("/v1/restore", content=bomb, headers=PAYLOAD), 422, "invalid-picture")
        assert "16384 x 16384 pixels, more than 1048576; " in problem["detail"]
        assert client.post("/v1/restore?size=native", content=bomb, headers=PAYLOAD).status_code == 200

    def test_too_large(self, tiny_service: harness.LiveService) -> None:
        with connected(tiny_service.url, POST + b"Content-Length: 1048577\r\n\r\n") as (_, stream):  # refused unread
            assert stream.readline().startswith(b"HTTP/1.1 413 ")

    def test_headers(self, client: httpx.Client, payload: bytes) -> None:
        def ask(content: bytes = payload, **headers: str) -> httpx.Response:
            return client.post("/v1/restore", content=content, headers={**PAYLOAD, **headers})

        assert_problem(ask(Accept="text/html"), 406, "not-acceptable")
        answer = ask(**{"Content-Type": "application/x-www-form-urlencoded"})
        assert_problem(answer, 415, "unsupported-media-type")
        accepted = "application/vnd.edgegrain, application/octet-stream, text/plain, application/json"
        assert answer.headers["accept-post"] == accepted
        assert_problem(ask(b""), 400, "bad-request")
        assert_problem(ask(**{"Content-Encoding": "gzip"}), 415, "unsupported-media-type")


def test_the_text_of_a_payload(client: httpx.Client, payload: bytes) -> None:
    url, text, plain = "/v1/restore", sdk.Payload(payload).text(), {"Content-Type": "text/plain; charset=utf-8"}
    expected = client.post(url, content=payload, headers=PAYLOAD).content
    assert client.post(url, content=f"{text}\n", headers=plain).content == expected
    assert client.post(url, content=sdk.Payload(payload).text("base45"), headers=plain).content == expected
    assert client.post(url, json={"payload": text}).content == expected
    assert_problem(client.post(url, content=text[:40], headers=plain), 422, "invalid-payload")
    for wrong in ({"payload": 3}, {"payload": text, "size": 512}, [["payload", text]]):
        assert_problem(client.post(url, json=wrong), 400, "bad-request")
    for body in (b"{", b"[1]", b'"7W4Q"', b"{}", b"\xff", b"[" * 100_000):
        answer = client.post(url, content=body, headers={"Content-Type": "application/json"})
        assert_problem(answer, 400, "bad-request")


def test_text_in_a_form(client: httpx.Client, payload: bytes) -> None:
    text = sdk.Payload(payload).text()
    files = [
        ("payload", (None, text)),
        ("payload", ("me.txt", text, "text/plain; charset=utf-8")),
        ("payload", (None, f"\ufeff{text}")),
        ("payload", ("me.grain", payload)),
        ("payload", (None, payload)),
        ("payload", (None, text[:40])),
    ]
    parts = client.post("/v1/restore/batch", files=files[:5]).content.split(b"Content-ID: ")
    expected = client.post("/v1/restore", content=payload, headers=PAYLOAD).content
    assert len(parts) == 6 and all(expected in part for part in parts[1:])
    refused = client.post("/v1/restore/batch", files=files[5:])
    assert refused.status_code == 200 and "invalid-payload" in refused.text


def test_batch(client: httpx.Client, tiny_bundle: Path) -> None:
    payloads = raw_payloads(tiny_bundle, 3)
    files = [("payload", ("a.grain", data)) for data in (payloads[0], payloads[1][:-1], payloads[2])]
    answer = client.post("/v1/restore/batch", files=files)
    kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
    assert answer.status_code == 200 and kind == "multipart/mixed"
    parts = answer.content.split(b"--" + boundary.encode())
    assert parts[0] == b"" and parts[-1] == b"--\r\n"
    for index, part in enumerate(parts[1:-1]):
        head, _, data = part.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
        assert f"Content-ID: <{index}>\r\n".encode() in head and f"Content-Length: {len(data)}".encode() in head
        if index == 1:
            assert b"Content-Type: application/problem+json" in head and b"invalid-payload" in data
        else:
            single = client.post("/v1/restore", content=payloads[index], headers=PAYLOAD).content
            assert b"Content-Type: image/png" in head and data == single
    assert_problem(client.post("/v1/restore/batch?bundle=cats", files=files), 404, "unknown-bundle")


def test_what_can_never_be_accepted_is_too_large(tiny_bundle: Path, payload: bytes) -> None:
    with (
        stubbed(tiny_bundle, queue_size=2, max_bytes_in_flight=1 << 20) as service,
        httpx.Client(base_url=service.url, timeout=SOON) as client,
    ):
        files = [("payload", (str(index), payload)) for index in range(3)]
        assert_problem(client.post("/v1/restore/batch", files=files), 413, "too-large")
        assert client.post("/v1/restore/batch", files=files[:2]).status_code == 200
        answer = client.post("/v1/compress", content=bytes((1 << 20) + 1), headers=PNG)
        assert_problem(answer, 413, "too-large")


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/v1/restore?size=big", 422, "invalid-parameter"),
        ("POST", "/v1/restore?strength=1", 422, "invalid-parameter"),
        ("POST", "/v1/restore?quality=0", 422, "invalid-parameter"),
        ("POST", "/v1/restore?bundle=cats", 404, "unknown-bundle"),
        ("POST", "/v1/restore?bundle=", 404, "unknown-bundle"),
        ("POST", "/v1/restore/", 404, "not-found"),
        ("DELETE", "/v1/restore", 405, "method-not-allowed"),
        ("GET", "/v2", 404, "not-found"),
        ("GET", "/v1/bundles/cats/encoder.onnx", 404, "unknown-bundle"),
        ("GET", f"/v1/bundles/{BUNDLE}/encoder.tflite", 404, "not-found"),
        ("GET", f"/v1/bundles/{BUNDLE}/decoder.onnx", 422, "invalid-parameter"),
        ("GET", "/v1/bundles/..%2f..%2fetc/encoder.onnx", 404, "not-found"),
    ],
)
def test_what_there_is_not(
    client: httpx.Client, payload: bytes, method: str, path: str, status: int, kind: str
) -> None:
    answer = client.request(method, path, content=payload if method == "POST" else None, headers=PAYLOAD)
    assert_problem(answer, status, kind)
    assert method != "DELETE" or answer.headers["allow"] == "POST"


class TestCompress:
    def test_equals_the_sdk(self, client: httpx.Client, tiny_bundle: Path) -> None:
        rgba = np.random.default_rng(0).integers(0, 256, (30, 50, 4), dtype=np.uint8)
        answer = client.post("/v1/compress?fit=crop&background=010203", content=encoded(rgba), headers=PNG)
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/vnd.edgegrain"
        assert answer.content == sdk.Codec(tiny_bundle).compress(rgba, "crop", background=(1, 2, 3))

    @pytest.mark.parametrize(
        ("kind", "status"), [("JPEG", 200), ("WEBP", 200), ("AVIF", 422), ("GIF", 422), ("TIFF", 422)]
    )
    def test_formats(self, client: httpx.Client, kind: str, status: int) -> None:
        picture = encoded(Image.new("RGB", (64, 64), (9, 8, 7)), kind)
        answer = client.post("/v1/compress", content=picture, headers={"Content-Type": "image/any"})
        assert answer.status_code == status
        assert ("readable here: JPEG, PNG, WEBP" in answer.text) == (status == 422)

    def test_refusals(self, client: httpx.Client) -> None:
        large = encoded(np.zeros((1100, 1100), np.uint8))
        for data in (b"no picture", encoded(np.zeros((9, 9), np.uint8))[:40], large):
            problem = assert_problem(client.post("/v1/compress", content=data, headers=PNG), 422, "invalid-picture")
        assert "claims 1100 x 1100 pixels, more than 1048576; reduce it first" in problem["detail"]
        assert_problem(client.post("/v1/compress", content=bytes(1 << 17), headers=PNG), 413, "too-large")
        answer = client.post("/v1/compress", content=b"x", headers={"Content-Type": "text/plain"})
        assert_problem(answer, 415, "unsupported-media-type")
        answer = client.post("/v1/compress?background=%23ffffff", content=b"x", headers=PNG)
        assert_problem(answer, 422, "invalid-parameter")

    def test_a_picture_that_takes_too_long(self, tiny_bundle: Path) -> None:
        png = encoded(np.zeros((64, 64), np.uint8))
        slow = png[:33] + 1_000_000 * chunk(b"tEXt") + png[33:]  # Pillow takes about 8 s
        with harness.live_service(tiny_bundle, worker_timeout=1, deadline=SOON) as service:
            start = time.perf_counter()
            answer = post(f"{service.url}/v1/compress", slow, headers=PNG)
            assert time.perf_counter() - start < 4
            assert_problem(answer, 503, "worker-lost")
            harness.until(lambda: get(f"{service.url}/health/ready").status_code == 200)
            assert post(f"{service.url}/v1/compress", png, headers=PNG).status_code == 200


class TestBundles:
    def test_catalogue_and_files(self, client: httpx.Client, tiny_bundle: Path) -> None:
        (bundle,) = client.get("/v1/bundles").json()
        manifest = load_manifest(tiny_bundle)
        assert (bundle["id"], bundle["lr"], bundle["lr_contract_id"]) == (BUNDLE, LR, manifest.lr_contract_id.hex())
        assert bundle["step"] == 1
        assert bundle["preprocessing"]["resize"] == "pillow-bilinear-22bit-width-first"
        files = [*bundle["encoders"], *bundle["contract"]]
        assert [file["name"] for file in files] == ["encoder.onnx", "coder.json", "golden.json"]
        for file in files:
            answer = client.get(file["url"])
            assert answer.content == (tiny_bundle / file["name"]).read_bytes() and len(answer.content) == file["size"]
            assert answer.headers["etag"] == f'"{file["sha256"]}"'
            assert answer.headers["cache-control"] == "public, no-cache"
        assert answer.headers["content-type"] == "application/json"

        assert client.get(file["url"], headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


class TestAround:
    def test_health(self, client: httpx.Client) -> None:
        for path, expected in (("/health/live", {"status": "alive"}), ("/health/ready", {"status": "ready"})):
            head, answer = client.head(path), client.get(path, headers={"Origin": "https://example.org"})
            assert answer.json() == expected and "access-control-allow-origin" not in answer.headers
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == answer.headers["content-length"]

    def test_documentation(self, client: httpx.Client) -> None:
        assert "/v1/restore/batch" in client.get("/openapi.json").json()["paths"]
        assert client.get("/docs").status_code == 404  # its scripts are another origin's

    def test_metrics(self, client: httpx.Client, payload: bytes) -> None:
        client.post("/v1/restore", content=payload, headers=PAYLOAD)
        client.post("/v1/restore", content=b"bad", headers=PAYLOAD)
        client.get("/never/heard/of")
        text = client.get("/metrics").text
        for line in (
            'edgegrain_requests_total{method="POST",route="/v1/restore",status="200"}',
            'edgegrain_requests_total{method="GET",route="unmatched",status="404"}',
            'edgegrain_request_seconds_bucket{le="0.005",route="/v1/restore"}',
            'edgegrain_stage_seconds_count{stage="queue",verb="restore"}',
            'edgegrain_stage_seconds_count{stage="decode",verb="restore"}',
            'edgegrain_batch_size_count{verb="restore"}',
            'edgegrain_errors_total{kind="invalid-payload"}',
            'edgegrain_queue_depth{verb="restore"} 0.0',
            'edgegrain_queue_depth{verb="compress"} 0.0',
            'edgegrain_expected_seconds{verb="restore"}',
            "edgegrain_workers_ready 1.0",
            "edgegrain_ready 1.0",
            'edgegrain_errors_total{kind="internal"} 0.0',
        ):
            assert f"\n{line}" in text, line


class TestLimits:
    def test_full_queue_answers_at_once(self, tiny_bundle: Path) -> None:
        payloads = raw_payloads(tiny_bundle, 5)
        with (
            stubbed(tiny_bundle, fixed=3, queue_size=2, batch_sizes="1,4", deadline=SOON) as service,
            ThreadPoolExecutor(4) as pool,
        ):
            first = pool.submit(service.restore, payloads[0])
            harness.until(lambda: service.state.batcher._running)
            others = [pool.submit(service.restore, data) for data in payloads[1:3]]
            harness.until(lambda: len(service.state.batcher) == 2)
            with httpx.Client(verify=False) as client:
                client.get(f"{service.url}/health/live")  # connects
                durations = []
                for _ in range(10):
                    start = time.perf_counter()
                    answer = client.post(f"{service.url}/v1/restore", content=payloads[4], headers=PAYLOAD)
                    durations.append(time.perf_counter() - start)
                    assert_problem(answer, 503, "queue-full")
                    assert 1 <= int(answer.headers["retry-after"]) <= 60
                # Refusing comes before everything but the token, and is counted where it belongs.
                assert_problem(client.post(f"{service.url}/v1/restore?size=big"), 503, "queue-full")
                assert client.get(f"{service.url}/v1/restore").status_code == 405
                counted = 'edgegrain_requests_total{method="POST",route="/v1/restore",status="503"} 11.0'
                assert counted in client.get(f"{service.url}/metrics").text
            # The bar is 50 ms; the quickest of ten, because a busy machine delays any of them.
            assert min(durations) < 0.05
            assert [job.result().status_code for job in (first, *others)] == [200] * 3

    def test_deadline(self, tiny_bundle: Path) -> None:
        with stubbed(tiny_bundle, fixed=1.0, deadline=0.3) as service:
            start = time.perf_counter()
            answer = service.restore(raw_payloads(tiny_bundle, 1)[0])
            assert time.perf_counter() - start < 0.9
            assert_problem(answer, 503, "deadline-exceeded")
            assert "retry-after" in answer.headers and len(service.state.batcher) == 0

    def test_who_leaves_is_forgotten(self, tiny_bundle: Path) -> None:
        payloads = raw_payloads(tiny_bundle, 2)
        with (
            stubbed(tiny_bundle, fixed=1.5, batch_sizes="1,4", deadline=SOON) as service,
            ThreadPoolExecutor(1) as pool,
        ):
            first = pool.submit(service.restore, payloads[0])
            harness.until(lambda: service.state.batcher._running)
            with connected(service.url, POST + b"Content-Length: %d\r\n\r\n%b" % (len(payloads[1]), payloads[1])):
                harness.until(lambda: len(service.state.batcher) == 1)
            harness.until(lambda: len(service.state.batcher) == 0)
            assert not first.done() and first.result().status_code == 200

    def test_who_leaves_while_sending(self, tiny_service: harness.LiveService) -> None:
        errors = tiny_service.state.metrics.errors.labels("bad-request")._value
        before = errors.get()
        with connected(tiny_service.url, POST + b"Content-Length: 1000\r\n\r\nabc"):
            harness.until(lambda: tiny_service.state.bodies.used == 3)
        harness.until(lambda: tiny_service.state.bodies.used == 0)
        assert errors.get() == before + 1

    def test_slow_body(self, tiny_bundle: Path) -> None:
        with stubbed(tiny_bundle, body_timeout=0.1) as service:
            with connected(service.url, POST + b"Content-Length: 1000\r\n\r\nabc") as (_, stream):
                assert stream.readline().startswith(b"HTTP/1.1 408 ")

    def test_a_defect_is_500_without_its_details(self, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with stubbed(tiny_bundle, cors_origins=("https://a.example",)) as service:
            monkeypatch.setattr(service.state.batcher, "submit", lambda jobs: 1 / 0)
            (payload,), headers = raw_payloads(tiny_bundle, 1), {**PAYLOAD, "Origin": "https://a.example"}
            answer = post(f"{service.url}/v1/restore", payload, headers=headers)
            assert_problem(answer, 500, "internal")
            assert answer.headers["access-control-allow-origin"] == "https://a.example"
            assert "division" not in answer.text and get(f"{service.url}/health/ready").status_code == 200

    def test_not_ready_before_the_worker_is_warm(self, tiny_bundle: Path) -> None:
        with harness.live_service(tiny_bundle, worker_command=["sleep", "60"], wait=False) as service:
            answer = get(f"{service.url}/health/ready")
            assert_problem(answer, 503, "starting")
            assert 1 <= int(answer.headers["retry-after"]) < SOON
            assert_problem(service.restore(raw_payloads(tiny_bundle, 1)[0]), 503, "starting")
            assert get(f"{service.url}/health/live").status_code == 200
            service.state.draining = True
            assert_problem(get(f"{service.url}/health/ready"), 503, "draining")


def test_tokens(tiny_bundle: Path) -> None:
    (payload,) = raw_payloads(tiny_bundle, 1)
    bearer = {"Authorization": f"Bearer {TOKENS[0]}"}
    with stubbed(tiny_bundle, tokens=",".join(TOKENS), docs=True) as service:
        for path in ("/v1/bundles", "/metrics", "/v1/bundles/x/encoder.onnx"):
            answer = get(service.url + path)
            assert_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert_problem(service.restore(payload), 401, "unauthorized")
        assert get(f"{service.url}/health/ready").status_code == 200
        assert get(f"{service.url}/docs").status_code == 200
        assert get(f"{service.url}/metrics", headers=bearer).status_code == 200
        for header, status in (
            (f"bearer {TOKENS[1]}", 200),
            (f"Basic {TOKENS[0]}", 401),
            (f"{TOKENS[0]}", 401),
            (f"Bearer {TOKENS[0]}x", 401),
            (f"Bearer {TOKENS[0]} {TOKENS[1]}", 401),
        ):
            answer = service.restore(payload, headers={**PAYLOAD, "Authorization": header})
            assert answer.status_code == status and TOKENS[0] not in answer.text


def test_cors(tiny_bundle: Path) -> None:
    origin = {"Origin": "https://example.org"}
    bearer = {**origin, "Authorization": f"Bearer {TOKENS[0]}"}
    limits = {"tokens": TOKENS[0], "cors_origins": "https://example.org", "max_picture_bytes": 100}
    with stubbed(tiny_bundle, **limits) as service:

        def ask(method: str, path: str, **options: Any) -> httpx.Response:
            return httpx.request(method, service.url + path, verify=False, timeout=SOON, **options)

        assert ask("GET", "/v1/bundles", headers=bearer).headers["access-control-allow-origin"] == "https://example.org"
        other = ask("GET", "/v1/bundles", headers={**bearer, "Origin": "https://example.com"})
        assert "access-control-allow-origin" not in other.headers
        preflight = {**origin, "Access-Control-Request-Method": "POST"}
        asked = "authorization, content-type, traceparent"
        answer = ask("OPTIONS", "/v1/restore", headers={**preflight, "Access-Control-Request-Headers": asked})
        assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (200, asked)
        jpeg = {**bearer, "Content-Type": "image/jpeg"}
        refusals = [
            (401, ask("GET", "/v1/bundles", headers=origin)),
            (404, ask("GET", "/v2", headers=origin)),
            (405, ask("DELETE", "/v1/restore", headers=origin)),
            (413, ask("POST", "/v1/compress", headers=jpeg, content=bytes(101))),
            (415, ask("POST", "/v1/compress", headers=bearer, content=b"x")),
            (422, ask("POST", "/v1/restore?size=big", headers={**bearer, **PAYLOAD}, content=b"x")),
        ]
        service.state.draining = True
        refusals.append((503, ask("GET", "/health/ready", headers=origin)))
        for status, answer in refusals:
            assert answer.status_code == status, answer.text
            assert answer.headers["access-control-allow-origin"] == "https://example.org"
            assert answer.headers["access-control-expose-headers"] == "*" and "x-request-id" in answer.headers


@pytest.mark.parametrize(("level", "expected"), [("debug", {"detail", "event"}), ("info", {"event"}), ("error", set())])
def test_levels_of_logs(level: str, expected: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level)
    logging.getLogger("edgegrain.service.worker").debug("detail")
    logging.getLogger("sdk.codec").info("event")
    assert {json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()} == expected


def test_exif_data_is_never_logged(capsys: pytest.CaptureFixture[str]) -> None:
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"  # Artist
    configure_logs("debug")
    with Image.open(io.BytesIO(encoded(Image.new("RGB", (4, 4)), "JPEG", exif=exif))) as image:
        assert image.getexif()[0x013B] == "Jane Doe"
        ImageDraw.Draw(image)
    assert "Jane" not in capsys.readouterr().err


def test_contradictions_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    tiled = write_tiny_bundle(tmp_path, "tiled-64-lr16")
    refresh_manifest(tiled, preprocessing={"pad": "edge", "tile_overlap": 4})
    for bundle, device, message in (
        (tiled, "cpu", "tiled-64-lr16 takes photographs of any size, in tiles"),
        ("cats", "cpu", "no bundle 'cats'"),
        (tiny_bundle, "cuda", "CUDAExecutionProvider"),
    ):
        with pytest.raises(DeviceError if device == "cuda" else BundleError, match=message):
            create_app(Settings(bundles=(str(bundle),), device=device))
