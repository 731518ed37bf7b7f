"""`Batcher`: a bounded queue for each verb, from which idle workers take batches of compatible jobs.

A job that is expected to miss its deadline is refused when it arrives. The batcher runs on the event loop and changes
state only between awaits, so it needs no locks.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

from edgegrain.service.engine import CompressOptions, RestoreOptions
from edgegrain.service.observability import ServiceMetrics
from edgegrain.service.problems import Problem, retry_later
from edgegrain.service.settings import Settings

Verb = Literal["restore", "compress"]

ACCEPTED, ROOM = 0.9, 0.8
"""Largest part of the deadline that a job may be expected to take; the part at which a refused client may return."""
LONGEST_BATCH = 0.5
"""Longest expected seconds of a batch of several pictures on a CPU, where batches gain little, and others wait."""
MAX_RETRY_AFTER = 60
NEW = 0.3  # weight of the latest batch in the expected seconds of a picture
REFUSALS = {
    "queue-full": "the requests that are waiting fill the queue, or take longer than the deadline; try again later",
    "starting": "no worker is warm yet, and the deadline is earlier; try again later",
    "deadline-exceeded": "the request took longer than its deadline; try again later",
}
"""Kind of the problem of a refusal -> its detail."""


class BatchKey(NamedTuple):
    """Jobs with equal keys can share a batch: they run through the same networks, and take about equally long."""

    verb: Verb
    bundle: str
    enlargement: int = 1
    faces: int = 0  # of a scene, which is a batch of its own; 1 for a picture all of whose faces are compressed

    @property
    def kind(self) -> BatchKey:
        """The key under which times are kept: not by the number of faces."""
        return self._replace(faces=min(1, self.faces))

    @property
    def pictures(self) -> int:
        """Pictures of a job to run networks on."""
        return max(1, self.faces)


class Done(NamedTuple):
    """The result of a job: its bytes, and the seconds of its stages."""

    data: bytes
    seconds: dict[str, float]


Answer = Done | Problem


@dataclass(eq=False)
class Job:
    """A picture or payload in a queue, since the loop's time ``queued``."""

    key: BatchKey
    data: bytes
    options: RestoreOptions | CompressOptions
    pixels: int  # of its result, which bound the memory of a batch
    queued: float = 0.0
    answer: asyncio.Future[Answer] = field(  # cancelled when the request has ended
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, answer: Answer) -> None:
        """Set the answer, unless the request has ended."""
        if not self.answer.done():
            self.answer.set_result(answer)


