"""``examples/ray_serve.py`` as a process: two replicas answer with the pictures of one codec, and shut down."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import sdk
from edgegrain.service.app import free_port
from tests.process_tree import descendants
from tests.service_harness import get, post, raw_payloads, until
from tests.tiny_bundle import write_tiny_bundle

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray: pip install 'edgegrain[ray]'"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")]

ROOT = Path(__file__).resolve().parents[2]
REPLICA = r'ServeReplica\S+ pid=(\d+)\) .*"route": "/v1/restore", "status": 200'
"""A line of the log about a restored picture, with the process id of its replica."""
START_SECONDS = 300.0
"""Longest wait for Ray's start, which takes twenty seconds on an idle machine."""


def test_two_replicas_give_what_one_codec_gives(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    port = free_port("127.0.0.1", 0)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEGRAIN_SERVE_PORT": str(port),
                   "EDGEGRAIN_SERVE_BUNDLES": str(folder)}
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples/ray_serve.py"), "2"], stdout=file, stderr=file, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + START_SECONDS
        while not is_ready(url) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        if "Ray did not start" in log.read_text():
            pytest.skip(f"this machine is too busy for Ray: {log.read_text()}")
        assert is_ready(url), log.read_text()
        check_pictures(url, folder)
        answer = post(f"{url}/v1/restore", b"no payload")
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:edgegrain:problem:invalid-payload")
        (payload,) = raw_payloads(folder, 1)
        until(lambda: post(f"{url}/v1/restore", payload).status_code == 200  # the second replica may start later
              and len(set(re.findall(REPLICA, log.read_text()))) == 2)
        children = descendants(process.pid)
        process.terminate()
        assert process.wait(START_SECONDS) == 0, log.read_text()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    finally:
        process.kill()


def check_pictures(url: str, folder: Path) -> None:
    """The service answers with the codec's pictures."""
    payloads = raw_payloads(folder, 40)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda payload: post(f"{url}/v1/restore", payload), payloads))
    codec = sdk.Codec(folder)
    for payload, answer in zip(payloads, answers, strict=True):
        assert answer.status_code == 200
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert np.array_equal(np.asarray(picture.convert("RGB")), np.asarray(codec.restore(payload)))


def is_ready(url: str) -> bool:
    try:
        return get(f"{url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False
