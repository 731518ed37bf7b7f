"""Measure a mixed overload and a killed worker: requests served by kind, latency of refusals, honesty of Retry-After.

    python benchmarks/speed/overload.py                        200 requests at once, then a killed worker
    python benchmarks/speed/overload.py --stub --start 12 --spare 0

Starts `edgegrain serve` on the default bundle with one thread per worker. Every fifth request is a compression of a
picture of 9 megapixels, the others restore a payload. Each refused request is repeated once, after its Retry-After.
The output is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from measurement import PORTRAIT, measured_on
from open_loop import percentile
from PIL import Image
from service import note, portrait_payloads

from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import DEFAULT_BUNDLE, find_bundle
from tests.service_harness import stub_worker, until
from tests.service_process import SERVE, Process, running, serve_with

REQUESTS = 200
SIDE = 3000
"""Side of the pictures to compress, in pixels."""
PROBES = 50
"""Single requests sent one after the other while the service is overloaded."""

STUB = {"item": 0.25, "compress": 0.12}
"""Seconds of an item to restore and to compress."""


@dataclass(frozen=True)
class Reply:
    """Reply to a request, and its seconds from the first byte sent to the last received."""

    verb: str
    status: int
    problem: str
    retry_after: int
    seconds: float


class Client:
    """One connection, opened before the measurement."""

    def __init__(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self._reader, self._writer = streams

    @classmethod
    async def open(cls, url: str) -> Client:
        parts = urlsplit(url)
        return cls(await asyncio.open_connection(parts.hostname, parts.port))

    async def ask(self, verb: str, body: bytes) -> Reply:
        kind = "application/vnd.edgegrain" if verb == "restore" else "image/jpeg"
        begin = time.perf_counter()
        self._writer.write(f"POST /v1/{verb} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
                           f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        data = await self._reader.readexactly(int(fields["content-length"]))
        seconds, status = time.perf_counter() - begin, int(head[9:12])
        problem = "" if status == 200 else json.loads(data)["type"].rpartition(":")[2]
        return Reply(verb, status, problem, int(fields.get("retry-after", 0)), seconds)

    def close(self) -> None:
        self._writer.close()


async def ask_once(url: str, verb: str, body: bytes, after: float = 0) -> Reply:
    """Send a request over a connection of its own, ``after`` some seconds."""
    await asyncio.sleep(after)
    client = await Client.open(url)
    reply = await client.ask(verb, body)
    client.close()
    return reply


async def burst(url: str, requests: Sequence[tuple[str, bytes]]) -> tuple[list[Reply], list[Reply], list[Reply]]:
    """Send everything at once. Returns the replies, those to `PROBES` during the overload, those to the retries."""
    clients = [await Client.open(url) for _ in requests]
    retries: list[asyncio.Task[Reply]] = []

    async def ask(client: Client, verb: str, body: bytes) -> Reply:
        reply = await client.ask(verb, body)
        client.close()
        if reply.status == 503:
            retries.append(asyncio.create_task(ask_once(url, verb, body, reply.retry_after)))
        return reply

    asking = [asyncio.create_task(ask(client, *request)) for client, request in zip(clients, requests, strict=True)]
    await asyncio.sleep(1)
    probes = []
    for _ in range(PROBES):
        reply = await asyncio.wait_for(ask_once(url, *requests[1]), 60)
        probes.append(reply)
        if reply.status == 200:  # the overload is over
            break
    replies = await asyncio.gather(*asking)
    return replies, probes, await asyncio.gather(*retries)


async def together(url: str, requests: Sequence[tuple[str, bytes]]) -> list[Reply]:
    """Send some requests at once; the service measures them."""
    return await asyncio.gather(*(ask_once(url, *request) for request in requests))


def mixed(payloads: Sequence[bytes], picture: bytes, count: int) -> list[tuple[str, bytes]]:
    """Requests in which every fifth is a compression."""
    return [("compress", picture) if index % 5 == 4 else ("restore", payloads[index % len(payloads)])
            for index in range(count)]


def milliseconds(replies: Sequence[Reply]) -> list[float]:
    """Median and 99th percentile."""
    values = [1e3 * reply.seconds for reply in replies]
    return [round(percentile(values, share), 1) for share in (0.5, 0.99)]


def summary(replies: Sequence[Reply]) -> dict[str, Any]:
    """Counts and latencies by kind of request."""
    table: dict[str, Any] = {}
    for verb in ("compress", "restore"):
        mine = [reply for reply in replies if reply.verb == verb]
        refused = [reply for reply in mine if reply.status == 503]
        table[verb] = {
            "sent": len(mine), "served": sum(reply.status == 200 for reply in mine),
            "served_ms": milliseconds([reply for reply in mine if reply.status == 200]),
            "refused": dict(Counter(reply.problem for reply in refused)), "refused_ms": milliseconds(refused),
            "retry_after": sorted({reply.retry_after for reply in refused})}
    return table


def killed_worker(process: Process, payloads: Sequence[bytes], count: int) -> dict[str, Any]:
    """Kill the worker while requests wait; returns the replies and the seconds until the next one is ready."""
    async def run() -> list[Reply]:
        clients = [await Client.open(process.url) for _ in range(count)]
        asking = [asyncio.create_task(client.ask("restore", payload))
                  for client, payload in zip(clients, payloads, strict=False)]
        await asyncio.sleep(0.5)
        os.kill(process.workers[0], signal.SIGKILL)
        return await asyncio.gather(*asking)

    begun = [event["seconds"] for event in process.events("worker ready")]
    replies = asyncio.run(run())
    time.sleep(1)
    return {"start_s": begun, "restart_s": [event["seconds"] for event in process.events("worker ready")][len(begun):],
            **summary(replies)["restore"]}


def measure(command: Sequence[str], workers: int, spare: str, deadline: float) -> dict[str, Any]:
    """Measure everything; returns the report."""
    bundle = find_bundle(DEFAULT_BUNDLE)
    payloads = portrait_payloads(load_manifest(bundle))
    stream = io.BytesIO()
    with Image.open(PORTRAIT) as image:
        image.convert("RGB").resize((SIDE, SIDE)).save(stream, "JPEG", quality=90)
    settings: dict[str, Any] = {"workers": workers, "deadline": deadline, "spare_workers": spare}
    report: dict[str, Any] = {}
    with running(command, **settings) as process:
        until(lambda: (found := process.events("spare workers"))
              and len(process.workers) == workers + found[0]["spares"])
        for verb, body in (("restore", payloads[0]), ("compress", stream.getvalue())) * 2:
            reply = asyncio.run(ask_once(process.url, verb, body))
            report[f"single_{verb}_ms"] = round(1e3 * reply.seconds, 1)
            asyncio.run(together(process.url, [(verb, body)] * 8))
        replies, probes, retries = asyncio.run(
            burst(process.url, mixed(payloads, stream.getvalue(), REQUESTS)))
        report["burst"] = summary(replies)
        refused = [reply for reply in probes if reply.status == 503]
        report["probes"] = {"refused": len(refused), "refused_ms": milliseconds(refused)}
        report["retries"] = {verb: dict(Counter(reply.status for reply in retries if reply.verb == verb))
                             for verb in ("compress", "restore")}
        note(json.dumps(report))
        asyncio.run(asyncio.sleep(2))
        report["killed"] = killed_worker(process, payloads, 24)
    return {**report, "settings": settings, **measured_on()}


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1, help="worker processes [default: 1]")
    parser.add_argument("--spare", default="", help="warm spares [default: the service's]")
    parser.add_argument("--deadline", type=float, default=10, help="seconds [default: 10]")
    parser.add_argument("--stub", action="store_true", help="workers that sleep, for machines with other work")
    parser.add_argument("--start", type=float, default=1.2, help="seconds that a stub starts [default: 1.2]")
    options = parser.parse_args()
    command = serve_with(stub_worker(**STUB, start=options.start)) if options.stub else SERVE
    print(json.dumps(measure(command, options.workers, options.spare, options.deadline)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