class Batcher:
    """The queues between requests and workers; while both verbs wait, each gets half of the workers' time."""

    def __init__(
        self, settings: Settings, metrics: ServiceMetrics, *, ready_in: Callable[[], float] = lambda: 0.0
    ) -> None:
        """Make empty queues; ``ready_in`` gives the expected seconds until a worker is ready."""
        self._settings, self._ready_in = settings, ready_in
        self._limits: dict[Verb, int] = {"restore": settings.queue_size, "compress": settings.compress_queue_size}
        self._queues: dict[Verb, dict[Job, None]] = {verb: {} for verb in self._limits}  # in order of arrival
        self._expected: dict[BatchKey, float] = {}  # kind -> seconds of one picture
        self._served = dict.fromkeys(self._limits, 0.0)
        # First job of each batch in progress -> its expected seconds, and its start.
        self._running: dict[Job, tuple[float, float]] = {}
        self._changed = asyncio.Event()
        for verb in self._limits:
            metrics.queue_depth.labels(verb).set_function(partial(len, self._queues[verb]))
            metrics.expected_seconds.labels(verb).set_function(partial(self.expected, verb))

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def note(self, key: BatchKey, seconds: float) -> None:
        """Note the seconds of one picture of a kind."""
        before = self._expected.get(key.kind, seconds)
        self._expected[key.kind] = seconds + (1 - NEW) * (before - seconds)

    def expected(self, verb: Verb, count: int = 1) -> float:
        """Seconds after which a request of ``count`` pictures that arrives now should be answered."""
        work = {waiting: sum(map(self._seconds, queue)) for waiting, queue in self._queues.items()}
        own = work.pop(verb)
        one = self._seconds(next(iter(self._queues[verb]))) if self._queues[verb] else self._usual(verb)
        running = sum(max(0.0, seconds - (_now() - began)) for seconds, began in self._running.values())
        before = own + sum(min(other, own + one) for other in work.values()) + running
        return self._ready_in() + (before + (count - 1) * one) / self._settings.workers + one

    def check_room(self, verb: Verb, count: int = 1) -> None:
        """Raise `Problem` unless ``count`` more jobs fit into the queue and should meet their deadline."""
        full = len(self._queues[verb]) + count > self._limits[verb]
        # An idle service accepts any job: estimates may be wrong, and only new batches correct them.
        busy = len(self) or self._running or self._ready_in()
        if full or (busy and self.expected(verb, count) > ACCEPTED * self._settings.deadline):
            raise self.refusal("queue-full", verb, count)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue all of the jobs, which have one verb, or none; `Problem` as `check_room`."""
        now, verb = _now(), jobs[0].key.verb
        self.check_room(verb, len(jobs))
        if not self._queues[verb]:  # a verb that joins saves up no turns
            others = [self._served[other] for other, queue in self._queues.items() if queue]
            self._served[verb] = max([self._served[verb], *others])
        for job in jobs:
            job.queued = now
            self._queues[verb][job] = None
        self._changed.set()

    def discard(self, jobs: Sequence[Job]) -> None:
        """Drop jobs whose request has ended, queued or not."""
        for job in jobs:
            self._queues[job.key.verb].pop(job, None)
            job.answer.cancel()

    async def take(self) -> list[Job]:
        """The next batch for an idle worker, never empty; its jobs have left their queue."""
        while not (jobs := self._matching()):
            self._changed.clear()
            await self._changed.wait()
            await asyncio.sleep(0)  # lets the loop read requests that have arrived since
        jobs = jobs[: max(size for size in self._settings.batch_sizes if size <= len(jobs))]
        for job in jobs:
            self._queues[job.key.verb].pop(job, None)
        seconds = sum(map(self._seconds, jobs))
        self._running[jobs[0]] = seconds, _now()
        self._served[jobs[0].key.verb] += seconds
        return jobs

    def done(self, jobs: Sequence[Job], seconds: float | None) -> None:
        """Correct estimates and turns with a batch that took ``seconds``; None if its worker was lost."""
        (expected, _), key = self._running.pop(jobs[0], (0.0, 0.0)), jobs[0].key
        if seconds is not None:
            self.note(key, seconds / (len(jobs) * key.pictures))
            self._served[key.verb] += seconds - expected

    def refusal(self, kind: str, verb: Verb, count: int) -> Problem:
        """The problem of ``count`` jobs that are refused, of another kind while no worker is ready."""
        if self._ready_in():
            kind = "starting"
        seconds = self.expected(verb, count) - ROOM * self._settings.deadline
        return retry_later(kind, REFUSALS[kind], min(MAX_RETRY_AFTER, seconds))

    def _matching(self) -> list[Job]:
        """The jobs that can be a batch with the oldest of the verb whose turn it is; at most the largest batch."""
        waiting = [verb for verb, queue in self._queues.items() if queue]
        if not waiting:
            return []
        queue = self._queues[min(waiting, key=self._served.__getitem__)]
        oldest, jobs, pixels = next(iter(queue)), list[Job](), 0
        for job in queue:
            if job.key == oldest.key:
                pixels += job.pixels
                if jobs and (pixels > self._settings.max_pixels or len(jobs) == self._largest(oldest)):
                    break
                jobs.append(job)
        return jobs

    def _largest(self, job: Job) -> int:
        """The size of the largest batch of jobs like this one."""
        if job.key.faces or job.key.verb == "compress":  # of which a worker opens one picture after the other
            return 1
        most = LONGEST_BATCH if self._settings.device == "cpu" else math.inf
        return max((size for size in self._settings.batch_sizes if size * self._seconds(job) <= most), default=1)

    def _seconds(self, job: Job) -> float:
        """Expected seconds of a job."""
        kind = job.key.kind
        return job.key.pictures * (self._expected[kind] if kind in self._expected else self._usual(kind.verb))

    def _usual(self, verb: Verb) -> float:
        """Expected seconds of any picture of a verb."""
        return next((seconds for key, seconds in self._expected.items() if key.verb == verb), 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()
