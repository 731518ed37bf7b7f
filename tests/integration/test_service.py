"""The service as a process of its own: started, loaded, hurt and stopped as in production."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import sdk
from tests.programs import run
from tests.service_harness import PAYLOAD, SOON, get, pixels, post, raw_payloads, stub_worker, until
from tests.service_process import ROOT, SERVE, Process, running, serve_with
from tests.tiny_bundle import convolutional_decoder, write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle with a decoder that takes some milliseconds and depends on neighbouring pixels."""
    return write_tiny_bundle(tmp_path_factory.mktemp("served"), decoder=convolutional_decoder())


@pytest.fixture(scope="module")
def process(bundle: Path) -> Iterator[Process]:
    """A service of the tiny bundle that several tests use one after the other."""
    with running([*SERVE, "--bundle", str(bundle)], queue_size=1000, deadline=SOON) as process:
        yield process


def differ(data: bytes, picture: Image.Image) -> int:
    """The largest difference between a picture file and a picture."""
    return int(np.abs(pixels(data).astype(int) - np.asarray(picture)).max())


async def send_all(url: str, payloads: Sequence[bytes], connections: int) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=connections)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=SOON, verify=False, headers=PAYLOAD) as client:
        return await asyncio.gather(*(client.post("/v1/restore", content=payload) for payload in payloads))


def test_200_faces_at_once_come_back_each_as_its_own(process: Process, bundle: Path, portrait_path: Path) -> None:
    codec = sdk.Codec(bundle, threads=1)
    with Image.open(portrait_path) as image:
        face = image.convert("RGB").resize((148, 148))
    # The same face from 200 viewpoints: so like each other that a mix-up would not look wrong.
    faces = [face.crop((left, top, left + 128, top + 128)) for left in range(20) for top in range(0, 20, 2)]
    payloads = [bytes(payload) for payload in codec.compress_batch(faces)]
    assert len(set(payloads)) == 200
    answers = asyncio.run(send_all(process.url, payloads, 64))
    assert [answer.status_code for answer in answers] == [200] * 200
    for answer, restored in zip(answers, codec.restore_batch(payloads), strict=True):
        assert differ(answer.content, restored) <= 1
    assert len({answer.content for answer in answers}) == 200
    batches = process.metric("edgegrain_batch_size_count")
    assert process.metric("edgegrain_batch_size_sum") == 200 and batches < 100  # they did go in batches


def test_a_killed_worker_costs_its_requests_only(process: Process, bundle: Path) -> None:
    payloads = raw_payloads(bundle, 150, seed=1)
    (worker,) = process.workers
    before = process.metric("edgegrain_batch_size_sum")
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(asyncio.run, send_all(process.url, payloads, 50))
        until(lambda: sending.done() or process.metric("edgegrain_batch_size_sum") > before)
        os.kill(worker, signal.SIGKILL)
        answers = sending.result(SOON)
    codec = sdk.Codec(bundle, threads=1)
    for answer, payload in zip(answers, payloads, strict=True):
        if answer.status_code == 200:
            assert differ(answer.content, codec.restore(payload)) <= 1
        else:
            assert answer.status_code == 503 and 1 <= int(answer.headers["retry-after"]) < SOON
            assert answer.json()["type"] == "urn:edgegrain:problem:worker-lost"
    assert sum(answer.status_code == 503 for answer in answers) <= 8  # one batch
    until(lambda: len(process.events("worker ready")) == 2)
    assert differ(post(f"{process.url}/v1/restore", payloads[0]).content, codec.restore(payloads[0])) <= 1
    assert process.events("worker lost")[0]["exit_status"] == -signal.SIGKILL


def test_logs_are_json_and_hold_no_content(process: Process, bundle: Path) -> None:
    (payload,) = raw_payloads(bundle, 1, seed=2)
    answer = post(f"{process.url}/v1/restore?size=native", payload)
    request_id = answer.headers["x-request-id"]
    until(lambda: any(event["request_id"] == request_id for event in process.events("request")))
    (event,) = [event for event in process.events("request") if event["request_id"] == request_id]
    names = "time level logger event request_id method route status seconds problem"
    assert set(event) == set(names.split())
    assert (event["route"], event["status"]) == ("/v1/restore", 200)


