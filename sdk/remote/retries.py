"""`Retries`: which failed requests are sent again, and after which pause."""

from __future__ import annotations

import numbers
import random
from dataclasses import dataclass
from time import time

from codec_contract.errors import ServiceError

MAX_SECONDS = 1_000_000
"""Longest timeout, pause or patience: eleven days. Sockets and clocks refuse some larger numbers."""
RETRIED = frozenset({408, 429, 502, 503, 504})
"""HTTP statuses of transient errors. No request of the SDK changes the service, so each of them may be repeated."""


@dataclass(frozen=True)
class Retries:
    """Retry policy of a client; `ServiceError` if a value is not a number, or out of range.

    Attributes:
        attempts: most attempts for a request; 1 disables retries.
        first_pause: seconds before the second attempt, doubled for each further one, if the service names no pause.
        longest_pause: most seconds of such a pause.
        patience: most seconds of all pauses of a request together. All seconds are 0 to 1,000,000.
    """

    attempts: int = 5
    first_pause: float = 0.2
    longest_pause: float = 10.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, numbers.Integral):
            raise ServiceError(f"attempts is a whole number, got {self.attempts!r}")
        for name in ("first_pause", "longest_pause", "patience"):
            seconds = getattr(self, name)
            if not isinstance(seconds, numbers.Real) or not 0 <= seconds <= MAX_SECONDS:
                raise ServiceError(f"{name} is a number of seconds from 0 to {MAX_SECONDS}, got {seconds!r}")

    def pause(self, attempt: int, waited: float, retry_after: float | None) -> float | None:
        """Seconds to wait after failed attempt number ``attempt`` (from 1); None to give up.

        Args:
            attempt: number of the failed attempt.
            waited: seconds of all pauses so far.
            retry_after: seconds that the service asked for, the shortest pause.
        """
        if attempt >= self.attempts:
            return None
        left = self.patience - waited
        if retry_after is None:
            # 50 % jitter, so that clients that failed together do not retry together.
            pause = min(self.longest_pause, self.first_pause * 2 ** min(attempt - 1, 60)) * random.uniform(0.5, 1)
        else:
            pause = max(retry_after, min(left, retry_after + random.uniform(0, self.first_pause)))
        return pause if pause <= left else None


DEFAULT_RETRIES = Retries()


def as_retries(retries: Retries | int) -> Retries:
    """A number of attempts as `Retries`; `ServiceError` if it is neither."""
    if not isinstance(retries, (Retries, numbers.Integral)):
        raise ServiceError(f"retries is a number of attempts or an sdk.Retries, got {retries!r}")
    return retries if isinstance(retries, Retries) else Retries(attempts=retries)


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from now in a ``Retry-After`` header, a number or a date; None without a valid one."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    from email.utils import parsedate_to_datetime  # dates are rare, and this import is slow

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, OverflowError):
        return None
