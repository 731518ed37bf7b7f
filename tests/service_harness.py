"""A service for tests: the real application under uvicorn in a thread, on tiny bundles or with a stub for a worker."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn

from codec_contract.bundle.manifest import load_manifest
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import CODING_RAW, encode_payload
from edgegrain.service.application import create_app
from edgegrain.service.service_state import ServiceState
from edgegrain.service.settings import Settings
from edgegrain.service.uvicorn_server import listen, uvicorn_config
from edgegrain.service.worker_protocol import COMMAND

PAYLOAD = {"Content-Type": "application/vnd.edgegrain"}
SOON = 120.0
"""Timeout in seconds, for operations that take one second on an idle machine."""


def get(url: str, **options: Any) -> httpx.Response:
    """`httpx.get` without certificates, which take longer to load than the request."""
    return httpx.get(url, verify=False, timeout=SOON, **options)


def post(url: str, content: bytes, **options: Any) -> httpx.Response:
    """Post a payload; as `get`."""
    return httpx.post(url, content=content, verify=False, timeout=SOON, **{"headers": PAYLOAD, **options})


@dataclass(frozen=True)
class LiveService:
    """A running service: its address and its insides."""

    url: str
    state: ServiceState

    def restore(self, payload: bytes, **options: Any) -> httpx.Response:
        return post(f"{self.url}/v1/restore", payload, **options)


@contextmanager
def live_service(
    *folders: Path, worker_command: Sequence[str] = COMMAND, wait: bool = True, **settings: Any
) -> Iterator[LiveService]:
    """Serve bundles until the block ends; ready at its start, unless ``wait`` is false."""
    settings = {"threads": 1, "drain_timeout": 1, "spare_workers": 0, **settings}
    app = create_app(Settings(bundles=tuple(map(str, folders)), **settings), worker_command)
    state: ServiceState = app.state.service
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        if wait:
            until(lambda: state.supervisor.ready)
        yield LiveService(f"http://127.0.0.1:{listener.getsockname()[1]}", state)
    finally:
        server.should_exit = True
        thread.join(SOON)


def until(condition: Any) -> None:
    """Wait for a condition; it must come true."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def stub_worker(*, fixed: float = 0.0, item: float = 0.0, compress: float = 0.0, start: float = 0.0) -> list[str]:
    """The command of a worker that sleeps and returns every payload; see `tests/stub_worker.py`."""
    times = map(str, (fixed, item, compress, start))
    return [sys.executable, str(Path(__file__).with_name("stub_worker.py")), *times]


def raw_payloads(folder: Path, count: int, seed: int = 0, size: tuple[int, int] | None = None) -> list[bytes]:
    """Distinct valid payloads of a bundle, with raw bodies, which take no time to decode."""
    manifest = load_manifest(folder)
    lrs = np.random.default_rng(seed).integers(0, 256, (count, manifest.lr, manifest.lr, 3), dtype=np.uint8)
    return [encode_payload(
        lr, contract_id=manifest.lr_contract_id, tables=CoderTables.default(),
        original_size=size or (manifest.hr, manifest.hr), coding=CODING_RAW) for lr in lrs]
