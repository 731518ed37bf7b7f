"""`Supervisor`: starts worker processes, sends them batches, and restarts them when they die or hang."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from codec_contract.errors import EdgegrainError, ServiceError
from edgegrain.service import pipe_messages
from edgegrain.service.batcher import Answer, Batcher, Done, Job, WorkerLost
from edgegrain.service.json_logs import log
from edgegrain.service.worker_protocol import COMMAND, read_answer, worker_environment

logger = logging.getLogger(__name__)

BUFFER = 1 << 20
STOP_SECONDS = 5.0
LOST_SECONDS = 1.0
"""Wait for a lost worker. Usually it is dead and asyncio has not noticed yet; a signal would lose its exit status."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds between a worker's end and the next start; doubled while workers fail to start."""


@dataclass(frozen=True)
class WorkerPlan:
    """Start parameters of a worker.

    Attributes:
        configuration: arguments of the engine, sent in the first message.
        start_timeout: seconds until it must be ready.
        batch_timeout: most seconds for a batch.
        command: the program and its arguments.
    """

    configuration: dict[str, Any]
    start_timeout: float
    batch_timeout: float
    command: Sequence[str] = COMMAND


class Worker:
    """One worker process and the pipes to it."""

    def __init__(self, process: asyncio.subprocess.Process, plan: WorkerPlan) -> None:
        self.process = process
        self._plan = plan

    @classmethod
    async def start(cls, plan: WorkerPlan) -> Worker:
        """Start a process and wait until it is ready.

        Raises:
            WorkerLost: it died, or was not ready in time.
            ServiceError: it failed to start; the message has its reason.
        """
        process = await asyncio.create_subprocess_exec(
            *plan.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=BUFFER,
            env=worker_environment())
        worker = cls(process, plan)
        try:
            worker._write(plan.configuration, [])
            fields, _ = await worker._read(plan.start_timeout)
            if "ready" not in fields:
                raise ServiceError(str(fields.get("failed", "the worker did not report that it is ready")))
        except BaseException:
            await worker.stop(0)
            raise
        return worker

    def send(self, jobs: Sequence[Job]) -> None:
        """Send a batch without waiting; the worker starts it after the current one.

        Raises:
            WorkerLost: the process died.
        """
        key = jobs[0].key
        self._write({"verb": key.verb, "bundle": key.bundle, "options": [job.options for job in jobs]},
                    [job.data for job in jobs])

    async def receive(self, count: int) -> tuple[list[Done | EdgegrainError], dict[str, float]]:
        """Wait for the results of the oldest unanswered batch, of ``count`` jobs, and the seconds of its stages.

        Raises:
            WorkerLost: the process died, took too long, or sent an invalid answer.
        """
        return read_answer(await self._read(self._plan.batch_timeout), count)

    async def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Close the process's input, and kill it if it has not ended after ``timeout`` seconds."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), timeout)
        except TimeoutError:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
        await self.process.communicate()  # drains and closes the pipes

    def _write(self, fields: dict[str, Any], blobs: list[bytes]) -> None:
        assert self.process.stdin is not None  # it is a pipe: see start
        try:
            self.process.stdin.writelines(pipe_messages.pack(fields, blobs))
        except (OSError, RuntimeError) as error:  # uvloop raises the latter for closed pipes
            raise WorkerLost(f"it died or broke its pipe ({error})") from error

    async def _read(self, timeout: float) -> pipe_messages.Message:
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                return await pipe_messages.read_async(self.process.stdout)
        except TimeoutError:
            raise WorkerLost(f"it did not answer within {timeout:g} s") from None
        except (OSError, asyncio.IncompleteReadError, ServiceError) as error:
            raise WorkerLost(f"it died or broke its pipe ({error or type(error).__name__})") from error


class Supervisor:
    """Workers that process the batches of one queue."""

    def __init__(
        self, plan: WorkerPlan, batcher: Batcher, count: int, *,
        on_batch: Callable[[list[Job], dict[str, float], float], None] = lambda jobs, seconds, began: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Plan ``count`` workers.

        Args:
            plan: start parameters of the workers.
            batcher: the queue.
            count: number of workers.
            on_batch: called after each batch with its jobs, the seconds of its stages, and its start in loop time.
            on_lost: called whenever a worker that was ready is lost.
        """
        self._plan = plan
        self._batcher = batcher
        self._count = count
        self._on_batch = on_batch
        self._on_lost = on_lost
        self._tasks: list[asyncio.Task[None]] = []
        self._workers: set[Worker] = set()

    @property
    def ready(self) -> int:
        """Number of workers that are ready."""
        return len(self._workers)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready."""
        return sorted(worker.process.pid for worker in self._workers)

    def start(self) -> None:
        """Start the workers in the background."""
        self._tasks = [asyncio.create_task(self._keep_alive(), name=f"worker {index}") for index in range(self._count)]

    async def stop(self) -> None:
        """Stop all workers; their current batches are lost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_alive(self) -> None:
        """Start a worker, feed it until it is lost, start the next one."""
        pause = FIRST_PAUSE
        while True:
            start = time.monotonic()
            try:
                worker = await Worker.start(self._plan)
            except (WorkerLost, ServiceError, OSError) as error:
                log(logger, logging.ERROR, "worker not started", reason=str(error), next_try_seconds=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            log(logger, logging.INFO, "worker ready", worker_pid=worker.process.pid,
                seconds=round(time.monotonic() - start, 3))
            pause = FIRST_PAUSE
            self._workers.add(worker)
            try:
                reason = await self._feed(worker)
            finally:
                self._workers.discard(worker)
                await worker.stop(STOP_SECONDS if self._stopping() else LOST_SECONDS)
            self._on_lost()
            log(logger, logging.ERROR, "worker lost", worker_pid=worker.process.pid, reason=reason,
                exit_status=worker.process.returncode)
            await asyncio.sleep(pause)

    def _stopping(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    async def _feed(self, worker: Worker) -> str:
        """Give batches to a worker until it is lost; returns the reason.

        With a long queue the next batch is sent before the current one is answered, so that the worker does not idle
        while this process is busy with requests.
        """
        loop = asyncio.get_running_loop()
        died = asyncio.create_task(worker.process.wait())
        ahead: list[Job] = []
        try:
            while True:
                jobs, ahead, sent = ahead, [], bool(ahead)
                if not sent and not (jobs := await self._take(died)):
                    return "it died while it was idle"
                began = loop.time()
                try:
                    if not sent:
                        worker.send(jobs)
                    ahead = self._batcher.take_ahead()
                    if ahead:
                        worker.send(ahead)
                    answers, seconds = await worker.receive(len(jobs))
                except WorkerLost as error:
                    for job in jobs:
                        settle(job, error)
                    self._batcher.put_back(ahead)
                    return str(error)
                self._batcher.note_speed(len(jobs), loop.time() - began)
                self._on_batch(jobs, seconds, began)
                for job, answer in zip(jobs, answers, strict=True):
                    settle(job, answer)
        finally:
            died.cancel()

    async def _take(self, died: asyncio.Task[int]) -> list[Job]:
        """The next batch; empty if the worker dies first."""
        taking = asyncio.create_task(self._batcher.take())
        try:
            await asyncio.wait({taking, died}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            taking.cancel()
            raise
        if not died.done():
            return taking.result()
        if taking.done():
            self._batcher.put_back(taking.result())
        taking.cancel()
        return []


def settle(job: Job, answer: Answer) -> None:
    """Set the answer of a job, unless its request has ended."""
    if not job.answer.done():
        job.answer.set_result(answer)
