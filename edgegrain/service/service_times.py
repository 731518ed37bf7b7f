"""`ServiceTimes`: running means of the seconds that batches take, by verb, bundle and number of items."""

from __future__ import annotations

from dataclasses import dataclass

SMOOTHING = 0.2
"""Least weight of the newest batch in a mean; the first batches are averaged."""


@dataclass
class _Mean:
    seconds: float
    count: int = 0

    def note(self, seconds: float) -> None:
        self.count += 1
        self.seconds += max(SMOOTHING, 1 / self.count) * (seconds - self.seconds)


class ServiceTimes:
    """Expected seconds of batches. Without any measurement it is 0, so nothing is refused for being late."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str, int], dict[int, _Mean]] = {}

    def suggest(self, verb: str, bundle: str, count: int, seconds: float, enlargement: int = 1) -> None:
        """Use ``seconds`` for batches of ``count`` items until the first one is measured."""
        self._means.setdefault((verb, bundle, enlargement), {}).setdefault(count, _Mean(seconds))

    def note(self, verb: str, bundle: str, count: int, seconds: float, enlargement: int = 1) -> None:
        """Add a measured batch."""
        self._means.setdefault((verb, bundle, enlargement), {}).setdefault(count, _Mean(seconds)).note(seconds)

    def seconds(self, verb: str, bundle: str, count: int, enlargement: int = 1) -> float:
        """Expected seconds of a batch; sizes that are unknown are scaled from the nearest size that is known."""
        means = self._means.get((verb, bundle, enlargement))
        if not means:
            return 0.0
        nearest = min(means, key=lambda size: max(size / count, count / size))
        return means[nearest].seconds * count / nearest

    def least(self, verb: str, count: int) -> float:
        """Expected seconds per item, in batches of ``count``, of the fastest bundle."""
        return min((self.seconds(known, bundle, count, enlargement) / count
                    for known, bundle, enlargement in self._means if known == verb), default=0.0)
