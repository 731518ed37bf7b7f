"""`Supervisor`: keeps workers running, gives them batches, and replaces those that end or hang, by spares if any."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from codec_contract.errors import ServiceError
from edgegrain.service.batcher import Batcher
from edgegrain.service.job import Job, WorkerLost
from edgegrain.service.json_logs import log
from edgegrain.service.worker_handle import STOP_SECONDS, WorkerHandle, WorkerPlan
from sdk.open_bundle import RunningDecoder

logger = logging.getLogger(__name__)

LOST_SECONDS = 1.0
"""Wait for a lost worker. Usually it is dead and asyncio has not noticed yet; a signal would lose its exit status."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds between a worker's end and the next start; doubled while workers fail to start."""

Result = TypeVar("Result")


class Supervisor:
    """Workers that process the batches of one batcher. Only as many as planned do so at a time; others are spares."""

    def __init__(
        self, plan: WorkerPlan, batcher: Batcher, count: int, *,
        spares: Callable[[Sequence[int]], int] = lambda pids: 0,
        on_batch: Callable[[list[Job], dict[str, float], float], None] = lambda jobs, seconds, began: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Plan ``count`` workers.

        Args:
            plan: start parameters of the workers.
            batcher: the queues.
            count: number of workers that process batches.
            spares: called once with the process ids of all workers when they are ready; returns the number of spares.
            on_batch: called after each batch with its jobs, the seconds of its stages, and its start in loop time.
            on_lost: called whenever a worker that was ready is lost.
        """
        self._plan = plan
        self._batcher = batcher
        self._capacity = batcher.capacity
        self._count = count
        self._how_many_spares = spares
        self._on_batch = on_batch
        self._on_lost = on_lost
        self._tasks: list[asyncio.Task[None]] = []
        self._places = asyncio.Semaphore(count)
        self._workers: set[WorkerHandle] = set()
        self._spares: set[WorkerHandle] = set()
        self._complete = asyncio.Event()

    @property
    def ready(self) -> int:
        """Number of workers that process batches or wait for them."""
        return len(self._workers)

    @property
    def spares(self) -> int:
        """Number of spare workers that are ready."""
        return len(self._spares)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready, without spares."""
        return sorted(worker.process.pid for worker in self._workers)

    @property
    def decoders(self) -> dict[str, RunningDecoder]:
        """Bundle -> the decoder that a ready worker runs; all workers run the same ones."""
        return next((worker.decoders for worker in self._workers), {})

    def start(self) -> None:
        """Start the workers in the background, and then the spares."""
        self._tasks = [self._keep(index) for index in range(self._count)]
        self._tasks.append(asyncio.create_task(self._start_spares(), name="spare workers"))

    async def stop(self) -> None:
        """Stop all workers; their current batches are lost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, index: int) -> asyncio.Task[None]:
        return asyncio.create_task(self._keep_alive(index), name=f"worker {index}")

    async def _start_spares(self) -> None:
        """Start the spares once all workers are ready.

        Starting them earlier would slow down the workers' start. Their number depends on the memory of the workers,
        which is known only then.
        """
        await self._complete.wait()
        spares = self._how_many_spares(self.pids)
        self._tasks += [self._keep(self._count + index) for index in range(spares)]

    async def _keep_alive(self, index: int) -> None:
        """Start a worker, feed it until it is lost, start the next one."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            begin = loop.time()
            self._capacity.starting(index)
            try:
                worker = await WorkerHandle.start(self._plan)
            except (WorkerLost, ServiceError, OSError) as error:
                log(logger, logging.ERROR, "worker not started", reason=str(error), next_try_seconds=pause)
                self._capacity.starting(index, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            seconds = loop.time() - begin
            self._capacity.started(index, seconds)
            for warm_up in worker.warm_up:
                self._batcher.times.suggest(*warm_up)
            log(logger, logging.INFO, "worker ready", worker_pid=worker.process.pid, seconds=round(seconds, 3),
                spare=self._places.locked())
            try:
                reason = await self._work(index, worker)
            finally:
                self._capacity.starting(index, pause)
                await worker.stop(STOP_SECONDS if _stopping() else LOST_SECONDS)
            self._on_lost()
            log(logger, logging.ERROR, "worker lost", worker_pid=worker.process.pid, reason=reason,
                exit_status=worker.process.returncode)
            await asyncio.sleep(pause)

    async def _work(self, index: int, worker: WorkerHandle) -> str:
        """Wait for a place among the workers, then feed the worker until it is lost; returns the reason."""
        died = asyncio.create_task(worker.process.wait())
        try:
            if not await self._place(worker, died):
                return "it died while it was a spare"
            self._workers.add(worker)
            if len(self._workers) == self._count:
                self._complete.set()
            try:
                return await self._feed(index, worker, died)
            finally:
                self._workers.discard(worker)
                self._places.release()
        finally:
            died.cancel()

    async def _place(self, worker: WorkerHandle, died: asyncio.Task[int]) -> bool:
        """Wait for a place among the workers; False if the worker died before. Only one that has to wait is a spare."""
        if not self._places.locked():
            return await self._places.acquire()  # returns at once
        self._spares.add(worker)
        try:
            return await _unless(died, self._places.acquire(), lambda _: self._places.release()) is not None
        finally:
            self._spares.discard(worker)

    async def _feed(self, index: int, worker: WorkerHandle, died: asyncio.Task[int]) -> str:
        """Give batches to a worker until it is lost; returns the reason.

        With a long queue the next batch is sent before the current one is answered, so that the worker does not idle
        while this process is busy with requests.
        """
        loop = asyncio.get_running_loop()
        ahead: list[Job] = []
        while True:
            jobs, ahead, sent = ahead, [], bool(ahead)
            if not sent:
                self._capacity.idle(index)
                jobs = await _unless(died, self._batcher.take(), self._batcher.put_back) or []
                if not jobs:
                    return "it died while it was idle"
            began = loop.time()
            try:
                if not sent:
                    worker.send(jobs)
                self._capacity.busy(index, sum(job.charged for job in jobs))
                ahead = self._batcher.take_ahead()
                if ahead:
                    worker.send(ahead)
                    self._capacity.more(index, sum(job.charged for job in ahead))
                answers, seconds = await worker.receive(len(jobs))
            except WorkerLost as error:
                self._capacity.starting(index, FIRST_PAUSE)
                error.retry_after = max(1, math.ceil(self._capacity.ready_in()))
                for job in jobs:
                    job.settle(error)
                self._batcher.put_back(ahead)
                return str(error)
            self._batcher.note_done(jobs, loop.time() - began)
            self._on_batch(jobs, seconds, began)
            for job, answer in zip(jobs, answers, strict=True):
                job.settle(answer)
            if worker.ends:
                self._batcher.put_back(ahead)
                return "its device failed"


async def _unless(
    died: asyncio.Task[int], work: Coroutine[Any, Any, Result], undo: Callable[[Result], None]
) -> Result | None:
    """The result of ``work``; None if the worker died before, and then ``undo`` takes a result back."""
    working = asyncio.create_task(work)
    try:
        await asyncio.wait({working, died}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        working.cancel()
        raise
    if not died.done():
        return working.result()
    if working.done():
        undo(working.result())
    working.cancel()
    return None


def _stopping() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
