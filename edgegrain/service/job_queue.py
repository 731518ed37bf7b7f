"""`JobQueue`: the waiting jobs of one verb in order of arrival, and the batches that they form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

from edgegrain.service.job import BatchKey, Job
from edgegrain.service.service_times import ServiceTimes


class JobQueue:
    """A first-in first-out queue; a batch takes the jobs with the key of the oldest one."""

    def __init__(
        self, *, limit: int, sizes: Sequence[int], max_pixels: int, times: ServiceTimes, longest: float = math.inf
    ) -> None:
        """Make an empty queue.

        Args:
            limit: most jobs in the queue.
            sizes: batch sizes, ascending from 1; a batch takes the largest that can be filled.
            max_pixels: most pixels of a batch's results together, unless a single one has more.
            times: expected seconds of batches.
            longest: most expected seconds of a batch of several jobs.
        """
        self.limit = limit
        self._sizes = tuple(sizes)
        self._max_pixels = max_pixels
        self._times = times
        self._longest = longest
        self._jobs: dict[Job, None] = {}  # in order of arrival, with quick removal
        self._seconds: list[float] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def add(self, jobs: Sequence[Job]) -> None:
        """Append jobs."""
        self._jobs.update(dict.fromkeys(jobs))
        self.recount()

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Return jobs to the front."""
        self._jobs = dict.fromkeys([*jobs, *self._jobs])
        self.recount()

    def remove(self, jobs: Sequence[Job]) -> None:
        """Drop jobs, queued or not."""
        for job in jobs:
            self._jobs.pop(job, None)
        self.recount()

    def matching(self) -> list[Job]:
        """Jobs with the key of the oldest one, which comes first; at most those of the largest batch."""
        key = next(iter(self._jobs)).key
        return list(islice((job for job in self._jobs if job.key == key), self.largest(key)))

    def largest(self, key: BatchKey) -> int:
        """The largest size of a key's batches that does not take too long, or not much longer than a single job."""
        if key.faces:
            return 1
        longest = max(self._longest, 2 * self._expected(key, 1))
        return max(size for size in self._sizes
                   if size == 1 or self._expected(key, size) <= longest)

    def fitting(self, matching: list[Job], left: float) -> list[Job]:
        """The first of ``matching`` that fill a batch, which takes at most ``left`` seconds if possible."""
        count, pixels, key = 0, 0, matching[0].key
        for job in matching:
            pixels += job.pixels
            if count and pixels > self._max_pixels:
                break
            count += 1
        return matching[: max(size for size in self._sizes if size <= count and (
            size == 1 or self._expected(key, size) <= left))]

    def planned(self, more: Sequence[Job] = ()) -> list[list[Job]]:
        """The groups in which the jobs, and then ``more``, will probably be served: one key each, in order."""
        groups: list[list[Job]] = []
        open_groups: dict[BatchKey, list[Job]] = {}
        largest = {key: self.largest(key) for key in {job.key for job in (*self._jobs, *more)}}
        for job in (*self._jobs, *more):
            group = open_groups.get(job.key)
            if group is None or len(group) == largest[job.key]:
                group = open_groups[job.key] = []
                groups.append(group)
            group.append(job)
        return groups

    def seconds(self, key: BatchKey, count: int) -> float:
        """Expected seconds of ``count`` jobs of a key, in batches of the available sizes."""
        total, largest = 0.0, self.largest(key)
        for size in reversed(self._sizes[: self._sizes.index(largest) + 1]):
            batches, count = divmod(count, size)
            total += batches * self._expected(key, size)
        return total

    def work(self) -> float:
        """Expected seconds of all jobs."""
        return sum(self._batches())

    def work_begun(self, seconds: float) -> float:
        """Expected seconds of the batches that begin in the first ``seconds``."""
        total = 0.0
        for batch in self._batches():
            if total >= seconds:
                break
            total += batch
        return total

    def _expected(self, key: BatchKey, count: int) -> float:
        """Expected seconds of one batch; of the first scene those of as many payloads."""
        count *= max(1, key.faces)
        return (self._times.seconds(key.kind, key.bundle, count, key.enlargement)
                or self._times.seconds(key.verb, key.bundle, count, key.enlargement))

    def _batches(self) -> list[float]:
        """Expected seconds of each group of jobs."""
        if self._seconds is None:
            self._seconds = [self.seconds(group[0].key, len(group)) for group in self.planned()]
        return self._seconds

    def recount(self) -> None:
        """Called when the jobs or the expected seconds have changed."""
        self._seconds = None
