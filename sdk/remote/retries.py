"""When a request to a service is sent again, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from time import time

RETRIED = frozenset({408, 429, 502, 503, 504})
"""Statuses that may pass by themselves. Nothing the SDK asks for changes the service, so all of it may be repeated."""


@dataclass(frozen=True)
class Retries:
    """How persistent a client is.

    Attributes:
        attempts: how often a request is sent at most, 1 for never again.
        first_pause: seconds before the second attempt, doubled from then on, where the service names none.
        longest_pause: most seconds of such a pause.
        patience: most seconds that all pauses of a request take together.
    """

    attempts: int = 5
    first_pause: float = 0.2
    longest_pause: float = 10.0
    patience: float = 60.0

    def pause(self, attempt: int, waited: float, retry_after: float | None) -> float | None:
        """Seconds to wait after failed attempt number ``attempt`` (from 1); None to give up.

        Args:
            waited: seconds of all pauses so far.
            retry_after: what the service asked for; it is never asked earlier.
        """
        if attempt >= self.attempts:
            return None
        if retry_after is None:
            # Half of it by chance, so that clients that failed together do not come back together.
            pause = min(self.longest_pause, self.first_pause * 2 ** (attempt - 1)) * random.uniform(0.5, 1)
        else:
            pause = retry_after + random.uniform(0, self.first_pause)
        return pause if waited + pause <= self.patience else None


DEFAULT_RETRIES = Retries()


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from now that a ``Retry-After`` header names, as a number or a date; None if it names nothing."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    from email.utils import parsedate_to_datetime  # the date is rare, and this loads much

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None
