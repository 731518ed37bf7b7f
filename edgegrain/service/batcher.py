"""`Batcher`: a bounded queue for each verb, weighted turns between them, and batches of compatible jobs.

A job is accepted if it is expected to meet its deadline, and refused as soon as it is expected to miss it. The batcher
runs on the event loop and changes state only between awaits, so it needs no locks.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence

from edgegrain.service.capacity import Capacity, start_in
from edgegrain.service.job import Job, Reason, Refused
from edgegrain.service.job_queue import JobQueue
from edgegrain.service.retry_times import RetryTimes
from edgegrain.service.service_times import ServiceTimes
from edgegrain.service.turns import Turns

ROOM, ACCEPTED, KEPT = 0.8, 0.9, 1.1
"""Limits on a job's expected seconds, relative to the seconds until its deadline: a job is accepted up to ``ACCEPTED``,
stays in its queue up to ``KEPT``, and a refused client is asked to return when the expectation is down to ``ROOM``."""
CHECK_SECONDS, CHECK_SHARE = 0.04, 0.05
"""Time between two checks of the waiting jobs, and their largest share of the processor time."""
MAX_AHEAD_BYTES = 1 << 20
"""Largest batch that is sent to a busy worker; it is copied, and kept until its turn."""
MAX_AHEAD_SECONDS = 0.25
"""Longest batch that is sent to a busy worker: the other verb waits for it, and it cannot be refused any more."""


class Batcher:
    """The queues between requests and workers."""

    def __init__(
        self, *, limits: Mapping[str, int], weights: Mapping[str, float], sizes: Sequence[int], wait: float,
        max_pixels: int, longest: float = math.inf, capacity: Capacity | None = None,
        arriving: Callable[[], bool] = lambda: False,
        on_refused: Callable[[str, Reason, int], None] = lambda verb, reason, count: None,
    ) -> None:
        """Make empty queues.

        Args:
            limits: verb -> most jobs in its queue.
            weights: verb -> its share of the workers' time while several have jobs.
            sizes: batch sizes, ascending from 1; a batch takes the largest that can be filled.
            wait: seconds that an idle worker waits to fill a batch while other requests are arriving.
            max_pixels: most pixels of a batch's results together, unless a single one has more.
            longest: most expected seconds of a batch of several jobs.
            capacity: expected times until workers are free.
            arriving: true while requests are being received whose jobs will be queued soon.
            on_refused: called with a verb, the reason and the number of jobs that were refused for it.
        """
        self.times = ServiceTimes()
        self.capacity = capacity or Capacity()
        self._queues = {
            verb: JobQueue(limit=limit, sizes=sizes, max_pixels=max_pixels, times=self.times, longest=longest)
            for verb, limit in limits.items()}
        self._turns = Turns(weights)
        self._retries = RetryTimes()
        self._largest = sizes[-1]
        self._wait = wait
        self._arriving = arriving
        self._on_refused = on_refused
        self._idle = 0  # workers waiting for a batch
        self._shared = -math.inf  # loop time at which the last batch with several jobs was done
        self._changed = asyncio.Event()
        self._check: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def depth(self, verb: str) -> int:
        """Number of waiting jobs of a verb."""
        return len(self._queues[verb])

    def expected(self, verb: str) -> float:
        """Seconds after which a request that arrives now should be answered."""
        work = self._queues[verb].work()
        return start_in(self.capacity.free_in(), work + self._others(verb, work)) + self.times.least(verb, 1)

    def check_room(self, verb: str, within: float, count: int = 1) -> None:
        """Raise `Refused` unless ``count`` more jobs would be accepted, and probably answered ``within`` seconds."""
        queue = self._queues[verb]
        if len(queue) + count > queue.limit:
            raise self._refusal("full", verb, self.expected(verb) - ROOM * within, count)
        if not self._is_idle() and (seconds := self.expected(verb)) > within:
            raise self._refusal("late", verb, seconds - ROOM * within, count)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue all of the jobs, which have one verb, or none.

        Raises:
            Refused: there is no room, or they would probably miss their deadline. An idle service accepts any jobs:
                estimates may be wrong, and only new batches correct them.
        """
        if not jobs:
            return
        now, verb = _now(), jobs[0].key.verb
        queue, within = self._queues[verb], min(job.deadline for job in jobs) - now
        if len(queue) + len(jobs) > queue.limit:
            raise self._refusal("full", verb, self.expected(verb) - ROOM * within, len(jobs))
        idle, free_in, work, new = self._is_idle(), self.capacity.free_in(), 0.0, set(jobs)
        for group in queue.planned(jobs):
            start = start_in(free_in, work + self._others(verb, work))
            seconds = queue.seconds(group[0].key, len(group))
            if not idle and start + seconds > ACCEPTED * within and not new.isdisjoint(group):
                raise self._refusal("late", verb, start + seconds - ROOM * within, len(jobs))
            work += seconds
        if idle:
            self._retries.forget()
        if not queue:
            self._turns.join(verb)
        queue.add(jobs)
        for job in jobs:
            job.queued = now
        self._changed.set()
        self._check_later()

    def discard(self, jobs: Sequence[Job]) -> None:
        """Drop jobs whose request has ended, queued or not."""
        for job in jobs:
            self._queues[job.key.verb].remove([job])
            job.answer.cancel()

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Return a batch that no worker has started to the front of its queue."""
        for job in jobs:
            self._turns.correct(job.key.verb, -job.charged)
        if waiting := [job for job in jobs if not job.answer.done()]:
            self._queues[waiting[0].key.verb].put_back(waiting)
        self._changed.set()
        self._check_later()

    async def take(self) -> list[Job]:
        """The next batch for an idle worker, never empty; its jobs have left their queue.

        A partial batch waits for more jobs only if they are likely: requests are being received, or others were
        answered together just now and their clients may send the next. A single job starts at once.
        """
        loop = asyncio.get_running_loop()
        self._idle += 1
        try:
            while True:
                self._drop_expired(loop.time())
                self._changed.clear()
                verb = self._next()
                if verb is None:
                    await self._changed.wait()
                    await asyncio.sleep(0)  # lets the loop read requests that have arrived since
                    continue
                queue = self._queues[verb]
                matching = queue.matching()
                oldest = matching[0]
                remaining = oldest.queued + self._wait - loop.time()
                expected = self._arriving() or oldest.queued - self._shared <= self._wait
                if len(matching) == queue.largest(oldest.key) or remaining <= 0 or not expected:
                    return self._remove(verb, queue.fitting(matching, ACCEPTED * (oldest.deadline - loop.time())))
                try:
                    async with asyncio.timeout(remaining):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            self._idle -= 1

    def take_ahead(self) -> list[Job]:
        """A batch of the largest size for a busy worker, to start on as soon as the current one is done.

        Empty if the queue whose turn it is holds fewer jobs, if the batch is too large to be copied or takes long, or
        if an idle worker will take it.
        """
        self._drop_expired(_now())
        verb = self._next()
        if self._idle or verb is None:
            return []
        queue = self._queues[verb]
        jobs = queue.fitting(queue.matching(), MAX_AHEAD_SECONDS)
        if len(jobs) < queue.largest(jobs[0].key) or sum(len(job.data) for job in jobs) > MAX_AHEAD_BYTES:
            return []
        return self._remove(verb, jobs)

    def note_done(self, jobs: Sequence[Job], seconds: float) -> None:
        """Correct the estimates and the turns with a batch that took ``seconds``."""
        if len(jobs) > 1:
            self._shared = _now()
        key = jobs[0].key
        self.times.note(key.kind, key.bundle, len(jobs) * max(1, key.faces), seconds, key.enlargement)
        self._queues[key.verb].recount()
        self._turns.correct(key.verb, seconds - sum(job.charged for job in jobs))

    def refuse_late(self) -> None:
        """Refuse waiting jobs that will probably miss their deadline, the latest arrivals first.

        An idle worker tries at least one, because only batches correct the estimates.
        """
        now, free_in, late = _now(), self.capacity.free_in(), dict[Job, float]()
        for verb, queue in self._queues.items():
            work = 0.0
            for group in queue.planned():
                start, kept, key = start_in(free_in, work + self._others(verb, work)), 0, group[0].key
                for job in group:
                    finish = start + queue.seconds(key, kept + 1)
                    if finish > KEPT * (job.deadline - now):
                        late[job] = finish
                    else:
                        kept += 1
                work += queue.seconds(key, kept)
        if free_in[0] == 0 and len(late) == len(self) > 0:
            late.pop(next(iter(late)))
        for job, finish in late.items():
            self._queues[job.key.verb].remove([job])
            wait = finish - ROOM * (job.deadline - job.queued)
            job.settle(self._refusal("overtaken", job.key.verb, wait, 1))

    def timed_out(self, verb: str, within: float, count: int) -> Refused:
        """The refusal of ``count`` jobs of a request whose deadline, ``within`` seconds of its arrival, has passed."""
        return self._refusal("timeout", verb, self.expected(verb) - ROOM * within, count)

    def _is_idle(self) -> bool:
        return not len(self) and self.capacity.free_in()[0] == 0

    def _refusal(self, reason: Reason, verb: str, wait: float, count: int) -> Refused:
        if (starting := self.capacity.ready_in()) > 0:
            reason, wait = "starting", max(wait, starting)  # earlier retries would wait for the worker's start too
        self._on_refused(verb, reason, count)
        return Refused(reason, self._retries.after(verb, wait, count * self._spacing(verb)))

    def _spacing(self, verb: str) -> float:
        """Seconds in which one job of a verb is served while all present verbs take turns."""
        waiting = [other for other, queue in self._queues.items() if queue]
        return self.times.least(verb, self._largest) / self._turns.share(verb, waiting) / self.capacity.workers

    def _others(self, verb: str, work: float) -> float:
        """Expected seconds for other verbs until this one was served for ``work`` seconds."""
        return sum(queue.work_begun(self._turns.between(verb, work, other))
                   for other, queue in self._queues.items() if other != verb)

    def _next(self) -> str | None:
        """The verb whose turn it is; None if all queues are empty."""
        waiting = [verb for verb, queue in self._queues.items() if queue]
        return self._turns.next(waiting) if waiting else None

    def _drop_expired(self, now: float) -> None:
        # Requests time out by themselves; this only spares workers their jobs.
        for queue in self._queues.values():
            queue.remove([job for job in queue if job.deadline <= now or job.answer.done()])

    def _remove(self, verb: str, jobs: list[Job]) -> list[Job]:
        queue = self._queues[verb]
        queue.remove(jobs)
        seconds = queue.seconds(jobs[0].key, len(jobs))
        self._turns.charge(verb, seconds)
        for job in jobs:
            job.charged = seconds / len(jobs)
        return jobs

    def _check_later(self, took: float = 0.0) -> None:
        if self._check is None and len(self):
            pause = max(CHECK_SECONDS, took / CHECK_SHARE)
            self._check = asyncio.get_running_loop().call_later(pause, self._check_now)

    def _check_now(self) -> None:
        self._check = None
        begin = time.perf_counter()
        self.refuse_late()
        self._check_later(time.perf_counter() - begin)


def _now() -> float:
    return asyncio.get_running_loop().time()
