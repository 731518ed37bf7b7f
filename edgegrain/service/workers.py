"""`Workers`: worker processes that are fed with batches, and replaced when they die, hang or lose their device."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codec_contract import errors
from codec_contract.errors import ServiceError
from edgegrain.service.batcher import Batcher, BatchKey, Done, Job
from edgegrain.service.engine import Message, pack
from edgegrain.service.observability import ServiceMetrics, log
from edgegrain.service.problems import problem_of, retry_later
from edgegrain.service.settings import ENVIRONMENT_PREFIX, Settings

logger = logging.getLogger(__name__)

COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "edgegrain.service.engine")
"""Program and arguments of a worker process, which imports nothing from the current directory; tests have others."""
CONFIGURED = {"device", "threads", "batch_sizes", "decoder_form", "formats", "log_level"}
CONFIGURED |= {"max_pixels", "max_photo_pixels", "max_scene_faces"}
"""Settings that a worker gets: the arguments of its engine, and the level of its log."""
LINE_BYTES = 1 << 22
LOST_SECONDS = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds between a worker's end and the next start; doubled while workers fail to start."""


class WorkerLost(Exception):
    """The worker process died, hung, or sent an invalid answer."""


class Workers:
    """Processes that work on the batches of one batcher."""

    def __init__(self, settings: Settings, metrics: ServiceMetrics, batcher: Batcher, folders: Sequence[str]) -> None:
        """Plan workers, which open the bundles in ``folders``."""
        self._settings, self._metrics, self._batcher, self._command = settings, metrics, batcher, COMMAND
        self._configuration = {"folders": folders, **settings.model_dump(include=CONFIGURED)}
        self._tasks, self._ready = list[asyncio.Task[None]](), set[int]()
        self._start_seconds, self._next_ready = 0.0, 0.0  # the second is a time of the loop
        self._stopping = False

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready."""
        return sorted(self._ready)

    def ready_in(self) -> float:
        """Expected seconds until a worker is ready; 0 while one is."""
        return 0.0 if self._ready else max(0.1, self._next_ready - asyncio.get_running_loop().time())

    def start(self) -> None:
        """Start the workers in the background."""
        self._tasks = [asyncio.create_task(self._keep_alive()) for _ in range(self._settings.workers)]

    async def stop(self) -> None:
        """End all workers; their current batches are lost."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_alive(self) -> None:
        """Start a worker, feed it until it is lost, start the next one."""
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            begin = loop.time()
            self._next_ready = begin + self._start_seconds
            try:
                async with self._process() as process:
                    await self._configure(process)
                    self._start_seconds, pid = loop.time() - begin, process.pid
                    log(logger, logging.INFO, "worker ready", worker_pid=pid, seconds=round(self._start_seconds, 3))
                    self._ready.add(pid)
                    try:
                        reason = await self._feed(process)
                    finally:
                        self._ready.remove(pid)
            except Exception as error:  # whatever a worker answers, another one is started
                log(logger, logging.ERROR, "worker not started", reason=str(error), next_try_seconds=pause)
                wait, pause = pause, min(2 * pause, LONGEST_PAUSE)
            else:
                self._metrics.worker_losses.inc()
                status = process.returncode
                log(logger, logging.ERROR, "worker lost", worker_pid=pid, reason=reason, exit_status=status)
                wait = pause = FIRST_PAUSE
            self._next_ready = loop.time() + wait + self._start_seconds
            await asyncio.sleep(wait)

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process that has ended when the block ends."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, limit=LINE_BYTES, env=environment()
        )
        try:
            yield process
        finally:
            try:  # usually it is dead and asyncio has not noticed yet; a signal would lose its exit status
                async with asyncio.timeout(0 if self._stopping else LOST_SECONDS):
                    await process.wait()
            except TimeoutError:
                if process.returncode is None:
                    process.kill()
            await process.communicate()  # drains and closes the pipes

    async def _configure(self, process: asyncio.subprocess.Process) -> None:
        """Configure a new process and wait until it is ready."""
        fields, _ = await _exchange(process, self._configuration, [], self._settings.start_timeout)
        if "failed" in fields:
            raise ServiceError(str(fields["failed"]))
        for verb, bundle, enlargement, seconds in fields["warm_up"]:
            self._batcher.note(BatchKey(verb, bundle, enlargement=enlargement), seconds)

    async def _feed(self, process: asyncio.subprocess.Process) -> str:
        """Give batches to a worker until it is lost; returns the reason."""
        loop, died = asyncio.get_running_loop(), asyncio.create_task(process.wait())
        taking: asyncio.Task[list[Job]] | None = None
        try:
            while True:
                taking = asyncio.create_task(self._batcher.take())
                await asyncio.wait({taking, died}, return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    return "it died while it was idle"
                jobs, began = taking.result(), loop.time()
                key, data, timeout = jobs[0].key, [job.data for job in jobs], self._settings.worker_timeout
                batch = {"verb": key.verb, "bundle": key.bundle, "options": [asdict(job.options) for job in jobs]}
                try:
                    fields, blobs = await _exchange(process, batch, data, timeout)
                except WorkerLost as error:
                    self._batcher.done(jobs, None)
                    text = "the process that worked on this request was lost; try again"
                    lost = retry_later("worker-lost", text, FIRST_PAUSE + self._start_seconds)
                    for job in jobs:
                        job.settle(lost)
                    return str(error)
                self._batcher.done(jobs, loop.time() - began)
                self._metrics.note_batch(key.verb, [began - job.queued for job in jobs], fields["seconds"])
                for job, failure, blob in zip(jobs, fields["outcomes"], blobs, strict=True):
                    if failure is None:
                        job.settle(Done(blob, fields["seconds"]))
                    else:
                        job.settle(problem_of(getattr(errors, failure["error"], ServiceError)(failure["message"])))
                if fields["ends"]:
                    self._configuration["graphs"] = False
                    return "its device failed; the next worker runs without CUDA graphs"
        finally:
            died.cancel()
            if taking is not None:
                taking.cancel()


def environment() -> dict[str, str]:
    """A worker's environment: without the service's settings, as it needs no tokens; this package is on its path."""
    secret = [name for name in os.environ if name.upper().startswith(ENVIRONMENT_PREFIX)]  # may be in lower case
    kept = {name: value for name, value in os.environ.items() if name not in secret}
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


async def _exchange(
    process: asyncio.subprocess.Process, fields: dict[str, Any], blobs: Sequence[bytes], timeout: float
) -> Message:
    """Send a message and read its answer; `WorkerLost` if the process dies, hangs or sends something else."""
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(timeout):
            process.stdin.writelines(pack(fields, blobs))
            answer = json.loads(await process.stdout.readuntil(b"\n"))
            return answer, [await process.stdout.readexactly(length) for length in answer.pop("lengths")]
    except TimeoutError:
        raise WorkerLost(f"it did not answer within {timeout:g} s") from None
    except Exception as error:
        raise WorkerLost(f"it died or broke its pipe ({error or type(error).__name__})") from error
