"""A service for tests: the real application and server in a thread, on tiny bundles or with a stub for a worker."""

import asyncio
import io
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx
import numpy as np
from granian.server.embed import Server
from PIL import Image

from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import CODING_RAW, encode_payload
from edgegrain.service import workers
from edgegrain.service.app import create_app, free_port, http_server
from edgegrain.service.settings import Settings
from edgegrain.service.state import ServiceState

PAYLOAD = {"Content-Type": "application/vnd.edgegrain"}
POST = b"POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Type: application/vnd.edgegrain\r\n"
"""The beginning of the head of a request to restore."""
SOON = 120.0
"""Timeout in seconds, for operations that take one second on an idle machine."""


def get(url: str, **options: Any) -> httpx.Response:
    """`httpx.get` without certificates, which take longer to load than the request."""
    return httpx.get(url, verify=False, timeout=SOON, **options)


def post(url: str, content: bytes | Iterable[bytes], **options: Any) -> httpx.Response:
    """Post a payload; as `get`."""
    return httpx.post(url, content=content, verify=False, timeout=SOON, **{"headers": PAYLOAD, **options})


def assert_problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem of an answer, after looking at its form."""
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"urn:edgegrain:problem:{kind}"), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status and problem["title"] and problem["detail"]
    assert problem["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"
    return dict(problem)


@dataclass(frozen=True)
class LiveService:
    """A running service: its address and its insides."""

    url: str
    state: ServiceState

    def restore(self, payload: bytes, **options: Any) -> httpx.Response:
        return post(f"{self.url}/v1/restore", payload, **options)


@contextmanager
def connected(url: str, sent: bytes = b"") -> Iterator[tuple[socket.socket, IO[bytes]]]:
    """A connection to a service that has sent the beginning of a request, and its stream to read from."""
    parts = urlsplit(url)
    opened = socket.create_connection((parts.hostname, parts.port), timeout=SOON)
    with opened as connection, connection.makefile("rb") as stream:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(sent)
        yield connection, stream


@contextmanager
def live_service(
    *folders: Path, worker_command: Sequence[str] = workers.COMMAND, wait: bool = True, **settings: Any
) -> Iterator[LiveService]:
    """Serve bundles until the block ends; ready at its start, unless ``wait`` is false."""
    settings = {"threads": 1, "drain_timeout": 1, **settings}
    with patch.object(workers, "COMMAND", worker_command):
        app = create_app(Settings(bundles=tuple(map(str, folders)), **settings))
    state: ServiceState = app.state.service
    port = free_port("127.0.0.1", 0)
    loop = asyncio.new_event_loop()
    server: list[Server] = []

    async def serve() -> None:
        server.append(http_server(app, port))
        await server[0].serve()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        until(lambda: reachable(port))
        if wait:
            until(lambda: state.workers.pids)
        yield LiveService(f"http://127.0.0.1:{port}", state)
    finally:
        loop.call_soon_threadsafe(server[0].stop)
        thread.join(SOON)
        loop.close()


def stubbed(*folders: Path, fixed: float = 0.0, **settings: Any) -> AbstractContextManager[LiveService]:
    """A `live_service` whose worker takes ``fixed`` seconds for a batch and returns its input."""
    return live_service(*folders, worker_command=stub_worker(fixed=fixed), **settings)


def reachable(port: int) -> bool:
    """True once a server listens on a local port."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


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


def raw_payload(manifest: Manifest, lr: np.ndarray, size: tuple[int, int], **options: Any) -> bytes:
    """The payload of an LR, with a raw body, which takes no time to decode."""
    usual = {"contract_id": manifest.lr_contract_id, "tables": CoderTables.default(), "coding": CODING_RAW}
    return encode_payload(lr, **{**usual, "original_size": size, **options})


def raw_payloads(folder: Path, count: int, seed: int = 0, size: tuple[int, int] | None = None) -> list[bytes]:
    """Distinct valid payloads of a bundle."""
    manifest = load_manifest(folder)
    lrs = np.random.default_rng(seed).integers(0, 256, (count, manifest.lr, manifest.lr, 3), dtype=np.uint8)
    return [raw_payload(manifest, lr, size or (manifest.hr, manifest.hr)) for lr in lrs]


def pixels(data: object) -> np.ndarray:
    """The pixels of a picture file."""
    assert isinstance(data, bytes), data
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)
