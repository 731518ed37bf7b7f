"""`Capacity`: expected times until workers are free, from their batches in progress and their starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class _Work:
    since: float
    seconds: float

    def remaining(self, now: float) -> float:
        """Expected seconds that are left. Work that is overdue is expected to take as long again as it is overdue."""
        return abs(self.since + self.seconds - now)


class Capacity:
    """Occupation of the workers.

    Attributes:
        workers: most workers that process batches; further ones are spares.
        start_seconds: duration of the latest start of a worker; 0 before the first.
    """

    def __init__(self, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.workers = workers
        self.start_seconds = 0.0
        self._clock = clock
        self._starting: dict[int, _Work] = {}
        self._spare: set[int] = set()
        self._active: dict[int, _Work | None] = {}

    def starting(self, worker: int, pause: float = 0.0) -> None:
        """A worker starts, or starts again after ``pause``."""
        self._spare.discard(worker)
        self._active.pop(worker, None)
        self._starting[worker] = _Work(self._clock(), pause + self.start_seconds)

    def started(self, worker: int, seconds: float) -> None:
        """A worker is ready after ``seconds``, and a spare until `idle` is called."""
        self.start_seconds = seconds
        self._starting.pop(worker, None)
        self._spare.add(worker)

    def idle(self, worker: int) -> None:
        """A worker waits for a batch."""
        self._spare.discard(worker)
        self._active[worker] = None

    def busy(self, worker: int, seconds: float) -> None:
        """A worker begins with batches of ``seconds`` as expected."""
        self._active[worker] = _Work(self._clock(), seconds)

    def more(self, worker: int, seconds: float) -> None:
        """A busy worker was sent a further batch."""
        if work := self._active.get(worker):
            self._active[worker] = _Work(work.since, work.seconds + seconds)

    def free_in(self) -> list[float]:
        """Seconds until each of `workers` workers can begin another batch, ascending and not empty."""
        now = self._clock()
        active = [work.remaining(now) if work else 0.0 for work in self._active.values()]
        others = sorted([0.0] * len(self._spare) + [work.remaining(now) for work in self._starting.values()])
        return sorted(active + others[: self.workers - len(active)]) or [0.0]

    def ready_in(self) -> float:
        """Seconds until a worker is ready; 0 if one is."""
        if self._active or self._spare:
            return 0.0
        now = self._clock()
        return min((work.remaining(now) for work in self._starting.values()), default=0.0)


def start_in(free_in: Sequence[float], work: float) -> float:
    """Seconds until a batch can start behind ``work`` seconds of others, which all workers share.

    Args:
        free_in: seconds until each worker is free, ascending and not empty.
        work: seconds of the batches before it.
    """
    for count, (free, following) in enumerate(zip(free_in, [*free_in[1:], float("inf")], strict=True), 1):
        if work <= (following - free) * count:
            return free + work / count
        work -= (following - free) * count
    raise AssertionError("unreachable: the last worker has no successor")
