"""``edgegrain serve --ray`` as a process: two replicas give the results of one codec, and shut down gracefully."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import sdk
from tests.process_tree import descendants, listening_addresses
from tests.service_harness import PAYLOAD, SOON, raw_payloads, until
from tests.tiny_bundle import write_tiny_bundle

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray: pip install 'edgegrain[ray]'"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")]

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0
"""Longest wait for Ray's start, which takes ten seconds on an idle machine."""


@dataclass
class Served:
    """A running `edgegrain serve --ray`."""

    process: subprocess.Popen[str]
    folder: Path
    lines: list[str] = field(default_factory=list)

    def event(self, name: str) -> dict[str, object] | None:
        """The first line of the log about an event."""
        for line in self.lines:
            if f'"event": "{name}"' in line:
                return dict(json.loads(line[line.index("{"):]))
        return None

    def read_log(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    @property
    def url(self) -> str:
        event = self.event("listening")
        assert event is not None
        return str(event["url"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = write_tiny_bundle(tmp_path_factory.mktemp("bundle"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEGRAIN_SERVE_DRAIN_DELAY": "3",
                   "EDGEGRAIN_SERVE_BATCH_WAIT": "0.02"}
    process = subprocess.Popen(
        [sys.executable, "-m", "edgegrain.cli.main", "serve", "--ray", "--ray-replicas", "2", "--ray-cpus", "0.5",
         "--bundle", str(folder), "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment)
    served = Served(process, folder)
    reader = threading.Thread(target=served.read_log, daemon=True)
    reader.start()
    try:
        end = time.monotonic() + START_SECONDS
        while served.event("listening") is None and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        log = "".join(served.lines)
        if "Ray did not start" in log:
            pytest.skip(f"this machine is too busy for Ray: {log}")
        assert served.event("listening"), log
        yield served
    finally:
        process.terminate()
        try:
            process.wait(SOON)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=SOON, verify=False) as client:
        yield client


def restore(client: httpx.Client, payload: bytes) -> httpx.Response:
    return client.post("/v1/restore", content=payload, headers=PAYLOAD)


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def restored_by(client: httpx.Client) -> dict[str, float]:
    """Replica -> pictures restored, by the metrics."""
    sample = r'edgegrain_requests_total{method="POST",replica="(\w+)",route="/v1/restore",status="200"} (\S+)'
    return {replica: float(count) for replica, count in re.findall(sample, client.get("/metrics").text)}


def test_two_replicas_give_what_one_codec_gives(served: Served, client: httpx.Client) -> None:
    assert client.get("/health/ready").json()["status"] == "ready"
    payloads = raw_payloads(served.folder, 60)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda payload: restore(client, payload), payloads))
    codec = sdk.Codec(served.folder)
    for payload, answer in zip(payloads, answers, strict=True):
        assert answer.status_code == 200
        assert np.array_equal(pixels(answer.content), np.asarray(codec.restore(payload)))
    by_replica = restored_by(client)
    assert len(by_replica) == 2 and min(by_replica.values()) > 0 and sum(by_replica.values()) == 60


def test_problems_and_headers_are_the_same_as_without_ray(client: httpx.Client) -> None:
    answer = restore(client, b"no payload")
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert problem["type"] == "urn:edgegrain:problem:invalid-payload"
    assert [f"urn:uuid:{value}" for value in answer.headers.get_list("x-request-id")] == [problem["instance"]]
    assert client.post("/v1/restore", content=b"x" * ((1 << 20) + 1), headers=PAYLOAD).status_code == 413
    assert client.get("/nowhere").json()["type"] == "urn:edgegrain:problem:not-found"
    assert [bundle["id"] for bundle in client.get("/v1/bundles").json()] == ["tiny-64-lr16"]


def test_it_is_reachable_from_this_machine_only(served: Served) -> None:
    addresses = listening_addresses([served.process.pid, *descendants(served.process.pid)])
    assert int(served.url.rpartition(":")[2]) in {port for _, port in addresses}
    assert {address for address, _ in addresses} == {"127.0.0.1"}


def test_sigterm_loses_nothing(served: Served, client: httpx.Client) -> None:
    processes = descendants(served.process.pid)
    payloads = iter(raw_payloads(served.folder, 4000, seed=1))
    asked = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=served.url, timeout=SOON, verify=False) as own:
            for payload in payloads_of_one():
                statuses.append(restore(own, payload).status_code)

    def payloads_of_one() -> Iterator[bytes]:
        while not asked.is_set():
            with lock:
                yield next(payloads)

    lock = threading.Lock()
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(ask) for _ in range(4)]
        until(lambda: len(statuses) > 20)
        served.process.send_signal(signal.SIGTERM)
        until(lambda: client.get("/health/ready").status_code == 503)  # and still it serves, for the drain delay
        before = len(statuses)
        until(lambda: len(statuses) > before)
        asked.set()
        for future in futures:
            future.result()
    assert set(statuses) == {200}
    assert served.process.wait(SOON) == 0
    assert served.event("draining") and served.event("stopped")
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
