"""A mixed overload over HTTP: each verb gets its share, the rest is refused at once. And lost workers."""

import asyncio
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edgegrain.service import workers
from tests.service_harness import PAYLOAD, SOON, LiveService, live_service, post, raw_payloads, stub_worker, until

RESTORE, COMPRESS = 0.15, 0.04
"""Seconds of an item."""
DEADLINE = 3.0
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def service(tiny_bundle: Path) -> Iterator[LiveService]:
    """A service with a stub, which has answered one request of each kind."""
    stub = stub_worker(item=RESTORE, compress=COMPRESS)
    with live_service(tiny_bundle, worker_command=stub, deadline=DEADLINE, batch_sizes="1,2,4") as service:
        post(f"{service.url}/v1/compress", b"a picture", headers=JPEG)
        service.restore(raw_payloads(tiny_bundle, 1)[0])
        yield service


class Reply:
    """The reply to a request, and its seconds."""

    def __init__(self, verb: str, response: httpx.Response, seconds: float) -> None:
        self.verb, self.status, self.seconds = verb, response.status_code, seconds
        self.retry_after = int(response.headers.get("retry-after", 0))
        self.kind = "" if self.status == 200 else response.json()["type"].rpartition(":")[2]


async def ask(client: httpx.AsyncClient, verb: str, data: bytes) -> Reply:
    start = time.perf_counter()
    response = await client.post(f"/v1/{verb}", content=data, headers=JPEG if verb == "compress" else PAYLOAD)
    return Reply(verb, response, time.perf_counter() - start)


async def test_mixed_overload(service: LiveService, tiny_bundle: Path) -> None:
    (payload,) = raw_payloads(tiny_bundle, 1)
    mixed = [("compress", b"a picture") if index % 5 == 4 else ("restore", payload) for index in range(75)]

    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=SOON, verify=False) as client:
        burst = [asyncio.create_task(ask(client, *request)) for request in mixed]
        await asyncio.wait(burst, timeout=DEADLINE / 4)
        later = [await ask(client, "restore", payload) for _ in range(8)]
        replies = await asyncio.gather(*burst)
    served = Counter(reply.verb for reply in replies if reply.status == 200)
    # 15 compressions need 0.6 s, which is less than half of the deadline; 60 pictures to restore need 9 s.
    assert served["compress"] >= 14
    assert 0.4 * DEADLINE / RESTORE <= served["restore"] <= DEADLINE / RESTORE
    refused = [reply for reply in replies if reply.status == 503]
    assert len(refused) == 75 - served.total() and min(reply.retry_after for reply in refused) >= 1
    # A request that cannot be served is refused early, not at the deadline. Compared with the waits of served requests,
    # because a busy machine delays both.
    assert statistics.median(reply.seconds for reply in refused) < DEADLINE / 2
    waited = statistics.median(reply.seconds for reply in replies if reply.verb == "restore" and reply.status == 200)
    assert min(reply.seconds for reply in (*refused, *later) if reply.status == 503) < waited / 2
    assert sum(reply.kind == "deadline-exceeded" for reply in refused) <= 0.2 * len(refused)


def test_while_a_worker_starts_only_those_wait_who_can(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (payload,) = raw_payloads(tiny_bundle, 1)
    with live_service(tiny_bundle, worker_command=stub_worker(), deadline=30) as service:
        assert service.restore(payload).status_code == 200
        lose_worker(service)
        assert service.restore(payload).status_code == 200
        monkeypatch.setattr(workers, "FIRST_PAUSE", 40.0)
        lose_worker(service)
        answer = service.restore(payload)
        assert answer.status_code == 503 and answer.json()["type"].endswith(":starting")
        assert 10 < int(answer.headers["retry-after"]) < 45


def lose_worker(service: LiveService) -> None:
    """Kill the worker, and wait until the service has noticed."""
    (pid,) = service.state.workers.pids
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in service.state.workers.pids)