def test_command_line_and_sdk(process: Process, bundle: Path, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "me.png")

    codec, edgegrain = sdk.Codec(bundle), [sys.executable, "-m", "edgegrain"]
    run([*edgegrain, "compress", "me.png", "--remote", process.url], tmp_path)
    payload = (tmp_path / "me.grain").read_bytes()
    assert payload == codec.compress(rgb)
    (row,) = json.loads(run([*edgegrain, "restore", "me.grain", "--json", "--remote", process.url], tmp_path))["done"]
    assert (row["width"], row["height"], row["device"]) == (90, 70, process.url)
    # Floats computed in another process, by another number of threads.
    assert differ((tmp_path / "me.restored.png").read_bytes(), codec.restore(payload)) <= 1


def test_sigterm_under_load_loses_nothing(bundle: Path) -> None:
    payloads = raw_payloads(bundle, 40)
    with (
        running(serve_with(stub_worker(fixed=0.3)), bundles=bundle, deadline=SOON, drain_delay=2) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        url = process.url
        sending = pool.submit(asyncio.run, send_all(url, payloads, 40))
        until(lambda: process.metric("edgegrain_requests_in_flight") >= 40)
        process.popen.send_signal(signal.SIGTERM)
        until(lambda: get(f"{url}/health/ready").status_code == 503)  # the flag first ...
        assert get(f"{url}/health/ready").json()["type"] == "urn:edgegrain:problem:draining"
        late = post(f"{url}/v1/restore", payloads[0])  # ... then the door
        answers = sending.result(SOON)
        assert process.popen.wait(SOON) == 0
    assert late.status_code == 200
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, payload) for payload in payloads]
    with pytest.raises(httpx.ConnectError):
        get(f"{url}/health/live")


def test_a_full_disk_does_not_matter(bundle: Path, portrait_path: Path) -> None:
    def write_nothing() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no file can take a byte; pipes can

    (payload,) = raw_payloads(bundle, 1)
    with running([*SERVE, "--bundle", str(bundle)], write_nothing) as process:
        assert post(f"{process.url}/v1/restore", payload).status_code == 200
        image = {"Content-Type": "image/jpeg"}
        assert post(f"{process.url}/v1/compress", portrait_path.read_bytes(), headers=image).status_code == 200
        form = httpx.Request("POST", "http://x", files={"payload": ("a.grain", bytes(2 << 20))})
        kind = {"Content-Type": form.headers["content-type"]}
        answer = post(f"{process.url}/v1/restore/batch", form.read(), headers=kind)
        assert answer.status_code == 413 and "part 0 has 2097152 bytes" in answer.json()["detail"]
        assert process.stop() == 0


def test_ctrl_c_ends_workers_too(bundle: Path) -> None:
    with running([*SERVE, "--bundle", str(bundle)], workers=2) as process:
        until(lambda: len(process.events("worker ready")) == 2)
        pids = process.workers
        process.popen.send_signal(signal.SIGINT)
        assert process.popen.wait(SOON) == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_workers_do_not_outlive_a_killed_service(bundle: Path) -> None:
    with running([*SERVE, "--bundle", str(bundle)]) as process:
        (pid,) = process.workers
        process.popen.kill()
        end = time.monotonic() + SOON
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[-1][:3]:
            assert time.monotonic() < end, "the worker is still there"
            time.sleep(0.05)


def test_refused_at_start(tmp_path: Path, bundle: Path) -> None:
    altered = write_tiny_bundle(tmp_path)
    (altered / "encoder.onnx").write_bytes(b"altered")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        for arguments, message in (
            (["--bundle", str(altered)], "encoder.onnx of bundle tiny-64-lr16 is altered"),
            (["--bundle", str(bundle), "--port", port], "Address already in use"),
        ):
            result = subprocess.run([*SERVE, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=SOON)
            assert result.returncode == 1 and result.stdout == ""
            assert result.stderr.startswith("error: ") and message in result.stderr and result.stderr.count("\n") == 1


def test_memory_is_flat(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    payloads = raw_payloads(bundle, 50, size=(128, 128))
    with running([*SERVE, "--bundle", str(bundle)], deadline=SOON) as process:
        resident: list[list[int]] = []  # pages of each process
        for _ in range(6):
            assert {answer.status_code for answer in asyncio.run(send_all(process.url, payloads, 16))} == {200}
            pids = process.popen.pid, *process.workers
            resident.append([int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids])
    for first, last in zip(resident[1], resident[-1], strict=True):  # over 200 requests
        assert (last - first) * resource.getpagesize() < 4 << 20  # a leaked picture each would be 9 MiB
