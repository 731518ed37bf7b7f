"""`Attempts`: the attempts to send one request, with the pauses of `Retries` between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codec_contract.errors import EdgegrainError
from sdk.remote.http_calls import read_refusal
from sdk.remote.retries import RETRIED, Retries, parse_retry_after

if TYPE_CHECKING:
    import httpx


class Attempts:
    """The attempts to send one request, of which each failed one is followed by a pause or ends in its error."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._failed = 0
        self._waited = 0.0

    def pause_after_refusal(self, response: httpx.Response, body: bytes) -> float:
        """Seconds to wait after an answer other than 2xx; raises its error if it is final."""
        failure = read_refusal(response.status_code, body)
        if response.status_code not in RETRIED:
            raise failure
        return self.pause_after(failure, parse_retry_after(response.headers.get("retry-after")))

    def pause_after(self, failure: EdgegrainError, retry_after: float | None = None) -> float:
        """Seconds to wait after a transient failure; raises it if there are no further attempts."""
        self._failed += 1
        pause = self._retries.pause(self._failed, self._waited, retry_after)
        if pause is None:
            raise failure
        self._waited += pause
        return pause
