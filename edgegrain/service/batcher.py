"""The queue: bounded, first come first served, handed out in batches of what belongs together.

All of it runs on the event loop and changes state only between awaits, so there are no locks.
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
"""Weight of the newest batch in the running mean of seconds an item."""
MAX_AHEAD_BYTES = 1 << 20
"""Of a batch that is sent to a worker before its turn: it is copied, and held until then."""


class Key(NamedTuple):
    """What the items of a batch share: they go through one network together."""

    verb: str
    bundle: str
    seed: int = 0


class WorkerLost(Exception):
    """The worker process died, hung, or spoke nonsense."""


class Done(NamedTuple):
    """The answer to a job: its bytes, and the seconds of the stages it went through."""

    data: bytes
    seconds: dict[str, float]


Answer = Done | EdgegrainError | WorkerLost


@dataclass(eq=False)
class Job:
    """One picture or payload that waits.

    Attributes:
        key: what it can be batched with.
        data: the payload or picture file.
        options: fields of the engine's options.
        deadline: loop time after which nobody waits for it any more.
        pixels: of its result, so that a batch's memory is bounded.
        answer: `Done`, the `EdgegrainError` that the item met, or `WorkerLost`; cancelled when the client left.
    """

    key: Key
    data: bytes
    options: dict[str, Any]
    deadline: float
    pixels: int
    answer: asyncio.Future[Answer]
    queued: float = field(default=0.0)


class QueueFull(Exception):
    """There is no room, or what waits already takes longer than the deadline.

    Attributes:
        retry_after: whole seconds after which there should be.
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
            limit: jobs that may wait.
            sizes: of batches, ascending from 1; a batch takes the largest that can be filled.
            wait: seconds that the oldest job waits for company while a worker is idle, if company is likely.
            max_pixels: of a batch's results together, unless a single one has more.
            workers: how many take batches; for estimates only.
            arriving: says whether requests are being received whose jobs will be queued soon.
        """
        self._limit = limit
        self._sizes = tuple(sizes)
        self._wait = wait
        self._max_pixels = max_pixels
        self._workers = workers
        self._arriving = arriving
        self._idle = 0  # workers that wait for a batch
        self._shared = -math.inf  # loop time at which the last batch of several was done
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
            QueueFull: there is no room, or they would not be done before their deadline.
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
        """Forget jobs that nobody waits for any more, wherever they are."""
        for job in jobs:
            self._jobs.pop(job, None)
            job.answer.cancel()

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Return a batch that no worker has begun, to the front."""
        waiting = [job for job in jobs if not job.answer.done()]
        self._jobs = dict.fromkeys([*waiting, *self._jobs])
        self._changed.set()

    async def take(self) -> list[Job]:
        """The next batch for an idle worker, never empty; its jobs have left the queue.

        A batch that is not full waits for more only where there is reason to expect them: requests are being received,
        or others were answered together just now and may ask again. A lone job is handed out at once.
        """
        loop = asyncio.get_running_loop()
        self._idle += 1
        try:
            while True:
                self._drop_expired(loop.time())
                self._changed.clear()
                if not self._jobs:
                    await self._changed.wait()
                    await asyncio.sleep(0)  # what else lies in the sockets by now is read meanwhile
                    continue
                mates, oldest = self._mates(), next(iter(self._jobs))
                patience = oldest.queued + self._wait - loop.time()
                company = self._arriving() or oldest.queued - self._shared <= self._wait
                if len(mates) >= self._sizes[-1] or patience <= 0 or not company:
                    return self._remove(self._fitting(mates))
                try:
                    async with asyncio.timeout(patience):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            self._idle -= 1

    def take_ahead(self) -> list[Job]:
        """A batch of the largest size for a worker that is still busy, so that it finds it when it is done.

        Empty if less is waiting, if it is too large to be held twice, or if an idle worker is about to take it.
        """
        self._drop_expired(asyncio.get_running_loop().time())
        if self._idle or not self._jobs:
            return []
        jobs = self._fitting(self._mates())
        if len(jobs) < self._sizes[-1] or sum(len(job.data) for job in jobs) > MAX_AHEAD_BYTES:
            return []
        return self._remove(jobs)

    def note_speed(self, count: int, seconds: float) -> None:
        """Learn from a batch of ``count`` items that is done how long what waits will take."""
        if count > 1:
            self._shared = asyncio.get_running_loop().time()
        newest = seconds / count
        old = self._seconds_per_item
        self._seconds_per_item = newest if not old else old + SMOOTHING * (newest - old)

    def retry_after(self) -> int:
        """Whole seconds after which half of what waits now should be done."""
        return min(MAX_RETRY_AFTER, max(1, math.ceil(self._estimate(len(self._jobs)) / 2)))

    def _estimate(self, count: int) -> float:
        return count * self._seconds_per_item / self._workers

    def _drop_expired(self, now: float) -> None:
        # Those who wait time out by themselves; this only keeps a worker from what nobody waits for.
        for job in [job for job in self._jobs if job.deadline <= now or job.answer.done()]:
            del self._jobs[job]

    def _mates(self) -> list[Job]:
        """What can be batched with the oldest job, itself first."""
        oldest = next(iter(self._jobs))
        return [job for job in self._jobs if job.key == oldest.key]

    def _fitting(self, mates: list[Job]) -> list[Job]:
        count, pixels = 0, 0
        for job in mates[: self._sizes[-1]]:
            pixels += job.pixels
            if count and pixels > self._max_pixels:
                break
            count += 1
        return mates[: max(size for size in self._sizes if size <= count)]

    def _remove(self, jobs: list[Job]) -> list[Job]:
        for job in jobs:
            del self._jobs[job]
        return jobs
