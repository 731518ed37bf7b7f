"""`Batcher`: a bounded first-in first-out queue that hands out batches of compatible jobs.

It runs on the event loop and changes state only between awaits, so it needs no locks.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from codec_contract.errors import EdgegrainError

MAX_RETRY_AFTER = 60
SMOOTHING = 0.2
"""Weight of the newest batch in the running mean of seconds per item."""
MAX_AHEAD_BYTES = 1 << 20
"""Largest batch that is sent to a busy worker; it is copied, and kept until its turn."""


class BatchKey(NamedTuple):
    """Jobs with equal keys can share a batch: they run through one network together."""

    verb: str
    bundle: str
    seed: int = 0


class WorkerLost(Exception):
    """The worker process died, hung, or sent an invalid answer."""


class Done(NamedTuple):
    """The result of a job: its bytes, and the seconds of its stages."""

    data: bytes
    seconds: dict[str, float]


Answer = Done | EdgegrainError | WorkerLost


@dataclass(eq=False)
class Job:
    """A picture or payload in the queue.

    Attributes:
        key: jobs with the same key can share a batch.
        data: the payload or picture file.
        options: fields of the engine's options.
        deadline: loop time at which its request times out.
        pixels: pixels of its result, which bound the memory of a batch.
        answer: `Done`, the `EdgegrainError` of this item, or `WorkerLost`; cancelled when the client disconnects.
        queued: loop time at which it was queued.
    """

    key: BatchKey
    data: bytes
    options: dict[str, Any]
    deadline: float
    pixels: int
    answer: asyncio.Future[Answer]
    queued: float = field(default=0.0)


class QueueFull(Exception):
    """The queue is full, or the jobs in it take longer than the deadline.

    Attributes:
        retry_after: whole seconds after which there should be room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full, retry after {retry_after} s")
        self.retry_after = retry_after


class Batcher:
    """The queue between requests and workers."""

    def __init__(
        self, *, limit: int, sizes: Sequence[int], wait: float, max_pixels: int, workers: int = 1,
        arriving: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make an empty queue.

        Args:
            limit: most jobs in the queue.
            sizes: batch sizes, ascending from 1; a batch takes the largest that can be filled.
            wait: seconds that an idle worker waits to fill a batch while other requests are arriving.
            max_pixels: most pixels of a batch's results together, unless a single one has more.
            workers: number of workers, for estimatching only.
            arriving: true while requests are being received whose jobs will be queued soon.
        """
        self._limit = limit
        self._sizes = tuple(sizes)
        self._wait = wait
        self._max_pixels = max_pixels
        self._workers = workers
        self._arriving = arriving
        self._idle = 0  # workers waiting for a batch
        self._shared = -math.inf  # loop time at which the last batch with several jobs was done
        self._jobs: dict[Job, None] = {}  # in order of arrival, with quick removal
        self._changed = asyncio.Event()
        self._seconds_per_item = 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    def check_room(self, count: int = 1) -> None:
        """Raise `QueueFull` unless ``count`` more jobs would be accepted now."""
        if len(self._jobs) + count > self._limit:
            raise QueueFull(self.retry_after())

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue all of the jobs or none.

        Raises:
            QueueFull: there is no room, or they would miss their deadline.
        """
        self.check_room(len(jobs))
        now = asyncio.get_running_loop().time()
        if jobs and now + self._estimate(len(self._jobs)) > min(job.deadline for job in jobs):
            raise QueueFull(self.retry_after())
        for job in jobs:
            job.queued = now
            self._jobs[job] = None
        self._changed.set()

    def discard(self, jobs: Sequence[Job]) -> None:
        """Drop jobs whose request has ended, queued or not."""
        for job in jobs:
            self._jobs.pop(job, None)
            job.answer.cancel()

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Return a batch that no worker has started to the front of the queue."""
        waiting = [job for job in jobs if not job.answer.done()]
        self._jobs = dict.fromkeys([*waiting, *self._jobs])
        self._changed.set()

    async def take(self) -> list[Job]:
        """The next batch for an idle worker, never empty; its jobs have left the queue.

        A partial batch waits for more jobs only if they are likely: requests are being received, or others were
        answered together just now and their clients may send the next. A single job starts at once.
        """
        loop = asyncio.get_running_loop()
        self._idle += 1
        try:
            while True:
                self._drop_expired(loop.time())
                self._changed.clear()
                if not self._jobs:
                    await self._changed.wait()
                    await asyncio.sleep(0)  # lets the loop read requests that have arrived since
                    continue
                matching, oldest = self._same_key(), next(iter(self._jobs))
                remaining = oldest.queued + self._wait - loop.time()
                expected = self._arriving() or oldest.queued - self._shared <= self._wait
                if len(matching) >= self._sizes[-1] or remaining <= 0 or not expected:
                    return self._remove(self._fitting(matching))
                try:
                    async with asyncio.timeout(remaining):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            self._idle -= 1

    def take_ahead(self) -> list[Job]:
        """A batch of the largest size for a busy worker, to start on as soon as the current one is done.

        Empty if the queue holds fewer jobs, if the batch is too large to be copied, or if an idle worker will take it.
        """
        self._drop_expired(asyncio.get_running_loop().time())
        if self._idle or not self._jobs:
            return []
        jobs = self._fitting(self._same_key())
        if len(jobs) < self._sizes[-1] or sum(len(job.data) for job in jobs) > MAX_AHEAD_BYTES:
            return []
        return self._remove(jobs)

    def note_speed(self, count: int, seconds: float) -> None:
        """Update the estimate of seconds per item with a batch of ``count`` items that is done."""
        if count > 1:
            self._shared = asyncio.get_running_loop().time()
        newest = seconds / count
        old = self._seconds_per_item
        self._seconds_per_item = newest if not old else old + SMOOTHING * (newest - old)

    def retry_after(self) -> int:
        """Whole seconds after which half of the queue should be done."""
        return min(MAX_RETRY_AFTER, max(1, math.ceil(self._estimate(len(self._jobs)) / 2)))

    def _estimate(self, count: int) -> float:
        return count * self._seconds_per_item / self._workers

    def _drop_expired(self, now: float) -> None:
        # Requests time out by themselves; this only spares workers their jobs.
        for job in [job for job in self._jobs if job.deadline <= now or job.answer.done()]:
            del self._jobs[job]

    def _same_key(self) -> list[Job]:
        """Jobs with the key of the oldest one, which comes first."""
        oldest = next(iter(self._jobs))
        return [job for job in self._jobs if job.key == oldest.key]

    def _fitting(self, matching: list[Job]) -> list[Job]:
        count, pixels = 0, 0
        for job in matching[: self._sizes[-1]]:
            pixels += job.pixels
            if count and pixels > self._max_pixels:
                break
            count += 1
        return matching[: max(size for size in self._sizes if size <= count)]

    def _remove(self, jobs: list[Job]) -> list[Job]:
        for job in jobs:
            del self._jobs[job]
        return jobs
