"""An open-loop load generator: requests are sent at scheduled times, regardless of outstanding responses.

Clients of a closed loop wait for responses, so they slow down with the service and hide waiting times. Here the send
times are drawn in advance (a Poisson process), and latency counts from the scheduled time. The client is a bare asyncio
protocol, so that it takes little CPU time from a service on the same machine.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

MAX_CONNECTIONS = 1000
"""Maximum number of concurrent requests; further ones count as unanswered."""
PATIENCE = 60.0
"""Timeout of a response in seconds."""


@dataclass(frozen=True)
class Load:
    """The result of sending requests at a fixed rate for some time.

    Attributes:
        offered: scheduled requests per second.
        goodput: responses with status 200 per second, within that time.
        p50, p95, p99: milliseconds from the scheduled time to the picture, over requests with status 200; NaN if none.
        statuses: count of each HTTP status; 0 stands for no response.
    """

    offered: float
    goodput: float
    p50: float
    p95: float
    p99: float
    statuses: dict[int, int]

    def rounded(self) -> dict[str, object]:
        """The fields as JSON data."""
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(self).items()}


def requests_of(url: str, payloads: Sequence[bytes]) -> list[bytes]:
    """A complete HTTP request for each payload."""
    host = urlsplit(url).netloc
    return [(f"POST /v1/restore HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/vnd.edgegrain\r\n"
             f"Content-Length: {len(payload)}\r\n\r\n").encode() + payload for payload in payloads]


def offer(url: str, payloads: Sequence[bytes], rate: float, seconds: float, seed: int = 0) -> Load:
    """Send payloads in turn, ``rate`` per second for ``seconds``; returns after the last response."""
    return asyncio.run(_offer(url, requests_of(url, payloads), rate, seconds, seed))


def saturate(url: str, payloads: Sequence[bytes], clients: int, count: int) -> tuple[float, list[float]]:
    """Responses per second and milliseconds of each for a closed loop of ``clients`` with ``count`` requests in total.
    """
    return asyncio.run(_saturate(url, requests_of(url, payloads), clients, count))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that a ``share`` of the values does not exceed; NaN for no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


class _Connection(asyncio.Protocol):
    """A keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self.open = True
        self._buffer = bytearray()
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def ask(self, request: bytes) -> int:
        """The status of the complete response; 0 for no response."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await asyncio.wait_for(self._answer, PATIENCE)
        except TimeoutError:
            self.close()
            return 0

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer.clear()
        if b"connection: close" in head:
            self.close()
        self._settle(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        self._settle(0)

    def close(self) -> None:
        self.open = False
        self._transport.close()

    def _settle(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


class _Pool:
    """A pool of keep-alive connections."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        self._idle: list[_Connection] = []
        self.busy = 0

    async def ask(self, request: bytes) -> int:
        if self.busy >= MAX_CONNECTIONS:
            return 0
        self.busy += 1
        try:
            while self._idle:
                connection = self._idle.pop()
                if connection.open:
                    break
            else:
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, *self._address)
            status = await connection.ask(request)
        except OSError:
            return 0
        finally:
            self.busy -= 1
        if connection.open:
            self._idle.append(connection)
        return status

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


async def _offer(url: str, requests: Sequence[bytes], rate: float, seconds: float, seed: int) -> Load:
    pool, loop = _Pool(url), asyncio.get_running_loop()
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    in_time = 0
    start = loop.time()

    async def ask(request: bytes, due: float) -> None:
        nonlocal in_time
        status = await pool.ask(request)
        now = loop.time()
        statuses[status] += 1
        if status == 200:
            latencies.append(1e3 * (now - due))
            in_time += now <= start + seconds

    tasks = []
    for request, after in zip(itertools.cycle(requests), _arrivals(rate, seconds, seed), strict=False):
        if (pause := start + after - loop.time()) > 0:
            await asyncio.sleep(pause)
        tasks.append(asyncio.create_task(ask(request, start + after)))
    await asyncio.gather(*tasks)
    pool.close()
    p50, p95, p99 = (percentile(latencies, share) for share in (0.5, 0.95, 0.99))
    return Load(len(tasks) / seconds, in_time / seconds, p50, p95, p99, dict(sorted(statuses.items())))


def _arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    generator, moment = random.Random(seed), 0.0
    while (moment := moment + generator.expovariate(rate)) < seconds:
        yield moment


async def _saturate(url: str, requests: Sequence[bytes], clients: int, count: int) -> tuple[float, list[float]]:
    pool, left, milliseconds = _Pool(url), iter(range(count)), []

    async def client() -> None:
        for index in left:
            began = time.perf_counter()
            status = await pool.ask(requests[index % len(requests)])
            milliseconds.append(1e3 * (time.perf_counter() - began))
            if status != 200:
                raise RuntimeError(f"request {index} got status {status}")

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - start
    pool.close()
    return count / seconds, milliseconds
