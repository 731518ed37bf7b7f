"""`Turns`: weighted turns of the queues; each gets its share of the workers' time while several have jobs.

Start-time fair queueing: a queue's virtual time is the seconds it was served divided by its weight, and the queue with
the least virtual time is next. A queue that was empty starts at the virtual time of the last turn: idle time earns
no credit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Turns:
    """Virtual times of the queues."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """Take turns between the keys of ``weights``."""
        self._weights = dict(weights)
        self._virtual = dict.fromkeys(weights, 0.0)
        self._now = 0.0

    def join(self, verb: str) -> None:
        """Called when a queue was empty and has jobs now."""
        self._virtual[verb] = max(self._virtual[verb], self._now)

    def next(self, verbs: Iterable[str]) -> str:
        """The one of ``verbs`` whose turn it is."""
        return min(verbs, key=lambda verb: self._virtual[verb])

    def charge(self, verb: str, seconds: float) -> None:
        """Count a batch that starts, of ``seconds`` as expected."""
        self._now = max(self._now, self._virtual[verb])
        self.correct(verb, seconds)

    def correct(self, verb: str, seconds: float) -> None:
        """Add the difference between the real and the expected seconds of a batch."""
        self._virtual[verb] += seconds / self._weights[verb]

    def between(self, verb: str, work: float, other: str) -> float:
        """Seconds for which ``other``, if it has enough jobs, is served before ``verb`` was served for ``work``."""
        lead = self._virtual[verb] + work / self._weights[verb] - self._virtual[other]
        return max(0.0, lead * self._weights[other])

    def share(self, verb: str, waiting: Iterable[str]) -> float:
        """Share of the workers' time that ``verb`` gets while the queues ``waiting`` have jobs."""
        return self._weights[verb] / sum(self._weights[each] for each in {verb, *waiting})
