"""`RetryTimes`: values of ``Retry-After`` that spread refused clients over the time in which they can be served."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

MAX_RETRY_AFTER = 60


class RetryTimes:
    """The time of the next retry for each verb. If all came back at once, most would be refused again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: dict[str, float] = {}

    def after(self, verb: str, wait: float, spacing: float) -> int:
        """Whole seconds, from 1 to `MAX_RETRY_AFTER`, after which a refused request should be accepted.

        Args:
            verb: of the request.
            wait: seconds until there is room for the first one.
            spacing: seconds in which room for another one develops.
        """
        now = self._clock()
        moment = min(max(now, now + wait, self._next.get(verb, now)), now + MAX_RETRY_AFTER)
        self._next[verb] = moment + spacing
        return min(MAX_RETRY_AFTER, max(1, math.ceil(moment - now)))

    def forget(self) -> None:
        """Called when the service is idle: the clients that were refused before have not come back."""
        self._next.clear()
